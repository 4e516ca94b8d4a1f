"""Random variation of training images, on whole batches, on whatever device they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

ERASED_AREA = (0.02, 1 / 3)  # of the image; Zhong et al. 2017 (arXiv 1708.04896), Random Erasing
ERASED_SHAPE = (0.3, 1 / 0.3)  # height to width


class Variation(NamedTuple):
    """How each of n images is varied: float32 on the CPU, a row an image."""

    place: torch.Tensor  # (n, 2, 3): where each pixel comes from, in coordinates from -1 to 1
    hole: torch.Tensor  # (n, 4): top, bottom, left, right of what is erased, in pixels
    gain: torch.Tensor  # (n,): what brightness is multiplied by

    def __getitem__(self, rows: torch.Tensor) -> Variation:
        """The variations of some of the images, in another order perhaps."""
        return Variation(self.place[rows], self.hole[rows], self.gain[rows])


@dataclass(frozen=True)
class Augment:
    """What may vary. The seed's: half of the images mirrored, all turned by up to 6°."""

    flip: bool = True
    rotation: float = 6.0  # degrees to either side
    crop: int = 0  # pixels that an image is moved at most, to each side, as a padded crop does
    erase: float = 0.0  # the share of images in which a rectangle is blackened
    brightness: float = 0.0  # 0.2: brightness times 0.8 to 1.2
    zoom: float = 0.0  # 0.2: size times 0.8 to 1.2

    def draw(self, n: int, size: int, chance: torch.Generator) -> Variation:
        """Draw the variations of n images of size × size pixels.

        On the CPU, so that they are the same whatever the device; and for every kind, so that
        turning one on or off leaves the others as they were.
        """

        def uniform(low: float, high: float) -> torch.Tensor:
            return torch.rand(n, generator=chance) * (high - low) + low

        angle = uniform(-1, 1) * math.radians(self.rotation)
        mirror = torch.where((uniform(0, 1) < 0.5) & torch.tensor(self.flip), -1.0, 1.0)
        dx, dy = ((uniform(-1, 1) * (self.crop + 0.5)).round() for _ in "xy")
        area = uniform(*ERASED_AREA) * size * size
        shape = uniform(*map(math.log, ERASED_SHAPE)).exp()
        high, wide = (area * shape).sqrt().round(), (area / shape).sqrt().round()
        top = (uniform(0, 1) * (size - high).clamp(min=0)).round()
        left = (uniform(0, 1) * (size - wide).clamp(min=0)).round()
        high = high * (uniform(0, 1) < self.erase)
        hole = torch.stack([top, top + high, left, left + wide], dim=1)
        gain = uniform(-1, 1) * self.brightness + 1
        larger = uniform(-1, 1) * self.zoom + 1
        cos, sin = angle.cos() / larger, angle.sin() / larger
        # Moved first, then mirrored, turned and zoomed; a pixel is 2 / size wide here.
        place = torch.stack(
            [cos * mirror, -sin, dx * 2 / size, sin * mirror, cos, dy * 2 / size], dim=1
        )
        return Variation(place.view(n, 2, 3), hole, gain)

    def __call__(self, images: torch.Tensor, variation: Variation) -> torch.Tensor:
        """Vary float images (n, C, S, S) in [0, 1]. What comes from outside an image is black."""
        place, hole, gain = (part.to(images.device, non_blocking=True) for part in variation)
        if self.flip or self.rotation or self.crop or self.zoom:
            grid = F.affine_grid(place, list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
        if self.brightness:
            images = (images * gain.view(-1, 1, 1, 1)).clamp(0, 1)
        if self.erase:
            at = torch.arange(images.shape[-1], device=images.device)
            top, bottom, left, right = hole.unsqueeze(2).unbind(1)
            rows, columns = (at >= top) & (at < bottom), (at >= left) & (at < right)
            images = images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)
        return images
