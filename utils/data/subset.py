"""Some of the images of a set, without a copy of their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from utils.data.dataset import Dataset


@dataclass(frozen=True)
class Subset(Dataset):
    """Some rows of the set `source`. `images` are the source's, of which `rows` tells the rows."""

    source: Dataset
    rows: torch.Tensor  # int64 (N,): positions in the source, where its images are

    def batches(
        self, indices: Iterable[torch.Tensor], device: torch.device
    ) -> Iterator[torch.Tensor]:
        """Yield for each tensor of indices those images, see `Dataset.batches`."""
        return self.source.batches((self.rows[index] for index in indices), device)

    def in_order(
        self, first: int, end: int, batch_size: int, device: torch.device
    ) -> Iterator[torch.Tensor]:
        """Yield the images from `first` to before `end`, see `Dataset.in_order`."""
        return self.source.batches(self.rows[first:end].split(batch_size), device)

    def to_device(self, device: torch.device) -> Subset:
        """Return the set with the images of the source there, see `Dataset.to_device`."""
        source = self.source.to_device(device)
        return replace(self, source=source, images=source.images, rows=self.rows.to(source.device))

    @property
    def is_enlarged(self) -> bool:
        """Whether the images of the source are kept small."""
        return self.source.is_enlarged


def take(source: Dataset, rows: Sequence[int]) -> Subset:
    """Return some rows of a set. The list of failures stays with the whole set."""
    digest = hashlib.sha256(f"{source.fingerprint} {' '.join(map(str, rows))}".encode())
    return Subset(
        [source.samples[row] for row in rows], [], source.preprocess, source.images,
        digest.hexdigest()[:16], source, torch.tensor(rows, dtype=torch.int64),
    )  # fmt: skip
