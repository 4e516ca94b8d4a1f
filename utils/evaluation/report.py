"""The report of an evaluation: figures, predictions and pictures, as files in a folder.

model-report/test/report.json        all figures
                  predictions.csv    true class, prediction and probabilities of every image
                  confusion.csv      the confusion matrix
                  groups.csv         scores by sex, age and the like, if they are known
                  confusion.png, reliability.png, mistakes.png
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from utils.console import note
from utils.evaluation.evaluator import Evaluation
from utils.evaluation.group_report import GROUPS, make_json, make_rows
from utils.files import atomic_file, write_csv
from utils.imaging.grids import draw_mistakes
from utils.imaging.image_io import ImageError
from utils.imaging.plots import draw_confusion, draw_reliability
from utils.metrics import wilson

MAX_MISTAKES = 36  # in mistakes.png


def make_report(evaluation: Evaluation) -> dict[str, Any]:
    """Return all figures, as JSON can hold them. Fractions are in [0, 1]."""
    scores, model = evaluation.scores, evaluation.model
    low, high = wilson(scores.right, scores.total)
    report = {
        "model": str(evaluation.model_path),
        "network": model.network,
        "epoch": model.epoch,
        "validation_accuracy": model.val_accuracy,
        "data": str(evaluation.root),
        "tta": evaluation.tta,
        "images": scores.total,
        "right": scores.right,
        "accuracy": scores.accuracy,
        "accuracy_95": [low, high],
        "macro_f1": scores.macro_f1,
        "balanced_accuracy": scores.balanced_accuracy,
        "ece": evaluation.reliability.ece,
        "temperature": model.temperature or 1.0,
        "images_per_second": evaluation.images_per_second,
        "parameters": evaluation.parameters,
        "file_bytes": evaluation.model_path.stat().st_size,
        "classes": {
            name: {
                "precision": float(scores.precision[i]),
                "recall": float(scores.recall[i]),
                "f1": float(scores.f1[i]),
                "support": int(scores.support[i]),
            }
            for i, name in enumerate(model.classes)
        },
        "confusion": scores.confusion.tolist(),
        "environment": evaluation.environment,
    }
    if before := evaluation.unbalanced:
        report["balance"] = {
            "tau": evaluation.balance,
            "accuracy_without": before.accuracy,
            "balanced_accuracy_without": before.balanced_accuracy,
        }
    if evaluation.groups:
        report["groups"] = make_json(evaluation.groups, model.classes)
    return report


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write the report's files into an existing folder. Raise OSError if one cannot be written."""
    classes, scores = evaluation.model.classes, evaluation.scores
    text = json.dumps(make_report(evaluation), ensure_ascii=False, indent=2) + "\n"
    with atomic_file(folder / "report.json") as file:
        # A path may not be UTF-8: its other bytes become escapes.
        file.write(text.encode(errors="backslashreplace"))
    write_csv(folder / "predictions.csv", _prediction_rows(evaluation))
    rows = [[name, *counts] for name, counts in zip(classes, scores.confusion, strict=True)]
    write_csv(folder / "confusion.csv", [["truth\\prediction", *classes], *rows])
    if evaluation.groups:
        write_csv(folder / GROUPS, make_rows(evaluation.groups, classes))
    else:  # an earlier report may have had some
        (folder / GROUPS).unlink(missing_ok=True)
    draw_confusion(scores, classes, folder / "confusion.png")
    draw_reliability(evaluation.reliability, folder / "reliability.png")
    try:
        draw_mistakes(_worst_mistakes(evaluation), folder / "mistakes.png")
    except ImageError as error:
        note(f"{folder / 'mistakes.png'} is not drawn, a file has changed meanwhile: {error}")


def _prediction_rows(evaluation: Evaluation) -> Iterable[list[object]]:
    """Yield the header and the rows of predictions.csv."""
    classes = evaluation.model.classes
    yield ["file", "truth", "prediction", *classes]
    for path, truth, prediction, probs in zip(
        evaluation.paths, evaluation.truth, evaluation.predictions, evaluation.probs, strict=True
    ):
        file = path.relative_to(evaluation.root).as_posix()
        yield [file, classes[truth], classes[prediction], *(f"{p:.6f}" for p in probs)]


def _worst_mistakes(evaluation: Evaluation) -> list[tuple[Path, str, str, float]]:
    """Return the wrong predictions with the highest confidence, for `draw_mistakes`."""
    classes, truth = evaluation.model.classes, evaluation.truth
    predictions, confidence = evaluation.predictions, evaluation.probs.max(1)
    order = (-confidence).argsort(kind="stable")
    wrong = [i for i in order if predictions[i] != truth[i]]
    return [
        (evaluation.paths[i], classes[truth[i]], classes[predictions[i]], float(confidence[i]))
        for i in wrong[:MAX_MISTAKES]
    ]
