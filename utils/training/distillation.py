"""Knowledge distillation: learn from trained models' predictions beside the labels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint


class Teacher:
    """Trained models whose probabilities are soft targets (Hinton et al. 2015, arXiv 1503.02531).

    They see each image as the student does, augmented and mixed, so that the student learns the
    function and not a fixed list of predictions (Beyer et al. 2022, arXiv 2106.05237). Several
    teach their mean, which is often better than each of them (Hinton et al. 2015, section 3).
    """

    def __init__(
        self, paths: list[Path], classes: list[str], preprocess: Preprocess, weight: float
    ) -> None:
        """Load the models. `weight`, in [0, 1], is that of their predictions; labels get the rest.

        Raise StageError if a file is not a model, or one for other classes or another input.
        """
        self.weight = weight
        self.model = nn.ModuleList()
        # Of each model's outputs, in the order of `classes`: int64 (classes,).
        self._columns: list[torch.Tensor] = []
        self._temperatures: list[float] = []
        for path in paths:
            checkpoint = Checkpoint.load(path, preprocess.image_size, preprocess.image_channel)
            outputs = checkpoint.outputs_of(classes, path)
            if not len(outputs) == len(classes) == len(checkpoint.classes):
                raise StageError(
                    f"--teacher {path} has the classes {' '.join(checkpoint.classes)}, but the "
                    f"training has {' '.join(classes)}"
                )
            self.model.append(checkpoint.build())
            self._columns.append(torch.tensor([outputs[name] for name in classes]))
            self._temperatures.append(checkpoint.temperature or 1.0)

    def to(self, device: torch.device) -> None:
        """Move to the device of the images.

        A list of columns would be copied there in each step, which waits for the GPU.
        """
        self.model.to(device, memory_format=torch.channels_last)
        self._columns = [columns.to(device) for columns in self._columns]

    @torch.no_grad()
    def soften(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean of targets and teachers' predictions, float32 (n, classes).

        `images`: float (n, C, S, S) in [0, 1]; `targets`: the labels' probabilities, (n, classes).
        """
        predictions = [
            (model(images).index_select(1, columns).float() / temperature).softmax(1)
            for model, columns, temperature in zip(
                self.model, self._columns, self._temperatures, strict=True
            )
        ]
        return torch.lerp(targets, torch.stack(predictions).mean(0), self.weight)
