"""Measure trained models on faces that they have never seen: stage 5 of 5.

Prints the accuracy with its 95 % interval, what there is to say of each class, and the
Truth\\Prediction table, over <data_path>/test, or over <data_path> itself where that holds the
class folders. A folder beside the model gets the same as files, with every prediction, and
pictures. Network, size, channels and classes are read from the checkpoint.

  python test.py                                           # model.pt on data/test
  python test.py --split validation --tta flip
  python test.py --calibrate                               # make the model as sure as it is right
  python test.py --model_path a.pt b.pt c.pt               # side by side
  python test.py --json --data_path my_faces --no-gpu

Next: python emotion.py --img photo.jpg
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils import cli
from utils.console import info, note
from utils.data.error_log import write_file_errors
from utils.data.image_folder import Sample, make_samples, scan_class_folders
from utils.errors import StageError
from utils.files import atomic_file, make_folder
from utils.imaging.preprocess import MAX_SIDE
from utils.metrics import Reliability, Scores, fit_temperature, scale, wilson

if TYPE_CHECKING:  # torch takes seconds, which neither --help should nor processes that decode
    import torch

    from utils.data.dataset import Dataset
    from utils.inference.checkpoint import Checkpoint

MISTAKES = 36  # in the gallery


@dataclass(frozen=True)
class Result:
    """What a model has made of a set of faces."""

    model_path: Path
    checkpoint: Checkpoint
    root: Path
    samples: list[Sample]
    truth: np.ndarray  # int64 (N,): classes' indices in the checkpoint
    probs: np.ndarray  # float64 (N, classes), at the checkpoint's temperature
    rate: float  # images per second in the network
    parameters: int

    @property
    def scores(self) -> Scores:
        return Scores.of(self.truth, self.probs.argmax(1), len(self.checkpoint.classes))

    @property
    def reliability(self) -> Reliability:
        return Reliability.of(self.probs, self.truth)


def make_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    models = [Path("model.pt")]
    flag(
        "--model_path", "trained models; several: a table", models, Path, nargs="+", metavar="FILE"
    )
    flag("--data_path", "holds test, or class folders itself", Path("data"), Path, metavar="DIR")
    flag("--split", "which of data_path's sets", "test", str, choices=("validation", "test"))
    flag("--batch_size", "images at a time; no figure changes", 128, cli.positive_int, metavar="N")
    kinds = ("none", "flip", "tencrop")
    flag("--tta", "mean over views of each image", "none", str, choices=kinds)
    parser.switch("--calibrate", "fit a temperature on validation, into the model file", False)
    flag("--output", "unset: <model>-report beside each model", None, Path, metavar="DIR")
    parser.switch("--json", "the figures as JSON, and nothing else, on stdout", False)
    parser.reference_size_flag(MAX_SIDE)
    flag("--image_channel", "only checked: the model's own is used", None, int, choices=(1, 3))
    parser.device_flags()
    parser.log_dir_flag()
    return parser


def main() -> int:
    args = make_parser().parse_args()
    from utils.inference.checkpoint import Checkpoint
    from utils.inference.device import choose_device

    device = choose_device(args.gpu, args.cuda_idx)
    sizes = args.image_size, args.image_channel
    checkpoints = [Checkpoint.load(path, *sizes) for path in args.model_path]
    outputs = report_folders(args)
    sets = Sets()
    results = []
    for path, checkpoint, output in zip(args.model_path, checkpoints, outputs, strict=True):
        if args.calibrate:
            checkpoint = calibrate(path, checkpoint, sets, args, device)
        root = find_root(args, args.split)
        result = measure(path, checkpoint, root, sets, args.batch_size, args.tta, device)
        write_report(result, output)
        results.append(result)

    log_path = args.log_dir / "test.error.log"
    make_folder(args.log_dir)
    failures = sets.failures()
    write_file_errors(log_path, failures)
    if args.json:
        reports = [report(result) for result in results]
        shown = reports if len(reports) > 1 else reports[0]
        print(json.dumps(shown, ensure_ascii=False))
    elif len(results) > 1:
        print_side_by_side(results)
    else:
        print_result(results[0], outputs[0])
    if failures:
        info(f"{len(failures)} images could not be read: {log_path}")
    return cli.SOME_FAILED if failures else cli.OK


class Sets:
    """The sets of images that the models are shown: each is decoded once for each way of it."""

    def __init__(self) -> None:
        self._loaded: dict[tuple, Dataset] = {}

    def get(self, root: Path, checkpoint: Checkpoint) -> Dataset:
        """The images in the folder as the model wants them, labelled by its classes."""
        from utils.data.dataset import load_dataset

        key = root, tuple(checkpoint.classes), checkpoint.preprocessing()
        if key not in self._loaded:
            images = scan_class_folders(root)
            check_classes(root, list(images), checkpoint.classes)
            samples = make_samples(images, checkpoint.classes)
            data = load_dataset(
                samples, checkpoint.preprocessing(), f"{root.name} images", folder=None
            )
            if not len(data):
                raise StageError(f"{root}: not one readable image")
            self._loaded[key] = data
        return self._loaded[key]

    def failures(self) -> list[tuple[Path, str]]:
        """Every file that could not be read, once."""
        return list(
            dict(failure for data in self._loaded.values() for failure in data.failures).items()
        )


def find_root(args: argparse.Namespace, split: str) -> Path:
    """The folder of a set's class folders. Raises StageError where validation is not there."""
    root = args.data_path / split
    if root.is_dir():
        return root
    if split == "validation":
        raise StageError(f"{root}: no such folder; python dataPreparation.py makes it")
    return args.data_path


def check_classes(root: Path, found: list[str], known: list[str]) -> None:
    """Raises StageError where the folders hold a class that the model does not know, or none."""
    if not found:
        raise StageError(f"{root} has no class folder with images")
    unknown = [name for name in found if name not in known]
    if unknown:
        raise StageError(
            f"{root} has classes that the model does not know: {' '.join(unknown)}; "
            f"it knows {' '.join(known)}"
        )
    missing = [name for name in known if name not in found]
    if missing:
        note(f"{root} has no image of {' '.join(missing)}, which the model knows")


def report_folders(args: argparse.Namespace) -> list[Path]:
    """Where each model's report goes. Raises StageError where two would go to the same place."""
    paths = args.model_path
    if args.output and len(paths) == 1:
        return [args.output]
    folders = [(args.output or path.parent) / f"{path.stem}-report" for path in paths]
    if len(set(folders)) < len(folders):
        raise StageError("--model_path: two models of one name; test them one by one")
    return folders


def measure(
    path: Path,
    checkpoint: Checkpoint,
    root: Path,
    sets: Sets,
    batch_size: int,
    tta: str,
    device: torch.device,
) -> Result:
    """Show the model every image below the folder."""
    from utils.inference.predict import predict_log_probs

    data = sets.get(root, checkpoint)
    model = checkpoint.build().to(device)
    started = time.perf_counter()
    batches = data.images.split(batch_size)
    log_probs = predict_log_probs(model, batches, len(data), path.name, tta).double().numpy()
    rate = len(data) / (time.perf_counter() - started)
    probs = np.exp(scale(log_probs, checkpoint.temperature or 1.0))
    parameters = sum(p.numel() for p in model.parameters())
    truth = data.labels.numpy()
    return Result(path, checkpoint, root, data.samples, truth, probs, rate, parameters)


def calibrate(
    path: Path,
    checkpoint: Checkpoint,
    sets: Sets,
    args: argparse.Namespace,
    device: torch.device,
) -> Checkpoint:
    """Fit the temperature on the validation set, and keep it in the model file.

    On single views, whatever --tta says: so the model answers in emotion.py and video.py.
    """
    if checkpoint.is_reference:
        raise StageError(f"--calibrate: {path} is of the original, which has no place for it")
    plain = replace(checkpoint, temperature=None)
    root = find_root(args, "validation")
    result = measure(path, plain, root, sets, args.batch_size, "none", device)
    temperature = fit_temperature(np.log(np.maximum(result.probs, 1e-300)), result.truth)
    calibrated = replace(checkpoint, temperature=temperature)
    calibrated.save(path)
    info(f"{path} is calibrated on {result.root}: temperature {temperature:.3f}")
    return calibrated


def report(result: Result) -> dict[str, Any]:
    """All figures, as JSON holds them. Shares are in [0, 1]."""
    scores, reliability, checkpoint = result.scores, result.reliability, result.checkpoint
    low, high = wilson(scores.right, scores.total)
    return {
        "model": str(result.model_path),
        "network": checkpoint.network,
        "epoch": checkpoint.epoch,
        "validation_accuracy": checkpoint.val_accuracy,
        "data": str(result.root),
        "images": scores.total,
        "right": scores.right,
        "accuracy": scores.accuracy,
        "accuracy_95": [low, high],
        "macro_f1": scores.macro_f1,
        "balanced_accuracy": scores.balanced_accuracy,
        "ece": reliability.ece,
        "temperature": checkpoint.temperature or 1.0,
        "images_per_second": result.rate,
        "parameters": result.parameters,
        "file_bytes": result.model_path.stat().st_size,
        "classes": {
            name: {
                "precision": float(scores.precision[i]),
                "recall": float(scores.recall[i]),
                "f1": float(scores.f1[i]),
                "support": int(scores.support[i]),
            }
            for i, name in enumerate(checkpoint.classes)
        },
        "confusion": scores.confusion.tolist(),
    }


def write_report(result: Result, folder: Path) -> None:
    """The report, every prediction, the table, and the pictures."""
    from utils.imaging.grids import draw_mistakes
    from utils.imaging.plots import draw_confusion, draw_reliability

    classes, scores = result.checkpoint.classes, result.scores
    make_folder(folder)
    with atomic_file(folder / "report.json") as file:
        file.write(json_of(report(result)))
    rows = [
        [sample.path.relative_to(result.root), classes[truth], classes[answer],
         *(f"{p:.6f}" for p in probs)]
        for sample, truth, answer, probs in zip(
            result.samples, result.truth, result.probs.argmax(1), result.probs, strict=True
        )
    ]  # fmt: skip
    write_csv(folder / "predictions.csv", [["file", "truth", "prediction", *classes], *rows])
    table = [[name, *counts] for name, counts in zip(classes, scores.confusion, strict=True)]
    write_csv(folder / "confusion.csv", [["truth\\prediction", *classes], *table])
    draw_confusion(scores, classes, folder / "confusion.png")
    draw_reliability(result.reliability, folder / "reliability.png")
    draw_mistakes(worst_mistakes(result), folder / "mistakes.png")


def json_of(content: object) -> bytes:
    """As a file holds it; of a name that is not UTF-8 the odd bytes become escapes."""
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode(
        errors="backslashreplace"
    )


def write_csv(path: Path, rows: list[list]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def worst_mistakes(result: Result) -> list[tuple[Path, str, str, float]]:
    """The wrong answers of which the model was most sure: file, truth, answer, probability."""
    classes, answers, sure = result.checkpoint.classes, result.probs.argmax(1), result.probs.max(1)
    wrong = [i for i in (-sure).argsort(kind="stable") if answers[i] != result.truth[i]]
    return [
        (result.samples[i].path, classes[result.truth[i]], classes[answers[i]], float(sure[i]))
        for i in wrong[:MISTAKES]
    ]


def print_result(result: Result, folder: Path) -> None:
    scores, classes = result.scores, result.checkpoint.classes
    low, high = wilson(scores.right, scores.total)
    print(f"{result.model_path}: {result.checkpoint.describe()}")
    print(
        f"{result.root}: accuracy {scores.accuracy:.3%} ({scores.right} of {scores.total} images), "
        f"95 % interval {low:.1%} to {high:.1%} (Wilson)\n"
        f"macro F1 {scores.macro_f1:.3f}, balanced accuracy {scores.balanced_accuracy:.3%}, "
        f"calibration error {result.reliability.ece:.3%}, {result.rate:.0f} images/s"
    )
    print("\n| class | precision | recall | F1 | images |\n|---|---|---|---|---|")
    for i, name in enumerate(classes):
        print(
            f"| {i} {name} | {scores.precision[i]:.3f} | {scores.recall[i]:.3f} "
            f"| {scores.f1[i]:.3f} | {scores.support[i]} |"
        )
    print("\n| Truth\\Prediction  |" + "|".join(map(str, range(len(classes)))) + "|")
    print("|-------------------|" + "-|" * len(classes))
    for i, row in enumerate(scores.confusion.tolist()):
        print(f"|{i}|" + "|".join(map(str, row)) + "|")
    print("\n" + "  ".join(f"{i} {name}" for i, name in enumerate(classes)))
    print(f"\nevery prediction, and pictures: {folder}")


def print_side_by_side(results: list[Result]) -> None:
    """The seed's Accuracy table, a line a model."""
    name = results[0].root.name
    print(
        f"| Network | Validation (%) | {name} (%) | 95 % interval | macro F1 | Model File Size "
        f"| Parameters | images/s | file |\n|---|---|---|---|---|---|---|---|---|"
    )
    for result in results:
        scores, checkpoint = result.scores, result.checkpoint
        low, high = wilson(scores.right, scores.total)
        validation = "" if checkpoint.is_reference else f"{100 * checkpoint.val_accuracy:.3f}"
        print(
            f"| {checkpoint.network} | {validation} | {100 * scores.accuracy:.3f} "
            f"| {100 * low:.1f}–{100 * high:.1f} | {scores.macro_f1:.3f} "
            f"| {result.model_path.stat().st_size / 2**20:.0f}M | {result.parameters:,} "
            f"| {result.rate:.0f} | {result.model_path} |"
        )


if __name__ == "__main__":
    cli.run(main)
