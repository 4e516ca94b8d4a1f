"""Decode many images on all cores. Torch is not imported: each worker would wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from utils.console import ProgressBar
from utils.data.image_folder import Sample
from utils.errors import StageError
from utils.imaging.image_io import ImageError
from utils.imaging.preprocess import Preprocess
from utils.parallel import ProcessPool, WorkerKilledError, cores, ordered_map

CHUNK = 64  # images that a worker decodes before it reports
FEW = 1024  # images: up to so many are decoded before worker processes would have started

Failures = dict[int, str]  # position of an unreadable image → reason


def decode_to_memory(
    samples: list[Sample], preprocess: Preprocess, name: str
) -> tuple[np.ndarray, Failures]:
    """Return the readable images of the samples, uint8 (n, C, S, S), and the failures.

    `name` is that of the progress bar.
    """
    images, count = np.empty((len(samples), *preprocess.shape), np.uint8), 0

    def store(chunk: np.ndarray) -> None:
        nonlocal count
        images[count : count + len(chunk)] = chunk
        count += len(chunk)

    failures = decode_all(samples, preprocess, name, store)
    return images[:count], failures


def decode_all(
    samples: list[Sample],
    preprocess: Preprocess,
    description: str,
    store: Callable[[np.ndarray], object],
) -> Failures:
    """Decode all samples in order. Pass the readable images to `store`, chunk by chunk."""
    paths = [sample.path for sample in samples]
    failures: Failures = {}
    done = 0
    with ProgressBar(len(paths), description, "image") as bar:
        for images, chunk_failures in decode_chunks(
            chunked(paths), preprocess, len(paths), cores()
        ):
            store(images)
            for i, reason in chunk_failures.items():
                failures[done + i] = reason
                bar.fail(paths[done + i], reason)
            done += len(images) + len(chunk_failures)
            bar.update(len(images) + len(chunk_failures))
    return failures


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
