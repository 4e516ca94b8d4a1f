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


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (N, C, S, S), labels int64 (N,) and paths in the same order; and what failed."""

    images: torch.Tensor
    labels: torch.Tensor
    paths: list[Path]
    failures: list[tuple[Path, str]]

    def __len__(self) -> int:
        return len(self.labels)


def load(samples: list[Sample], preprocess: Preprocess, description: str) -> Dataset:
    """Decode the samples with all cores. One that cannot be read is left out and listed."""

    def read(sample: Sample) -> np.ndarray | ImageError:
        try:
            return preprocess(open_image(sample.path))
        except ImageError as error:
            return error

    shape = (preprocess.image_channel, preprocess.image_size, preprocess.image_size)
    pixels = np.empty((len(samples), *shape), dtype=np.uint8)
    kept: list[Sample] = []
    failures: list[tuple[Path, str]] = []
    # Threads are enough: Pillow decodes and resizes without holding Python's lock.
    with ThreadPool(cores()) as pool, Bar(len(samples), description, "image") as bar:
        for sample, result in zip(samples, pool.imap(read, samples, chunksize=16), strict=True):
            if isinstance(result, ImageError):
                failures.append((sample.path, str(result)))
                bar.fail(sample.path, result)
            else:
                pixels[len(kept)] = result
                kept.append(sample)
            bar.update()
    labels = torch.tensor([sample.label for sample in kept], dtype=torch.int64)
    images = torch.from_numpy(pixels[: len(kept)])
    return Dataset(images, labels, [sample.path for sample in kept], failures)
