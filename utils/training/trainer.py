"""Training: batches made of a set, steps, epochs, and all that has to be kept to go on later.

Every random number follows from the seed, the epoch and the number of the batch alone. That is why
a training can go on from any place as if it had never stopped, and why many processes that share a
batch do what one alone would do.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from utils.cli import Bar, StageError
from utils.data.dataset import Dataset
from utils.imaging.preprocess import Preprocess
from utils.training.amp import autocast
from utils.training.augment import Augment, Variation
from utils.training.distributed import Team
from utils.training.optim import Ema, lr_factor, make_optimizer
from utils.training.targets import Teacher

SETTINGS = {"weight_decay", "momentum"}  # of an optimizer, beside the rate, which is set each step
LOOK_EVERY = 50  # steps after which the loss is looked at; on a GPU a look waits for its work


class Plan(NamedTuple):
    """What one process makes its share of a batch of."""

    index: torch.Tensor  # places in the set of the images that it needs
    variation: Variation  # theirs
    own: torch.Tensor  # places in `index` of its rows of the batch
    partner: torch.Tensor  # places in `index` of what these are mixed with
    share: float  # of a row in the mix; 1: not mixed
    total: int  # rows of the whole batch


@dataclass(frozen=True)
class Recipe:
    """The settings of a training that are not the network's."""

    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "adadelta"
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "none"
    warmup: float = 0.0  # epochs
    accumulate: int = 1  # batches a step
    clip: float = 0.0  # largest norm of the gradient; 0: any
    ema: float = 0.0  # decay of the average of the weights; 0: none
    label_smoothing: float = 0.0
    mixup: float = 0.0  # Beta(mixup, mixup) draws the share of a mix; 0: none
    amp: str = "off"  # bf16, fp16, off
    compile: bool = False
    seed: int = 0
    augment: Augment = field(default_factory=Augment)


@dataclass
class Place:
    """How far a training has come. Plain numbers, which a checkpoint can hold."""

    epoch: int = 1  # that is being trained, or comes next
    batch: int = 0  # the next one of it
    loss: float = 0.0  # summed over the images so far in the epoch, nats


class Trainer:
    """A network in training on a set."""

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        targets: torch.Tensor,
        recipe: Recipe,
        team: Team,
        class_weights: torch.Tensor | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """`targets`: probabilities float32 (N, classes), of each image in `data`."""
        self.recipe, self.team, self.data = recipe, team, data
        self.model = team.share_batch_norm(model).to(
            team.device,
            memory_format=torch.channels_last,  # never slower here, and often faster
        )
        self.optimizer = make_optimizer(
            recipe.optimizer, self.model, recipe.lr, recipe.weight_decay, recipe.momentum
        )
        self.ema = Ema(self.model, recipe.ema) if recipe.ema else None
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=recipe.amp == "fp16")
        self.place = Place()
        self._targets = targets.to(team.device)
        self._class_weights = None if class_weights is None else class_weights.to(team.device)
        self._teacher = teacher
        if teacher:
            teacher.model.to(team.device)
        self._wrapped = team.wrap(self.model)
        self._forward = torch.compile(self._wrapped) if recipe.compile else self._wrapped
        self.steps_an_epoch = math.ceil(len(self._order(1)) / recipe.accumulate)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.optimizer.param_groups[0]["lr"]

    @property
    def best_model(self) -> nn.Module:
        """The model to validate and keep: the average of the weights where there is one."""
        return self.ema.model if self.ema else self.model

    def train_epoch(self, pause: Callable[[], None], description: str) -> tuple[float, float]:
        """Train to the end of the epoch that `place` is in.

        `pause` is called after each step, when all is consistent and may be saved. Returns the mean
        loss (nats) over the epoch's images and the images per second of this call.

        Raises StageError where the loss is no number.
        """
        started, place = time.perf_counter(), self.place
        order = self._order(place.epoch)
        done = sum(map(len, order[: place.batch]))
        trained = len(self.data) - done
        # In float64, and on the device: no step has to wait for the one before.
        total = torch.tensor(place.loss, dtype=torch.float64, device=self.team.device)
        self.model.train()
        description = description if self.team.leads else ""
        with Bar(len(self.data), description, "image", leave=False) as bar:
            bar.update(done)
            for plan, images in self._batches(order):
                total += self._train_batch(plan, images, order)
                place.batch += 1
                bar.update(plan.total)
                if self._ends_step(place.batch, order):
                    if place.batch // self.recipe.accumulate % LOOK_EVERY == 0:
                        self._check(total)
                    place.loss = total  # turned into a number only where it is saved
                    pause()
        self._check(total)
        self.place = Place(place.epoch + 1)
        return total.item() / len(self.data), trained / (time.perf_counter() - started)

    def first_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The first batch as the network sees it: images (n, C, S, S) in [0, 1], their targets."""
        plan = self._plan(1, 0, self._order(1)[0])
        images = next(self.data.batches([plan.index], self.team.device))
        return self._make(plan, images)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs beside the weights of `best_model`."""
        state: dict[str, Any] = {
            "epoch": self.place.epoch,
            "batch": self.place.batch,
            "loss": float(self.place.loss),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.ema:
            state["model"] = self.model.state_dict()
            state["ema_updates"] = self.ema.updates
        return state

    def restore(self, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Be where a trainer of the same settings was when it gave this state."""
        self.best_model.load_state_dict(weights)
        if self.ema:
            self.model.load_state_dict(state["model"])
            self.ema.updates = state["ema_updates"]
        asked = [
            {name: group[name] for name in SETTINGS & group.keys()}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, settings in zip(self.optimizer.param_groups, asked, strict=True):
            group.update(settings)  # a run may go on with others than it began with
        if state["scaler"]:  # empty where it was not trained in fp16
            self.scaler.load_state_dict(state["scaler"])
        self.place = Place(state["epoch"], state["batch"], state["loss"])

    def _order(self, epoch: int) -> list[torch.Tensor]:
        """The epoch's batches, as places in the set."""
        chance = _generator(self.recipe.seed, epoch)
        order = torch.randperm(len(self.data), generator=chance)
        batches = list(order.split(self.recipe.batch_size))
        # Batch norm learns nothing of one row, and a process of none.
        if len(batches) > 1 and len(batches[-1]) < 2 * self.team.size:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def _batches(self, order: list[torch.Tensor]) -> Iterator[tuple[Plan, torch.Tensor]]:
        place = self.place
        numbers = range(place.batch, len(order))
        plans, ahead = itertools.tee(
            self._plan(place.epoch, number, order[number]) for number in numbers
        )
        images = self.data.batches((plan.index for plan in ahead), self.team.device)
        return zip(plans, images, strict=True)

    def _plan(self, epoch: int, number: int, batch: torch.Tensor) -> Plan:
        chance = _generator(self.recipe.seed, epoch, number)
        variation = self.recipe.augment.draw(len(batch), self.data.preprocess.image_size, chance)
        first, end = self.team.share(len(batch))
        own = partner = torch.arange(first, end)
        share = 1.0
        if self.recipe.mixup:
            partner = torch.randperm(len(batch), generator=chance)[first:end]
            mix = random.Random(f"{self.recipe.seed}/{epoch}/{number}/mixup")
            share = mix.betavariate(self.recipe.mixup, self.recipe.mixup)
        needed, places = torch.cat([own, partner]).unique(return_inverse=True)
        own, partner = places[: len(own)], places[len(own) :]
        return Plan(batch[needed], variation[needed], own, partner, share, len(batch))

    def _make(self, plan: Plan, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The plan's rows of the batch, for uint8 images at its index: inputs and targets."""
        images = self.recipe.augment(Preprocess.scale(images), plan.variation)
        targets = self._targets[plan.index.to(self._targets.device)]
        if self.recipe.mixup:
            own, partner = plan.own.to(images.device), plan.partner.to(images.device)
            images = torch.lerp(images[partner], images[own], plan.share)
            targets = torch.lerp(targets[partner], targets[own], plan.share)
        images = images.contiguous(memory_format=torch.channels_last)
        if self._teacher:
            with autocast(self.team.device, self.recipe.amp):
                targets = self._teacher(images, targets)
        return images, targets

    def _train_batch(
        self, plan: Plan, images: torch.Tensor, order: list[torch.Tensor]
    ) -> torch.Tensor:
        """Forward and backward, and a step if this batch ends one. Returns its summed loss."""
        place, recipe = self.place, self.recipe
        first = place.batch - place.batch % recipe.accumulate
        group = order[first : first + recipe.accumulate]
        # What dropout draws from; not what the images' variation is drawn from.
        torch.manual_seed(_seed(recipe.seed, place.epoch, place.batch, 1))
        inputs, targets = self._make(plan, images)
        self.team.tell_rows(self.model, plan.total)
        if place.batch == first:
            self._set_lr()
            self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.team.device, recipe.amp):
            outputs = self._forward(inputs)
        loss = F.cross_entropy(
            outputs.float(), targets, self._class_weights,
            label_smoothing=recipe.label_smoothing, reduction="sum",
        )  # fmt: skip
        # The mean over all rows that the step sees; processes' gradients are averaged.
        self.scaler.scale(loss * (self.team.size / sum(map(len, group)))).backward()
        if self._ends_step(place.batch + 1, order):
            if recipe.clip:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.ema:
                self.ema.update(self.model)
        return self.team.sum(loss.detach().double())

    def _ends_step(self, done: int, order: list[torch.Tensor]) -> bool:
        return done % self.recipe.accumulate == 0 or done == len(order)

    def _set_lr(self) -> None:
        an_epoch, recipe = self.steps_an_epoch, self.recipe
        step = (self.place.epoch - 1) * an_epoch + self.place.batch // recipe.accumulate
        warmup = round(recipe.warmup * an_epoch)
        factor = lr_factor(recipe.schedule, step, recipe.epochs * an_epoch, warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * factor

    def _check(self, total: torch.Tensor) -> None:
        if not math.isfinite(total.item()):
            raise StageError(
                f"epoch {self.place.epoch}/{self.recipe.epochs}: the loss is {total.item()}; "
                f"try a lower --lr than {self.recipe.lr:g}, or --clip 1"
            )


def _seed(*place: int) -> int:
    """A seed for a place in a training: from the same numbers always the same."""
    return random.Random("/".join(map(str, place))).getrandbits(63)


def _generator(*place: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*place))
