"""The trainer: optimizer steps, epochs, and the state from which a training resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from models.dropout import Dropout
from utils.console import ProgressBar
from utils.data.dataset import Dataset
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.training import step_graph
from utils.training.amp import autocast
from utils.training.augment import Augment
from utils.training.batches import BatchPlan, BatchPlanner
from utils.training.distillation import Teacher
from utils.training.distributed import Distributed, keep_gradients_local
from utils.training.ema import Ema
from utils.training.loss import cross_entropy_sum
from utils.training.mixing import Mixing, mix_images
from utils.training.optim import (
    PLATEAU_FACTOR,
    PLATEAU_PATIENCE,
    load_optimizer_state,
    lr_factor,
    make_optimizer,
    optimizer_state,
    plateau_factor,
    set_lr,
)
from utils.training.poll import Poll
from utils.training.sam import sharpest_nearby
from utils.training.step_graph import Step, StepGraph

CHECK_EVERY = 50  # most steps between checks of the loss; a check waits for all of the GPU's work


@dataclass(frozen=True)
class Recipe:
    """The settings of a training, except those of the network."""

    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "adadelta"
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "none"
    warmup: float = 0.0  # epochs
    accumulate: int = 1  # batches per optimizer step
    clip: float = 0.0  # maximum norm of the gradient; 0: no limit
    ema: float = 0.0  # decay of the moving average of the weights; 0: no average
    label_smoothing: float = 0.0
    mixing: Mixing = field(default_factory=Mixing)
    amp: str = "off"  # bf16, fp16 or off
    compile: bool = False
    cuda_graph: bool = True  # on a GPU: replay a whole step as one CUDA graph, if that works
    seed: int = 0
    augment: Augment = field(default_factory=Augment)
    nesterov: bool = False
    plateau_factor: float = PLATEAU_FACTOR  # of the rate, see `plateau_factor` of optim
    plateau_patience: int = PLATEAU_PATIENCE  # epochs
    sam: float = 0.0  # length of the first step of `sharpest_nearby`; 0: ordinary steps


@dataclass(frozen=True)
class TrainingSet:
    """The images to learn from, with their targets."""

    images: Dataset
    targets: torch.Tensor  # probabilities float32 (N, classes)
    class_weights: torch.Tensor | None = None  # float32 (classes,); None: all count the same
    # How often an epoch shows each image, see `BatchPlanner`: float64 (N,); None: once.
    sample_weights: torch.Tensor | None = None


@dataclass
class Progress:
    """How far a training is, in plain numbers, which a checkpoint can hold."""

    epoch: int = 1  # the epoch in training, or the next one
    batch: int = 0  # the next batch of that epoch


def _can_record(recipe: Recipe, distributed: Distributed) -> bool:
    """Return whether to try to record the steps as a CUDA graph.

    None records what the host decides in a step: with fp16 from the gradients, with several
    processes when to exchange them, with several batches which one ends the step. With sam it seeds
    the second pass.
    """
    is_alone = distributed.device.type == "cuda" and distributed.world_size == 1
    is_plain = recipe.accumulate == 1 and recipe.amp != "fp16" and not recipe.sam
    return recipe.cuda_graph and is_alone and is_plain


class Trainer:
    """A network in training, with its optimizer and its data."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingSet,
        recipe: Recipe,
        distributed: Distributed,
        teacher: Teacher | None = None,
    ) -> None:
        """Prepare a training from its first step; `load_state` continues another one.

        `model` gets changed: it moves to the device, in the memory format channels_last.
        """
        self.recipe, self.distributed, self.data = recipe, distributed, data
        device = distributed.device
        # channels_last was never slower in measurements, and often faster.
        self.model = distributed.sync_batch_norm(model).to(
            device, memory_format=torch.channels_last
        )
        self._uses_graph = _can_record(recipe, distributed)
        self._graph: StepGraph | None = None
        self.optimizer = self._make_optimizer(split_decay=True)
        self.ema = Ema(self.model, recipe.ema) if recipe.ema else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16")
        self.planner = BatchPlanner(
            data.targets.to(device), data.images.device, data.images.preprocess.image_size,
            recipe.batch_size, recipe.accumulate, recipe.mixing, recipe.augment, recipe.seed,
            distributed, data.sample_weights,
        )  # fmt: skip
        self.progress = Progress()
        self.accuracies: list[float] = []  # of the validation after each epoch, for the schedule
        # Sum over this process's images of the epoch so far, in nats; on the device, so that no
        # step waits for it. Of all processes, by rank, at the last poll:
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._loss_sums = [0.0] * distributed.world_size
        self.poll = Poll(distributed, CHECK_EVERY)
        # What differs in a state from which the training resumes at the end of the last epoch,
        # before its validation.
        self.epoch_end: dict[str, Any] = {}
        self._class_weights = None if data.class_weights is None else data.class_weights.to(device)
        self._teacher = teacher
        if teacher:
            teacher.to(device)
        self._dropouts = [layer for layer in self.model.modules() if isinstance(layer, Dropout)]
        self._ddp = distributed.ddp(self.model)
        # With dynamic shapes, a short last batch would make all later ones run in slower code.
        compiled = torch.compile(self._ddp, dynamic=False) if recipe.compile else self._ddp
        self._forward = compiled

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def is_recorded(self) -> bool:
        """Whether the steps of full batches are replayed as a CUDA graph."""
        return self._graph is not None

    @property
    def best_model(self) -> nn.Module:
        """The model to validate and save: the one with averaged weights if --ema is on."""
        return self.ema.model if self.ema else self.model

    def train_epoch(self, after_step: Callable[[], None], description: str) -> tuple[float, float]:
        """Train to the end of the current epoch.

        Call `after_step` after each optimizer step; the state may be saved if `poll.is_current`.
        Return the mean loss (nats) over the epoch's images, and the images per second of this call.

        Raise StageError if the loss is not finite.
        """
        started, progress = time.perf_counter(), self.progress
        plans = self.planner.plan(progress.epoch)
        done = sum(plan.batch_rows for plan in plans[: progress.batch])
        remaining = self.planner.images - done
        self.model.train()
        self.poll.restart()
        description = description if self.distributed.is_primary else ""
        with ProgressBar(self.planner.images, description, "image", leave=False) as bar:
            bar.update(done)
            for plan, images in self._load_batches(plans[progress.batch :]):
                self._loss_sum += self._train_batch(plan, images)
                progress.batch += 1
                bar.update(plan.batch_rows)
                if plan.ends_step:
                    if self.poll.is_due():
                        self._check_loss()
                    after_step()
        loss = self._check_loss() / self.planner.images
        self.epoch_end = self._position()
        self._load_loss(0.0)
        self.progress = Progress(progress.epoch + 1)
        return loss, remaining / (time.perf_counter() - started)

    def first_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first batch as the network sees it.

        Images float32 (n, C, S, S) in [0, 1], and targets float32 (n, classes).
        """
        plan = self.planner.plan(1)[0]
        [(plan, images)] = self._load_batches([plan])
        return self._prepare_batch(plan, images)

    def state(self) -> dict[str, Any]:
        """Return what `load_state` needs beside the weights of `best_model`.

        Only defined if `poll.is_current`. Raise StageError if loss or weights are not finite.
        """
        self._refuse_broken_weights()
        state = self._position() | {
            "optimizer": optimizer_state(self.optimizer),
            "scaler": self.scaler.state_dict(),
        }
        if self.ema:
            state["model"] = self.model.state_dict()
            state["ema_updates"] = self.ema.updates
        return state

    def load_state(self, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Load the weights of `best_model`, and a state that `state()` returned.

        Keep the optimizer's KEPT_SETTINGS: a run may resume with others, or on another device.
        """
        # A run that began with one group of parameters, all of them decayed, keeps it to its end.
        groups = len(state["optimizer"]["param_groups"])
        if groups != len(self.optimizer.param_groups):
            self.optimizer = self._make_optimizer(split_decay=groups > 1)
        self.best_model.load_state_dict(weights)
        if self.ema:
            self.model.load_state_dict(state["model"])
            self.ema.updates = state["ema_updates"]
        load_optimizer_state(self.optimizer, state["optimizer"])
        self._graph = None  # it belongs to the tensors of the optimizer before
        if state["scaler"]:  # empty if the run was not in fp16
            self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(state["epoch"], state["batch"])
        self._load_loss(state["loss"])

    def _make_optimizer(self, split_decay: bool) -> torch.optim.Optimizer:
        recipe = self.recipe
        return make_optimizer(
            recipe.optimizer, self.model, recipe.lr, recipe.weight_decay, recipe.momentum,
            recipe.nesterov, split_decay, self._uses_graph,
        )  # fmt: skip

    def _position(self) -> dict[str, Any]:
        """Return how far the training is, as `state` holds it."""
        alone = self.distributed.world_size == 1
        losses = [self._loss_sum.item()] if alone else self._loss_sums
        self._refuse_divergence(sum(losses))
        return {
            "epoch": self.progress.epoch,
            "batch": self.progress.batch,
            "loss": losses[0] if alone else losses,
        }

    def _load_loss(self, sums: float | list[float]) -> None:
        """Load the loss of `state`: a sum, or a list of them by rank."""
        by_rank = sums if isinstance(sums, list) else [sums]
        if len(by_rank) != self.distributed.world_size:  # another number of processes began it
            by_rank = [sum(by_rank), *[0.0] * (self.distributed.world_size - 1)]
        self._loss_sums = by_rank
        self._loss_sum.fill_(by_rank[self.distributed.rank])

    def _load_batches(self, plans: list[BatchPlan]) -> Iterator[tuple[BatchPlan, torch.Tensor]]:
        """Return an iterator over batches: plan, and images uint8."""
        indices = (plan.indices for plan in plans)
        images = self.data.images.batches(indices, self.distributed.device)
        return zip(plans, images, strict=True)

    def _prepare_batch(
        self, plan: BatchPlan, images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment and mix the images of a plan, uint8. Return its rows: inputs, and targets."""
        images = self.recipe.augment(Preprocess.to_float(images), plan.params)
        targets = plan.targets
        if self.recipe.mixing:
            mix = partial(mix_images, box=plan.mix_box) if self.recipe.mixing.cutmix else torch.lerp
            own = len(plan.mix_rows)
            images = mix(images[plan.mix_rows], images[:own], plan.mix_weight)
            targets = torch.lerp(targets[plan.mix_rows], targets[:own], plan.mix_weight)
        images = images.contiguous(memory_format=torch.channels_last)
        if self._teacher:
            with autocast(self.distributed.device, self.recipe.amp):
                targets = self._teacher.soften(images, targets)
        return images, targets

    def _train_batch(self, plan: BatchPlan, images: torch.Tensor) -> torch.Tensor:
        """Run a batch forward and backward, and the optimizer step if it ends one.

        Return the sum of the loss over this process's rows, float64.
        """
        step: Step = self._step
        if self._uses_graph and plan.batch_rows == self.recipe.batch_size:
            step = self._graph or self._record_step(plan, images)
        self._begin_batch(plan)
        loss = step(plan, images)
        if plan.ends_step and self.ema:
            self.ema.update()
        return loss

    def _begin_batch(self, plan: BatchPlan) -> None:
        """Set what a batch needs beside its tensors: dropout's random state and rows, the rate."""
        self._seed_dropout(plan)
        self.distributed.set_dropout_rows(self._dropouts, plan.batch_rows)
        if plan.starts_step:
            set_lr(self.optimizer, self.lr_of_step(self.steps_done))

    def _seed_dropout(self, plan: BatchPlan) -> None:
        if self.distributed.device.type == "cuda":
            torch.cuda.manual_seed(plan.dropout_seed)  # to seed the CPU, too, takes much longer
        else:
            torch.manual_seed(plan.dropout_seed)

    def _step(self, plan: BatchPlan, images: torch.Tensor) -> torch.Tensor:
        """Do what `_train_batch` does after `_begin_batch`.

        On a GPU, nothing in here waits for it, so that the host runs ahead, or records it once.
        """
        recipe = self.recipe
        inputs, targets = self._prepare_batch(plan, images)
        loss = self._backward(plan, inputs, targets)
        if recipe.sam:
            with sharpest_nearby(self.model, recipe.sam):
                self.optimizer.zero_grad(set_to_none=True)
                self._seed_dropout(plan)  # the same units are dropped
                self._backward(plan, inputs, targets)
        if plan.ends_step:
            if recipe.clip:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
        return loss.double()

    def _record_step(self, plan: BatchPlan, images: torch.Tensor) -> Step:
        """Return the step of a full batch as a CUDA graph, or as it is if that does not work."""
        begin = partial(self._begin_batch, plan)
        self._graph = step_graph.try_to_record(
            self._step, begin, self.model, self.optimizer, plan, images, step_graph.record
        )
        self._uses_graph = self._graph is not None
        return self._graph or self._step

    def _backward(
        self, plan: BatchPlan, inputs: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Add a batch's gradients. Return the sum of the loss over this process's rows, float32."""
        # Only the last batch of a step needs the gradients of the other processes.
        with nullcontext() if plan.ends_step else keep_gradients_local(self._ddp):
            with autocast(self.distributed.device, self.recipe.amp):
                outputs = self._forward(inputs)
            loss = cross_entropy_sum(
                outputs.float(), targets, self._class_weights, self.recipe.label_smoothing
            )
            # The mean over the step's rows; the gradients of all processes are averaged.
            self.scaler.scale(loss * (self.distributed.world_size / plan.step_rows)).backward()
        return loss.detach()

    @property
    def steps_done(self) -> int:
        """Optimizer steps of the training so far."""
        in_epoch = -(-self.progress.batch // self.recipe.accumulate)
        return (self.progress.epoch - 1) * self.planner.steps_per_epoch + in_epoch

    def lr_of_step(self, step: int) -> float:
        """Return the learning rate of a step of the training, from 0."""
        recipe, per_epoch = self.recipe, self.planner.steps_per_epoch
        warmup = round(recipe.warmup * per_epoch)
        factor = lr_factor(recipe.schedule, step, recipe.epochs * per_epoch, warmup)
        if recipe.schedule == "plateau":
            factor *= plateau_factor(
                self.accuracies, recipe.plateau_factor, recipe.plateau_patience
            )
        return recipe.lr * factor

    def _check_loss(self) -> float:
        """Poll the processes. Return the sum of the loss over the epoch's images so far.

        Raise StageError if it is not finite.
        """
        self._loss_sums = self.poll.ask(self._loss_sum)
        return self._refuse_divergence(sum(self._loss_sums))

    def _refuse_divergence(self, loss: float) -> float:
        """Return the loss. Raise StageError if it is not finite."""
        if not math.isfinite(loss):
            raise self._divergence(f"the loss is {loss}")
        return loss

    def _refuse_broken_weights(self) -> None:
        """Raise StageError if a weight is not finite: the last step may have broken it."""
        finite = [weights.isfinite().all() for weights in self.model.parameters()]
        if not torch.stack(finite).all():
            raise self._divergence("a weight is not a finite number")

    def _divergence(self, problem: str) -> StageError:
        return StageError(
            f"epoch {self.progress.epoch}/{self.recipe.epochs}: {problem}; "
            f"try a lower --lr than {self.recipe.lr:g}, or --clip 1"
        )
