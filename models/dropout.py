"""Dropout that several processes can share."""

from __future__ import annotations

import torch
from torch import nn


class Dropout(nn.Module):
    """Sets a share `p` of its inputs to zero in training and scales up the rest, any shape (N, …).

    It draws for the whole batch even where this process has only some rows of it, so that many
    processes with the same random state drop what one alone would have dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.rows: tuple[int, int] | None = None  # the first of ours, of how many; None: all of it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        first, total = self.rows or (0, len(x))
        drawn = torch.rand(total, *x.shape[1:], device=x.device)[first : first + len(x)]
        return x * (drawn >= self.p) / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def set_dropout(model: nn.Module, p: float) -> int:
    """Have each Dropout of a network set another share `p` to zero; returns how many it has."""
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    for layer in layers:
        layer.p = p
    return len(layers)
