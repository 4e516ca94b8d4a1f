"""The poll: every few steps, the processes of a training exchange losses and requests to stop."""

from __future__ import annotations

import time

import torch

from utils.training.distributed import Distributed

# Seconds between polls, so between a signal and the stop. torchrun and SLURM kill after 30.
POLL_SECONDS = 2.0


class Poll:
    """Exchanges losses and requests to stop, in all processes after the same optimizer steps.

    A single process polls to look at its own loss, for which it has to wait for its GPU.
    """

    def __init__(self, distributed: Distributed, max_steps: int) -> None:
        """Prepare to poll at least every `max_steps` optimizer steps."""
        self.seconds = POLL_SECONDS
        self.stop_requested = False  # of this process
        self.is_current = True  # whether all processes know what the others had after this step
        self._distributed, self._max_steps = distributed, max_steps
        self._any_stops = False
        # The first step tells how long the others take.
        self._interval = max_steps if distributed.world_size == 1 else 1
        self.restart()

    @property
    def is_stopping(self) -> bool:
        """Whether to stop: one of the processes was asked to, and all know it."""
        return self._any_stops or (self._distributed.world_size == 1 and self.stop_requested)

    def restart(self) -> None:
        """Start to count and to measure: now the next step begins."""
        self._started, self._steps = time.perf_counter(), 0

    def is_due(self) -> bool:
        """Count a step. Return whether to `ask` after it."""
        self._steps += 1
        self.is_current = self._distributed.world_size == 1
        return self._steps >= self._interval

    def ask(self, loss: torch.Tensor) -> list[float]:
        """Return the losses of all processes by rank. `loss`: this process's, on its device."""
        mine = loss.item()  # waits for the device
        if self._distributed.world_size == 1:
            self.restart()
            return [mine]
        duration = (time.perf_counter() - self._started) / max(self._steps, 1)
        rows = self._distributed.all_gather([mine, float(self.stop_requested), duration])
        losses, stops, durations = map(list, zip(*rows, strict=True))
        self._any_stops = any(stops)
        # Every process has the same figures, so all get the same interval.
        steps = self.seconds * len(durations) / max(sum(durations), 1e-9)
        self._interval = max(1, min(self._max_steps, int(steps)))
        self.is_current = True
        self.restart()
        return losses
