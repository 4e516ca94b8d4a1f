"""Dropout that gives the same result in one process and in several."""

from __future__ import annotations

import torch
from torch import nn


class Dropout(nn.Module):
    """Dropout with probability `p` in training: zero an input, or scale it by 1 / (1 - p).

    It draws random numbers for the whole batch, even if this process has only some of its rows, so
    that several processes with the same random state drop what a single one would drop.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        # Position of this process's first row in the batch, and rows of the batch; None: all rows.
        self.rows: tuple[int, int] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop out inputs of any shape (n, …), float; return the same shape."""
        if not self.training:
            return x
        first, total = self.rows or (0, len(x))
        draws = torch.rand(total, *x.shape[1:], device=x.device)[first : first + len(x)]
        return x * (draws >= self.p) / (1 - self.p)

    def extra_repr(self) -> str:
        """Return the probability, for the printed network."""
        return f"p={self.p}"


def set_dropout(model: nn.Module, p: float) -> int:
    """Set the probability of every Dropout in a network. Return how many there are."""
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    for layer in layers:
        layer.p = p
    return len(layers)
