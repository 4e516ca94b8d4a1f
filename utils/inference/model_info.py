"""The description of a model that a file holds besides the weights, in both formats."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from utils import __version__
from utils.errors import StageError
from utils.filenames import is_printable
from utils.imaging.geometry import FaceGeometry
from utils.imaging.preprocess import TTA, Preprocess
from utils.metrics import MIN_PROBABILITY, scale


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model, in plain values. In an ONNX file it stands as JSON."""

    network: str  # registered name in models
    classes: list[str]  # in the order of the network's outputs
    preprocess: dict[str, Any]  # arguments of Preprocess
    epoch: int | None = None  # of the weights, from 1; None: not known
    val_accuracy: float | None = None  # in [0, 1], after that epoch; None: not known
    temperature: float | None = None  # divides the outputs; None: not calibrated
    tta: str = "none"  # of TTA: the views of each image on which to predict
    face: dict[str, Any] = field(default_factory=dict)  # arguments of FaceGeometry
    # Of the training images, in the order of the classes, sum 1; None: not known.
    class_priors: list[float] | None = None
    balance: float = 0.0  # strength of the logit adjustment in `probabilities`
    version: str = __version__  # of the toolkit that wrote the file

    def __post_init__(self) -> None:
        """Raise ValueError if a value is wrong: the file may be anybody's."""
        valid = (
            isinstance(self.network, str)
            and are_class_names(self.classes)
            and isinstance(self.preprocess, dict)
            and isinstance(self.epoch, int | None)
            and isinstance(self.val_accuracy, float | None)
            and is_temperature(self.temperature)
            and isinstance(self.tta, str)
            and self.tta in TTA
            and isinstance(self.face, dict)
            and (self.class_priors is None or are_priors(self.class_priors, len(self.classes)))
            and is_balance(self.balance, self.class_priors)
        )
        try:
            if not valid or self.preprocessing().to_dict() != self.preprocess:
                raise ValueError("a field of the model's description is wrong")
            self.geometry()
        except TypeError:  # unknown arguments
            raise ValueError("a field of the model's description is unknown") from None

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        """Return what `to_json` wrote. Raise ValueError if it is anything else."""
        try:
            return cls(**json.loads(text))
        except (TypeError, RecursionError):
            raise ValueError("not the description of a model") from None

    def to_json(self) -> str:
        """Return the description as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def preprocessing(self) -> Preprocess:
        """Return how a picture becomes the network's input."""
        return Preprocess(**self.preprocess)

    def geometry(self) -> FaceGeometry:
        """Return which part of a picture the network sees of a detected face."""
        return FaceGeometry(**self.face)

    def probabilities(self, log_probs: np.ndarray) -> np.ndarray:
        """Return what a network's log-probabilities mean, float64 (N, classes) both.

        They are calibrated by the temperature. Then `balance` · log prior is subtracted, and the
        sum is 1 again: with a balance of 1 the most probable classes are the best for the mean
        recall of the classes (Menon et al. 2021, arXiv 2007.07314, section 4.1, "post-hoc logit
        adjustment"). A class that was never trained keeps its share.
        """
        calibrated = scale(log_probs, self.temperature or 1.0)
        if not self.balance:
            return np.exp(calibrated)
        priors = np.array(self.class_priors)
        offsets = self.balance * np.log(np.where(priors > 0, priors, 1.0))
        lowest = np.log(MIN_PROBABILITY)
        return np.exp(scale(np.maximum(calibrated, lowest) - offsets, 1.0))

    def check_input(self, path: Path, image_size: int | None, image_channel: int | None) -> None:
        """Raise StageError if the model of the file was trained with another size or channels."""
        for flag, value in (("image_size", image_size), ("image_channel", image_channel)):
            if value not in (None, trained := self.preprocess[flag]):
                raise StageError(
                    f"--{flag} {value} contradicts {path}, which was trained with {trained}: "
                    f"give --{flag} {trained}"
                )

    def describe(self) -> str:
        """Return the model in a few words: its network, epoch and validation accuracy."""
        if self.epoch is None or self.val_accuracy is None:
            return f"{self.network}, epoch and accuracy unknown"
        return f"{self.network}, epoch {self.epoch}, validation accuracy {self.val_accuracy:.3%}"

    def describe_input(self) -> str:
        """Return the network's input in a few words, and how a detected face becomes it."""
        channels, size, _ = self.preprocessing().shape
        colours = "grey" if channels == 1 else "RGB"
        return f"{size}×{size} pixels, {colours}; detected faces: {self.geometry().describe()}"


def are_class_names(classes: object) -> bool:
    """Return whether a value is a list of two or more different names that can be printed."""
    return (
        isinstance(classes, list)
        and len(classes) >= 2
        and all(isinstance(name, str) and name.strip() and is_printable(name) for name in classes)
        and len(set(classes)) == len(classes)
    )


def are_priors(values: object, classes: int) -> bool:
    """Return whether a value is a list of one frequency per class, not all of them 0."""
    return (
        isinstance(values, list)
        and len(values) == classes
        and all(isinstance(value, float) and 0 <= value <= 1 for value in values)
        and sum(values) > 0
    )


def is_balance(value: object, priors: list[float] | None) -> bool:
    """Return whether a value is the strength of a logit adjustment, which needs the priors."""
    is_strength = isinstance(value, float) and 0 <= value < math.inf
    return is_strength and (not value or priors is not None)


def is_temperature(value: object) -> bool:
    """Return whether a value is a temperature, or None."""
    return value is None or (isinstance(value, float) and 0 < value < math.inf)
