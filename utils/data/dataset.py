"""A set of labelled images at the network's input size: decoded once, into a file beside the data.

The file is the bare uint8 pixels of all readable images in order, and is mapped into memory, so
that a set of any size is at hand at once, in every run and every process. Its name is made of all
that it depends on: another file, another size or a newer photo is another store.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from utils.console import ProgressBar, note
from utils.data.decode import chunked, decode_chunks
from utils.data.image_folder import Sample
from utils.errors import StageError, describe_os_error
from utils.files import atomic_file, file_lock, make_folder
from utils.imaging.image_io import ImageError
from utils.imaging.preprocess import Preprocess
from utils.parallel import cores

VERSION = 1  # of the way images are decoded: a change there makes older stores invalid
SPARE = 0.95  # of the free disk is the most that a store may take
ON_GPU = 0.5  # of the GPU's free memory is the most that a set may take

Failures = dict[int, str]  # place of an image that cannot be read, and why


@dataclass(frozen=True)
class Dataset:
    """Readable images and their labels, int64 (N,); and the files that could not be read.

    `images` is uint8 (N, C, S, S), in memory, in a mapped file or on a GPU. Where it is None, no
    room was found for it: images are decoded anew each time they are asked for.
    """

    samples: list[Sample]
    failures: list[tuple[Path, str]]
    preprocess: Preprocess
    images: torch.Tensor | None
    fingerprint: str  # another for other files

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> torch.Tensor:
        return torch.tensor([sample.label for sample in self.samples], dtype=torch.int64)

    def batches(
        self, order: Iterable[torch.Tensor], device: torch.device
    ) -> Iterator[torch.Tensor]:
        """For each index tensor in `order`: those images, uint8 (n, C, S, S), on the device."""
        for images in self._iter_batches(order):
            if device.type == "cuda" and images.device != device:
                # From pinned memory the copy goes on while the GPU computes.
                images = images.pin_memory().to(device, non_blocking=True)
            yield images

    def _iter_batches(self, order: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        if self.images is not None:
            for index in order:
                yield self.images[index.to(self.images.device)]
            return
        chunks = ([self.samples[i].path for i in index.tolist()] for index in order)
        for images, failures in decode_chunks(chunks, self.preprocess, len(self), cores()):
            if failures:
                raise StageError(f"an image that was fine is so no more: {failures.popitem()[1]}")
            yield torch.from_numpy(images)

    def to_device(self, device: torch.device) -> Dataset:
        """The same set with its images in the GPU's memory, if that is the device and they fit."""
        if device.type != "cuda" or self.images is None:
            return self
        if self.images.nbytes > ON_GPU * torch.cuda.mem_get_info(device)[0]:
            return self
        return replace(self, images=self.images.to(device))


def load_dataset(
    samples: list[Sample], preprocess: Preprocess, name: str, folder: Path | None
) -> Dataset:
    """The set of these samples, from its store in the folder, which is made if need be.

    Without a folder it is decoded into memory, for this run alone. Where the folder has no room or
    cannot be written, that is said, and images are decoded whenever they are used. An image that
    cannot be read is left out, and listed in `failures`.
    """
    key = fingerprint(samples, preprocess)
    if folder is None:
        images, filled = np.empty((len(samples), *preprocess.shape), np.uint8), 0

        def keep(more: np.ndarray) -> None:
            nonlocal filled
            images[filled : filled + len(more)] = more
            filled += len(more)

        failures = _decode_all(samples, preprocess, name, keep)
        return _dataset(samples, failures, preprocess, torch.from_numpy(images[:filled]), key)
    family = f"{name}-{preprocess.image_size}x{preprocess.image_channel}-{_location_hash(samples, folder)}-"
    path = folder / f"{family}{key}.uint8"
    try:
        make_folder(folder)
        with file_lock(folder / ".lock", "another run decodes these images: waiting for it"):
            if not path.exists() or _has_recovered(path, samples, preprocess):
                _build(path, samples, preprocess, name)
                _remove_others(family, path)
        failures = {int(i): why for i, why in json.loads(_failures_path(path).read_bytes()).items()}
        return _dataset(samples, failures, preprocess, _mapped(path, preprocess), key)
    except (OSError, ValueError) as error:
        why = (
            describe_os_error(error)
            if isinstance(error, OSError)
            else f"{_failures_path(path)} is broken"
        )
        note(f"no store of decoded images, each is decoded whenever it is used: {why}")
        failures = _decode_all(samples, preprocess, f"check {name}", lambda images: None)
        return _dataset(samples, failures, preprocess, None, key)


def fingerprint(samples: list[Sample], preprocess: Preprocess) -> str:
    """A short name for all that a store depends on: the files, their sizes and times, the way."""
    digest = hashlib.sha256(json.dumps([VERSION, preprocess.to_dict()]).encode())
    for path, _ in samples:
        with suppress(OSError):  # a file that has gone meanwhile fails when it is decoded
            state = path.stat()
            where = "/".join(path.parts[-2:])  # the data may be moved as a whole
            line = f"{where}\0{state.st_size}\0{state.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _has_recovered(path: Path, samples: list[Sample], preprocess: Preprocess) -> bool:
    """Whether an image that could not be read when the store was made can be read now.

    The file need not have changed: its disk was away, say.
    """
    for i in json.loads(_failures_path(path).read_bytes()):
        with suppress(ImageError):
            preprocess.read(samples[int(i)].path)
            return True
    return False


def _location_hash(samples: list[Sample], folder: Path) -> str:
    """A short name for where the set lies, seen from the store: several may share a folder.

    It stays when data and store are moved as one.
    """
    root = samples[0].path.parents[1] if samples else folder
    try:
        way = os.path.relpath(root, folder)
    except ValueError:  # another drive of Windows
        way = str(root.absolute())
    return hashlib.sha256(os.fsencode(way)).hexdigest()[:8]


def _build(path: Path, samples: list[Sample], preprocess: Preprocess, name: str) -> None:
    needed = len(samples) * int(np.prod(preprocess.shape))
    free = shutil.disk_usage(path.parent).free
    if needed > SPARE * free:
        what = f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free"
        raise OSError(errno.ENOSPC, what, str(path.parent))
    with atomic_file(path) as file:
        failures = _decode_all(
            samples, preprocess, name, lambda images: file.write(images.tobytes())
        )
        # First, so that where the pixels are their list of failures is too.
        with atomic_file(_failures_path(path)) as listed:
            listed.write(json.dumps(failures, ensure_ascii=False).encode())


def _decode_all(
    samples: list[Sample],
    preprocess: Preprocess,
    description: str,
    keep: Callable[[np.ndarray], object],
) -> Failures:
    """Decode all samples in order, hand the readable ones' pixels to `keep`; return the others."""
    paths = [sample.path for sample in samples]
    failures: Failures = {}
    done = 0
    with ProgressBar(len(paths), description, "image") as bar:
        for images, failed in decode_chunks(chunked(paths), preprocess, len(paths), cores()):
            keep(images)
            for i, reason in failed.items():
                failures[done + i] = reason
                bar.fail(paths[done + i], reason)
            done += len(images) + len(failed)
            bar.update(len(images) + len(failed))
    return failures


def _dataset(
    samples: list[Sample],
    failures: Failures,
    preprocess: Preprocess,
    images: torch.Tensor | None,
    key: str,
) -> Dataset:
    good = [sample for i, sample in enumerate(samples) if i not in failures]
    bad = [(samples[i].path, why) for i, why in failures.items()]
    return Dataset(good, bad, preprocess, images, key)


def _mapped(path: Path, preprocess: Preprocess) -> torch.Tensor:
    if not path.stat().st_size:  # not one readable image; nothing can be mapped
        return torch.empty((0, *preprocess.shape), dtype=torch.uint8)
    # Copy-on-write: torch wants memory that could be written; the file stays as it is.
    pixels = np.memmap(path, np.uint8, mode="c")
    return torch.from_numpy(pixels.reshape(-1, *preprocess.shape))


def _failures_path(path: Path) -> Path:
    return path.with_suffix(".failures.json")


def _remove_others(family: str, path: Path) -> None:
    """Remove the stores that this one takes the place of."""
    for other in path.parent.glob(f"{family}*"):
        if other not in (path, _failures_path(path)):
            with suppress(OSError):  # still open somewhere, which only Windows minds
                other.unlink()
