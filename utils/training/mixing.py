"""Mixing the images of a batch in pairs: mixup and CutMix."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import torch

from utils.training.augment import inside


class Mix(NamedTuple):
    """How a batch is mixed, in plain numbers."""

    weight: float  # of a row's target in its mix, in [0, 1]; the partner's target gets the rest
    box: tuple[int, int, int, int]  # top, bottom, left, right: what comes from the partner, pixels


@dataclass(frozen=True)
class Mixing:
    """The parameters α of the Beta distributions of both ways; 0: not used."""

    mixup: float = 0.0  # blends whole images (Zhang et al. 2018, arXiv 1710.09412)
    cutmix: float = 0.0  # pastes a box of the partner (Yun et al. 2019, arXiv 1905.04899)

    def __bool__(self) -> bool:
        return bool(self.mixup or self.cutmix)

    def draw(self, place: str, size: int) -> Mix:
        """Draw the mix of a batch of images of size × size pixels; `place` seeds it.

        With both ways, each batch gets one of them, evenly drawn, as timm does.
        """
        rng = random.Random(f"{place}/cutmix")
        if self.cutmix and not (self.mixup and rng.random() < 0.5):
            return cut_box(rng, rng.betavariate(self.cutmix, self.cutmix), size)
        weight = 1.0
        if self.mixup:
            weight = random.Random(f"{place}/mixup").betavariate(self.mixup, self.mixup)
        return Mix(weight, (0, 0, 0, 0))


def cut_box(rng: random.Random, weight: float, size: int) -> Mix:
    """Draw a box of CutMix that leaves about the fraction `weight` of the image.

    As in the authors' code, its centre is anywhere in the image, what lies outside is cut off, and
    the weight becomes the fraction of the pixels that are left.
    """
    half = int(size * math.sqrt(1 - weight)) // 2
    y, x = rng.randrange(size), rng.randrange(size)
    top, bottom, left, right = (
        min(max(edge, 0), size) for edge in (y - half, y + half, x - half, x + half)
    )
    return Mix(1 - (bottom - top) * (right - left) / size**2, (top, bottom, left, right))


def mix_images(
    partners: torch.Tensor, images: torch.Tensor, weight: torch.Tensor, box: torch.Tensor
) -> torch.Tensor:
    """Return the mix of a batch with its partners, float (n, C, S, S) each.

    `weight`, (), and `box`, (4,), are those of `Mix`, as float32 on the device of the images. In a
    box are the partners' pixels alone. Without one, all pixels are blended, as by torch.lerp.
    """
    is_pasted = inside(box[None], images.shape[-1])[0]
    blend = torch.where(is_pasted.any(), 1.0, weight)
    return torch.lerp(partners, images, torch.where(is_pasted, 0.0, blend))
