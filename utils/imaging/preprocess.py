"""Turn a picture into a network's input, in the same way for training, testing and prediction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, overload

import numpy as np
from PIL import Image

from utils.imaging.image_io import open_image, to_channels

if TYPE_CHECKING:
    import torch

MAX_SIDE = 4096  # pixels of a network's input
# Test-time augmentation: the views of an image that a model is shown, see `tta_views`.
TTA = ("none", "flip", "tencrop")
# No flag sets bicubic; a model file may hold it.
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocess:
    """The settings that turn a picture into a network's input.

    They are stored in the model file, so that a model sees pictures as in its training.
    """

    image_size: int = 48  # pixels; pictures of any shape are resized to this square
    image_channel: int = 1  # 1 grey, 3 RGB
    resample: str = "bilinear"  # with antialiasing when shrinking, as Pillow does it

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid setting; it may come from a model file."""
        size, channels = self.image_size, self.image_channel
        if type(size) is not int or not 1 <= size <= MAX_SIDE:
            raise ValueError("image_size")
        if type(channels) is not int or channels not in (1, 3):
            raise ValueError("image_channel")
        if type(self.resample) is not str or self.resample not in _RESAMPLE:
            raise ValueError("resample")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of one image: (channels, size, size)."""
        return self.image_channel, self.image_size, self.image_size

    def read(self, source: Path | BinaryIO) -> np.ndarray:
        """Return the image in a file as uint8 (channels, size, size).

        Raise ImageError if it cannot be decoded.
        """
        return self(self.open(source))

    def open(self, source: Path | BinaryIO) -> Image.Image:
        """Return the picture in a file, decoded no larger than `__call__` needs it.

        Raise ImageError if it cannot be decoded.
        """
        return open_image(source, self.image_size, self.image_channel)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return a picture of any size and mode as uint8 (channels, size, size)."""
        size = (self.image_size, self.image_size)
        small = to_channels(image, self.image_channel)
        if small.size != size:
            small = small.resize(size, _RESAMPLE[self.resample])
        pixels = np.asarray(small)
        return pixels[None] if self.image_channel == 1 else pixels.transpose(2, 0, 1)

    @overload
    @staticmethod
    def to_float(batch: np.ndarray) -> np.ndarray: ...
    @overload
    @staticmethod
    def to_float(batch: torch.Tensor) -> torch.Tensor: ...
    @staticmethod
    def to_float(batch):
        """Return a uint8 batch (N, C, S, S) as float32 in [0, 1] of the same shape."""
        return (batch.astype(np.float32) if isinstance(batch, np.ndarray) else batch.float()) / 255

    def to_dict(self) -> dict[str, int | str]:
        """Return the settings as numbers and strings, the arguments of an equal Preprocess."""
        return asdict(self)
