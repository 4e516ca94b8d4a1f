"""What a network is to answer for each training image, and how much each image counts."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from utils.cli import Bar, StageError
from utils.data.annotations import ANNOTATORS, RowError, Table
from utils.data.image_folder import Sample
from utils.emotions import majority, nfc
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint

BETA = 0.999  # of the effective number of images


def one_hot(samples: list[Sample], classes: list[str]) -> torch.Tensor:
    """Float32 (N, classes): 1 for the sample's class."""
    labels = torch.tensor([sample.label for sample in samples])
    return F.one_hot(labels, len(classes)).float()


def votes(table: Path, samples: list[Sample], classes: list[str]) -> tuple[torch.Tensor, int]:
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
    with Bar(rows.count(), "annotations", "row") as bar:
        for row in rows:
            bar.update()
            try:
                here = places.get(row.name, ())
                answers = row.answers if here else []
                places.pop(row.name, None)  # a name's first good row counts, as for cropImages.py
            except RowError:  # the data stages have logged it
                continue
            if not set(answers) <= set(classes):
                continue
            for i in here:
                if classes[samples[i].label] == majority(answers):
                    shares = [answers.count(name) / len(answers) for name in classes]
                    targets[i] = torch.tensor(shares)
                    found += 1
    return targets, found


class Teacher:
    """Another model, whose answers are learnt beside the labels (Hinton et al. 2015, arXiv
    1503.02531).

    It is shown each image as its pupil sees it, varied and mixed: it is the function that is
    learnt, not a list of answers (Beyer et al. 2022, arXiv 2106.05237).
    """

    def __init__(
        self, path: Path, classes: list[str], preprocess: Preprocess, share: float
    ) -> None:
        """`share`, in [0, 1], is what its answers count; the labels count the rest.

        Raises StageError for what is no model, or one of other classes or another kind of image.
        """
        checkpoint = Checkpoint.load(path, preprocess.image_size, preprocess.image_channel)
        if set(checkpoint.classes) != set(classes):
            raise StageError(
                f"--teacher {path} knows {' '.join(checkpoint.classes)}, not just the classes to "
                f"be learnt: {' '.join(classes)}"
            )
        self.model = checkpoint.build()
        self.share = share
        self._columns = [checkpoint.classes.index(name) for name in classes]
        self._temperature = checkpoint.temperature or 1.0

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What is to be learnt of images (n, C, S, S) in [0, 1]: float32 (n, classes).

        `targets`, of the same shape, are what their labels say.
        """
        outputs = self.model(images)[:, self._columns].float()
        return torch.lerp(targets, (outputs / self._temperature).softmax(1), self.share)


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
