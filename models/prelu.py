"""PReLU with one slope (He et al. 2015, arXiv 1502.01852), whose gradient costs less on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class PReLU(nn.PReLU):
    """x where it is positive, slope · x where it is not: any shape → the same, as nn.PReLU.

    torch's own makes the slope's gradient with as many kernels as for a slope a channel, which in
    bf16 takes a quarter of EmotionNet's training step. On a GPU, and compiled, it is torch's own.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        return _OneSlope.apply(x, self.weight)


class _OneSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.slope, ctx.dtype = slope.item(), slope.dtype
        return F.leaky_relu(x, ctx.slope)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (x,) = ctx.saved_tensors
        by_x = torch.ops.aten.leaky_relu_backward(gradient, x, ctx.slope, False)
        by_slope = (gradient * x.clamp(max=0)).sum(
            dtype=torch.promote_types(x.dtype, torch.float32)
        )
        return by_x, by_slope.to(ctx.dtype).view(1)
