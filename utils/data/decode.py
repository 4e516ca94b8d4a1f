"""Decoding many images with all cores. Torch is not imported: each worker would wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from utils.errors import StageError
from utils.imaging.image_io import ImageError
from utils.imaging.preprocess import Preprocess
from utils.parallel import ProcessPool, WorkerKilledError, ordered_map

CHUNK = 64  # images that a worker decodes before it reports
FEW = 1024  # images that are decoded before workers would have started


def decode_chunks(
    chunks: Iterable[list[Path]], preprocess: Preprocess, total: int, workers: int
) -> Iterator[tuple[np.ndarray, dict[int, str]]]:
    """For each chunk of files, in order: the images uint8 (n, C, S, S) of those that can be read,
    and for the others their place in the chunk and the reason.

    `total` is the number of files in all: for few, no worker processes are started.
    Raises StageError if the system kills the workers.
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
    """Decode some files, one after the other. See `decoded`."""
    images, failures = [], {}
    for i, path in enumerate(paths):
        try:
            images.append(preprocess.read(path))
        except ImageError as error:
            failures[i] = str(error)
    return np.stack(images) if images else np.empty((0, *preprocess.shape), np.uint8), failures


def chunked(paths: list[Path]) -> Iterator[list[Path]]:
    """The files in pieces that are worth handing to a worker."""
    return (paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK))
