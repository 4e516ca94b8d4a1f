"""The targets of training images from their labels, and how much or often each class counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from utils.data.image_folder import Sample

BETA = 0.999  # of the effective number of images (Cui et al. 2019, arXiv 1901.05555)


def one_hot(samples: list[Sample], classes: list[str]) -> torch.Tensor:
    """Return float32 (N, classes): 1 at the sample's class, else 0."""
    labels = torch.tensor([sample.label for sample in samples])
    return F.one_hot(labels, len(classes)).float()


def class_weights(targets: torch.Tensor, scheme: str) -> torch.Tensor | None:
    """Return how much an image of each class counts, float32 (classes,); its mean over images is 1.

    With n the sum of a class's targets, the weights are proportional to
    `inverse`: 1 / n. All classes count the same in total.
    `effective`: (1 - β) / (1 - β^n) with β = BETA. Small classes get the same weights as with
    `inverse`, large ones keep more of theirs (Cui et al. 2019, arXiv 1901.05555).
    `none`: no weights, return None.
    """
    if scheme == "none":
        return None
    n = targets.double().sum(0)
    weights = 1 / n if scheme == "inverse" else (1 - BETA) / (1 - BETA**n)
    weights = torch.where(n > 0, weights, 0.0)
    return (weights * n.sum() / (weights * n).sum()).float()


def sample_weights(targets: torch.Tensor, scheme: str) -> torch.Tensor | None:
    """Return how often each image is shown, beside the others, float64 (N,).

    With n the sum of a class's targets, an image of the class has the weight
    `balanced`: 1 / n. All classes are shown equally often.
    `sqrt`: 1 / √n, between that and the images as they are (Kang et al. 2020, arXiv 1910.09217).
    `uniform`: all the same, return None.
    An image of several classes has the mean of their weights.
    """
    if scheme == "uniform":
        return None
    rows = targets.double().cpu()
    n = rows.sum(0)
    power = 0.5 if scheme == "sqrt" else 1.0
    return rows @ torch.where(n > 0, n, 1.0) ** -power
