"""Compare the images per second of train.py with the plain way, and with what the CPU can do.

plain      torchvision's ImageFolder, the same transforms, a DataLoader with a worker per core, in
           float32
train.py   the trainer of train.py, its cache built beforehand
limit      the same training step on one batch in memory, again and again

Network, optimizer (Adadelta), batch size and images are the same. All ways are timed in turns, so
that a busy machine slows all of them; the table has the medians. It covers small grey faces as they
are (--faces), and the pictures in --crops, saved as colour JPEGs of 400 pixels like photo crops.

  python -m benchmarks.train --faces fer2013/train --crops crop
  python -m benchmarks.train --faces fer2013/train --models emotionnet --rounds 7
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

import models
from utils import cli
from utils.console import ProgressBar
from utils.data.dataset import Dataset, load_dataset
from utils.data.image_folder import make_samples, scan_class_folders
from utils.imaging.image_io import open_image, to_channels
from utils.imaging.preprocess import Preprocess
from utils.parallel import cores
from utils.training.amp import autocast, resolve_amp
from utils.training.augment import Augment
from utils.training.distributed import Distributed
from utils.training.optim import LEARNING_RATES, make_optimizer
from utils.training.targets import one_hot
from utils.training.trainer import Recipe, Trainer, TrainingSet

CPU = torch.device("cpu")
OPTIMIZER = "adadelta"
CROP_SIZE, CROPS = 400, 2048  # pixels, and how many
SCRIPT = "train.py"


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--faces", "folder of class folders", Path("data/train"), cli.path, metavar="DIR")
    flag("--crops", "folder of class folders (default: none)", None, cli.path, metavar="DIR")
    names = ["emotionnet", "resnet18", "vgg19"]
    flag("--models", f"networks: {models.names()}", names, str, nargs="+", metavar="NAME")
    flag("--batch_size", "images per step", 128, cli.positive_int, metavar="N")
    text = "time of each way in each round, about"
    flag("--seconds", text, 8.0, cli.positive_float, metavar="S")
    flag("--rounds", "rounds, each with all ways in turn", 5, cli.positive_int, metavar="N")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sets = {"48-pixel grey PNG": (args.faces, Preprocess(48, 1))}
        if args.crops:
            crops = make_crops(args.crops, Path(folder) / "crops")
            sets[f"{CROP_SIZE}-pixel colour JPEG"] = crops, Preprocess(48, 3)
        for name, (root, preprocess) in sets.items():
            images = scan_class_folders(root)
            samples = make_samples(images, list(images))
            data = load_dataset(samples, preprocess, "train", Path(folder) / name)
            print(f"\n{name}, {len(data)} images\n")
            print(
                f"| network | plain | {SCRIPT}, fp32 | of its limit | {SCRIPT}, bf16 "
                f"| of its limit | `--amp auto` takes | {SCRIPT} / plain |\n"
                f"|---|---|---|---|---|---|---|---|"
            )
            for model in args.models:
                print(table_row(models.full_name(model), root, data, len(images), args), flush=True)
    print(f"\nimages/s, batches of {args.batch_size}, {cores()} cores, torch {torch.__version__}")
    return cli.OK


def make_crops(source: Path, folder: Path) -> Path:
    """Make colour JPEGs like those of cropImages.py from the pictures in `source`."""
    pictures = [
        (label, path) for label, paths in scan_class_folders(source).items() for path in paths
    ]
    with ProgressBar(CROPS, "crops", "image") as bar:
        for i in range(CROPS):
            label, path = pictures[i % len(pictures)]
            (folder / label).mkdir(parents=True, exist_ok=True)
            picture = to_channels(open_image(path), 3).resize((CROP_SIZE, CROP_SIZE))
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if i % 2 else picture
            picture.save(folder / label / f"{i}.jpg", quality=95)
            bar.update()
    return folder


def table_row(name: str, root: Path, data: Dataset, classes: int, args: argparse.Namespace) -> str:
    """Time all ways for one network. Return the medians as a row of the table."""
    ways = make_ways(name, root, data, classes, args.batch_size)
    rates = {way: statistics.median(values) for way, values in time_ways(ways, args).items()}
    auto = resolve_amp("auto", name, CPU)
    cells = [name, f"{rates['plain']:.0f}"]
    for amp in ("off", "bf16"):
        rate, limit = rates[f"{SCRIPT} {amp}"], rates[f"limit {amp}"]
        cells += [f"{rate:.0f}", f"{rate / limit:.2f} of {limit:.0f}"]
    cells += [auto, f"{rates[f'{SCRIPT} {auto}'] / rates['plain']:.2f}"]
    return "| " + " | ".join(cells) + " |"


def make_ways(
    name: str, root: Path, data: Dataset, classes: int, batch_size: int
) -> dict[str, Callable[[int], float]]:
    """Return each way as a function: batches → images per second."""
    preprocess = data.preprocess
    plain_step = make_step(name, classes, preprocess, "off", torch.contiguous_format)
    ways: dict[str, Callable[[int], float]] = {
        "plain": lambda n: rate_of(plain_batches(root, preprocess, batch_size), plain_step, n)
    }
    pixels = next(data.batches([torch.arange(batch_size) % len(data)], CPU))
    images = Preprocess.to_float(pixels).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch_size) % classes
    for amp in ("off", "bf16"):
        step = make_step(name, classes, preprocess, amp, torch.channels_last)
        same_batch = iter(lambda: (images, labels), None)
        ways[f"limit {amp}"] = lambda n, batches=same_batch, step=step: rate_of(batches, step, n)
        ways[f"{SCRIPT} {amp}"] = Engine(name, classes, data, amp, batch_size).rate
    return ways


def time_ways(
    ways: dict[str, Callable[[int], float]], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the images per second of each way in each round."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    counts: dict[str, int] = {}
    for way, measure in ways.items():
        first = measure(2)
        # As many batches as take --seconds. If two are enough, the first measurement counts.
        counts[way] = max(2, round(first * args.seconds / args.batch_size))
        rates[way] += [first] if counts[way] == 2 else []
    for _ in range(args.rounds):
        for way, measure in ways.items():
            if len(rates[way]) < args.rounds:
                rates[way].append(measure(counts[way]))
    return rates


class Engine:
    """The trainer of train.py, on as many images as are to be timed."""

    def __init__(self, name: str, classes: int, data: Dataset, amp: str, batch_size: int) -> None:
        self.data, self.amp, self.batch_size = data, amp, batch_size
        self.targets = one_hot(data.samples, [str(i) for i in range(classes)])
        preprocess = data.preprocess
        self.model = models.create(name, classes, preprocess.image_channel, preprocess.image_size)

    def rate(self, batches: int) -> float:
        """Return the images per second over that many batches, after one to warm up."""
        self._trainer(1).train_epoch(lambda: None, "")
        return self._trainer(batches).train_epoch(lambda: None, "")[1]

    def _trainer(self, batches: int) -> Trainer:
        count = min(batches * self.batch_size, len(self.data))
        part = replace(self.data, samples=self.data.samples[:count])
        recipe = Recipe(1, self.batch_size, LEARNING_RATES[OPTIMIZER], OPTIMIZER, amp=self.amp)
        data = TrainingSet(part, self.targets[:count])
        return Trainer(self.model, data, recipe, Distributed(CPU))


def make_step(
    name: str, classes: int, preprocess: Preprocess, amp: str, layout: torch.memory_format
) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Return a function that does a plain training step on images and labels."""
    torch.manual_seed(0)
    model = models.create(name, classes, preprocess.image_channel, preprocess.image_size)
    model = model.train().to(memory_format=layout)
    optimizer = make_optimizer(OPTIMIZER, model, LEARNING_RATES[OPTIMIZER], 0, 0)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        with autocast(CPU, amp):
            outputs = model(images)
        loss = F.cross_entropy(outputs.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def plain_batches(root: Path, preprocess: Preprocess, batch_size: int) -> Iterable:
    """Return torchvision's loader of the folder, with the transforms of train.py."""
    channels, size = preprocess.image_channel, preprocess.image_size
    steps = [
        transforms.Grayscale(channels) if channels == 1 else transforms.Lambda(to_rgb),
        transforms.Resize((size, size)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(Augment().rotation, transforms.InterpolationMode.BILINEAR),
        transforms.ToTensor(),
    ]
    folder = datasets.ImageFolder(str(root), transforms.Compose(steps))
    return DataLoader(folder, batch_size, shuffle=True, num_workers=cores(), drop_last=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB. A worker process cannot get a lambda."""
    return image.convert("RGB")


def rate_of(batches: Iterable, step: Callable, count: int) -> float:
    """Return the images per second over `count` batches, after one that starts the workers."""
    images_done = 0
    for number, (images, labels) in enumerate(batches):
        if number == 1:
            started = time.perf_counter()
        step(images, labels)
        images_done += len(labels) if number >= 1 else 0
        if number == count:
            break
    return images_done / (time.perf_counter() - started)


if __name__ == "__main__":
    cli.run(main)
