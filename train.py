"""Train a network on the prepared faces: stage 4 of 5.

Learns from <data_path>/train; the epoch with the best accuracy on <data_path>/validation is kept in
--model_path. The test set is never opened. Class names are the folders' names, whatever they are.

  python train.py                                   # emotionnet, 50 epochs, data/ -> model.pt
  python train.py --optimizer adam --epochs 20 --model_path adam.pt
  python train.py --data_path fer2013 --no-gpu

Next: python test.py
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import models
from utils import cli
from utils.augment import augment
from utils.checkpoint import Checkpoint
from utils.cli import Bar, StageError, say
from utils.dataset import Dataset, load
from utils.device import choose_device
from utils.engine import evaluate
from utils.errorlog import log_files
from utils.files import prepare_folder
from utils.preprocess import Preprocess
from utils.samples import Sample, find_images, label_images

# What the original used; 0.1 is right for Adadelta and would wreck Adam.
LEARNING_RATES = {"adadelta": 0.1, "adam": 0.001, "sgd": 0.01}


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    rates = ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items())
    flag("--data_path", "folder that holds train and validation", Path("data"), Path, metavar="DIR")
    flag("--model_path", "where the best epoch is kept", Path("model.pt"), Path, metavar="FILE")
    flag("--model", f"network: {models.names()}", "emotionnet", str, metavar="NAME")
    flag("--optimizer", "what moves the weights", "adadelta", str, choices=tuple(LEARNING_RATES))
    flag("--lr", f"learning rate; unset it is {rates}", None, cli.positive_float, metavar="RATE")
    flag("--image_size", "images are resized to this square", 48, cli.positive, metavar="PIXELS")
    flag("--image_channel", "1 grey, 3 colour", 1, int, choices=(1, 3))
    flag("--epochs", "passes over the images", 50, cli.positive, metavar="N")
    flag("--batch_size", "images a step", 128, cli.positive, metavar="N")
    flag("--seed", "same seed, same machine: same model", 0, cli.whole, metavar="N")
    parser.device_flags()
    parser.log_dir_flag()
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    device = choose_device(args.gpu, args.cuda_idx)
    name = models.full_name(args.model)
    preprocess = Preprocess(args.image_size, args.image_channel)
    classes, train_samples, validation_samples = find_samples(args.data_path)
    torch.manual_seed(args.seed)
    model = models.create(name, len(classes), args.image_channel, args.image_size).to(device)
    prepare_outputs(args.model_path, args.log_dir)

    train_set = load(train_samples, preprocess, "train images")
    validation_set = load(validation_samples, preprocess, "validation images")
    failures = train_set.failures + validation_set.failures
    log_path = args.log_dir / "train.error.log"
    log_files(log_path, failures)
    if not len(train_set) or not len(validation_set):
        raise StageError(f"{args.data_path}: not one readable image in train, or in validation")

    lr = args.lr or LEARNING_RATES[args.optimizer]
    optimizer = make_optimizer(args.optimizer, model, lr)
    print(
        f"{name} of {sum(p.numel() for p in model.parameters()):,} parameters on {device}, "
        f"{args.optimizer} with lr {lr:g}, batches of {args.batch_size}, seed {args.seed}\n"
        f"{len(train_set)} images to learn from, {len(validation_set)} to validate on, "
        f"{len(classes)} classes: {' '.join(classes)}",
        flush=True,
    )
    best: Checkpoint | None = None
    chance = torch.Generator().manual_seed(args.seed)
    for epoch in range(1, args.epochs + 1):
        started = time.perf_counter()
        where = f"epoch {epoch}/{args.epochs}"
        train_loss = train_epoch(model, optimizer, train_set, args.batch_size, chance, where)
        seconds = time.perf_counter() - started
        if not math.isfinite(train_loss):
            raise StageError(f"{where}: the loss is {train_loss}; try a lower --lr than {lr:g}")
        val_loss, accuracy = evaluate(model, validation_set, args.batch_size, "validate")
        if best is None or accuracy > best.val_accuracy:
            weights = {key: value.cpu().clone() for key, value in model.state_dict().items()}
            best = Checkpoint(name, classes, preprocess.settings(), epoch, accuracy, weights)
            best.save(args.model_path)
        print(
            f"{where}  train loss {train_loss:.4f}  validation loss {val_loss:.4f}  "
            f"accuracy {accuracy:.2%}  best {best.val_accuracy:.2%} (epoch {best.epoch})  "
            f"{len(train_set) / seconds:.0f} images/s",
            flush=True,
        )

    print(
        f"best epoch {best.epoch}, validation accuracy {best.val_accuracy:.2%} -> {args.model_path}"
    )
    print(f"next: python test.py --model_path {args.model_path} --data_path {args.data_path}")
    if failures:
        print(f"{len(failures)} images could not be read: {log_path}")
    return cli.SOME_FAILED if failures else cli.OK


def find_samples(data_path: Path) -> tuple[list[str], list[Sample], list[Sample]]:
    """Class names, as train's folders have them, and the samples of train and of validation.

    Raises StageError where the folders do not make a task.
    """
    train_images = find_images(data_path / "train")
    validation_images = find_images(data_path / "validation")
    classes = list(train_images)
    if len(classes) < 2:
        what = f"only the class {classes[0]}" if classes else "no class folder with images"
        raise StageError(f"{data_path / 'train'} has {what}; a model needs two classes or more")
    unknown = [name for name in validation_images if name not in classes]
    if unknown:
        raise StageError(
            f"{data_path / 'validation'} has classes that train does not: {' '.join(unknown)}"
        )
    missing = [name for name in classes if name not in validation_images]
    if missing:
        say(f"note: no validation image of {' '.join(missing)}: the best epoch is chosen without")
    return (
        classes,
        label_images(train_images, classes),
        label_images(validation_images, classes),
    )


def prepare_outputs(model_path: Path, log_dir: Path) -> None:
    if model_path.is_dir():
        raise StageError(f"--model_path {model_path} is a folder; name a file in it")
    for folder in (model_path.parent, log_dir):
        prepare_folder(folder)
    if model_path.exists():
        say(f"note: {model_path} exists; the first epoch's model will take its place")


def make_optimizer(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The optimizer with the original's settings."""
    parameters = model.parameters()
    if name == "adadelta":
        return torch.optim.Adadelta(parameters, lr=lr, rho=0.95, eps=1e-8)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr)
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4)


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Dataset,
    batch_size: int,
    chance: torch.Generator,
    description: str,
) -> float:
    """One pass over the set in random order. Returns the mean loss (nats) over its images."""
    device = next(model.parameters()).device
    model.train()
    total = torch.zeros((), dtype=torch.float64, device=device)
    batches = list(torch.randperm(len(data), generator=chance).split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:  # of which batch norm can learn nothing
        batches[-2:] = [torch.cat(batches[-2:])]
    with Bar(len(data), description, "image", leave=False) as bar:
        for batch in batches:
            images = Preprocess.scale(data.images[batch].to(device))
            labels = data.labels[batch].to(device)
            loss = F.cross_entropy(model(augment(images, chance)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
            bar.update(len(batch))
    return total.item() / len(data)


if __name__ == "__main__":
    cli.run(main)
