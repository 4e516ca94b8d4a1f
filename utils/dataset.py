"""A set of labelled images, decoded once and held in memory as the network's input size."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch

from utils.cli import Bar
from utils.images import ImageError, open_image
from utils.parallel import cores
from utils.preprocess import Preprocess
from utils.samples import Sample

CHUNK = 64  # images that a thread decodes before it reports


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (N, C, S, S), and labels int64 (N,) in the same order; and what failed."""

    images: torch.Tensor
    labels: torch.Tensor
    failures: list[tuple[Path, str]]

    def __len__(self) -> int:
        return len(self.labels)


def load(samples: list[Sample], preprocess: Preprocess, description: str) -> Dataset:
    """Decode the samples with all cores. One that cannot be read is left out and listed."""
    shape = (preprocess.image_channel, preprocess.image_size, preprocess.image_size)
    pixels = np.empty((len(samples), *shape), dtype=np.uint8)

    def read(start: int) -> list[tuple[int, str]]:
        failed = []
        for i, sample in enumerate(samples[start : start + CHUNK], start):
            try:
                pixels[i] = preprocess(open_image(sample.path))
            except ImageError as error:
                failed.append((i, str(error)))
        return failed

    failures: dict[int, str] = {}
    # Threads are enough: Pillow decodes and resizes without holding Python's lock.
    with ThreadPool(cores()) as pool, Bar(len(samples), description, "image") as bar:
        for failed in pool.imap(read, range(0, len(samples), CHUNK)):
            for i, reason in failed:
                failures[i] = reason
                bar.fail(samples[i].path, reason)
            bar.update(min(CHUNK, len(samples) - bar.n))
    kept = [i for i in range(len(samples)) if i not in failures]
    return Dataset(
        torch.from_numpy(pixels[kept] if failures else pixels),
        torch.tensor([samples[i].label for i in kept], dtype=torch.int64),
        [(samples[i].path, reason) for i, reason in failures.items()],
    )
