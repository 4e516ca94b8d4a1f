"""Running a network over images: the one way to predict, and the figures made of it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from utils.cli import Bar
from utils.preprocess import Preprocess
from utils.store import Dataset
from utils.team import Team


@torch.inference_mode()
def predict(
    model: nn.Module, batches: Iterable[torch.Tensor], total: int = 0, description: str = ""
) -> torch.Tensor:
    """Log-probabilities float32 (N, classes), on the CPU, for batches of uint8 images (n, C, S, S).

    The model is used as in prediction, without dropout, on the device that it is on. A bar up to
    `total` images is shown where there is a description for it.
    """
    device = next(model.parameters()).device
    model.eval()
    log_probs = []
    with Bar(total, description, "image", leave=False) as bar:
        for batch in batches:
            inputs = Preprocess.scale(batch.to(device))
            outputs = model(inputs.contiguous(memory_format=torch.channels_last))
            log_probs.append(F.log_softmax(outputs.float(), dim=1).cpu())
            bar.update(len(batch))
    return torch.cat(log_probs)


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
