"""What the tests of training share: small datasets, small trainers, and results to compare."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import nn

from models.dropout import Dropout
from utils.data.dataset import Dataset
from utils.data.image_folder import Sample
from utils.imaging.preprocess import Preprocess
from utils.training import targets
from utils.training.augment import Augment
from utils.training.distributed import Distributed
from utils.training.mixing import Mixing
from utils.training.trainer import Recipe, Trainer, TrainingSet

CLASSES = ["기쁨", "분노", "중립"]
CPU = Distributed(torch.device("cpu"))

# Flags of train.py with which a small network learns the images of `make_faces` in two epochs.
PLAIN_FLAGS = ("--amp", "off", "--batch_size", 8)
LEARNING_FLAGS = (*PLAIN_FLAGS, "--optimizer", "adam", "--lr", 0.0003, "--epochs", 2)
# Every flag whose effect a resumed run has to remember, at once.
REMEMBERED_FLAGS = (
    *PLAIN_FLAGS, "--optimizer", "sgd", "--lr", 0.005, "--schedule", "cosine", "--warmup", 1,
    "--accumulate", 2, "--clip", 1, "--ema", 0.9, "--patience", 9, "--label_smoothing", 0.1,
    "--class_weights", "effective", "--mixup", 0.2, "--rotation", 10, "--crop", 3, "--erase", 0.3,
    "--brightness", 0.2, "--zoom", 0.1, "--dropout", 0.3, "--epochs", 3, "--nesterov",
    "--cutmix", 0.9, "--shear", 5, "--contrast", 0.2, "--augment_p", 0.8,
)  # fmt: skip
# The same as a recipe.
REMEMBERED_RECIPE = Recipe(
    epochs=3, batch_size=4, lr=0.05, optimizer="sgd", weight_decay=5e-4, schedule="cosine",
    warmup=1, accumulate=2, clip=1, ema=0.9, label_smoothing=0.1, mixing=Mixing(0.2),
    augment=Augment(rotation=10, crop=2, erase=0.3, brightness=0.2, zoom=0.1),
)  # fmt: skip
PLAIN_AUGMENT = Augment(flip=False, rotation=0)


def small_dataset(count: int, fingerprint: str = "") -> Dataset:
    """Return random images of 8×8 pixels, of three classes in turn."""
    generator = torch.Generator().manual_seed(0)
    samples = [Sample(Path(f"{i}.png"), i % 3) for i in range(count)]
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Dataset(samples, [], Preprocess(8, 1), images, fingerprint)


def small_network() -> nn.Sequential:
    """Return a network for `small_dataset`, always with the same weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), Dropout(0.3),
        nn.Linear(144, 3),
    )  # fmt: skip


def small_trainer(
    recipe: Recipe = REMEMBERED_RECIPE, count: int = 23, distributed: Distributed = CPU
) -> Trainer:
    """Return a trainer of `small_network` on `small_dataset`."""
    data = small_dataset(count)
    answers = targets.one_hot(data.samples, CLASSES)
    weights = targets.class_weights(answers, "effective")
    return Trainer(small_network(), TrainingSet(data, answers, weights), recipe, distributed)


def run_results(folder: Path, run_name: str = "001-emotionnet") -> list[dict[str, str]]:
    """Return the rows of a run's results.csv below `folder`, without the speed."""
    table = folder / "runs" / run_name / "results.csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["images_per_second"]
    return rows


def equal_bits(a: object, b: object) -> bool:
    """Return whether two states are equal to the last bit, except for the speed."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        keys = a.keys() - {"images_per_second"}
        return keys == b.keys() - {"images_per_second"} and all(
            equal_bits(a[key], b[key]) for key in keys
        )
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal_bits, a, b))
    return a == b
