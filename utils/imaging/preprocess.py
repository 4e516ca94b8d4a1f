"""From a picture to what a network sees: the one way, for training, testing and prediction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from utils.imaging.image_io import open_image, to_channels

if TYPE_CHECKING:
    import torch

MAX_SIDE = 4096  # pixels of a network's input
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes a network's input. It is stored in the checkpoint, so that a model
    is never shown anything but what it was trained on.
    """

    image_size: int = 48  # pixels; pictures are resized to a square, whatever their shape
    image_channel: int = 1  # 1 grey, 3 RGB
    resample: str = "bilinear"  # area-aware when shrinking, as PIL does it

    def __post_init__(self) -> None:
        """Raises ValueError for settings, from a file perhaps, that mean nothing."""
        size, channels = self.image_size, self.image_channel
        if type(size) is not int or not 1 <= size <= MAX_SIDE:
            raise ValueError("image_size")
        if type(channels) is not int or channels not in (1, 3):
            raise ValueError("image_channel")
        if type(self.resample) is not str or self.resample not in _RESAMPLE:
            raise ValueError("resample")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: (channels, size, size)."""
        return self.image_channel, self.image_size, self.image_size

    def read(self, source: Path | BinaryIO) -> np.ndarray:
        """An image file → uint8 array (channels, size, size). Raises ImageError."""
        return self(self.open(source))

    def open(self, source: Path | BinaryIO) -> Image.Image:
        """The picture in a file, decoded no larger than is needed here. Raises ImageError."""
        return open_image(source, self.image_size, self.image_channel)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """A picture of any size and mode → uint8 array (channels, size, size)."""
        size = (self.image_size, self.image_size)
        small = to_channels(image, self.image_channel)
        if small.size != size:
            small = small.resize(size, _RESAMPLE[self.resample])
        pixels = np.asarray(small)
        return pixels[None] if self.image_channel == 1 else pixels.transpose(2, 0, 1)

    @staticmethod
    def to_float(batch: torch.Tensor) -> torch.Tensor:
        """uint8 (N, C, S, S) → float32 in [0, 1], the same shape."""
        return batch.float() / 255

    def to_dict(self) -> dict[str, int | str]:
        """Everything that defines it, as plain numbers and strings; `Preprocess(**it)` is back."""
        return asdict(self)
