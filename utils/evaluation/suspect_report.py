"""Labels worth a second look: where their probabilities are from, and how they are reported.

model-folds/suspects.csv     the most suspicious images, each with the class that fits better
            suspects.html    the same with pictures, to decide about each; it saves a relabel.tsv
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.console import markdown_row, note, one_line
from utils.data.folds import COLUMNS, FIRST_CLASS, label_of, predictions_path, read_predictions
from utils.data.image_folder import scan_class_folders
from utils.data.sets import name_set, quoted
from utils.errors import StageError
from utils.evaluation.suspects import ConfidentLearning
from utils.filenames import nfc
from utils.files import write_csv
from utils.pages.gallery import Card, gallery_data
from utils.pages.page import link_to, write_page
from utils.pages.thumbnails import thumbnail_uris

if TYPE_CHECKING:  # it imports torch, which the suspects of train do not need
    from utils.evaluation.evaluator import Evaluation

CSV, HTML = "suspects.csv", "suspects.html"
SHOWN, SHOWN_PAIRS = 20, 10  # rows of the tables on the screen


@dataclass(frozen=True)
class Suspects:
    """The images of class folders, ranked by how probably their labels are wrong."""

    root: Path  # holds the class folders
    classes: list[str]  # the folders' names, by index; the model's where there is no folder
    files: list[str]  # of the N images: their paths in `root`, in NFC and with slashes
    paths: list[Path]  # the same as they are stored
    learning: ConfidentLearning
    source: str  # of the probabilities, in words

    def chosen(self, count: int) -> list[int]:
        """Return the positions of the most suspicious images, the first one first."""
        return self.learning.ranking()[:count].tolist()


def of_folds(model_path: Path, root: Path) -> Suspects:
    """Return the images of train by the predictions that train.py --folds made.

    Images that are gone are left out, and a note counts those that have no prediction. Raise
    StageError if there are no predictions for these images.
    """
    path = predictions_path(model_path)
    advice = explain_folds(model_path, root.parent)
    if not path.exists():
        raise StageError(f"{path}: no such file; {advice}")
    header, rows = read_predictions(path, "python train.py --folds … writes it again")
    folders = scan_class_folders(root)
    known = {
        f"{label}/{folders.name_of(image)}": image
        for label, images in folders.items()
        for image in images
    }
    found = [row for row in rows if nfc(row[0]) in known]
    if not found:
        raise StageError(f"{path} is about other images than those of {root}; {advice}")
    if gone := len(rows) - len(found):
        note(f"{path}: {gone} of its {len(rows)} images are no longer in {root} by that name")
    if new := len(known) - len(found):
        note(f"{new} of {len(known)} images of {root} have no prediction, and are left out")
    classes = header[FIRST_CLASS:]
    labels = np.array([classes.index(label_of(row[0])) for row in found], np.int64)
    probs = np.array([[float(cell) for cell in row[FIRST_CLASS:]] for row in found])
    folds = len({row[COLUMNS.index("fold")] for row in found})
    files = [nfc(row[0]) for row in found]
    paths = [known[file] for file in files]
    source = f"predicted by {folds} models that have not seen them"
    return Suspects(root, classes, files, paths, ConfidentLearning(probs, labels), source)


def explain_folds(model_path: Path, data_path: Path) -> str:
    """Return which command makes the predictions of the training images, and what it costs."""
    return (
        f"make the predictions with python train.py --folds 5 --model_path {quoted(model_path)} "
        f"--data_path {quoted(data_path)} and the other flags of the training, which takes four "
        f"times as long as that training"
    )


def of_evaluation(evaluation: Evaluation) -> Suspects:
    """Return the images of a set that the model has not learnt, by its predictions."""
    classes = list(evaluation.model.classes)
    files = [nfc(path.relative_to(evaluation.root).as_posix()) for path in evaluation.paths]
    for file, truth in zip(files, evaluation.truth, strict=True):
        classes[truth] = label_of(file)  # the folder may have another name than the class
    learning = ConfidentLearning(evaluation.probs, evaluation.truth)
    source = f"predicted by {evaluation.model_path}"
    return Suspects(evaluation.root, classes, files, evaluation.paths, learning, source)


def make_lines(suspects: Suspects, count: int) -> list[str]:
    """Return the report as text: estimates, pairs of classes, and the first rows."""
    learning, classes = suspects.learning, suspects.classes
    total, named = len(suspects.files), int(learning.is_error.sum())
    lines = [
        f"{suspects.root}: {total} images, {suspects.source}",
        f"confident learning: about {learning.errors} labels are wrong "
        f"({learning.errors / total:.1%}), of which it names {named}",
    ]
    if pairs := learning.pairs():
        lines += ["", "| label | true class | labels |", "|---|---|---|"]
        lines += [markdown_row((classes[i], classes[j], n)) for i, j, n in pairs[:SHOWN_PAIRS]]
        if rest := sum(n for _, _, n in pairs[SHOWN_PAIRS:]):
            lines.append(f"| {len(pairs) - SHOWN_PAIRS} other pairs | | {rest} |")
    lines += ["", "| file | probability of the label | suggestion | its probability |"]
    lines.append("|---|---|---|---|")
    for file, _, suggestion, own, other, *_ in _rows(suspects, min(count, SHOWN)):
        lines.append(markdown_row((one_line(file), f"{own:.1%}", suggestion, f"{other:.1%}")))
    return lines


def to_json(suspects: Suspects, count: int) -> dict[str, Any]:
    """Return the report as JSON can hold it."""
    learning, classes = suspects.learning, suspects.classes
    keys = ("file", "label", "suggestion", "label_probability", "suggestion_probability", "score")
    return {
        "data": str(suspects.root),
        "images": len(suspects.files),
        "wrong_labels": learning.errors,
        "named": int(learning.is_error.sum()),
        "pairs": [
            {"label": classes[i], "true_class": classes[j], "labels": n}
            for i, j, n in learning.pairs()
        ],
        "suspects": [
            dict(zip((*keys, "named"), row, strict=True)) for row in _rows(suspects, count)
        ],
    }


def _rows(
    suspects: Suspects, count: int
) -> Iterable[tuple[str, str, str, float, float, float, bool]]:
    """Yield file, label, suggestion, both probabilities, score, and whether it is named."""
    learning, classes = suspects.learning, suspects.classes
    for i in suspects.chosen(count):
        label, suggestion = learning.labels[i], learning.suggestions[i]
        yield (
            suspects.files[i], classes[label], classes[suggestion], float(learning.own[i]),
            float(learning.probs[i, suggestion]), float(learning.scores[i]),
            bool(learning.is_error[i]),
        )  # fmt: skip


def write_suspects(suspects: Suspects, folder: Path, count: int, language: str = "auto") -> None:
    """Write the table and the page into an existing folder. Raise OSError if that fails."""
    header = (
        "file", "label", "suggestion", "label probability", "suggestion probability", "score",
        "named",
    )  # fmt: skip
    rows = (
        [*words, f"{own:.6f}", f"{other:.6f}", f"{score:.6f}", int(named)]
        for *words, own, other, score, named in _rows(suspects, count)
    )
    write_csv(folder / CSV, [header, *rows])
    chosen = suspects.chosen(count)
    cards = _make_cards(suspects, chosen, folder)
    if lost := sum(not card.image for card in cards):
        note(f"{folder / HTML}: {lost} images cannot be read any more: they have no picture")
    learning, classes = suspects.learning, suspects.classes
    write_page(
        folder / HTML,
        "suspects.html",
        language,
        suspects=suspects,
        errors=learning.errors,
        named=int(learning.is_error.sum()),
        count=len(chosen),
        pairs=[(classes[i], classes[j], n) for i, j, n in learning.pairs()[:SHOWN_PAIRS]],
        cards=gallery_data(classes, cards),
        facts={"set": name_set(suspects.root.name) or "", "key": _key_of(suspects.root)},
    )


def _key_of(root: Path) -> str:
    """Return a name of the folder, under which a browser keeps the decisions about its images."""
    return hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]


def _make_cards(suspects: Suspects, chosen: Sequence[int], folder: Path) -> list[Card]:
    learning = suspects.learning
    paths = [suspects.paths[i] for i in chosen]
    images = thumbnail_uris(paths, "thumbnails")
    return [
        Card(
            file=suspects.files[i],
            truth=int(learning.labels[i]),
            probs=learning.probs[i].tolist(),
            image=image,
            href=link_to(path, folder) if path.exists() else "",
            more={
                "prediction": int(learning.suggestions[i]),
                "confidence": round(float(learning.probs[i, learning.suggestions[i]]), 4),
            },
        )
        for i, path, image in zip(chosen, paths, images, strict=True)
    ]
