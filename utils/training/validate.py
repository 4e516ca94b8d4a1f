"""Validation: the loss and the accuracy by which a training compares its epochs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from utils.data.dataset import Dataset
from utils.inference.predict import predict_log_probs
from utils.training.distributed import Distributed


def validate(
    model: nn.Module, data: Dataset, batch_size: int, distributed: Distributed
) -> tuple[float, float]:
    """Return the mean cross-entropy (nats) and the accuracy (in [0, 1]) over a dataset.

    Each process predicts its rows and the sums are added, so that the figures do not depend on the
    number of processes. Raise StageError if the model's outputs are NaN.
    """
    first, end = distributed.slice(len(data))
    sums = torch.zeros(2, dtype=torch.float64)
    if first < end:
        indices = torch.arange(first, end)
        batches = data.batches(indices.split(batch_size), distributed.device)
        log_probs = predict_log_probs(model, batches, len(indices), "validate")
        labels = data.labels[first:end]
        loss = F.nll_loss(log_probs.double(), labels, reduction="sum")
        sums = torch.stack([loss, (log_probs.argmax(1) == labels).double().sum()])
    loss_sum, correct = distributed.all_reduce(sums.to(distributed.device)).tolist()
    return loss_sum / len(data), correct / len(data)
