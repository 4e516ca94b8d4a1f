"""report.html: an evaluation as a page to look at, with all mistakes.

The thumbnails are made from the files, not from the pixels that the network has seen: those may be
grey and small, while a person judges a label by the picture as it is. A file is decoded once, a
JPEG no larger than needed, and a picture that is small already, such as FER2013's, stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.console import note
from utils.evaluation.evaluator import Evaluation
from utils.evaluation.group_page import make_section
from utils.metrics import wilson
from utils.pages.charts import Bin
from utils.pages.gallery import Card, gallery_data
from utils.pages.page import link_to, write_page
from utils.pages.thumbnails import thumbnail_uris

NAME = "report.html"
RANKED = 10  # pairs of classes in the list of the most frequent mistakes
LARGE_PAGE = 50 << 20  # bytes; above it, browsers take seconds to open a page


def write_report_page(
    evaluation: Evaluation,
    folder: Path,
    language: str = "auto",
    options: Mapping[str, object] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write report.html into an existing folder, and return its path. Raise OSError if it fails.

    `options`: the flags to list. `columns`: by which the gallery is filtered, each with a value for
    every image, empty where it is not known. Print a note if images cannot be read any more, and
    for a page above LARGE_PAGE.
    """
    path = folder / NAME
    mistakes = find_mistakes(evaluation)
    cards = make_cards(evaluation, mistakes, folder, columns or {})
    lost = sum(not card.image for card in cards)
    if lost:
        note(
            f"{path}: {lost} images have changed meanwhile and cannot be read: they have no picture"
        )
    write_page(
        path,
        "report.html",
        language,
        evaluation=evaluation,
        classes=evaluation.model.classes,
        scores=evaluation.scores,
        interval=wilson(evaluation.scores.right, evaluation.scores.total),
        rows=class_rows(evaluation),
        matrix=matrix_rows(evaluation),
        confusions=frequent_confusions(evaluation),
        bins=reliability_bins(evaluation),
        cards=gallery_data(evaluation.model.classes, cards),
        facts=make_facts(evaluation),
        options=options or {},
        groups=make_section(evaluation.groups) if evaluation.groups else None,
    )
    if (size := path.stat().st_size) > LARGE_PAGE:
        note(
            f"{path} has {size >> 20} MB, because all {len(cards):,} mistakes are in it: a browser "
            f"may take seconds to open it"
        )
    return path


def find_mistakes(evaluation: Evaluation) -> list[int]:
    """Return which predictions are wrong, the most confident first."""
    wrong = np.flatnonzero(evaluation.predictions != evaluation.truth)
    confidence = evaluation.probs[wrong].max(1)
    return [int(i) for i in wrong[(-confidence).argsort(kind="stable")]]


def make_cards(
    evaluation: Evaluation,
    indices: Sequence[int],
    folder: Path,
    columns: Mapping[str, Sequence[str]],
) -> list[Card]:
    """Return these images as cards of a gallery, with thumbnails, for a page in `folder`."""
    paths = [evaluation.paths[i] for i in indices]
    images = thumbnail_uris(paths, "thumbnails")
    return [
        Card(
            file=path.relative_to(evaluation.root).as_posix(),
            truth=int(evaluation.truth[i]),
            probs=evaluation.probs[i].tolist(),
            image=image,
            href=link_to(path, folder) if path.exists() else "",
            groups={name: values[i] for name, values in columns.items()},
        )
        for i, path, image in zip(indices, paths, images, strict=True)
    ]


def class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the figures of each class, with the 95 % interval of its recall."""
    scores = evaluation.scores
    return [
        {
            "name": name,
            "precision": float(scores.precision[i]),
            "recall": float(scores.recall[i]),
            "interval": wilson(int(scores.confusion[i, i]), support) if support else None,
            "f1": float(scores.f1[i]),
            "support": support,
        }
        for i, name in enumerate(evaluation.model.classes)
        for support in [int(scores.support[i])]
    ]


def matrix_rows(evaluation: Evaluation) -> list[list[dict[str, Any]]]:
    """Return the confusion matrix: of each cell its count, its fraction of the row and its shade.

    The shade of mistakes is the root of the fraction: 2 % should be seen beside 90 %.
    """
    confusion = evaluation.scores.confusion
    fractions = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return [
        [
            {
                "count": int(count),
                "fraction": float(fraction),
                "shade": round(float(fraction if i == j else math.sqrt(fraction)), 3),
            }
            for j, (count, fraction) in enumerate(zip(counts, row, strict=True))
        ]
        for i, (counts, row) in enumerate(zip(confusion, fractions, strict=True))
    ]


def frequent_confusions(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the cells of the confusion matrix with the most mistakes, at most RANKED."""
    confusion, support = evaluation.scores.confusion, evaluation.scores.support
    cells = [(int(n), i, j) for (i, j), n in np.ndenumerate(confusion) if n and i != j]
    cells.sort(key=lambda cell: -cell[0])
    return [
        {"truth": i, "prediction": j, "count": count, "fraction": count / int(support[i])}
        for count, i, j in cells[:RANKED]
    ]


def reliability_bins(evaluation: Evaluation) -> list[Bin]:
    """Return the bins of the reliability diagram."""
    reliability = evaluation.reliability
    columns = reliability.count, reliability.confidence, reliability.accuracy
    return [
        Bin(int(count), float(confidence), float(accuracy))
        for count, confidence, accuracy in zip(*columns, strict=True)
    ]


def make_facts(evaluation: Evaluation) -> dict[str, object]:
    """Return what the figures depend on, and where they are from, by the key of its text."""
    model = evaluation.model
    preprocess = model.preprocessing()
    accuracy = None if model.val_accuracy is None else f"{model.val_accuracy:.2%}"
    parameters = None if evaluation.parameters is None else f"{evaluation.parameters:,}"
    facts = {
        "report.model": evaluation.model_path,
        "report.data": evaluation.root,
        "report.network": model.network,
        "report.epoch": model.epoch,
        "report.val_accuracy": accuracy,
        "report.input": f"{preprocess.image_size} × {preprocess.image_size} × "
        f"{preprocess.image_channel}",
        "report.parameters": parameters,
        "report.temperature": f"{model.temperature or 1.0:.3f}",
        "report.tta": evaluation.tta,
        "report.balance": f"{evaluation.balance:g}" if evaluation.balance else None,
        "report.speed": f"{evaluation.images_per_second:.0f}",
    }
    return {key: value for key, value in facts.items() if value is not None}
