"""The figures by which a training judges its epochs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from utils.data.dataset import Dataset
from utils.inference.predict import predict
from utils.training.distributed import Team


def evaluate(
    model: nn.Module, data: Dataset, batch_size: int, team: Team, description: str
) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy (share in [0, 1]) over a whole set.

    Each process takes its rows, and the sums are added up: the figures are exact whatever their
    number.
    """
    first, end = team.share(len(data))
    sums = torch.zeros(2, dtype=torch.float64)
    if first < end:
        order = torch.arange(first, end)
        batches = data.batches(order.split(batch_size), team.device)
        log_probs = predict(model, batches, len(order), description)
        labels = data.labels[first:end]
        loss = F.nll_loss(log_probs.double(), labels, reduction="sum")
        sums = torch.stack([loss, (log_probs.argmax(1) == labels).double().sum()])
    loss, right = team.sum(sums.to(team.device)).tolist()
    return loss / len(data), right / len(data)
