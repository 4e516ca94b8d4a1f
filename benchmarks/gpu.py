"""Time epochs of training on a GPU: steps launched one kernel at a time, and as one CUDA graph.

The images are random and in the GPU's memory, as those of a real training are after its start. The
trainer, its settings (Adadelta, batches of 128, the default augmentation, bf16) and the validation
after each epoch are those of train.py. An epoch in which kernels are chosen and the step is
recorded comes before those that count. The last column is 50 epochs of training and validation,
without starting, decoding and saving.

  python -m benchmarks.gpu                              # 343,967 + 42,996 faces of 48 pixels
  python -m benchmarks.gpu --models emotionnet --compile
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

import models
from utils import cli
from utils.data.dataset import Dataset
from utils.data.image_folder import Sample
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.device import choose_device
from utils.training.amp import resolve_amp
from utils.training.distributed import Distributed
from utils.training.optim import LEARNING_RATES
from utils.training.targets import one_hot
from utils.training.trainer import Recipe, Trainer, TrainingSet
from utils.training.validate import validate

CLASSES = [str(i) for i in range(7)]
EPOCHS = 50  # of a whole training


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    names = ["emotionnet", "vgg19"]
    flag("--models", f"networks: {models.names()}", names, str, nargs="+", metavar="NAME")
    flag("--images", "training images", 343_967, cli.positive_int, metavar="N")
    flag("--validation", "validation images", 42_996, cli.positive_int, metavar="N")
    flag("--image_size", "side of the images", 48, cli.positive_int, metavar="PIXELS")
    flag("--image_channel", "1: grey, 3: colour", 1, int, choices=(1, 3))
    flag("--batch_size", "images per step", 128, cli.positive_int, metavar="N")
    flag("--optimizer", "optimizer", "adadelta", str, choices=tuple(LEARNING_RATES))
    flag("--epochs", "epochs that count", 3, cli.positive_int, metavar="N")
    parser.switch("--compile", "also with torch.compile", False)
    parser.device_flags()
    args = parser.parse_args()
    device = choose_device(args.gpu, args.cuda_idx)
    if args.gpu and device.type == "cpu":
        raise StageError("no CUDA GPU; --no-gpu --images 1000 tries this benchmark on the CPU")
    torch.backends.cudnn.benchmark = True  # as in train.py
    print(
        "| network | steps | images/s | train, s per epoch | validate, s per epoch "
        f"| {EPOCHS} epochs, minutes |\n|---|---|---|---|---|---|"
    )
    for name in map(models.full_name, args.models):
        for compiled in (False, True) if args.compile else (False,):
            for graph in (False, True):
                print(row(name, graph, compiled, device, args), flush=True)
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"\nmedian of {args.epochs} epochs, {args.images} + {args.validation} images of "
        f"{args.image_size} pixels, {args.optimizer}, {what}, torch {torch.__version__}"
    )
    return cli.OK


def row(
    name: str, graph: bool, compiled: bool, device: torch.device, args: argparse.Namespace
) -> str:
    """Train a network for some epochs. Return its row of the table."""
    torch.manual_seed(0)
    model = models.create(name, len(CLASSES), args.image_channel, args.image_size)
    recipe = Recipe(
        args.epochs + 1, args.batch_size, LEARNING_RATES[args.optimizer], args.optimizer,
        amp=resolve_amp("auto", name, device), compile=compiled, cuda_graph=graph,
    )  # fmt: skip
    data = random_set(args.images, args, device)
    validation = random_set(args.validation, args, device).images
    trainer = Trainer(model, data, recipe, Distributed(device))
    training, validating = [], []
    for _ in range(args.epochs + 1):
        started = time.perf_counter()
        trainer.train_epoch(lambda: None, name)
        trained = time.perf_counter()
        validate(trainer.best_model, validation, args.batch_size, trainer.distributed)
        training.append(trained - started)
        validating.append(time.perf_counter() - trained)
    train, check = statistics.median(training[1:]), statistics.median(validating[1:])
    steps = "compiled, " * compiled + ("one CUDA graph" if trainer.is_recorded else "eager")
    return (
        f"| {name} | {steps} | {args.images / train:.0f} | {train:.2f} | {check:.2f} "
        f"| {EPOCHS * (train + check) / 60:.1f} |"
    )


def random_set(count: int, args: argparse.Namespace, device: torch.device) -> TrainingSet:
    """Return random images in the device's memory, with random labels."""
    preprocess = Preprocess(args.image_size, args.image_channel)
    shape = (count, *preprocess.shape)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    samples = [Sample(Path(f"{i}.png"), i % len(CLASSES)) for i in range(count)]
    return TrainingSet(Dataset(samples, [], preprocess, images, ""), one_hot(samples, CLASSES))


if __name__ == "__main__":
    cli.run(main)
