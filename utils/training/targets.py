"""What a network is to answer for each training image, and how much each image counts."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from utils.console import ProgressBar
from utils.data.annotations import ANNOTATORS, RowError, Table
from utils.data.image_folder import Sample
from utils.emotions import majority_vote
from utils.filenames import nfc

BETA = 0.999  # of the effective number of images


def one_hot(samples: list[Sample], classes: list[str]) -> torch.Tensor:
    """Float32 (N, classes): 1 for the sample's class."""
    labels = torch.tensor([sample.label for sample in samples])
    return F.one_hot(labels, len(classes)).float()


def vote_targets(
    table: Path, samples: list[Sample], classes: list[str]
) -> tuple[torch.Tensor, int]:
    """Float32 (N, classes): the share of the three annotators that saw each class; and how many
    samples have such shares, from the row of their name in the annotation table.

    Where the table does not say, or not what the sample's folder does (somebody has sorted the
    image anew), the folder's class alone counts. Raises StageError for what is no table.
    """
    targets = one_hot(samples, classes)
    places: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        places.setdefault(nfc(sample.path.name), []).append(i)
    rows = Table(table, ("name", *(f"{who}_emotion" for who in ANNOTATORS)))
    found = 0
    with ProgressBar(rows.count(), "annotations", "row") as bar:
        for row in rows:
            bar.update()
            try:
                here = places.get(row.photo_name(), ())
                answers = row.answers() if here else []
                places.pop(
                    row.photo_name(), None
                )  # a name's first good row counts, as for cropImages.py
            except RowError:  # the data stages have logged it
                continue
            if not set(answers) <= set(classes):
                continue
            for i in here:
                if classes[samples[i].label] == majority_vote(answers):
                    shares = [answers.count(name) / len(answers) for name in classes]
                    targets[i] = torch.tensor(shares)
                    found += 1
    return targets, found


def class_weights(targets: torch.Tensor, how: str) -> torch.Tensor | None:
    """Float32 (classes,): how much an image of each class counts, 1 on the average of the images.

    `inverse`: 1 / n, all classes count the same in total. `effective`: (1 - β) / (1 - β^n) with
    β = 0.999, the same for small classes, and large ones are held back less (Cui et al. 2019, arXiv
    1901.05555). n is the sum of the class's targets. `none`: None.
    """
    if how == "none":
        return None
    n = targets.double().sum(0)
    weights = 1 / n if how == "inverse" else (1 - BETA) / (1 - BETA**n)
    weights = torch.where(n > 0, weights, 0.0)
    return (weights * n.sum() / (weights * n).sum()).float()
