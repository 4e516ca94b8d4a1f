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
        """Start the average at the weights of `model`, on its device. `decay`: in [0, 1]."""
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0
        # To walk through a large network takes longer than to average it: its tensors are listed
        # once, buffers by type, because torch copies only tensors of one type in one go.
        self._weights = list(self.model.parameters()), list(model.parameters())
        self._buffers: dict[torch.dtype, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            averages, buffers = self._buffers.setdefault(buffer.dtype, ([], []))
            averages.append(average)
            buffers.append(buffer)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights that the model has after an optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(*self._weights, 1 - decay)
        for averages, buffers in self._buffers.values():
            torch._foreach_copy_(averages, buffers)  # batch norm's buffers are averages already
