"""A set of labelled images at the network's input size, decoded once into a cache on disk.

The cache is a `.npy` file of all readable images, uint8 (N, C, S, S), which is mapped into memory:
a set of any size is available at once, to all processes. It is named by a hash of its inputs, so
that any change of a file, of its time or of the size makes a new cache.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from utils.console import note
from utils.data.decode import Failures, decode_all, decode_chunks, decode_to_memory
from utils.data.image_folder import Sample
from utils.errors import StageError, describe_os_error
from utils.files import atomic_file, file_lock, make_folder
from utils.imaging.image_io import ImageError
from utils.imaging.preprocess import Preprocess
from utils.parallel import cores

VERSION = 1  # of decoding: raise it if a change there makes existing caches wrong
MAX_DISK = 0.95  # of the free disk space may be used for a cache
MAX_GPU_MEMORY = 0.5  # of the GPU's free memory may be used for a set

# A cache of version 0.1.0: the bare pixels, without a header.
_OLD_CACHE = re.compile(r".+-\d+x[13]-[0-9a-f]{8}-[0-9a-f]{16}\.uint8")


@dataclass(frozen=True)
class Dataset:
    """Readable images with their labels, and the files that could not be read."""

    samples: list[Sample]
    failures: list[tuple[Path, str]]
    preprocess: Preprocess
    # uint8 (N, C, S, S), in memory, mapped from the cache or on a GPU. None: there was no room, and
    # images are decoded on the fly.
    images: torch.Tensor | None
    fingerprint: str  # of the files and of the way they are decoded

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> torch.Tensor:
        """The class indices, int64 (N,)."""
        return torch.tensor([sample.label for sample in self.samples], dtype=torch.int64)

    @property
    def is_enlarged(self) -> bool:
        """Whether images are kept smaller than `preprocess` has them, see `EnlargedDataset`."""
        return False

    @property
    def device(self) -> torch.device:
        """Where the images are, and where the indices of a batch should be."""
        return torch.device("cpu") if self.images is None else self.images.device

    def batches(
        self, indices: Iterable[torch.Tensor], device: torch.device
    ) -> Iterator[torch.Tensor]:
        """Yield for each tensor of indices those images, uint8 (n, C, S, S), on the device.

        The indices are int64 (n,), on `self.device`. Raise StageError if an image can no longer be
        read.
        """
        if self.images is None:
            yield from _upload(self._decode(indices), device)
        elif device.type == "cuda" and self.images.device.type == "cpu":
            yield from upload_rows(self.images, indices, device)
        else:
            for index in indices:
                yield self.images.index_select(0, index)

    def in_order(
        self, first: int, end: int, batch_size: int, device: torch.device
    ) -> Iterator[torch.Tensor]:
        """Yield the images from `first` to before `end`, in batches, on the device.

        Where they are in memory, a batch is a view: not to be changed.
        """
        if self.images is None:
            yield from self.batches(torch.arange(first, end).split(batch_size), device)
        else:
            yield from _upload(iter(self.images[first:end].split(batch_size)), device)

    def _decode(self, indices: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        submitted: deque[list[Path]] = deque()

        def chunks() -> Iterator[list[Path]]:
            for index in indices:
                submitted.append([self.samples[i].path for i in index.tolist()])
                yield submitted[-1]

        for images, failures in decode_chunks(chunks(), self.preprocess, len(self), cores()):
            paths = submitted.popleft()
            for i, reason in failures.items():
                raise StageError(f"{paths[i]} can no longer be read: {reason}")
            yield torch.from_numpy(images)

    def to_device(self, device: torch.device) -> Dataset:
        """Return the set with its images in the GPU's memory, if `device` is one and they fit."""
        if device.type != "cuda" or self.images is None:
            return self
        if self.images.nbytes > MAX_GPU_MEMORY * torch.cuda.mem_get_info(device)[0]:
            return self
        return replace(self, images=self.images.to(device))


def _upload(batches: Iterator[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
    """Yield the batches on the device."""
    for images in batches:
        if device.type == "cuda" and images.device.type == "cpu":
            # Nobody waits for a copy from pinned memory; torch keeps that memory until its end.
            images = images.pin_memory().to(device, non_blocking=True)
        yield images


def upload_rows(
    images: torch.Tensor, indices: Iterable[torch.Tensor], device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield for each tensor of indices those images on a GPU, through pinned memory that is kept.

    There are two buffers: while the GPU reads one, the next batch is gathered in the other.
    """
    buffers = [torch.empty(0, dtype=images.dtype)] * 2
    copied = [torch.cuda.Event(), torch.cuda.Event()]
    for number, index in enumerate(indices):
        turn = number % 2
        copied[turn].synchronize()  # an event that was never recorded does not wait
        if len(buffers[turn]) < len(index):
            buffers[turn] = torch.empty(len(index), *images.shape[1:], dtype=images.dtype)
            buffers[turn] = buffers[turn].pin_memory()
        rows = torch.index_select(images, 0, index, out=buffers[turn][: len(index)])
        batch = rows.to(device, non_blocking=True)
        copied[turn].record()
        yield batch


def load_dataset(
    samples: list[Sample], preprocess: Preprocess, name: str, folder: Path | None
) -> Dataset:
    """Return the set of these samples, from its cache in the folder. Build the cache if needed.

    Without a folder, decode the images into memory. If the folder has no room or cannot be written,
    print a note and decode images on the fly. List unreadable images in `failures`, and leave them
    out. `name` is that of the progress bar and of the cache's file.
    """
    key = fingerprint(samples, preprocess)
    if folder is None:
        pixels, failures = decode_to_memory(samples, preprocess, name)
        images = torch.from_numpy(pixels)
        return _make_dataset(samples, failures, preprocess, images, key)
    size = f"{preprocess.image_size}x{preprocess.image_channel}"
    family = f"{name}-{size}-{_location_hash(samples, folder)}-"
    path = folder / f"{family}{key}.npy"
    try:
        make_folder(folder)
        with file_lock(folder / ".lock", "another run decodes these images: waiting for it"):
            if not path.exists() or _has_recovered(path, samples, preprocess):
                _remove_old_caches(folder)
                _build_cache(path, samples, preprocess, name)
                _remove_outdated(family, path)
        images, failures = _open_cache(path)
        return _make_dataset(samples, failures, preprocess, images, key)
    except (OSError, ValueError) as error:
        reason = f"{path} is broken: delete it"
        if isinstance(error, OSError):
            reason = describe_os_error(error)
        note(f"no cache of decoded images ({reason}): they are decoded on the fly, which is slow")
        failures = decode_all(samples, preprocess, f"check {name}", lambda images: None)
        return _make_dataset(samples, failures, preprocess, None, key)


def fingerprint(samples: list[Sample], preprocess: Preprocess) -> str:
    """Return a hash of what a cache depends on: names, sizes and times of files, and decoding."""
    digest = hashlib.sha256(json.dumps([VERSION, preprocess.to_dict()]).encode())
    for path, _ in samples:
        with suppress(OSError):  # a file that was removed meanwhile fails when it is decoded
            state = path.stat()
            name = "/".join(path.parts[-2:])  # no more, because the data may be moved as a whole
            line = f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _make_dataset(
    samples: list[Sample],
    failures: Failures,
    preprocess: Preprocess,
    images: torch.Tensor | None,
    key: str,
) -> Dataset:
    readable = [sample for i, sample in enumerate(samples) if i not in failures]
    unreadable = [(samples[i].path, reason) for i, reason in failures.items()]
    return Dataset(readable, unreadable, preprocess, images, key)


def _build_cache(path: Path, samples: list[Sample], preprocess: Preprocess, name: str) -> None:
    """Decode the samples into the cache. Raise OSError if there is no room for it."""
    # Otherwise a kill could leave the old cache beside the new list of failures.
    path.unlink(missing_ok=True)
    needed = len(samples) * int(np.prod(preprocess.shape))
    free = shutil.disk_usage(path.parent).free
    if needed > MAX_DISK * free:
        reason = f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise OSError(errno.ENOSPC, reason, str(path.parent))
    with atomic_file(path) as file:
        _write_header(file, len(samples), preprocess)
        failures = decode_all(
            samples, preprocess, name, lambda images: file.write(images.tobytes())
        )
        # Only now it is known how many images can be read.
        _write_header(file, len(samples) - len(failures), preprocess)
        # The list of failures is complete before the cache gets its name: one implies the other.
        with atomic_file(_failures_path(path)) as failures_file:
            failures_file.write(json.dumps(failures, ensure_ascii=False).encode())


def _write_header(file: BinaryIO, count: int, preprocess: Preprocess) -> None:
    """Write the header of a `.npy` file of `count` images at the file's start.

    NumPy pads it for a first axis that grows, so that its length does not depend on `count`.
    """
    header = io.BytesIO()
    shape = (count, *preprocess.shape)
    content = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, content)
    file.seek(0)
    file.write(header.getvalue())


def _open_cache(path: Path) -> tuple[torch.Tensor, Failures]:
    """Map the images into memory. Raise OSError or ValueError if the cache cannot be read."""
    failures = {int(i): why for i, why in json.loads(_failures_path(path).read_bytes()).items()}
    # Copy-on-write, because torch requires memory that could be written. The file never changes.
    return torch.from_numpy(np.load(path, mmap_mode="c")), failures


def _has_recovered(path: Path, samples: list[Sample], preprocess: Preprocess) -> bool:
    """Return whether an image that was unreadable when the cache was built can be read now.

    The file may be the same: perhaps its disk was not mounted.
    """
    for i in json.loads(_failures_path(path).read_bytes()):
        with suppress(ImageError):
            preprocess.read(samples[int(i)].path)
            return True
    return False


def _location_hash(samples: list[Sample], folder: Path) -> str:
    """Return a hash of the path from the cache's folder to the data.

    Several datasets may share a folder. The path stays the same if both are moved together.
    """
    root = samples[0].path.parents[1] if samples else folder
    try:
        path = os.path.relpath(root, folder)
    except ValueError:  # on another drive of Windows
        path = str(root.absolute())
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]


def _failures_path(path: Path) -> Path:
    return path.with_suffix(".failures.json")


def _remove_old_caches(folder: Path) -> None:
    """Remove the caches of version 0.1.0, which are no `.npy` files."""
    old_caches = [path for path in folder.glob("*.uint8") if _OLD_CACHE.fullmatch(path.name)]
    if old_caches:
        note("the cache of decoded images has a new format: it is rebuilt")
    for path in old_caches:
        _try_remove(path)


def _remove_outdated(family: str, path: Path) -> None:
    """Remove the caches that this one replaces."""
    for other in path.parent.glob(f"{family}*"):
        if other not in (path, _failures_path(path)):
            _try_remove(other)


def _try_remove(path: Path) -> None:
    with suppress(OSError):  # another process may have it open, which Windows does not allow
        path.unlink()
