"""Measure how well wrong labels are found: flip some labels at random, and search for them.

The faces of --data_path (train and validation, each with class folders) are linked into --folder
with --flip of the labels of train changed to another class. Then train.py --folds makes
out-of-sample probabilities, and an ordinary training those of a model that knows the labels. The
table states how many of the suspects are flipped labels (precision) and how many of the flipped
labels are among the suspects (recall), for several rankings: confident learning's, the lowest
probability of the label, and both by the model that knows the labels. Labels that were wrong
before count as mistakes of the search: the precision is a lower bound.

Finished trainings are skipped and stopped ones are resumed. With --predictions nothing is trained:
the labels in a report of test.py are flipped, with many seeds. The model must not have learnt them.

  python -m benchmarks.suspects --data_path ferplus --folder suspects-ferplus
  python -m benchmarks.suspects --data_path ferplus --folder trial --images 3000 --epochs 3
  python -m benchmarks.suspects --predictions model-report/validation/predictions.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import cli
from utils.data.folds import FIRST_CLASS, predictions_path
from utils.data.image_folder import scan_class_folders
from utils.data.sets import find_train_and_validation
from utils.errors import StageError
from utils.evaluation.suspects import ConfidentLearning
from utils.files import CSV_ENCODING, write_tsv
from utils.metrics import wilson

ROOT = Path(__file__).resolve().parent.parent
RECIPE = (
    "--optimizer adamw --lr 0.001 --weight_decay 0.05 --schedule cosine --warmup 1 --crop 0.08 "
    "--rotation 12 --amp bf16"
)
FLIPS = "flips.tsv"


class Predictions(NamedTuple):
    """What models say about the images of train."""

    files: list[str]
    learning: ConfidentLearning


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    text = "folder with train and validation, each with class folders"
    flag("--data_path", text, Path("data"), cli.path, metavar="DIR")
    flag("--folder", "folder to work in", Path("suspects"), cli.path, metavar="DIR")
    flag("--flip", "fraction of the labels to change", 0.05, cli.fraction, metavar="X")
    text = "uniform: to any other class; frequency: to a class as frequent as it is"
    flag("--to", text, "uniform", str, choices=("uniform", "frequency"))
    flag(
        "--images",
        "about so many images, of each class its share (default: all)",
        None,
        cli.positive_int,
        metavar="N",
    )
    flag("--folds", "number of folds", 5, cli.int_between(2, 100), metavar="K")
    flag("--epochs", "epochs of each training", 7, cli.positive_int, metavar="N")
    flag("--seed", "seed of the flips and of the trainings", 0, cli.non_negative_int, metavar="N")
    text = "predictions.csv of a report, whose labels are flipped instead"
    flag("--predictions", text, None, cli.path, metavar="CSV")
    flag("--seeds", "seeds of the flips of --predictions", 20, cli.positive_int, metavar="N")
    args = parser.parse_args()

    if args.predictions:
        flip_predictions(args)
        return cli.OK
    flipped = prepare(args)
    words = [*RECIPE.split(), "--epochs", args.epochs, "--seed", args.seed]
    words += ["--data_path", "data", "--model_path", "model.pt"]
    run(args.folder, "train.py", *words, "--folds", args.folds)
    if not (args.folder / "model.pt").exists() or is_unfinished(args.folder, args.epochs):
        run(args.folder, "train.py", *words, "--resume", "auto")
    test = ("--data_path", "data/train", "--output", "in-sample")
    run(args.folder, "test.py", "--model_path", "model.pt", *test, stdout=subprocess.DEVNULL)
    fresh = read(predictions_path(args.folder / "model.pt"), FIRST_CLASS)
    known = read(args.folder / "in-sample/predictions.csv", first=3)
    print_results(fresh, known, flipped)
    return cli.OK


def flip_predictions(args: argparse.Namespace) -> None:
    """Flip labels in a report, once for each seed, and print the mean precision and recall."""
    files, learning = read(args.predictions, first=3)
    names = [str(label) for label in learning.labels]
    count = round(args.flip * len(files))
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(args.seed, args.seed + args.seeds):
        flipped = np.array(flip(names, count, args.to, random.Random(seed)), int)
        wrong = flipped != learning.labels
        again = ConfidentLearning(learning.probs, flipped)
        margins = np.sort(again.probs, 1)[:, -1] - again.own
        for title, chosen in (
            ("named by confident learning", np.flatnonzero(again.is_error)),
            *(
                (f"first {args.flip:.1%}: {rank}", np.argsort(scores, kind="stable")[:count])
                for rank, scores in (
                    ("lowest odds of label and suggestion", again.scores),
                    ("lowest probability of the label", again.own),
                    ("lowest margin of label and most probable class", -margins),
                )
            ),
        ):
            right = wrong[chosen].sum()
            values = len(chosen), right / max(1, len(chosen)), right / count
            found.setdefault(title, []).append(values)
    print(f"{len(files)} images, {count} labels flipped, {args.to}; means of {args.seeds} seeds\n")
    print("| suspects | images | precision | recall |\n|---|---|---|---|")
    for title, rows in found.items():
        images, precision, recall = np.mean(rows, axis=0)
        spread = np.std(rows, axis=0)[2]
        print(f"| {title} | {images:.0f} | {precision:.1%} | {recall:.1%} ± {spread:.1%} |")


def prepare(args: argparse.Namespace) -> set[str]:
    """Link the images into the folder, with flipped labels. Return those files, as class/name."""
    manifest = args.folder / FLIPS
    if manifest.exists():
        rows = csv.reader(manifest.read_text(encoding="utf-8").splitlines()[1:], delimiter="\t")
        return {f"{row[2]}/{row[0]}" for row in rows}
    if (args.folder / "data").exists():
        raise StageError(f"{args.folder / 'data'} is incomplete: remove it")
    train, validation = find_train_and_validation(args.data_path)
    link(((path, label, path.name) for label, paths in scan_class_folders(validation).items()
          for path in paths), args.folder / "data/validation")  # fmt: skip
    folders = scan_class_folders(train)
    total, rng = sum(map(len, folders.values())), random.Random(args.seed)
    share = min(1.0, (args.images or total) / total)  # of each class, of which two at least
    images = [
        (path, label)
        for label, paths in folders.items()
        for path in sorted(rng.sample(paths, min(len(paths), max(2, round(share * len(paths))))))
    ]
    labels = [label for _, label in images]
    new = flip(labels, round(args.flip * len(images)), args.to, rng)
    # The class in the name: two images of one name may come into one class.
    targets = [(path, label, f"{old}-{path.name}")
               for (path, old), label in zip(images, new, strict=True)]  # fmt: skip
    link(targets, args.folder / "data/train")
    rows = [(name, old, label) for (_, label, name), old in zip(targets, labels, strict=True)
            if label != old]  # fmt: skip
    write_tsv(manifest, [("file", "from", "to"), *rows])
    return {f"{label}/{name}" for name, _, label in rows}


def flip(labels: list[str], count: int, to: str, rng: random.Random) -> list[str]:
    """Return the labels, `count` of them changed to another class."""
    classes = sorted(set(labels))
    new = list(labels)
    for i in rng.sample(range(len(labels)), count):
        while new[i] == labels[i]:
            new[i] = rng.choice(classes if to == "uniform" else labels)
    return new


def link(targets: Iterable[tuple[Path, str, str]], folder: Path) -> None:
    for path, label, name in targets:
        (folder / label).mkdir(parents=True, exist_ok=True)
        os.link(path, folder / label / name)


def run(folder: Path, script: str, *words: object, stdout: int | None = None) -> None:
    """Run a script in the folder. Raise StageError if it fails."""
    command = [sys.executable, str(ROOT / script), *map(str, words)]
    if subprocess.run(command, cwd=folder, stdout=stdout, check=False).returncode:
        raise StageError(f"{script} failed: {' '.join(command)}")


def is_unfinished(folder: Path, epochs: int) -> bool:
    """Return whether the ordinary training has trained fewer epochs."""
    for options in folder.glob("runs/*/options.json"):
        if not json.loads(options.read_text(encoding="utf-8"))["fold"]:
            with (options.parent / "results.csv").open(encoding=CSV_ENCODING) as file:
                return sum(1 for _ in file) <= epochs
    return True


def read(path: Path, first: int) -> Predictions:
    """Return the predictions in a file, of whose columns the classes begin at `first`."""
    with path.open(encoding=CSV_ENCODING, newline="") as file:
        header, *rows = csv.reader(file)
    classes = header[first:]
    probs = np.array([[float(cell) for cell in row[first:]] for row in rows])
    labels = np.array([classes.index(row[1]) for row in rows])
    return Predictions([row[0] for row in rows], ConfidentLearning(probs, labels))


def print_results(fresh: Predictions, known: Predictions, flipped: set[str]) -> None:
    """Print the estimate, and the precision and recall of each ranking."""
    learning = fresh.learning
    total = len(fresh.files)
    print(
        f"\n{total} images, {len(flipped)} labels flipped ({len(flipped) / total:.2%}); confident "
        f"learning estimates {learning.errors:.0f} wrong labels, and names "
        f"{learning.is_error.sum()}\n"
    )
    print("| suspects | images | precision | recall | 95 % interval of the recall |")
    print("|---|---|---|---|---|")
    named = np.flatnonzero(learning.is_error)
    print_row("named by confident learning", fresh, named, flipped)
    count = len(flipped)
    for title, source, scores in (
        ("lowest odds of label and suggestion", fresh, learning.scores),
        ("lowest probability of the label", fresh, learning.own),
        ("lowest odds, by the model that has learnt the labels", known, known.learning.scores),
        ("lowest probability, by the model that has learnt the labels", known, known.learning.own),
    ):
        first = np.argsort(scores, kind="stable")[:count]
        print_row(f"first {count / total:.1%}: {title}", source, first, flipped)
    first = learning.ranking()[:200]
    print_row("first 200: lowest odds", fresh, first, flipped)


def print_row(title: str, source: Predictions, chosen: np.ndarray, flipped: set[str]) -> None:
    found = sum(source.files[i] in flipped for i in chosen)
    low, high = wilson(found, len(flipped))
    print(
        f"| {title} | {len(chosen)} | {found / max(1, len(chosen)):.1%} | "
        f"{found / len(flipped):.1%} | {low:.1%} to {high:.1%} |"
    )


if __name__ == "__main__":
    cli.run(main)
