"""Images per second in training: our way beside the plain way, in one run.

The plain way is torchvision's ImageFolder with its transforms in a DataLoader with a worker a core,
which decodes every image anew in every epoch. Ours decodes a set once into memory and varies whole
batches. Network, optimizer, batch and images are the same; both are timed in turns, so that a busy
machine slows both.

  python benchmarks/train.py --data_path fer2013/train
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import models
from utils import cli
from utils.augment import ROTATION, augment
from utils.dataset import Dataset, load
from utils.parallel import cores
from utils.preprocess import Preprocess
from utils.samples import find_images, label_images

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--data_path", "a folder of class folders", Path("data/train"), Path, metavar="DIR")
    flag("--model", f"network: {models.names()}", "emotionnet", str, metavar="NAME")
    flag("--batch_size", "images a step", 128, cli.positive, metavar="N")
    flag("--steps", "timed in each round", 12, cli.positive, metavar="N")
    flag("--rounds", "of each way, in turns", 5, cli.positive, metavar="N")
    args = parser.parse_args()

    images = find_images(args.data_path)
    classes = list(images)
    started = time.perf_counter()
    data = load(label_images(images, classes), Preprocess(), "decode")
    decoding = time.perf_counter() - started
    step = make_step(models.full_name(args.model), len(classes))
    fixed = next(our_batches(data, args.batch_size))
    ways: dict[str, Callable[[], Batches]] = {
        "plain": lambda: plain_batches(args.data_path, args.batch_size),
        "ours": lambda: our_batches(data, args.batch_size),
        "compute only": lambda: iter(lambda: fixed, None),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, batches in ways.items():
            rates[name].append(images_per_second(batches(), step, args.steps))

    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{args.model}, batch {args.batch_size}, {len(data)} images, {cores()} cores")
    print(f"decoding once: {len(data) / decoding:.0f} images/s")
    for name, rate in middle.items():
        low, high = min(rates[name]), max(rates[name])
        print(f"{name:13}{rate:7.0f} images/s  ({low:.0f}-{high:.0f})")
    print(f"ours / plain        {middle['ours'] / middle['plain']:.2f}")
    print(f"ours / compute only {middle['ours'] / middle['compute only']:.2f}")
    return cli.OK


def make_step(name: str, num_classes: int) -> Callable[[torch.Tensor, torch.Tensor], None]:
    torch.manual_seed(0)
    model = models.create(name, num_classes, 1, 48).train()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=0.1, rho=0.95, eps=1e-8)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def our_batches(data: Dataset, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    chance = torch.Generator().manual_seed(0)
    while True:
        for batch in torch.randperm(len(data), generator=chance).split(batch_size)[:-1]:
            images = augment(Preprocess.scale(data.images[batch]), chance)
            yield images, data.labels[batch]


def plain_batches(root: Path, batch_size: int) -> Batches:
    steps = [
        transforms.Grayscale(),
        transforms.Resize((48, 48)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(ROTATION, transforms.InterpolationMode.BILINEAR),
        transforms.ToTensor(),
    ]
    folder = datasets.ImageFolder(str(root), transforms.Compose(steps))
    return DataLoader(folder, batch_size, shuffle=True, num_workers=cores(), drop_last=True)


def images_per_second(batches: Batches, step: Callable, steps: int) -> float:
    """The rate over some steps, after two that warm up and start what there is to start."""
    done = 0
    for number, (images, labels) in enumerate(batches):
        if number == 2:
            started = time.perf_counter()
        step(images, labels)
        done += len(labels) if number >= 2 else 0
        if number == steps + 1:
            return done / (time.perf_counter() - started)
    raise cli.StageError("too few images for that many steps of that size")


if __name__ == "__main__":
    cli.run(main)
