"""The checkpoint: a trained model in one file of plain tensors, strings and numbers.

It holds all that testing and prediction need, so that no flag of the training has to be repeated.
torch reads it with `weights_only`, which never runs code from the file.
"""

from __future__ import annotations

import math
import pickle
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import models
from models.legacy import default_image_size, identify
from utils import __version__
from utils.console import note
from utils.emotions import EMOTIONS
from utils.errors import StageError, describe_os_error
from utils.filenames import is_printable
from utils.files import atomic_file
from utils.imaging.preprocess import Preprocess

# The model that comes with the project; pretrained/make.py makes it.
BUNDLED_MODEL = Path(__file__).resolve().parents[2] / "pretrained/emotionnet-fer2013.pt"
DEFAULT_MODEL = Path("model.pt")  # what train.py writes


def default_model_path() -> Path:
    """Return model.pt if it exists, else the bundled model."""
    if DEFAULT_MODEL.exists():
        return DEFAULT_MODEL
    bundled = f"{BUNDLED_MODEL.parent.name}/{BUNDLED_MODEL.name}"
    note(f"{DEFAULT_MODEL} does not exist here; using {bundled}")
    return BUNDLED_MODEL


@dataclass(frozen=True)
class Checkpoint:
    """The content of a model file. The field names are the keys in the file.

    A reference checkpoint, of the reference implementation, has neither epoch nor accuracy.
    """

    network: str  # registered name in models
    classes: list[str]  # in the order of the network's outputs
    preprocess: dict[str, Any]  # arguments of Preprocess: image_size, image_channel, resample
    epoch: int | None  # of the weights, from 1; None: a reference checkpoint
    val_accuracy: float | None  # in [0, 1], after that epoch; None: a reference checkpoint
    weights: dict[str, torch.Tensor]  # the network's state_dict
    temperature: float | None = None  # divides the outputs; None: not calibrated
    training: dict[str, Any] | None = None  # only in a run's last.pt: the state to resume from
    version: str = __version__  # of the toolkit that wrote the file

    def save(self, path: Path) -> None:
        """Write the file whole or not at all. Raise OSError if the disk is full, for instance."""
        content = {field: getattr(self, field) for field in self.__annotations__}
        for field in ("temperature", "training"):
            if content[field] is None:
                del content[field]
        with atomic_file(path) as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # torch raises it if a write fails
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    @classmethod
    def load(
        cls, path: Path, image_size: int | None = None, image_channel: int | None = None
    ) -> Checkpoint:
        """Read a file that `save` wrote, or a reference checkpoint.

        A reference checkpoint does not hold its image size: it is `image_size`, or else the
        network's default (see `models.legacy`). Raise StageError if the file is neither, or if the
        model was trained with another `image_size` or `image_channel` than given.
        """
        content = _read(path)
        try:
            if isinstance(content, dict) and isinstance(content.get("model"), dict):
                checkpoint = cls._from_legacy(content["model"], image_size)
            else:
                checkpoint = cls(**content)
            if type(checkpoint.temperature) is int:  # a file that another program wrote
                checkpoint = replace(checkpoint, temperature=float(checkpoint.temperature))
            checkpoint._check()
            weights = {key: _to_float32(weight) for key, weight in checkpoint.weights.items()}
            checkpoint = replace(checkpoint, weights=weights)
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise StageError(
                f"{path} is not a model that this toolkit or the reference implementation trained"
            ) from None
        for flag, value in (("image_size", image_size), ("image_channel", image_channel)):
            if value not in (None, trained := checkpoint.preprocess[flag]):
                raise StageError(
                    f"--{flag} {value} contradicts {path}, which was trained with {trained}: "
                    f"give --{flag} {trained}"
                )
        return checkpoint

    @classmethod
    def _from_legacy(cls, tensors: dict[str, torch.Tensor], image_size: int | None) -> Checkpoint:
        """Return a reference checkpoint. Raise ValueError for tensors of no known network."""
        match = identify(tensors)
        if match is None:
            raise ValueError
        name, channels, weights = match
        preprocess = Preprocess(image_size or default_image_size(name), channels)
        return cls(name, list(EMOTIONS), preprocess.to_dict(), None, None, weights)

    def _check(self) -> None:
        """Raise ValueError if a field has a wrong type or value: the file may be anybody's."""
        valid = (
            isinstance(self.network, str)
            and isinstance(self.classes, list)
            and len(self.classes) >= 2
            and all(isinstance(name, str) and is_printable(name) for name in self.classes)
            and len(set(self.classes)) == len(self.classes)
            and isinstance(self.preprocess, dict)
            and isinstance(self.weights, dict)
            and all(isinstance(key, str) for key in self.weights)
            and all(isinstance(weight, torch.Tensor) for weight in self.weights.values())
            and isinstance(self.epoch, int | None)
            and isinstance(self.val_accuracy, float | None)
            and (
                self.temperature is None
                or (isinstance(self.temperature, float) and 0 < self.temperature < math.inf)
            )
            and isinstance(self.training, dict | None)
        )
        if not valid or self.preprocessing().to_dict() != self.preprocess:
            raise ValueError

    def preprocessing(self) -> Preprocess:
        """Return the preprocessing that the model was trained with."""
        return Preprocess(**self.preprocess)

    def build(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode and channels_last.

        Raise StageError if the network is unknown, or if the weights are not those of the network.
        """
        preprocess = self.preprocessing()
        try:
            name = models.full_name(self.network)
            model = models.create(
                name, len(self.classes), preprocess.image_channel, preprocess.image_size
            )
        except models.NetworkError as error:
            raise StageError(str(error)) from None
        try:
            model.load_state_dict(self.weights)
        except Exception:  # the file may be broken in any way
            raise StageError(f"the checkpoint's weights are not those of a {name}") from None
        return model.eval().to(memory_format=torch.channels_last)

    def transfer_to(self, model: nn.Module, classes: list[str]) -> list[str]:
        """Load these weights into a new model of the same network, to train it for `classes`.

        Match the outputs of the last layer by class name. Return the classes that this checkpoint
        does not know: if there are any, the whole last layer keeps its random weights.

        Raise StageError if the weights are not those of the network.
        """
        weights = dict(self.weights)
        unknown = [name for name in classes if name not in self.classes]
        rows = None if unknown else [self.classes.index(name) for name in classes]
        new_weights = model.state_dict()
        try:
            for key in models.head(self.network):
                weights[key] = new_weights[key] if rows is None else weights[key][rows]
            model.load_state_dict(weights)
        except Exception:  # the file may be broken in any way
            raise StageError(
                f"the checkpoint's weights are not those of a {self.network}"
            ) from None
        return unknown

    @property
    def is_reference(self) -> bool:
        """Whether it is a reference checkpoint, which has neither epoch nor accuracy."""
        return self.epoch is None or self.val_accuracy is None

    def describe(self) -> str:
        """Return the model in a few words: its network, epoch and validation accuracy."""
        if self.is_reference:
            return f"{self.network}, a reference checkpoint"
        return f"{self.network}, epoch {self.epoch}, validation accuracy {self.val_accuracy:.3%}"


def same_model(one: Path, other: Path) -> bool:
    """Return whether two files hold the same network, weights and classes.

    Their temperatures may differ. A file that cannot be read is not the same.
    """
    try:
        a, b = Checkpoint.load(one), Checkpoint.load(other)
    except StageError:
        return False
    return (
        (a.network, a.classes, a.weights.keys()) == (b.network, b.classes, b.weights.keys())
        and all(torch.equal(weight, b.weights[key]) for key, weight in a.weights.items())
    )  # fmt: skip


def _to_float32(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight of half precision in single precision, others as they are."""
    return weight.float() if weight.dtype == torch.float16 else weight


def _read(path: Path) -> Any:
    """Return a file's content without running code from it. Raise StageError if it is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats that the except clauses report
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StageError(
            f"{path}: no such file; train one with python train.py, or name one with --model_path"
        ) from None
    except OSError as error:
        raise StageError(describe_os_error(error)) from None
    except pickle.UnpicklingError:
        raise StageError(
            f"{path} was refused: it holds more than tensors, strings and numbers, or is not a "
            f"model file; nothing in it was run"
        ) from None
    except Exception:  # torch documents no exceptions for broken files
        raise StageError(f"{path} is not a model file, or it is broken") from None
