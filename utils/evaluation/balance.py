"""Logit adjustment: predictions as if the model had seen every class equally often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from utils.console import note
from utils.data.image_folder import scan_class_folders
from utils.data.sets import train_folder
from utils.errors import StageError
from utils.inference.model_info import ModelInfo


class Balance(NamedTuple):
    """The strength of a logit adjustment, and what it needs. See `ModelInfo.probabilities`."""

    tau: float
    priors: list[float] | None  # the frequency of each class in the training; None: tau is 0

    def of(self, model: ModelInfo) -> ModelInfo:
        """Return the description of a model with this balance instead of the one that it has."""
        priors = self.priors or model.class_priors
        return replace(model, balance=float(self.tau), class_priors=priors)


def make_balance(
    tau: float | None,
    model: ModelInfo,
    model_path: Path,
    data_path: Path,
    numbered_classes: Sequence[str] = (),
) -> Balance:
    """Return a balance of the strength `tau` for the model of a file; None: the model's own.

    See `find_priors` for the others.
    """
    if tau is None:
        return Balance(model.balance, model.class_priors)
    priors = find_priors(model, model_path, data_path, numbered_classes) if tau else None
    return Balance(tau, priors)


def find_priors(
    model: ModelInfo,
    model_path: Path,
    data_path: Path,
    numbered_classes: Sequence[str] = (),
) -> list[float]:
    """Return the frequency of each class in the training, in the model's order, sum 1.

    It is in the model file, or else counted in the folder train of `data_path`, with a note.
    `numbered_classes`: see `Evaluator`. Raise StageError if it is in neither.
    """
    if model.class_priors:
        return model.class_priors
    root = train_folder(data_path)
    problem = f"{model_path} does not hold how frequent each class was in its training"
    if not root.is_dir():
        raise StageError(f"--balance: {problem}, and there is no {root} to count images in")
    images = scan_class_folders(root)
    images.rename_to(model.classes, "the model", numbered_classes)
    strangers = set(images) ^ set(model.classes)
    if strangers:
        raise StageError(
            f"--balance: {problem}, and {root} has other classes than the model: "
            f"{' '.join(sorted(strangers))}"
        )
    note(f"{problem}: counted in {root}, for a training without --class_weights")
    counts = [len(images[name]) for name in model.classes]
    return [count / sum(counts) for count in counts]
