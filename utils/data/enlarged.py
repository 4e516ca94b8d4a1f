"""A set of small images, kept at the size of their files and enlarged where they are used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from utils.data.dataset import Dataset, fingerprint, load_dataset
from utils.data.image_folder import Sample
from utils.imaging.image_io import ImageError, open_header
from utils.imaging.preprocess import Preprocess


@dataclass(frozen=True)
class EnlargedDataset(Dataset):
    """A set whose `images` are smaller than `preprocess` has them, as those of `source`.

    Faces of 48 pixels for a network of 224 take 22 times less disk and memory so, and often fit on
    a GPU.
    """

    source: Dataset

    def batches(
        self, indices: Iterable[torch.Tensor], device: torch.device
    ) -> Iterator[torch.Tensor]:
        """Yield for each tensor of indices those images, see `Dataset.batches`."""
        return self._enlarge(self.source.batches(indices, device))

    def in_order(
        self, first: int, end: int, batch_size: int, device: torch.device
    ) -> Iterator[torch.Tensor]:
        """Yield the images from `first` to before `end`, see `Dataset.in_order`."""
        return self._enlarge(self.source.in_order(first, end, batch_size, device))

    def to_device(self, device: torch.device) -> EnlargedDataset:
        """Return the set with its small images in the GPU's memory, see `Dataset.to_device`."""
        source = self.source.to_device(device)
        return replace(self, source=source, images=source.images)

    @property
    def is_enlarged(self) -> bool:
        """True: `images` are smaller than `preprocess` has them."""
        return True

    def _enlarge(self, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        for images in batches:
            yield enlarge(images, self.preprocess.image_size)


def enlarge(images: torch.Tensor, size: int) -> torch.Tensor:
    """Return images uint8 (n, C, s, s), s < size, as uint8 (n, C, size, size), on any device.

    The pixels are those of a bilinear `Preprocess`, to one of 255 levels: Pillow also rounds
    between rows and columns.
    """
    large = F.interpolate(images.float(), size, mode="bilinear", align_corners=False)
    return large.round().to(torch.uint8)


def load_enlarged(
    samples: list[Sample], preprocess: Preprocess, side: int, name: str, folder: Path
) -> EnlargedDataset:
    """Return the set of these samples, whose files have this side; see `load_dataset`."""
    source = load_dataset(samples, replace(preprocess, image_size=side), name, folder)
    key = fingerprint(samples, preprocess)
    return EnlargedDataset(
        source.samples, source.failures, preprocess, source.images, key, source=source
    )


def common_side(samples: list[Sample], preprocess: Preprocess) -> int | None:
    """Return the side of the images if they can be enlarged as a set, else None.

    They can if all files that open are squares of one size, smaller than the network's input.
    """
    if preprocess.resample != "bilinear":
        return None
    side = None
    for sample in samples:
        with suppress(ImageError), open_header(sample.path) as image:
            width, height = image.size
            if width != height or width >= preprocess.image_size or side not in (None, width):
                return None
            side = width
    return side
