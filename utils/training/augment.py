"""Augmentation: random changes of training images, in whole batches, on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

ERASE_AREA = (0.02, 1 / 3)  # of the image; Zhong et al. 2017 (arXiv 1708.04896), Random Erasing
ERASE_ASPECT = (0.3, 1 / 0.3)  # height to width


DRAWS = 19  # random numbers that an image's changes take
LATER_DRAWS = 8  # of them, the last ones: of kinds that came later, from a generator of their own


class AugmentParams(NamedTuple):
    """The changes of n images: float32, one row per image."""

    affine: torch.Tensor  # (n, 2, 3): from a pixel to its source, in coordinates from -1 to 1
    erase_box: torch.Tensor  # (n, 4): top, bottom, left and right of the black box, in pixels
    brightness: torch.Tensor  # (n,): factor
    contrast: torch.Tensor  # (n,): factor of the distance from the mean

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
    # Largest shift to each side, like a random crop of a padded image: a fraction of the side below
    # 1, else pixels.
    crop: float = 0
    erase: float = 0.0  # fraction of images with a black box
    brightness: float = 0.0  # 0.2: brightness times 0.8 to 1.2
    zoom: float = 0.0  # 0.2: size times 0.8 to 1.2
    shear: float = 0.0  # degrees by which vertical lines lean to either side
    contrast: float = 0.0  # 0.2: contrast times 0.8 to 1.2
    # Probability of each of rotation, shift, zoom, shear, brightness and contrast for an image, as
    # in Khaireddin and Chen 2021 (arXiv 2105.03588) with 0.5; `flip` and `erase` have their own.
    p: float = 1.0

    @property
    def draws_later(self) -> bool:
        """Whether the changes depend on the last LATER_DRAWS numbers."""
        return bool(self.shear or self.contrast or self.p < 1)

    def sample(self, draws: torch.Tensor, size: int) -> AugmentParams:
        """Return the changes of n images of size × size pixels.

        `draws`: random numbers in [0, 1), float32 (DRAWS, n), on the CPU, so that the changes are
        the same for every device. Every kind has its numbers, used or not, so that turning one on
        or off leaves the others as they were. Each result depends on its column alone.
        """
        numbers, later = iter(draws[:-LATER_DRAWS]), draws[-LATER_DRAWS:]
        rotates, shifts, zooms, shears, brightens, contrasts = later[2:] < self.p

        def uniform(low: float, high: float) -> torch.Tensor:
            return next(numbers) * (high - low) + low

        angle = uniform(-1, 1) * math.radians(self.rotation) * rotates
        mirror = torch.where((uniform(0, 1) < 0.5) & torch.tensor(self.flip), -1.0, 1.0)
        shift = self.crop if self.crop >= 1 else round(self.crop * size)
        dx, dy = ((uniform(-1, 1) * (shift + 0.5)).round() * shifts for _ in "xy")
        area = uniform(*ERASE_AREA) * size * size
        aspect = uniform(*map(math.log, ERASE_ASPECT)).exp()
        height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        top = (uniform(0, 1) * (size - height).clamp(min=0)).round()
        left = (uniform(0, 1) * (size - width).clamp(min=0)).round()
        height = height * (uniform(0, 1) < self.erase)
        erase_box = torch.stack([top, top + height, left, left + width], dim=1)
        brightness = uniform(-1, 1) * self.brightness * brightens + 1
        scale = uniform(-1, 1) * self.zoom * zooms + 1
        lean = ((2 * later[0] - 1) * math.radians(self.shear) * shears).tan()
        contrast = (2 * later[1] - 1) * self.contrast * contrasts + 1
        cos, sin = angle.cos() / scale, angle.sin() / scale
        # Shift first, then mirror, rotate, zoom and shear; a pixel is 2 / size wide here.
        a, b, c, d = cos * mirror, -sin, sin * mirror, cos
        if self.shear:
            b, d = b + a * lean, d + c * lean
        affine = torch.stack([a, b, dx * 2 / size, c, d, dy * 2 / size], dim=1)
        return AugmentParams(affine.view(-1, 2, 3), erase_box, brightness, contrast)

    def __call__(self, images: torch.Tensor, params: AugmentParams) -> torch.Tensor:
        """Return the images with their changes: float (n, C, S, S) in [0, 1].

        `params` are on the device of the images. Pixels from outside an image are black.
        """
        affine, erase_box, brightness, contrast = params
        if self.flip or self.rotation or self.crop or self.zoom or self.shear:
            grid = F.affine_grid(affine, list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
        if self.brightness:
            images = (images * brightness.view(-1, 1, 1, 1)).clamp(0, 1)
        if self.contrast:
            mean = images.mean((1, 2, 3), keepdim=True)
            images = torch.lerp(mean, images, contrast.view(-1, 1, 1, 1)).clamp(0, 1)
        if self.erase:
            images = images.masked_fill(inside(erase_box, images.shape[-1])[:, None], 0)
        return images


def inside(boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Return which pixels of size × size are in boxes (n, 4): bool (n, size, size).

    A box is top, bottom, left and right in pixels; bottom and right are outside.
    """
    pixel = torch.arange(size, device=boxes.device)
    top, bottom, left, right = boxes.unsqueeze(2).unbind(1)
    rows, columns = (pixel >= top) & (pixel < bottom), (pixel >= left) & (pixel < right)
    return rows[:, :, None] & columns[:, None, :]
