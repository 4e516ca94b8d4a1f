"""Images per second in training: our engine, the plain way, and the limit that the processor sets.

plain   torchvision's ImageFolder, the same transforms, a DataLoader with a worker a core, float32
ours    the engine of train.py, its store built beforehand
limit   the same training step, again and again, on one batch that is in memory

Network, optimizer (Adadelta), batch size and images are the same. All are timed in turns, so that a
busy machine slows all; the table has the medians. It covers small grey faces as they are (--faces),
and the pictures in --crops made into colour JPEGs of 400 pixels, as crops of photos are.

  python -m benchmarks.train --faces fer2013/train --crops crop
  python -m benchmarks.train --faces fer2013/train --models emotionnet --rounds 7
"""

from __future__ import annotations

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
from utils.training.trainer import Recipe, Trainer

CPU = torch.device("cpu")
OPTIMIZER = "adadelta"
CROP_SIZE, CROPS = 400, 2048  # pixels, and how many


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--faces", "a folder of class folders", Path("data/train"), Path, metavar="DIR")
    flag("--crops", "a folder of class folders; unset: none", None, Path, metavar="DIR")
    every = ["emotionnet", "resnet18", "vgg19"]
    flag("--models", f"networks: {models.names()}", every, str, nargs="+", metavar="NAME")
    flag("--batch_size", "images a step", 128, cli.positive_int, metavar="N")
    flag("--seconds", "of each way in each round, about", 8.0, cli.positive_float, metavar="S")
    flag("--rounds", "of all ways, in turns", 5, cli.positive_int, metavar="N")
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
                "| network | plain | ours, fp32 | of its limit | ours, bf16 | of its limit "
                "| `--amp auto` takes | ours / plain |\n|---|---|---|---|---|---|---|---|"
            )
            for model in args.models:
                print(row(models.full_name(model), root, data, len(images), args), flush=True)
    print(f"\nimages/s, batches of {args.batch_size}, {cores()} cores, torch {torch.__version__}")
    return cli.OK


def make_crops(source: Path, folder: Path) -> Path:
    """Colour JPEGs like those that cropImages.py writes, made of the pictures in `source`."""
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


def row(name: str, root: Path, data: Dataset, classes: int, args) -> str:
    """Time all ways for one network, and put the medians in a line of the table."""
    how = data.preprocess
    blank = models.create(name, classes, how.image_channel, how.image_size)
    auto = resolve_amp("auto", blank, (args.batch_size, *how.shape), CPU)
    plain_step, images = make_step(name, classes, how, "off", torch.contiguous_format), None
    counts: dict[str, int] = {}
    ways: dict[str, Callable[[int], float]] = {
        "plain": lambda n: rate_of(plain_batches(root, how, args.batch_size), plain_step, n)
    }
    batch = next(data.batches([torch.arange(args.batch_size) % len(data)], CPU))
    images = Preprocess.scale(batch).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(args.batch_size) % classes
    for amp in ("off", "bf16"):
        step = make_step(name, classes, how, amp, torch.channels_last)
        fixed = iter(lambda: (images, labels), None)
        ways[f"limit {amp}"] = lambda n, fixed=fixed, step=step: rate_of(fixed, step, n)
        engine = Engine(name, classes, data, amp, args.batch_size)
        ways[f"ours {amp}"] = engine.rate

    rates: dict[str, list[float]] = {way: [] for way in ways}
    for way, measure in ways.items():
        first = measure(2)
        # How many batches take the time that is wanted; where it is these two, they count.
        counts[way] = max(2, round(first * args.seconds / args.batch_size))
        rates[way] += [first] if counts[way] == 2 else []
    for _ in range(args.rounds):
        for way, measure in ways.items():
            if len(rates[way]) < args.rounds:
                rates[way].append(measure(counts[way]))
    middle = {way: statistics.median(values) for way, values in rates.items()}
    cells = [name, f"{middle['plain']:.0f}"]
    for amp in ("off", "bf16"):
        ours, limit = middle[f"ours {amp}"], middle[f"limit {amp}"]
        cells += [f"{ours:.0f}", f"{ours / limit:.2f} of {limit:.0f}"]
    cells += [auto, f"{middle[f'ours {auto}'] / middle['plain']:.2f}"]
    return "| " + " | ".join(cells) + " |"


class Engine:
    """The engine of train.py, on as many images as are to be timed."""

    def __init__(self, name: str, classes: int, data: Dataset, amp: str, batch_size: int) -> None:
        self.data, self.amp, self.batch_size = data, amp, batch_size
        self.targets = one_hot(data.samples, [str(i) for i in range(classes)])
        how = data.preprocess
        self.model = models.create(name, classes, how.image_channel, how.image_size)

    def rate(self, batches: int) -> float:
        """Images per second over that many batches, after one that warms up."""
        self._trainer(1).train_epoch(lambda: None, "")
        return self._trainer(batches).train_epoch(lambda: None, "")[1]

    def _trainer(self, batches: int) -> Trainer:
        count = min(batches * self.batch_size, len(self.data))
        part = replace(self.data, samples=self.data.samples[:count])
        recipe = Recipe(1, self.batch_size, LEARNING_RATES[OPTIMIZER], OPTIMIZER, amp=self.amp)
        return Trainer(self.model, part, self.targets, recipe, Distributed(CPU))


def make_step(
    name: str, classes: int, how: Preprocess, amp: str, layout: torch.memory_format
) -> Callable[[torch.Tensor, torch.Tensor], None]:
    torch.manual_seed(0)
    model = models.create(name, classes, how.image_channel, how.image_size)
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


def plain_batches(root: Path, how: Preprocess, batch_size: int) -> Iterable:
    steps = [
        transforms.Grayscale(how.image_channel)
        if how.image_channel == 1
        else transforms.Lambda(rgb),
        transforms.Resize((how.image_size, how.image_size)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(Augment().rotation, transforms.InterpolationMode.BILINEAR),
        transforms.ToTensor(),
    ]
    folder = datasets.ImageFolder(str(root), transforms.Compose(steps))
    return DataLoader(folder, batch_size, shuffle=True, num_workers=cores(), drop_last=True)


def rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def rate_of(batches: Iterable, step: Callable, count: int) -> float:
    """Images per second over some batches, after one that starts what there is to start."""
    done = 0
    for number, (images, labels) in enumerate(batches):
        if number == 1:
            started = time.perf_counter()
        step(images, labels)
        done += len(labels) if number >= 1 else 0
        if number == count:
            break
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    cli.run(main)
