"""Measure a trained model on faces it has never seen: stage 5 of 5.

Prints the accuracy and the Truth\\Prediction table over <data_path>/test, or over <data_path>
itself where that holds the class folders. Network, size, channels and classes are read from the
checkpoint; no flag of the training has to be repeated.

  python test.py                                           # model.pt on data/test
  python test.py --data_path data/validation
  python test.py --model_path adam.pt --data_path my_faces --no-gpu

Next: python emotion.py --img photo.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from utils import cli
from utils.cli import StageError, say
from utils.errorlog import log_files
from utils.samples import find_images, label_images

if TYPE_CHECKING:  # torch takes seconds, which neither --help should nor processes that decode
    import torch


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--model_path", "the trained model", Path("model.pt"), Path, metavar="FILE")
    flag("--data_path", "holds test, or class folders itself", Path("data"), Path, metavar="DIR")
    flag("--batch_size", "images at a time; no figure changes", 128, cli.positive, metavar="N")
    parser.original_size_flag()
    flag("--image_channel", "only checked: the model's own is used", None, int, choices=(1, 3))
    parser.device_flags()
    parser.log_dir_flag()
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from utils.checkpoint import Checkpoint
    from utils.device import choose_device
    from utils.engine import predict
    from utils.store import load

    device = choose_device(args.gpu, args.cuda_idx)
    checkpoint = Checkpoint.load(args.model_path, args.image_size, args.image_channel)
    model = checkpoint.build().to(device)
    root = args.data_path / "test" if (args.data_path / "test").is_dir() else args.data_path
    images = find_images(root)
    check_classes(root, list(images), checkpoint.classes)

    samples = label_images(images, checkpoint.classes)
    data = load(samples, checkpoint.preprocessing(), "test images", folder=None)
    log_path = args.log_dir / "test.error.log"
    args.log_dir.mkdir(parents=True, exist_ok=True)
    log_files(log_path, data.failures)
    if not len(data):
        raise StageError(f"{root}: not one readable image")

    batches = data.images.split(args.batch_size)
    answers = predict(model, batches, len(data), "test").argmax(1)
    right = int((answers == data.labels).sum())
    print(f"{args.model_path}: {checkpoint.describe()}")
    print(f"{root}: accuracy {right / len(data):.3%} ({right} of {len(data)} images)")
    print_confusion(confusion(data.labels, answers, len(checkpoint.classes)), checkpoint.classes)
    if data.failures:
        print(f"{len(data.failures)} images could not be read: {log_path}")
    return cli.SOME_FAILED if data.failures else cli.OK


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
        say(f"note: {root} has no image of {' '.join(missing)}, which the model knows")


def confusion(truth: torch.Tensor, answers: torch.Tensor, n: int) -> torch.Tensor:
    """Counts int64 (n, n): row = true class, column = predicted class."""
    import torch

    return torch.bincount(truth * n + answers, minlength=n * n).view(n, n)


def print_confusion(counts: torch.Tensor, classes: list[str]) -> None:
    """The seed's table, in Markdown, and what its numbers stand for."""
    print("\n| Truth\\Prediction  |" + "|".join(map(str, range(len(classes)))) + "|")
    print("|-------------------|" + "-|" * len(classes))
    for i, row in enumerate(counts.tolist()):
        print(f"|{i}|" + "|".join(map(str, row)) + "|")
    print("\n" + "  ".join(f"{i} {name}" for i, name in enumerate(classes)))


if __name__ == "__main__":
    cli.run(main)
