"""The order of the batches and their random numbers, which follow from seed, epoch and batch.

Therefore a training resumes from any step as if it had never stopped, and several processes that
share a batch do what a single process would do.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from utils.training.augment import Augment, AugmentParams
from utils.training.distributed import Distributed


class BatchPlan(NamedTuple):
    """What one process needs to build its part of a batch."""

    number: int  # of the batch in its epoch, from 0
    indices: torch.Tensor  # positions in the dataset of the images that this process needs
    params: AugmentParams  # of the images at `indices`
    rows: torch.Tensor  # positions in `indices` of this process's rows of the batch
    mix_rows: torch.Tensor  # positions in `indices` of the images that the rows are mixed with
    mix_weight: float  # of a row in its mix, in [0, 1]; 1: not mixed
    batch_rows: int  # of the whole batch, over all processes
    step: int  # number of the optimizer step in the epoch, from 0
    step_rows: int  # of all batches that the step accumulates
    starts_step: bool
    ends_step: bool
    dropout_seed: int


@dataclass(frozen=True)
class BatchPlanner:
    """Plans the batches of every epoch."""

    images: int  # in the dataset
    image_size: int
    batch_size: int
    accumulate: int  # batches per optimizer step
    mixup: float  # parameter of the Beta distribution of the mix; 0: no mixing
    augment: Augment
    seed: int
    distributed: Distributed

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self.batches(1)) // self.accumulate)

    def batches(self, epoch: int) -> list[torch.Tensor]:
        """Return the epoch's batches: int64 positions in the dataset, in shuffled order."""
        order = torch.randperm(self.images, generator=generator_for(self.seed, epoch))
        batches = list(order.split(self.batch_size))
        # Batch norm cannot learn from one row, and every process needs one.
        if len(batches) > 1 and len(batches[-1]) < 2 * self.distributed.world_size:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def plan(self, epoch: int, batches: list[torch.Tensor], number: int) -> BatchPlan:
        """Plan batch `number` of the epoch whose `batches` are given."""
        batch = batches[number]
        generator = generator_for(self.seed, epoch, number)
        params = self.augment.sample(len(batch), self.image_size, generator)
        first, end = self.distributed.slice(len(batch))
        rows = mix_rows = torch.arange(first, end)
        mix_weight = 1.0
        if self.mixup:
            mix_rows = torch.randperm(len(batch), generator=generator)[first:end]
            rng = random.Random(f"{self.seed}/{epoch}/{number}/mixup")
            mix_weight = rng.betavariate(self.mixup, self.mixup)
        needed, positions = torch.cat([rows, mix_rows]).unique(return_inverse=True)
        start = number - number % self.accumulate
        return BatchPlan(
            number=number,
            indices=batch[needed],
            params=params.select(needed),
            rows=positions[: len(rows)],
            mix_rows=positions[len(rows) :],
            mix_weight=mix_weight,
            batch_rows=len(batch),
            step=number // self.accumulate,
            step_rows=sum(map(len, batches[start : start + self.accumulate])),
            starts_step=number == start,
            ends_step=number + 1 == min(start + self.accumulate, len(batches)),
            # The fourth number keeps it apart from the generator of the augmentation.
            dropout_seed=seed_for(self.seed, epoch, number, 1),
        )


def seed_for(*position: int) -> int:
    """Return a seed of 63 bits for a position in a training; equal positions give equal seeds."""
    return random.Random("/".join(map(str, position))).getrandbits(63)


def generator_for(*position: int) -> torch.Generator:
    """Return a random generator on the CPU for a position in a training."""
    return torch.Generator().manual_seed(seed_for(*position))
