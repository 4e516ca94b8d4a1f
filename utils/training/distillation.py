"""Knowledge distillation: learn from a trained model's predictions beside the labels."""

from __future__ import annotations

from pathlib import Path

import torch

from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint


class Teacher:
    """A trained model whose probabilities are soft targets (Hinton et al. 2015, arXiv 1503.02531).

    It sees each image as the student does, augmented and mixed, so that the student learns the
    function and not a fixed list of predictions (Beyer et al. 2022, arXiv 2106.05237).
    """

    def __init__(
        self, path: Path, classes: list[str], preprocess: Preprocess, weight: float
    ) -> None:
        """Load the teacher. `weight`, in [0, 1], is that of its predictions; labels get the rest.

        Raise StageError if the file is not a model, or one for other classes or another input.
        """
        checkpoint = Checkpoint.load(path, preprocess.image_size, preprocess.image_channel)
        if set(checkpoint.classes) != set(classes):
            raise StageError(
                f"--teacher {path} has the classes {' '.join(checkpoint.classes)}, but the "
                f"training has {' '.join(classes)}"
            )
        self.model = checkpoint.build()
        self.weight = weight
        self._columns = [checkpoint.classes.index(name) for name in classes]
        self._temperature = checkpoint.temperature or 1.0

    @torch.no_grad()
    def soften(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean of targets and teacher's predictions, float32 (n, classes).

        `images`: float (n, C, S, S) in [0, 1]; `targets`: the labels' probabilities, (n, classes).
        """
        outputs = self.model(images)[:, self._columns].float()
        return torch.lerp(targets, (outputs / self._temperature).softmax(1), self.weight)
