"""Decode many images on all cores. Torch is not imported: each worker would wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from utils.errors import StageError
from utils.imaging.image_io import ImageError
from utils.imaging.preprocess import Preprocess
from utils.parallel import ProcessPool, WorkerKilledError, ordered_map

CHUNK = 64  # images that a worker decodes before it reports
FEW = 1024  # images: up to so many are decoded before worker processes would have started


def decode_chunks(
    chunks: Iterable[list[Path]], preprocess: Preprocess, total: int, workers: int
) -> Iterator[tuple[np.ndarray, dict[int, str]]]:
    """Decode chunks of files on `workers` processes. Yield what `decode_chunk` returns, in order.

    `total` is the number of files in all chunks: for up to FEW files no processes are started.
    Raise StageError if the system kills the workers.
    """
    if workers == 1 or total <= FEW:
        for chunk in chunks:
            yield decode_chunk(chunk, preprocess)
        return
    jobs = ((chunk, preprocess) for chunk in chunks)
    try:
        yield from ordered_map(ProcessPool(workers), decode_chunk, jobs, 4 * workers)
    except WorkerKilledError as error:
        raise StageError(f"images cannot be decoded: {error}") from None


def decode_chunk(paths: list[Path], preprocess: Preprocess) -> tuple[np.ndarray, dict[int, str]]:
    """Decode some files, one after the other.

    Return the readable images, uint8 (n, C, S, S), and for the other files: position → reason.
    """
    images, failures = [], {}
    for i, path in enumerate(paths):
        try:
            images.append(preprocess.read(path))
        except ImageError as error:
            failures[i] = str(error)
    return np.stack(images) if images else np.empty((0, *preprocess.shape), np.uint8), failures


def chunked(paths: list[Path]) -> Iterator[list[Path]]:
    """Split the files into chunks, each large enough to be worth a message to a worker."""
    return (paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK))
