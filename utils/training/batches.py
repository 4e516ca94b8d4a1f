"""The order of the batches and their random numbers, which follow from seed, epoch and batch.

Therefore a training resumes from any step as if it had never stopped, and several processes that
share a batch do what a single process would do. An epoch is planned as a whole: its numbers are
drawn batch by batch, but computed, and moved to the device, all at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from utils.training.augment import DRAWS, LATER_DRAWS, Augment, AugmentParams
from utils.training.distributed import Distributed
from utils.training.mixing import Mixing


class BatchPlan(NamedTuple):
    """What one process needs to build its part of a batch.

    The tensors are views of tables of the whole epoch: m images give the n ≤ m rows of the batch
    that are this process's. All are on its device, but `indices` is where the images are.
    """

    number: int  # of the batch in its epoch, from 0
    indices: torch.Tensor  # int64 (m,): positions in the dataset; those of the n rows come first
    targets: torch.Tensor  # float32 (m, classes)
    params: AugmentParams  # of m images
    mix_rows: torch.Tensor  # int64 (n,): positions in `indices` of what the rows are mixed with
    mix_weight: torch.Tensor  # float32 (): of a row's target in its mix, in [0, 1]
    mix_box: torch.Tensor  # float32 (4,): what CutMix pastes, see `Mix`
    batch_rows: int  # of the whole batch, over all processes
    step: int  # number of the optimizer step in the epoch, from 0
    step_rows: int  # of all batches that the step accumulates
    starts_step: bool
    ends_step: bool
    dropout_seed: int


@dataclass(frozen=True)
class BatchPlanner:
    """Plans the batches of every epoch."""

    targets: torch.Tensor  # of the dataset: float32 (N, classes), on this process's device
    index_device: torch.device  # of the dataset's images
    image_size: int
    batch_size: int
    accumulate: int  # batches per optimizer step
    mixing: Mixing
    augment: Augment
    seed: int
    distributed: Distributed
    # How often an epoch shows an image, beside others: float64 (N,), on the CPU; None: each once.
    sample_weights: torch.Tensor | None = None

    @property
    def images(self) -> int:
        """Images in the dataset, and so in an epoch."""
        return len(self.targets)

    @cached_property
    def sizes(self) -> list[int]:
        """Rows of each batch of an epoch, over all processes."""
        full, rest = divmod(self.images, self.batch_size)
        sizes = [self.batch_size] * full + [rest] * (rest > 0)
        # Batch norm cannot learn from one row, and every process needs one.
        if len(sizes) > 1 and sizes[-1] < 2 * self.distributed.world_size:
            sizes[-2:] = [sum(sizes[-2:])]
        return sizes

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self.sizes) // self.accumulate)

    def plan(self, epoch: int) -> list[BatchPlan]:
        """Plan all batches of an epoch."""
        device = self.distributed.device
        order = self._order(epoch)
        draws, partners = self._draw(epoch)
        needed, counts, mix_rows = self._rows(partners)
        indices = order[needed]
        params = self.augment.sample(draws, self.image_size).select(needed).to(device)
        targets = self.targets[indices.to(device)]
        own = [end - first for first, end in map(self.distributed.slice, self.sizes)]
        tables = zip(
            indices.to(self.index_device).split(counts),
            targets.split(counts),
            params.split(counts),
            mix_rows.to(device).split(own),
            *(values.to(device) for values in self._mixes(epoch)),
            strict=True,
        )
        return [self._plan_batch(epoch, number, *views) for number, views in enumerate(tables)]

    def _order(self, epoch: int) -> torch.Tensor:
        """Draw the images of an epoch, in their order: int64 (N,).

        With `sample_weights`, an image with the share w of their sum comes N · w times on average,
        rounded up or down by systematic sampling: from the shuffled images, placed along a line by
        their weights, every point at equal distances picks one.
        """
        generator = generator_for(self.seed, epoch)
        order = torch.randperm(self.images, generator=generator)
        if self.sample_weights is None:
            return order
        ends = self.sample_weights[order].cumsum(0)
        points = torch.arange(self.images, dtype=torch.float64)
        points += torch.rand((), dtype=torch.float64, generator=generator)
        picked = torch.searchsorted(ends, points * (ends[-1] / self.images), right=True)
        order = order[picked.clamp(max=self.images - 1)]
        return order[torch.randperm(self.images, generator=generator)]

    def _plan_batch(
        self,
        epoch: int,
        number: int,
        indices: torch.Tensor,
        targets: torch.Tensor,
        params: AugmentParams,
        mix_rows: torch.Tensor,
        mix_weight: torch.Tensor,
        mix_box: torch.Tensor,
    ) -> BatchPlan:
        start = number - number % self.accumulate
        end = min(start + self.accumulate, len(self.sizes))
        return BatchPlan(
            number=number,
            indices=indices,
            targets=targets,
            params=params,
            mix_rows=mix_rows,
            mix_weight=mix_weight,
            mix_box=mix_box,
            batch_rows=self.sizes[number],
            step=number // self.accumulate,
            step_rows=sum(self.sizes[start:end]),
            starts_step=number == start,
            ends_step=number + 1 == end,
            # The fourth number keeps it apart from the generator of the augmentation.
            dropout_seed=seed_for(self.seed, epoch, number, 1),
        )

    def _draw(self, epoch: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Draw the random numbers of an epoch, each batch's from its own generator.

        Return numbers in [0, 1) for the changes of the images, float32 (DRAWS, N), and a
        permutation of each batch's rows, with which they are mixed. What else a batch draws comes
        from other generators (as in `_mixes`), so that these numbers stay as they were.
        """
        by_batch, partners = [], []
        generator = torch.Generator()
        for number, size in enumerate(self.sizes):
            generator.manual_seed(seed_for(self.seed, epoch, number))
            by_batch.append(torch.rand(DRAWS - LATER_DRAWS, size, generator=generator))
            if self.mixing:
                partners.append(torch.randperm(size, generator=generator))
        later = torch.zeros(LATER_DRAWS, self.images)
        if self.augment.draws_later:
            # The fourth number keeps them apart from the others; dropout has 1.
            batches = (generator_for(self.seed, epoch, n, 2) for n in range(len(self.sizes)))
            parts = zip(self.sizes, batches, strict=True)
            later = torch.cat([torch.rand(LATER_DRAWS, n, generator=g) for n, g in parts], dim=1)
        return torch.cat([torch.cat(by_batch, dim=1), later]), partners

    def _rows(self, partners: list[torch.Tensor]) -> tuple[torch.Tensor, list[int], torch.Tensor]:
        """Return which images this process needs, how many for each batch, and its `mix_rows`.

        The images are positions in the epoch's order: of a batch first the rows of this process,
        then, if other processes have rows too, those that its rows are mixed with.
        """
        needed, mix_rows, start = [], [], 0
        for number, size in enumerate(self.sizes):
            first, end = self.distributed.slice(size)
            needed.append(torch.arange(start + first, start + end))
            mix_rows.append(torch.arange(end - first))
            if self.mixing and end - first == size:
                mix_rows[-1] = partners[number]
            elif self.mixing:
                needed[-1] = torch.cat([needed[-1], start + partners[number][first:end]])
                mix_rows[-1] += end - first
            start += size
        return torch.cat(needed), list(map(len, needed)), torch.cat(mix_rows)

    def _mixes(self, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the mix of each batch. Return float32 weights (batches,) and boxes (batches, 4)."""
        places = (f"{self.seed}/{epoch}/{number}" for number in range(len(self.sizes)))
        mixes = [self.mixing.draw(place, self.image_size) for place in places]
        weights, boxes = zip(*mixes, strict=True)
        return torch.tensor(weights), torch.tensor(boxes, dtype=torch.float32)


def seed_for(*position: int) -> int:
    """Return a seed of 63 bits for a position in a training; equal positions give equal seeds."""
    return random.Random("/".join(map(str, position))).getrandbits(63)


def generator_for(*position: int) -> torch.Generator:
    """Return a random generator on the CPU for a position in a training."""
    return torch.Generator().manual_seed(seed_for(*position))
