"""Logit adjustment: predictions as if the model had seen every class equally often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.console import note
from utils.data.image_folder import scan_class_folders
from utils.errors import StageError
from utils.evaluation.evaluator import MIN_PROBABILITY, Evaluation
from utils.inference.model_info import ModelInfo
from utils.metrics import scale


def rebalance(evaluation: Evaluation, priors: np.ndarray, tau: float) -> Evaluation:
    """Return the evaluation with `tau` · log prior subtracted from the log-probabilities.

    `priors`: the frequency of each class in the training, float64 (classes,). With `tau` 1 the
    predictions are the best for the mean recall of the classes, if the model is calibrated (Menon
    et al. 2021, arXiv 2007.07314, section 4.1, "post-hoc logit adjustment"). Those of frequent
    classes become fewer, and accuracy usually falls. A class that was never trained keeps its
    probability.
    """
    offsets = tau * np.log(np.where(priors > 0, priors, 1.0))
    adjusted = np.log(np.maximum(evaluation.probs, MIN_PROBABILITY)) - offsets
    probs = np.exp(scale(adjusted, 1.0))
    return replace(evaluation, probs=probs, balance=tau, unbalanced=evaluation.scores)


def find_priors(
    model: ModelInfo,
    model_path: Path,
    data_path: Path,
    numbered_classes: Sequence[str] = (),
) -> np.ndarray:
    """Return the frequency of each class in the training, float64 (classes,).

    It is in the model file, or else counted in the folder train of `data_path`, with a note.
    `numbered_classes`: see `Evaluator`. Raise StageError if it is in neither.
    """
    if model.class_priors:
        return np.array(model.class_priors)
    root = data_path / "train"
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
    counts = np.array([len(images[name]) for name in model.classes], float)
    return counts / counts.sum()
