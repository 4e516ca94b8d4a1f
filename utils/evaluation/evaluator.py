"""Predictions of trained models for folders of labelled images, and their calibration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from utils.console import note
from utils.data.dataset import Dataset, load_dataset
from utils.data.image_folder import ClassFolders, make_samples, scan_class_folders
from utils.data.layouts import NUMBERED
from utils.errors import StageError
from utils.inference.checkpoint import Checkpoint
from utils.inference.environment import describe_environment
from utils.inference.predict import predict_log_probs
from utils.metrics import Reliability, Scores, fit_temperature, scale

CALIBRATED_TTA = ("none", "flip")  # what `calibrate` chooses from; tencrop costs ten times as much
MIN_PROBABILITY = 1e-300  # a probability of 0 has no logarithm


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions for the images in a folder."""

    model_path: Path
    checkpoint: Checkpoint
    root: Path  # holds the class folders
    paths: list[Path]  # of the N readable images
    truth: np.ndarray  # int64 (N,): true classes, as positions in the checkpoint's classes
    probs: np.ndarray  # float64 (N, classes), at the checkpoint's temperature
    images_per_second: float  # in the network, without decoding
    parameters: int
    tta: str = "none"  # the views of each image, see `tta_views`
    environment: dict[str, str | int] = field(default_factory=dict)  # see `describe_environment`
    balance: float | None = None  # strength of the logit adjustment, see `rebalance`
    unbalanced: Scores | None = None  # the scores before it

    @property
    def predictions(self) -> np.ndarray:
        """The most probable classes, int64 (N,)."""
        return self.probs.argmax(1)

    @property
    def scores(self) -> Scores:
        """Accuracy, precision, recall and F1."""
        return Scores.of(self.truth, self.predictions, len(self.checkpoint.classes))

    @property
    def reliability(self) -> Reliability:
        """Accuracy by confidence."""
        return Reliability.of(self.probs, self.truth)


class Evaluator:
    """Shows images to models. It decodes a folder once for all models with the same input."""

    def __init__(
        self, device: torch.device, batch_size: int, numbered_classes: Sequence[str] = ()
    ) -> None:
        """`batch_size`: images at a time; the scores do not depend on it.

        `numbered_classes`: what 0, 1, 2 … mean as names of class folders, or of the model's
        classes.
        """
        self._device, self._batch_size = device, batch_size
        self._numbered_classes = numbered_classes
        self._datasets: dict[tuple, Dataset] = {}

    @property
    def failures(self) -> list[tuple[Path, str]]:
        """The files that could not be read so far, each once, with the reason."""
        datasets = self._datasets.values()
        return list(dict(failure for data in datasets for failure in data.failures).items())

    def evaluate(
        self, model_path: Path, checkpoint: Checkpoint, root: Path, tta: str | None = None
    ) -> Evaluation:
        """Predict the class of every image in the class folders of `root`.

        `tta`: the views of each image, see `tta_views`; None: those that the model file names.
        Raise StageError if the folders hold no readable image, or a class that the model does not
        know.
        """
        tta = tta or checkpoint.tta
        data = self._load(root, checkpoint)
        model = checkpoint.build().to(self._device)
        started = time.perf_counter()
        batches = data.in_order(0, len(data), self._batch_size, self._device)
        log_probs = predict_log_probs(model, batches, len(data), model_path.name, tta)
        scaled = scale(log_probs.double().numpy(), checkpoint.temperature or 1.0)
        return Evaluation(
            model_path,
            checkpoint,
            root,
            [sample.path for sample in data.samples],
            data.labels.numpy(),
            np.exp(scaled),
            len(data) / (time.perf_counter() - started),
            sum(p.numel() for p in model.parameters()),
            tta,
            describe_environment(self._device, "off"),
        )

    def calibrate(
        self, model_path: Path, checkpoint: Checkpoint, root: Path, tta: str | None = None
    ) -> tuple[Checkpoint, dict[str, float]]:
        """Choose views and temperature on the images in `root`, and save both in the model file.

        The views are `tta`, or else those of CALIBRATED_TTA with the best accuracy, the first of
        equals; the temperature is fitted to their predictions. Return the model, and the accuracy
        for each choice of views. Raise StageError for a file of weights alone, which has no place
        for them, OSError if they cannot be saved.
        """
        if checkpoint.is_reference:
            raise StageError(
                f"--calibrate: {model_path} holds weights alone, and no place for a temperature; "
                f"leave --calibrate out"
            )
        cold = replace(checkpoint, temperature=None)
        choices = [tta] if tta else CALIBRATED_TTA
        results = [self.evaluate(model_path, cold, root, choice) for choice in choices]
        best = max(results, key=lambda result: result.scores.right)
        log_probs = np.log(np.maximum(best.probs, MIN_PROBABILITY))
        temperature = fit_temperature(log_probs, best.truth)
        calibrated = replace(checkpoint, temperature=temperature, tta=best.tta)
        calibrated.save(model_path)
        return calibrated, {result.tta: result.scores.accuracy for result in results}

    def _load(self, root: Path, checkpoint: Checkpoint) -> Dataset:
        """Return a folder's images as the model takes them, labelled by its classes."""
        key = root, tuple(checkpoint.classes), checkpoint.preprocessing()
        if key not in self._datasets:
            images = scan_class_folders(root)
            images.rename_to(checkpoint.classes, "the model", self._numbered_classes)
            _check_classes(images, checkpoint.classes)
            images.report()
            samples = make_samples(images, checkpoint.classes)
            description = f"{root.name} images"
            data = load_dataset(samples, checkpoint.preprocessing(), description, folder=None)
            if not len(data):
                raise StageError(f"{root}: no readable image")
            self._datasets[key] = data.to_device(self._device)
        return self._datasets[key]


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
