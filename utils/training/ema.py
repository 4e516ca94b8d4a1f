"""The exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A second model whose weights are the moving average of the trained model's weights.

    After step t the average moves by 1 - min(decay, (1 + t) / (10 + t)) of the way to the weights,
    so that it follows them closely in the beginning.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start the average at the model's weights. `decay`: in [0, 1]."""
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights that the model has after an optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, weights = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)  # batch norm's buffers are averages already
