"""Sharpness-aware minimization: steps with the gradient at the worst point nearby."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def sharpest_nearby(model: nn.Module, rho: float) -> Iterator[None]:
    """Move the weights by `rho` along their gradients for the length of the context.

    Within it, the batch's loss is computed a second time, and the optimizer then steps from the
    old weights with that gradient (Foret et al. 2021, arXiv 2010.01412, equations 2 and 3). The
    gradients must be those of the whole batch, of all processes; they may be scaled. Their sum of
    squares is taken over all parameters. Batch norm keeps the statistics of the first pass alone.
    """
    parameters = [p for p in model.parameters() if p.grad is not None]
    weights = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        gradients = [p.grad for p in parameters]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        steps = torch._foreach_mul(gradients, rho / (norm + 1e-12))
        torch._foreach_add_(parameters, steps)
    tracking = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True
        with torch.no_grad():
            torch._foreach_copy_(parameters, weights)
