"""Augmentation: random changes of training images, in whole batches, on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

ERASE_AREA = (0.02, 1 / 3)  # of the image; Zhong et al. 2017 (arXiv 1708.04896), Random Erasing
ERASE_ASPECT = (0.3, 1 / 0.3)  # height to width


DRAWS = 11  # random numbers that an image's changes take


class AugmentParams(NamedTuple):
    """The changes of n images: float32, one row per image."""

    affine: torch.Tensor  # (n, 2, 3): from a pixel to its source, in coordinates from -1 to 1
    erase_box: torch.Tensor  # (n, 4): top, bottom, left and right of the black box, in pixels
    brightness: torch.Tensor  # (n,): factor

    def select(self, rows: torch.Tensor) -> AugmentParams:
        """Return the changes of the images at positions `rows`, int64 (m,), in that order."""
        return AugmentParams(*(values[rows] for values in self))

    def split(self, counts: list[int]) -> list[AugmentParams]:
        """Return the changes of the first images, of the next, and so on, as views."""
        return [
            AugmentParams(*views) for views in zip(*(v.split(counts) for v in self), strict=True)
        ]

    def to(self, device: torch.device) -> AugmentParams:
        """Return the changes on a device."""
        return AugmentParams(*(values.to(device) for values in self))


@dataclass(frozen=True)
class Augment:
    """The ranges of the changes. The defaults are those of the reference implementation."""

    flip: bool = True  # mirror half of the images
    rotation: float = 6.0  # degrees to either side
    crop: int = 0  # pixels; largest shift to each side, like a random crop of a padded image
    erase: float = 0.0  # fraction of images with a black box
    brightness: float = 0.0  # 0.2: brightness times 0.8 to 1.2
    zoom: float = 0.0  # 0.2: size times 0.8 to 1.2

    def sample(self, draws: torch.Tensor, size: int) -> AugmentParams:
        """Return the changes of n images of size × size pixels.

        `draws`: random numbers in [0, 1), float32 (DRAWS, n), on the CPU, so that the changes are
        the same for every device. Every kind has its numbers, used or not, so that turning one on
        or off leaves the others as they were. Each result depends on its column alone.
        """
        numbers = iter(draws)

        def uniform(low: float, high: float) -> torch.Tensor:
            return next(numbers) * (high - low) + low

        angle = uniform(-1, 1) * math.radians(self.rotation)
        mirror = torch.where((uniform(0, 1) < 0.5) & torch.tensor(self.flip), -1.0, 1.0)
        dx, dy = ((uniform(-1, 1) * (self.crop + 0.5)).round() for _ in "xy")
        area = uniform(*ERASE_AREA) * size * size
        aspect = uniform(*map(math.log, ERASE_ASPECT)).exp()
        height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        top = (uniform(0, 1) * (size - height).clamp(min=0)).round()
        left = (uniform(0, 1) * (size - width).clamp(min=0)).round()
        height = height * (uniform(0, 1) < self.erase)
        erase_box = torch.stack([top, top + height, left, left + width], dim=1)
        brightness = uniform(-1, 1) * self.brightness + 1
        scale = uniform(-1, 1) * self.zoom + 1
        cos, sin = angle.cos() / scale, angle.sin() / scale
        # Shift first, then mirror, rotate and zoom; a pixel is 2 / size wide here.
        affine = torch.stack(
            [cos * mirror, -sin, dx * 2 / size, sin * mirror, cos, dy * 2 / size], dim=1
        )
        return AugmentParams(affine.view(-1, 2, 3), erase_box, brightness)

    def __call__(self, images: torch.Tensor, params: AugmentParams) -> torch.Tensor:
        """Return the images with their changes: float (n, C, S, S) in [0, 1].

        `params` are on the device of the images. Pixels from outside an image are black.
        """
        affine, erase_box, brightness = params
        if self.flip or self.rotation or self.crop or self.zoom:
            grid = F.affine_grid(affine, list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
        if self.brightness:
            images = (images * brightness.view(-1, 1, 1, 1)).clamp(0, 1)
        if self.erase:
            pixel = torch.arange(images.shape[-1], device=images.device)
            top, bottom, left, right = erase_box.unsqueeze(2).unbind(1)
            rows, columns = (pixel >= top) & (pixel < bottom), (pixel >= left) & (pixel < right)
            images = images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)
        return images
