"""The loss of a training batch: cross-entropy with label smoothing and class weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cross_entropy_sum(
    outputs: torch.Tensor,
    targets: torch.Tensor,
    class_weights: torch.Tensor | None,
    label_smoothing: float,
) -> torch.Tensor:
    """Return the sum of the cross-entropy (nats) over the rows of a batch, a scalar.

    `outputs`: float32 (n, classes); `targets`: probabilities float32 (n, classes), which label
    smoothing pulls towards equal ones (Szegedy et al. 2015, arXiv 1512.00567).

    A class weight is a row's, not a class's: a row counts as much as the mean of `class_weights`
    (classes,) over its target. Then the outputs that cost least are the smoothed target. torch
    weighs the entries of the smoothed target instead, and so would teach a rare class, which got
    only the smoothing, as a large part of every image.
    """
    if class_weights is None:
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing, reduction="sum")
    rows = F.cross_entropy(outputs, targets, label_smoothing=label_smoothing, reduction="none")
    return (rows * (targets @ class_weights)).sum()


def class_priors(
    targets: torch.Tensor, weights: torch.Tensor | None, sample_weights: torch.Tensor | None = None
) -> list[float]:
    """Return how frequent each class is in the loss, with class and sample weights; the sum is 1.

    A model learns these frequencies beside the faces; test.py --balance divides by them.
    """
    rows = targets.double()
    if weights is not None:
        rows = rows * (rows @ weights.double().to(rows.device))[:, None]
    if sample_weights is not None:
        rows = rows * sample_weights.to(rows.device)[:, None]
    total = rows.sum(0)
    return (total / total.sum()).tolist()
