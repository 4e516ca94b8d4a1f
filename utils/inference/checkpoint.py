"""The checkpoint: a trained model in one file of plain tensors, strings and numbers.

It holds all that testing and prediction need, so that no flag of the training has to be repeated.
It is read with torch's `weights_only`, which never runs code from the file.
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

# The model that comes with the project; pretrained/make.py has made it.
BUNDLED_MODEL = Path(__file__).resolve().parents[2] / "pretrained/emotionnet-fer2013.pt"
DEFAULT_MODEL = Path("model.pt")  # what train.py writes


def default_model_path() -> Path:
    """Return model.pt if it exists, else the bundled model."""
    if DEFAULT_MODEL.exists():
        return DEFAULT_MODEL
    note(
        f"{DEFAULT_MODEL} does not exist here; using {BUNDLED_MODEL.parent.name}/{BUNDLED_MODEL.name}"
    )
    return BUNDLED_MODEL


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds. The field names are the keys in the file."""

    network: str  # registered name in models
    classes: list[str]  # position = index of the output
    preprocess: dict[str, int | str]  # image_size, image_channel, resample
    epoch: int | None  # of the weights, from 1; None: the original's checkpoint does not say
    val_accuracy: float | None  # share in [0, 1], at that epoch
    weights: dict[str, torch.Tensor]  # the network's state_dict
    temperature: float | None = None  # outputs are divided by it; test.py --calibrate finds it
    training: dict[str, Any] | None = None  # in a run's last.pt alone: all that is needed to go on
    version: str = __version__  # of the toolkit that wrote it

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; an older one stays until then."""
        content = {field: getattr(self, field) for field in self.__annotations__}
        for field in ("temperature", "training"):
            if content[field] is None:
                del content[field]
        with atomic_file(path) as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # what torch makes of a write that failed
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    @classmethod
    def load(
        cls, path: Path, image_size: int | None = None, image_channel: int | None = None
    ) -> Checkpoint:
        """Read a file that `save` wrote, or one of the original's.

        The original's do not say their image size, nor how it was called: it is `image_size`, or
        what was usual. Raises StageError for anything else, and where the model was made for
        another `image_size` or `image_channel` than is given.
        """
        content = _read(path)
        try:
            if isinstance(content, dict) and isinstance(content.get("model"), dict):
                checkpoint = cls._from_legacy(content["model"], image_size)
            else:
                checkpoint = cls(**content)
            if type(checkpoint.temperature) is int:  # as others may write it
                checkpoint = replace(checkpoint, temperature=float(checkpoint.temperature))
            checkpoint._check()
            weights = {key: _single(weight) for key, weight in checkpoint.weights.items()}
            checkpoint = replace(checkpoint, weights=weights)
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise StageError(
                f"{path} is no model that this toolkit, or the original, trained"
            ) from None
        for flag, given in (("image_size", image_size), ("image_channel", image_channel)):
            if given not in (None, trained := checkpoint.preprocess[flag]):
                raise StageError(
                    f"--{flag} {given} contradicts {path}, which was trained with {trained}: "
                    f"give --{flag} {trained}"
                )
        return checkpoint

    @classmethod
    def _from_legacy(cls, tensors: dict[str, torch.Tensor], image_size: int | None) -> Checkpoint:
        found = identify(tensors)
        if found is None:
            raise ValueError
        name, channels, weights = found
        how = Preprocess(image_size or default_image_size(name), channels)
        return cls(name, list(EMOTIONS), how.to_dict(), None, None, weights)

    def _check(self) -> None:
        """Raises ValueError where a field is not what its name says."""
        fine = (
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
        if not fine or self.preprocessing().to_dict() != self.preprocess:
            raise ValueError

    def preprocessing(self) -> Preprocess:
        """The preprocessing that the model was trained with."""
        return Preprocess(**self.preprocess)

    def build(self) -> nn.Module:
        """The network with its weights, ready to predict (no dropout). Raises StageError."""
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
        except Exception:  # the file is not to be trusted
            raise StageError(f"the checkpoint's weights are not those of a {name}") from None
        return model.eval().to(memory_format=torch.channels_last)

    def transfer_to(self, model: nn.Module, classes: list[str]) -> list[str]:
        """Give a fresh model of the same network these weights, to train it on from there.

        Its last layer's outputs go by class name. Returns the classes that this model has not
        known: where there are any, the last layer stays as it is, fresh.
        """
        weights = dict(self.weights)
        unknown = [name for name in classes if name not in self.classes]
        rows = None if unknown else [self.classes.index(name) for name in classes]
        fresh = model.state_dict()
        try:
            for key in models.head(self.network):
                weights[key] = fresh[key] if rows is None else weights[key][rows]
            model.load_state_dict(weights)
        except Exception:  # the file is not to be trusted
            raise StageError(
                f"the checkpoint's weights are not those of a {self.network}"
            ) from None
        return unknown

    @property
    def is_original(self) -> bool:
        """Whether it is the original's, which says neither its epoch nor its figures."""
        return self.epoch is None or self.val_accuracy is None

    def describe(self) -> str:
        """The model in a few words: its network, epoch and validation accuracy."""
        if self.is_original:
            return f"{self.network}, a checkpoint of the original"
        return f"{self.network}, epoch {self.epoch}, validation accuracy {self.val_accuracy:.3%}"


def same_model(one: Path, other: Path) -> bool:
    """Whether two files hold the same network, weights and classes; only one may be calibrated."""
    try:
        a, b = Checkpoint.load(one), Checkpoint.load(other)
    except StageError:
        return False
    return (
        (a.network, a.classes, a.weights.keys()) == (b.network, b.classes, b.weights.keys())
        and all(torch.equal(weight, b.weights[key]) for key, weight in a.weights.items())
    )  # fmt: skip


def _single(weight: torch.Tensor) -> torch.Tensor:
    return weight.float() if weight.dtype == torch.float16 else weight


def _read(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is refused in one line, or it is fine
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StageError(
            f"{path}: no such file; python train.py makes one, --model_path names another"
        ) from None
    except OSError as error:
        raise StageError(describe_os_error(error)) from None
    except pickle.UnpicklingError:
        raise StageError(
            f"{path} was refused: it holds more than tensors, strings and numbers, or is no "
            f"model file; nothing in it was run"
        ) from None
    except Exception:  # what a broken file makes torch raise is not documented
        raise StageError(f"{path} is no model file, or a broken one") from None
