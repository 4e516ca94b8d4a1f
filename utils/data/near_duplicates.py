"""Find near duplicates: one picture saved again, resized, or compressed more.

A picture's thumbnail, THUMBNAIL x THUMBNAIL grey pixels, is its perceptual hash. Two pictures are
near duplicates if both of these hold:

- Their outlines (half of the thumbnail's resolution, at mean 0 and contrast 1) are no further
  apart than MAX_DISTANCE, the root mean square of the differences of their pixels.
- Their details (what the outline lacks) correlate by at least MIN_CORRELATION. That parts them from
  the next frame of a film, in which everything has moved a little.

Nearly equal outlines are found in a tree, not by comparing all pairs: see `_close_pairs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from utils.console import ProgressBar, note
from utils.data.decode import FEW, chunked, decode_chunks
from utils.errors import describe_os_error
from utils.imaging.image_io import open_image
from utils.imaging.preprocess import Preprocess
from utils.parallel import cores

THUMBNAIL = 24  # pixels
OUTLINE = THUMBNAIL // 2  # pixels
MAX_DISTANCE = 0.1  # of two outlines, as a share of their contrast
MIN_CORRELATION = 0.7  # of two pictures' details
MAX_DETAIL = 4  # grey levels: more is cut off, so that one sharp edge does not decide
MIN_CONTRAST = 4  # standard deviation in grey levels; a flatter picture is like any other
MIN_SIDE = 8  # pixels of a picture
DECODED_SIDE = 64  # pixels, twice of which are decoded at least: a coarser picture is shifted
AXES = 24  # directions along which the tree divides
LEAF = 512  # outlines that are compared each with each, not divided further
WORTHWHILE = 0.9  # a division that leaves no more than this of the comparisons
ROWS = 512  # outlines that are compared with all others of a part at a time
SAMPLE = 20_000  # outlines that tell the directions in which they differ most
BLOCK = 2048  # outlines, or pairs, that are in memory as numbers at a time

RECORD = np.dtype([("key", "<u8"), ("pixels", "u1", (THUMBNAIL, THUMBNAIL))])


class NearPair(NamedTuple):
    """Two near duplicates, by their positions, and the distance of their outlines."""

    first: int
    second: int
    distance: float


@dataclass(frozen=True)
class _Reader(Preprocess):
    """Reads a file as a thumbnail."""

    image_size: int = THUMBNAIL

    def open(self, source: Path | BinaryIO) -> Image.Image:
        image = open_image(source, DECODED_SIDE, self.image_channel)
        # A tiny picture has no details; a flat one is never a near duplicate.
        return image if min(image.size) >= MIN_SIDE else Image.new("L", image.size)


READER = _Reader()


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    """Return the thumbnail of a grey picture, uint8 (height, width)."""
    return READER(Image.fromarray(pixels))[0]


def read_thumbnails(paths: Sequence[Path], cache: ThumbnailCache | None = None) -> np.ndarray:
    """Return the thumbnail of each file, uint8 (n, THUMBNAIL, THUMBNAIL); 0 for unreadable files.

    They are decoded on all cores. Those in the cache are not decoded again, and the others are
    added to it as they are decoded.
    """
    keys = np.array([_key(path) for path in paths], dtype=np.uint64)
    thumbnails = np.zeros((len(paths), THUMBNAIL, THUMBNAIL), np.uint8)
    missing = cache.fill(keys, thumbnails) if cache else np.arange(len(paths))
    done = 0
    files = [paths[i] for i in missing.tolist()]
    with ProgressBar(len(files), "compare") as bar:
        for images, failures in decode_chunks(chunked(files), READER, len(files), cores()):
            count = len(images) + len(failures)
            readable = [done + i for i in range(count) if i not in failures]
            positions = missing[readable]
            thumbnails[positions] = images[:, 0]
            if cache:
                cache.add(keys[positions], images[:, 0])
            done += count
            bar.update(count)
    return thumbnails


def find_near_duplicates(thumbnails: np.ndarray) -> list[NearPair]:
    """Return pairs of near duplicates, the smaller position first, sorted.

    Of pictures with one thumbnail, only the first is paired with others.
    `thumbnails`: uint8 (n, THUMBNAIL, THUMBNAIL).
    """
    contrast = [_outlines(block).std(axis=1) for block in _blocks(thumbnails)]
    members = np.flatnonzero(np.concatenate([np.empty(0), *contrast]) >= MIN_CONTRAST)
    members, pairs = _drop_equal(thumbnails, members)
    if len(members) > 1:
        points = _project(thumbnails, members)
        for first, second in _close_pairs(points, MAX_DISTANCE):
            pairs += _verify(thumbnails, members[first], members[second])
    return sorted(set(pairs))


def _drop_equal(thumbnails: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, list[NearPair]]:
    """Return the first member of each thumbnail, and its pairs with the others of that thumbnail.

    Otherwise thousands of copies of one picture would be millions of pairs.
    """
    firsts: dict[bytes, int] = {}
    pairs = []
    for i in members.tolist():
        first = firsts.setdefault(hashlib.blake2b(thumbnails[i], digest_size=16).digest(), i)
        if first != i:
            pairs.append(NearPair(first, i, 0.0))
    return np.fromiter(firsts.values(), dtype=np.intp), pairs


class ThumbnailCache:
    """A file of thumbnails that only grows, so that a killed run loses none.

    A picture is known by its name, size and time of change. A record that was cut off is dropped.
    Use it in one process at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._is_writable = True

    def fill(self, keys: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
        """Set the thumbnails of known keys. Return the positions of the other keys."""
        records = self._read()
        order = np.argsort(records["key"], kind="stable")
        known = records["key"][order]
        places = np.searchsorted(known, keys)
        found = places < len(known)
        found[found] = known[places[found]] == keys[found]
        for block in np.array_split(np.flatnonzero(found), max(1, len(keys) // BLOCK)):
            thumbnails[block] = records["pixels"][order[places[block]]]
        if len(known) > 2 * len(keys):  # most are of pictures that are gone
            del records  # Windows removes no file that is mapped
            with suppress(OSError):
                self._path.unlink()
        return np.flatnonzero(~found)

    def add(self, keys: np.ndarray, thumbnails: np.ndarray) -> None:
        """Append thumbnails to the file. If that fails, say so and keep no more of them."""
        records = np.empty(len(keys), RECORD)
        records["key"], records["pixels"] = keys, thumbnails
        if not self._is_writable:
            return
        try:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            self._file.write(records.tobytes())
        except OSError as error:
            self._is_writable = False
            note(f"thumbnails are not kept for the next run ({describe_os_error(error)})")

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def _read(self) -> np.ndarray:
        """Map the records of the file. Cut off an incomplete one at its end."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size % RECORD.itemsize:
            with self._path.open("r+b") as file:
                file.truncate(size - size % RECORD.itemsize)
        if size < RECORD.itemsize:
            return np.empty(0, RECORD)
        return np.memmap(self._path, RECORD, "r")


def is_worth_a_cache(count: int) -> bool:
    """Return whether so many pictures take longer to decode than a cache of them is worth."""
    return count > FEW


def _key(path: Path) -> int:
    """Return a number that changes when the file does; 0 if it is gone."""
    try:
        state = path.stat()
    except OSError:
        return 0
    text = f"{path.parent.name}/{path.name}\0{state.st_size}\0{state.st_mtime_ns}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    return (array[i : i + BLOCK] for i in range(0, len(array), BLOCK))


def _outlines(thumbnails: np.ndarray) -> np.ndarray:
    """Return the outlines in grey levels, float32 (n, OUTLINE²)."""
    rows = thumbnails[:, ::2].astype(np.uint16) + thumbnails[:, 1::2]
    sums = rows[:, :, ::2] + rows[:, :, 1::2]
    return sums.reshape(len(thumbnails), -1) / np.float32(4)


def _normalized(thumbnails: np.ndarray) -> np.ndarray:
    """Return the outlines with mean 0 and length 1: a length is a share of the contrast."""
    outlines = _outlines(thumbnails)
    outlines -= outlines.mean(axis=1, keepdims=True)
    return outlines / np.linalg.norm(outlines, axis=1, keepdims=True)


def _project(thumbnails: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the outlines along the AXES directions in which they differ most, float32 (n, AXES).

    No two of them are further apart than the outlines themselves.
    """
    step = max(1, len(members) // SAMPLE)
    sample = _normalized(thumbnails[members[::step]])
    _, vectors = np.linalg.eigh(np.cov(sample, rowvar=False))  # the greatest variance comes last
    axes = vectors[:, -AXES:].astype(np.float32)
    return np.concatenate([_normalized(thumbnails[block]) @ axes for block in _blocks(members)])


def _close_pairs(points: np.ndarray, radius: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield arrays of pairs of positions that hold all pairs of points within the radius.

    A pair may come twice. The points are divided at the median of the direction in which they
    differ most, again and again. Points within the radius of the border go to both halves, so that
    no pair is lost. A part that is small, or that is hardly worth dividing, is compared each with
    each.
    """
    radius *= 1.001  # for rounding
    parts = [np.arange(len(points))]
    while parts:
        part = parts.pop()
        halves = _divide(points, part, radius) if len(part) > LEAF else [part]
        if sum(len(half) ** 2 for half in halves) < WORTHWHILE * len(part) ** 2:
            parts += halves
        else:
            yield from _compare_all(points, part, radius)


def _divide(points: np.ndarray, part: np.ndarray, radius: float) -> list[np.ndarray]:
    """Return the two halves of a part, which overlap by the radius."""
    values = points[part]
    column = values[:, np.ptp(values[:SAMPLE], axis=0).argmax()]
    border = np.median(column)
    return [part[column <= border + radius], part[column > border]]


def _compare_all(
    points: np.ndarray, part: np.ndarray, radius: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of a part within the radius, comparing each point with each."""
    values = points[part]
    halves = (values**2).sum(axis=1) / 2
    for start in range(0, len(part), ROWS):
        rows = slice(start, start + ROWS)
        # |a - b|² / 2 = |a|² / 2 + |b|² / 2 - ab
        closeness = values[rows] @ values[start:].T
        closeness -= halves[rows, None]
        first, second = np.nonzero(closeness >= halves[start:] - radius**2 / 2)
        is_new = first < second
        yield part[start + first[is_new]], part[start + second[is_new]]


def _verify(thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray) -> Iterator[NearPair]:
    """Yield those of the pairs that are near duplicates."""
    first, second = np.minimum(first, second), np.maximum(first, second)
    for start in range(0, len(first), BLOCK):
        one, other = first[start : start + BLOCK], second[start : start + BLOCK]
        outlines = _normalized(thumbnails[one]) - _normalized(thumbnails[other])
        distance = np.linalg.norm(outlines, axis=1)
        details = _details(thumbnails[one]), _details(thumbnails[other])
        near = (distance <= MAX_DISTANCE) & (_correlation(*details) >= MIN_CORRELATION)
        columns = (one[near], other[near], distance[near])
        for a, b, c in zip(*(column.tolist() for column in columns), strict=True):
            yield NearPair(a, b, c)


def _details(thumbnails: np.ndarray) -> np.ndarray:
    """Return what the outlines lack, in grey levels, at most MAX_DETAIL."""
    outlines = _outlines(thumbnails).reshape(-1, OUTLINE, 1, OUTLINE, 1)
    details = thumbnails.reshape(-1, OUTLINE, 2, OUTLINE, 2) - outlines
    return details.clip(-MAX_DETAIL, MAX_DETAIL).reshape(len(thumbnails), -1)


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation of each row with the same row; 1 where neither has details."""
    squares = (one**2).sum(axis=1) * (other**2).sum(axis=1)
    product = (one * other).sum(axis=1)
    both_flat = (one**2).sum(axis=1) + (other**2).sum(axis=1) == 0
    return np.where(both_flat, 1, product / np.sqrt(np.maximum(squares, 1e-9)))
