"""Validation: the loss and the accuracy by which a training compares its epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from utils.data.dataset import Dataset
from utils.inference.predict import predict_log_probs, prediction_batch
from utils.training.amp import autocast
from utils.training.distributed import Distributed


class StopRequestedError(Exception):
    """One of the processes was asked to stop. Raised in all of them."""


def validate(
    model: nn.Module,
    data: Dataset,
    batch_size: int,
    distributed: Distributed,
    should_stop: Callable[[], bool] = bool,
    amp: str = "off",
) -> tuple[float, float]:
    """Return the mean cross-entropy (nats) and the accuracy (in [0, 1]) over a dataset.

    `batch_size`: images at a time, at least: a GPU takes more of small ones. Each process predicts
    its rows and the sums are added, so that the figures do not depend on the number of processes.
    Raise StageError if the model's outputs are NaN, and StopRequestedError if `should_stop` of one
    of the processes returned True: it is called before each batch.

    `amp`: the training's precision (see `autocast`). In bf16 a few images of a thousand get another
    answer than in float32.
    """
    first, end = distributed.slice(len(data))
    sums = torch.zeros(2, dtype=torch.float64)
    try:
        if first < end:
            device, size = distributed.device, data.preprocess.image_size
            batch_size = prediction_batch(batch_size, size, device)
            batches = data.in_order(first, end, batch_size, device)
            batches = _until_stop(batches, should_stop)
            with autocast(device, amp):  # it casts the weights once, not every batch
                log_probs = predict_log_probs(model, batches, end - first, "validate")
            labels = data.labels[first:end]
            loss = F.nll_loss(log_probs.double(), labels, reduction="sum")
            sums = torch.stack([loss, (log_probs.argmax(1) == labels).double().sum()])
    except StopRequestedError:
        sums[1] = torch.nan  # and so is the sum over all processes
    loss_sum, correct = distributed.all_reduce(sums.to(distributed.device)).tolist()
    if math.isnan(correct):
        raise StopRequestedError
    return loss_sum / len(data), correct / len(data)


def _until_stop(
    batches: Iterator[torch.Tensor], should_stop: Callable[[], bool]
) -> Iterator[torch.Tensor]:
    for batch in batches:
        if should_stop():
            raise StopRequestedError
        yield batch
