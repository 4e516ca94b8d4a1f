"""Trainings of which each leaves one fold of the images out, and predicts it at its end.

The model of a fold is that of its best epoch on the validation set, as of any other training: a
network that is trained further learns wrong labels by heart. Its predictions are kept in the run's
folder, so that a second start trains only the folds that are left.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.console import info, note
from utils.data.dataset import Dataset, fingerprint
from utils.data.folds import (
    COLUMNS,
    Fold,
    assign_folds,
    digest_of,
    find_groups,
    make_photos,
    predictions_path,
    read_predictions,
)
from utils.data.image_folder import Sample
from utils.data.sets import train_folder
from utils.data.subset import Subset, take
from utils.emotions import UNKNOWN
from utils.errors import StageError
from utils.files import make_folder, write_csv
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.inference.predict import predict_log_probs, prediction_batch
from utils.training.run_folder import Run
from utils.training.trainer import Trainer

HINT = "it has to be one that has never seen these images: otherwise it knows their labels"


@dataclass(frozen=True)
class FoldPlan:
    """The folds of the training images, and the one that a training leaves out."""

    fold: Fold
    root: Path  # holds the class folders
    numbers: dict[Path, int]  # image → its fold
    key: str  # of images and folds: a run with another one was about other data

    def split(self, data: Dataset) -> tuple[Subset, Subset]:
        """Return the images to learn from, and those left out, which have a class.

        Raise StageError if there are none of either.
        """
        numbers = [self.numbers[sample.path] for sample in data.samples]
        learnt = take(data, [i for i, number in enumerate(numbers) if number != self.fold.number])
        left_out = take(
            data,
            [
                i
                for i, number in enumerate(numbers)
                if number == self.fold.number and self.class_of(data.samples[i].path) != UNKNOWN
            ],
        )
        if not len(learnt) or not len(left_out):
            problem = "leaves no image out" if len(learnt) else "leaves no image to learn from"
            raise StageError(f"fold {self.fold} of {self.root} {problem}: ask for fewer folds")
        return learnt, left_out

    def class_of(self, path: Path) -> str:
        """Return the class folder of an image."""
        return path.relative_to(self.root).parts[0]

    def fits(self, checkpoint: Checkpoint) -> bool:
        """Return whether a run's state is about these images and folds."""
        return (checkpoint.training or {}).get("fold") == self.key


def plan_fold(
    args: argparse.Namespace,
    samples: Sequence[Sample],
    others: Iterable[Sample],
    validation_samples: Sequence[Sample],
) -> FoldPlan | None:
    """Return the plan of --fold, or None without the flag.

    `samples`: those of train, by their class folders. `others`: what is learnt besides, of UNKNOWN.
    """
    if not args.fold:
        return None
    root = train_folder(args.data_path)
    known = {sample.path for sample in samples}
    everything = [*samples, *(sample for sample in others if sample.path not in known)]
    photos = make_photos(everything, root)
    fold = Fold.parse(args.fold)
    folds = assign_folds(photos, find_groups(photos, args.data_path), fold.total, args.seed)
    preprocess = Preprocess(args.image_size, args.image_channel)
    key = digest_of(folds, fingerprint([*everything, *validation_samples], preprocess))
    numbers = {photo.path: number for photo, number in zip(photos, folds, strict=True)}
    return FoldPlan(fold, root, numbers, key)


def announce_cost(args: argparse.Namespace, images: int) -> None:
    """Say what --folds costs, before it begins."""
    count = args.folds
    most = "at most " * bool(args.patience)
    times = f"{count - 1} times " * (count > 2)
    info(
        f"--folds {count}: {count} trainings of {most}{args.epochs} epochs, each on {count - 1}/"
        f"{count} of {images} images; together {times}as long as one training on all of them"
    )
    for flag, value in (("--init", args.init), ("--teacher", args.teacher)):
        if value:
            note(f"{flag}: {HINT}")


def tell_rest(trainer: Trainer, history: Sequence[dict[str, float]], later: int) -> None:
    """Print how long the rest takes, from the speed of the last epoch.

    `later`: trainings that follow.
    """
    seconds = trainer.planner.images / history[-1]["images_per_second"]
    epochs = trainer.recipe.epochs * (1 + later) - len(history)
    if epochs > 0:
        info(f"an epoch takes {seconds:.3g} s: {_duration(seconds * epochs)} for {epochs} more")


def _duration(seconds: float) -> str:
    """Return a rough time: `about 2 h 10 min`."""
    minutes = max(1, round(seconds / 60))
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min" if hours else f"about {minutes} min"


def predict_held_out(
    trainer: Trainer, run: Run, data: Subset, plan: FoldPlan, classes: Sequence[str]
) -> float:
    """Write the predictions of a run's best model for the images that it has not seen.

    Return the fraction of them that is predicted as labelled. If the training mirrored images, the
    prediction is the mean of image and mirror image.
    """
    model, recipe = trainer.best_model, trainer.recipe
    model.load_state_dict(Checkpoint.load(run.best).weights)
    device = trainer.distributed.device
    size = prediction_batch(recipe.batch_size, data.preprocess.image_size, device)
    batches = data.in_order(0, len(data), size, device)
    tta = "flip" if recipe.augment.flip else "none"
    probs = predict_log_probs(model, batches, len(data), "predict", tta).double().exp().numpy()
    answers = probs.argmax(1)
    write_csv(run.held_out, _rows(data.samples, answers, probs, plan, classes))
    return float((answers == data.labels.numpy()).mean())


def _rows(
    samples: Sequence[Sample],
    answers: np.ndarray,
    probs: np.ndarray,
    plan: FoldPlan,
    classes: Sequence[str],
) -> Iterable[list[object]]:
    yield [*COLUMNS, *classes]
    for (path, label), answer, row in zip(samples, answers, probs, strict=True):
        file = path.relative_to(plan.root).as_posix()
        yield [file, classes[label], classes[answer], plan.fold.number, *(f"{p:.6g}" for p in row)]


def join_folds(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Write the predictions of all folds into one file, and print where it is.

    Raise StageError if that of a run is missing or damaged.
    """
    advice = "delete it, and start the same command again"
    tables = [read_predictions(run.held_out, advice) for run in runs]
    header = tables[0][0]
    rows = sorted((row for _, rows in tables for row in rows), key=lambda row: row[0])
    path = predictions_path(args.model_path)
    make_folder(path.parent)
    write_csv(path, [header, *rows])
    right = sum(row[1] == row[2] for row in rows)
    words = ["--model_path", str(args.model_path), "--data_path", str(args.data_path)]
    print(
        f"{len(rows)} images of {train_folder(args.data_path)} are predicted by models that "
        f"have not seen them, {right / len(rows):.2%} as labelled -> {path}\n"
        f"next: python test.py {shlex.join(words)} --split train --suspects 200",
        flush=True,
    )
