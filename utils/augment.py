"""Random variation of training images, on whole batches, on whatever device they are."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

ROTATION = 6.0  # degrees to either side


def augment(batch: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Turn each image by up to ±6° and mirror half of them: float (N, C, S, S) → the same shape.

    Corners that a turn leaves empty are black. The random numbers are drawn on the CPU, so that
    they are the same whatever the device.
    """
    n = len(batch)
    angle = (torch.rand(n, generator=chance) * 2 - 1) * math.radians(ROTATION)
    mirror = torch.where(torch.rand(n, generator=chance) < 0.5, -1.0, 1.0)
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros(n)
    # Where each output pixel comes from, in coordinates from -1 to 1: mirrored first, then turned.
    matrix = torch.stack([cos * mirror, -sin, none, sin * mirror, cos, none], dim=1).view(n, 2, 3)
    grid = F.affine_grid(matrix.to(batch.device), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, padding_mode="zeros", align_corners=False)
