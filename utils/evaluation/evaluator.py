"""Predictions of trained models for folders of labelled images, and their calibration."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from utils.console import note
from utils.data.decode import decode_to_memory
from utils.data.image_folder import ClassFolders, make_samples, scan_class_folders
from utils.data.image_groups import ImageGroups
from utils.data.layouts import NUMBERED
from utils.errors import StageError
from utils.evaluation.balance import Balance
from utils.evaluation.groups import GroupedEvaluation, Predictions, evaluate_groups
from utils.inference.face_classifier import Model
from utils.inference.model_info import ModelInfo
from utils.metrics import MIN_PROBABILITY, Reliability, Scores, fit_temperature

CALIBRATED_TTA = ("none", "flip")  # what `calibrate` chooses from; tencrop costs ten times as much


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions for the images in a folder."""

    model_path: Path
    model: ModelInfo
    root: Path  # holds the class folders
    paths: list[Path]  # of the N readable images
    truth: np.ndarray  # int64 (N,): true classes, as positions in the model's classes
    probs: np.ndarray  # float64 (N, classes), see `ModelInfo.probabilities`
    images_per_second: float  # in the network, without decoding
    parameters: int | None  # None: the file does not tell
    tta: str = "none"  # the views of each image, see `tta_views`
    environment: dict[str, str | int] = field(default_factory=dict)  # see `describe_environment`
    balance: float = 0.0  # strength of the logit adjustment, see `ModelInfo.probabilities`
    unbalanced: Scores | None = None  # the scores without it, if it is not 0
    groups: GroupedEvaluation | None = None  # see `by_groups`

    def by_groups(self, groups: ImageGroups) -> Evaluation:
        """Return the evaluation with the scores of each group, if there are groups."""
        predictions = Predictions(self.paths, self.truth, self.predictions, len(self.model.classes))
        found = evaluate_groups(predictions, groups)
        return replace(self, groups=found) if found.attributes else self

    @property
    def predictions(self) -> np.ndarray:
        """The most probable classes, int64 (N,)."""
        return self.probs.argmax(1)

    @property
    def scores(self) -> Scores:
        """Accuracy, precision, recall and F1."""
        return Scores.of(self.truth, self.predictions, len(self.model.classes))

    @property
    def reliability(self) -> Reliability:
        """Accuracy by confidence."""
        return Reliability.of(self.probs, self.truth)


@dataclass(frozen=True)
class LabelledImages:
    """The readable images of class folders, as a model takes them, and the other files."""

    images: np.ndarray  # uint8 (N, C, S, S)
    labels: np.ndarray  # int64 (N,), positions in the model's classes
    paths: list[Path]  # of the N images
    failures: list[tuple[Path, str]]  # files with the reason


class Evaluator:
    """Shows images to models. It decodes a folder once for all models with the same input."""

    def __init__(self, batch_size: int, numbered_classes: Sequence[str] = ()) -> None:
        """`batch_size`: images at a time; the scores do not depend on it.

        `numbered_classes`: what 0, 1, 2 … mean as names of class folders, or of the model's
        classes.
        """
        self._batch_size, self._numbered_classes = batch_size, numbered_classes
        self._sets: dict[tuple, LabelledImages] = {}

    @property
    def failures(self) -> list[tuple[Path, str]]:
        """The files that could not be read so far, each once, with the reason."""
        sets = self._sets.values()
        return list(dict(failure for data in sets for failure in data.failures).items())

    def evaluate(
        self,
        model_path: Path,
        model: Model,
        root: Path,
        tta: str | None = None,
        balance: Balance | None = None,
    ) -> Evaluation:
        """Predict the class of every image in the class folders of `root`.

        `tta`: the views of each image, see `tta_views`; None: those that the model file names.
        `balance`: instead of that in the model file.

        Raise StageError if the folders hold no readable image, or a class that the model does not
        know.
        """
        info = model.info
        used = info if balance is None else balance.of(info)
        tta = tta or info.tta
        data = self._load(root, info)
        started = time.perf_counter()
        log_probs = model.log_probs(data.images, tta, self._batch_size, model_path.name)
        seconds = time.perf_counter() - started
        evaluation = Evaluation(
            model_path,
            info,
            root,
            data.paths,
            data.labels,
            used.probabilities(log_probs),
            len(data.paths) / seconds,
            model.parameters,
            tta,
            model.environment(),
            used.balance,
        )
        if not used.balance:
            return evaluation
        plain = replace(used, balance=0.0).probabilities(log_probs)
        return replace(evaluation, unbalanced=replace(evaluation, probs=plain).scores)

    def calibrate(
        self,
        model_path: Path,
        model: Model,
        root: Path,
        tta: str | None = None,
        balance: Balance | None = None,
    ) -> dict[str, float]:
        """Choose views and temperature on the images in `root`, and save both in the model file.

        The views are `tta`, or else those of CALIBRATED_TTA with the best accuracy, the first of
        equals; the temperature is fitted to their predictions. Save `balance`, too. Return
        the accuracy for each choice of views. Raise StageError for a file that has no place for
        them, OSError if they cannot be saved.
        """
        model.check_calibration(model_path)
        data = self._load(root, model.info)
        predictions = {
            views: model.log_probs(data.images, views, self._batch_size, model_path.name)
            for views in ([tta] if tta else CALIBRATED_TTA)
        }
        right = {
            views: int((log_probs.argmax(1) == data.labels).sum())
            for views, log_probs in predictions.items()
        }
        best = max(right, key=lambda views: right[views])
        log_probs = np.maximum(predictions[best], math.log(MIN_PROBABILITY))
        info = model.info if balance is None else balance.of(model.info)
        temperature = fit_temperature(log_probs, data.labels)
        model.save_calibration(model_path, replace(info, temperature=temperature, tta=best))
        return {views: count / len(data.labels) for views, count in right.items()}

    def _load(self, root: Path, info: ModelInfo) -> LabelledImages:
        """Return a folder's images as the model takes them, labelled by its classes."""
        preprocess = info.preprocessing()
        key = root, tuple(info.classes), preprocess
        if key not in self._sets:
            folders = scan_class_folders(root)
            folders.rename_to(info.classes, "the model", self._numbered_classes)
            _check_classes(folders, info.classes)
            folders.report()
            samples = make_samples(folders, info.classes)
            images, reasons = decode_to_memory(samples, preprocess, f"{root.name} images")
            if not len(images):
                raise StageError(f"{root}: no readable image")
            readable = [sample for i, sample in enumerate(samples) if i not in reasons]
            self._sets[key] = LabelledImages(
                images,
                np.array([sample.label for sample in readable], np.int64),
                [sample.path for sample in readable],
                [(samples[i].path, reason) for i, reason in reasons.items()],
            )
        return self._sets[key]


def _check_classes(images: ClassFolders, known: list[str]) -> None:
    """Raise StageError if there is no class folder, or one that the model does not know."""
    root, classes = images.root, list(images)
    if not classes:
        raise StageError(
            f"{root} has no class folder with images{images.seen()}; check --data_path"
        )
    unknown = [name for name in classes if name not in known]
    if unknown:
        advice = "rename the folders or remove them"
        if all(name.isascii() and name.isdecimal() for name in unknown):
            advice = _explain_numbers(list(map(int, unknown)))
        raise StageError(
            f"{root} has classes that the model does not know: {' '.join(unknown)}; "
            f"it knows {' '.join(known)}: {advice}"
        )
    missing = [name for name in known if name not in classes]
    if missing:
        note(f"{root} has no images of {' '.join(missing)}: means over classes leave them out")


def _explain_numbers(numbers: list[int]) -> str:
    """Return which flag names numbered classes, with the names of a data set numbered so."""
    low, high = min(numbers), max(numbers)
    source, names = NUMBERED.get((low, high), ("", "NAME NAME …"))
    meaning = f"; {source}'s are" if source else ", in their order:"
    return f"name the numbers {low} to {high}{meaning} --classes {names}"
