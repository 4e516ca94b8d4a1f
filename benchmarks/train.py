"""Compare the images per second of train.py with the plain way, and with what the CPU can do.

plain      torchvision's ImageFolder, the same transforms, a DataLoader with a worker per core, in
           float32, in a process that returns freed memory to the system, as it does by default;
           EfficientNets as their library builds them
train.py   the trainer of train.py, its cache built beforehand
limit      the same training step on one batch in memory, again and again

Network, optimizer (Adadelta), batch size and images are the same. All ways run in each round, in
turn, so that a busy machine slows all of them; the table has the medians, and of the ratios of a
round the smallest and largest too. It covers small grey faces as they are (--faces), and the
pictures in --crops, saved as colour JPEGs of 400 pixels like photo crops.

  python -m benchmarks.train --faces fer2013/train --crops crop
  python -m benchmarks.train --faces fer2013/train --models emotionnet --rounds 9 --amp off
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F
from efficientnet_pytorch import EfficientNet
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

import models
from utils import cli
from utils.console import ProgressBar
from utils.data.dataset import Dataset, load_dataset
from utils.data.image_folder import make_samples, scan_class_folders
from utils.imaging.image_io import open_image, to_channels
from utils.imaging.preprocess import Preprocess
from utils.memory import keep_freed_memory
from utils.parallel import cores
from utils.training.amp import autocast, resolve_amp
from utils.training.augment import Augment
from utils.training.distributed import Distributed
from utils.training.optim import LEARNING_RATES
from utils.training.targets import one_hot
from utils.training.trainer import Recipe, Trainer, TrainingSet

CPU = torch.device("cpu")
OPTIMIZER = "adadelta"
CROP_SIZE, CROPS = 400, 2048  # pixels, and how many
SCRIPT = "train.py"
HEADER = f"""
| network | precision | plain | limit | {SCRIPT} | {SCRIPT} / limit | {SCRIPT} / plain \
| page faults a step, plain → {SCRIPT} |
|---|---|---|---|---|---|---|---|"""

Measured = tuple[float, float]  # images per second, page faults per step
Way = Callable[[int], Measured]  # measures that many batches


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--faces", "folder of class folders", Path("data/train"), cli.path, metavar="DIR")
    flag("--crops", "folder of class folders (default: none)", None, cli.path, metavar="DIR")
    names = ["emotionnet", "resnet18", "vgg19", "efficientnet-b4"]
    flag("--models", f"networks: {models.names()}", names, str, nargs="+", metavar="NAME")
    flag("--batch_size", "images per step", 128, cli.positive_int, metavar="N")
    text = "time of each way in each round, about"
    flag("--seconds", text, 3.0, cli.positive_float, metavar="S")
    text = "rounds, each with all ways in turn; 3 at most where two batches take longer"
    flag("--rounds", text, 5, cli.positive_int, metavar="N")
    text = "precision of train.py and of the limit; auto: what train.py takes by itself"
    flag("--amp", text, "auto", str, choices=("auto", "bf16", "off"))
    args = parser.parse_args()

    with PlainProcess() as plain, tempfile.TemporaryDirectory() as folder:
        keep_freed_memory()  # in this process, not in the other one
        sets = {"48-pixel grey PNG": (args.faces, Preprocess(48, 1))}
        if args.crops:
            crops = make_crops(args.crops, Path(folder) / "crops")
            sets[f"{CROP_SIZE}-pixel colour JPEG"] = crops, Preprocess(48, 3)
        for name, (root, preprocess) in sets.items():
            images = scan_class_folders(root)
            samples = make_samples(images, list(images))
            data = load_dataset(samples, preprocess, "train", Path(folder) / name)
            print(f"\n{name}, {len(data)} images\n{HEADER}")
            for model in args.models:
                network = models.full_name(model)
                print(table_row(network, root, data, len(images), plain, args), flush=True)
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


def table_row(
    name: str, root: Path, data: Dataset, classes: int, plain: PlainProcess, args: Namespace
) -> str:
    """Time all ways for one network. Return the medians as a row of the table."""
    preprocess = data.preprocess
    amp = resolve_amp(args.amp, name, CPU)
    engine = Engine(name, classes, data, amp, args.batch_size)
    limit = make_limit(name, data, classes, amp, args.batch_size)
    plain.prepare(name, root, preprocess, classes, args.batch_size)
    times = time_ways({"plain": plain.measure, "limit": limit, SCRIPT: engine.measure}, args)

    def median(way: str, field: int) -> float:
        return statistics.median(measured[field] for measured in times[way])

    def ratio(one: str, other: str) -> str:
        """Return the median over the rounds, the smallest and the largest ratio."""
        ratios = [a[0] / b[0] for a, b in zip(times[one], times[other], strict=True)]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"

    cells = [name, amp, *(f"{median(way, 0):.0f}" for way in times)]
    cells += [ratio(SCRIPT, "limit"), ratio(SCRIPT, "plain")]
    cells += [" → ".join(f"{median(way, 1):,.0f}" for way in ("plain", SCRIPT))]
    return "| " + " | ".join(cells) + " |"


def time_ways(ways: dict[str, Way], args: Namespace) -> dict[str, list[Measured]]:
    """Return what each way measures in each round; all of them run in each round, in turn."""
    turns = [{way: measure(2) for way, measure in ways.items()}]
    counts = {
        way: max(2, round(rate * args.seconds / args.batch_size))
        for way, (rate, _) in turns[0].items()
    }
    rounds = args.rounds
    if set(counts.values()) == {2}:  # a large network
        rounds = min(3, rounds)
    else:
        turns.clear()
    while len(turns) < rounds:
        turns.append({way: measure(counts[way]) for way, measure in ways.items()})
    return {way: [turn[way] for turn in turns] for way in ways}


class PlainProcess:
    """Run the plain way in another process, which returns freed memory to the system as usual."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=measure_plain, args=(other_end,))
        self._process.start()

    def prepare(self, *network: object) -> None:
        """Build a network (name, root, preprocess, classes, batch size) and a loader for it."""
        self._connection.send(network)

    def measure(self, batches: int) -> Measured:
        """Train on that many batches."""
        self._connection.send(batches)
        measured: Measured = self._connection.recv()
        return measured

    def __enter__(self) -> PlainProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join()


def measure_plain(connection: Connection) -> None:
    """Do what a PlainProcess asks for, until it closes the connection."""
    with suppress(EOFError, BrokenPipeError):
        serve_plain(connection)


def serve_plain(connection: Connection) -> None:
    """Do what a PlainProcess asks for. Raise EOFError at the end."""
    name, root, preprocess, classes, batch_size = connection.recv()
    while True:
        loader = plain_batches(root, preprocess, batch_size)
        step = make_step(plain_network(name, classes, preprocess), "off")
        while isinstance(asked := connection.recv(), int):
            connection.send(measure_step(loader, step, asked))
        name, root, preprocess, classes, batch_size = asked


def plain_network(name: str, classes: int, preprocess: Preprocess) -> nn.Module:
    """Return the network as anybody would build it."""
    channels, size = preprocess.image_channel, preprocess.image_size
    if name.startswith("efficientnet"):
        settings = {"in_channels": channels, "num_classes": classes, "image_size": size}
        return EfficientNet.from_name(name, **settings)
    return models.create(name, classes, channels, size)


def make_limit(name: str, data: Dataset, classes: int, amp: str, batch_size: int) -> Way:
    """Return the training step on one batch in memory as a function: batches → what it measured."""
    preprocess = data.preprocess
    pixels = next(data.batches([torch.arange(batch_size) % len(data)], CPU))
    images = Preprocess.to_float(pixels).contiguous(memory_format=torch.channels_last)
    same_batch = iter(lambda: (images, torch.arange(batch_size) % classes), None)
    network = models.create(name, classes, preprocess.image_channel, preprocess.image_size)
    step = make_step(network.to(memory_format=torch.channels_last), amp)
    return lambda batches: measure_step(same_batch, step, batches)


class Engine:
    """The trainer of train.py, on as many images as are to be timed."""

    def __init__(self, name: str, classes: int, data: Dataset, amp: str, batch_size: int) -> None:
        self.data, self.amp, self.batch_size = data, amp, batch_size
        self.targets = one_hot(data.samples, [str(i) for i in range(classes)])
        preprocess = data.preprocess
        self.model = models.create(name, classes, preprocess.image_channel, preprocess.image_size)
        self._trainers: dict[int, Trainer] = {}

    def measure(self, batches: int) -> Measured:
        """Train an epoch of that many batches."""
        trainer = self._trainers.get(batches)
        if trainer is None:
            trainer = self._trainers[batches] = self._make_trainer(batches)
            trainer.train_epoch(lambda: None, "")
        before = page_faults()
        rate = trainer.train_epoch(lambda: None, "")[1]
        return rate, (page_faults() - before) / len(trainer.planner.sizes)

    def _make_trainer(self, batches: int) -> Trainer:
        count = min(batches * self.batch_size, len(self.data))
        part = replace(self.data, samples=self.data.samples[:count])
        if part.images is not None:
            part = replace(part, images=part.images[:count])
        recipe = Recipe(99, self.batch_size, LEARNING_RATES[OPTIMIZER], OPTIMIZER, amp=self.amp)
        data = TrainingSet(part, self.targets[:count])
        return Trainer(self.model, data, recipe, Distributed(CPU))


def make_step(model: nn.Module, amp: str) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Return a function that does a plain training step on images and labels."""
    model.train()
    rate = LEARNING_RATES[OPTIMIZER]
    optimizer = torch.optim.Adadelta(model.parameters(), rate, rho=0.95, eps=1e-8)

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


def measure_step(batches: Iterable, step: Callable, count: int) -> Measured:
    """Measure `count` steps, after one on a batch that starts the workers."""
    images_done = steps = 0
    for number, (images, labels) in enumerate(batches):
        if number == 1:
            started, before = time.perf_counter(), page_faults()
        step(images, labels)
        images_done += len(labels) if number >= 1 else 0
        steps += number >= 1
        if number == count:
            break
    return images_done / (time.perf_counter() - started), (page_faults() - before) / steps


def page_faults() -> int:
    """Return the page faults of this process so far; 0 where the system does not count them."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    cli.run(main)
