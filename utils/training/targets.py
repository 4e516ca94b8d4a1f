"""The targets of training images, from labels or annotators' votes, and the class weights."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from utils.console import ProgressBar
from utils.data.annotations import ANNOTATORS, RowError, Table
from utils.data.image_folder import Sample
from utils.emotions import majority_vote
from utils.filenames import nfc

BETA = 0.999  # of the effective number of images (Cui et al. 2019, arXiv 1901.05555)


def one_hot(samples: list[Sample], classes: list[str]) -> torch.Tensor:
    """Return float32 (N, classes): 1 at the sample's class, else 0."""
    labels = torch.tensor([sample.label for sample in samples])
    return F.one_hot(labels, len(classes)).float()


def vote_targets(
    table: Path, samples: list[Sample], classes: list[str]
) -> tuple[torch.Tensor, int]:
    """Return the votes of the annotation table as targets, and how many samples have votes.

    The targets are float32 (N, classes): the fraction of the three annotators who saw each class.
    A sample gets them from the row with its file name. It gets its label alone (`one_hot`) if there
    is no such row, or if the majority is not its class: then somebody has relabelled the image.

    Raise StageError if `table` is not an annotation table.
    """
    targets = one_hot(samples, classes)
    waiting: dict[str, list[int]] = {}  # file name → positions of the samples without a row so far
    for i, sample in enumerate(samples):
        waiting.setdefault(nfc(sample.path.name), []).append(i)
    rows = Table(table, ("name", *(f"{who}_emotion" for who in ANNOTATORS)))
    count = 0
    with ProgressBar(rows.count(), "annotations", "row") as bar:
        for row in rows:
            bar.update()
            try:
                name = row.photo_name()
                answers = row.answers() if name in waiting else []
            except RowError:  # the data stages log it
                continue
            # The first valid row of a name counts, as in cropImages.py.
            positions = waiting.pop(name, [])
            if not set(answers) <= set(classes):
                continue
            for i in positions:
                if classes[samples[i].label] == majority_vote(answers):
                    votes = [answers.count(label) / len(answers) for label in classes]
                    targets[i] = torch.tensor(votes)
                    count += 1
    return targets, count


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
