"""The checkpoint: a trained model in one file of plain tensors, strings and numbers.

It holds all that testing and prediction need, so that no flag of the training has to be repeated.
It is read with torch's `weights_only`, which never runs code from the file.
"""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import models
from utils import __version__
from utils.cli import StageError, describe
from utils.files import atomic_file
from utils.preprocess import Preprocess


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds. The field names are the keys in the file."""

    network: str  # registered name in models
    classes: list[str]  # position = index of the output
    preprocess: dict[str, int | str]  # image_size, image_channel, resample
    epoch: int  # of the weights, from 1
    val_accuracy: float  # share in [0, 1], at that epoch
    weights: dict[str, torch.Tensor]  # the network's state_dict
    version: str = __version__  # of the toolkit that wrote it

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; an older one stays until then."""
        with atomic_file(path) as file:
            torch.save({field: getattr(self, field) for field in self.__annotations__}, file)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file that `save` wrote. Raises StageError for anything else."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is refused in one line, or it is fine
                content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise StageError(
                f"{path}: no such file; python train.py makes one, --model_path names another"
            ) from None
        except OSError as error:
            raise StageError(describe(error)) from None
        except pickle.UnpicklingError:
            raise StageError(
                f"{path} was refused: it holds more than tensors, strings and numbers, or is no "
                f"model file; nothing in it was run"
            ) from None
        except Exception:  # what a broken file makes torch raise is not documented
            raise StageError(f"{path} is no model file, or a broken one") from None
        try:
            checkpoint = cls(**content)
            checkpoint.check()
        except (TypeError, ValueError):
            raise StageError(f"{path} is no model that this toolkit trained") from None
        return checkpoint

    def check(self) -> None:
        """Raises ValueError where a field is not what its name says."""
        fine = (
            isinstance(self.network, str)
            and isinstance(self.classes, list)
            and len(self.classes) >= 2
            and all(isinstance(name, str) for name in self.classes)
            and isinstance(self.preprocess, dict)
            and isinstance(self.weights, dict)
            and all(isinstance(key, str) for key in self.weights)
            and all(isinstance(weight, torch.Tensor) for weight in self.weights.values())
            and isinstance(self.epoch, int)
            and isinstance(self.val_accuracy, float)
        )
        if not fine or self.preprocessing().settings() != self.preprocess:
            raise ValueError

    def preprocessing(self) -> Preprocess:
        """The preprocessing that the model was trained with."""
        return Preprocess(**self.preprocess)

    def build(self) -> nn.Module:
        """The network with its weights, ready to predict (no dropout). Raises StageError."""
        how = self.preprocessing()
        name = models.full_name(self.network)
        model = models.create(name, len(self.classes), how.image_channel, how.image_size)
        try:
            model.load_state_dict(self.weights)
        except Exception:  # the file is not to be trusted
            raise StageError(f"the checkpoint's weights are not those of a {name}") from None
        return model.eval()
