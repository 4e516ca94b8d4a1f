"""Find files with the same bytes, reading as little of them as possible; groups of copies."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from utils.data.split import merge_groups

PROBE_BYTES = 4096  # from the middle of a file: they differ in nearly all files of one length
CHUNK = 256  # files that a thread takes at a time
THREADS = 8  # they mostly wait for the disk


class Copies(NamedTuple):
    """Photos that are copies of each other, by their positions."""

    groups: list[list[int]]  # of two or more, sorted
    # Photo → how far it is from the nearest other one of its group; 0: the same bytes.
    distances: dict[int, float]
    # Photos that are copies of others, one of each group left out:
    same: int  # by the same bytes
    near: int  # by near duplicates
    duplicates: list[list[int]]  # groups of the same bytes
    pairs: list[tuple[int, int, float]]  # near duplicates: two photos and their distance

    def among(self, kept: Sequence[int]) -> Copies:
        """Return the copies among some of the photos, by their positions among these."""
        new = {i: position for position, i in enumerate(kept)}
        groups = [[new[i] for i in group if i in new] for group in self.duplicates]
        pairs = [(new[a], new[b], gap) for a, b, gap in self.pairs if a in new and b in new]
        return merge_copies([group for group in groups if len(group) > 1], pairs)


def merge_copies(duplicates: list[list[int]], pairs: list[tuple[int, int, float]]) -> Copies:
    """Return the groups that duplicates and near duplicates make together.

    `pairs`: two photos and their distance.
    """
    groups = sorted(map(sorted, merge_groups([*duplicates, *(pair[:2] for pair in pairs)])))
    distances: dict[int, float] = {}
    for first, second, distance in pairs:
        for i in (first, second):
            distances[i] = min(distance, distances.get(i, distance))
    distances |= dict.fromkeys((i for group in duplicates for i in group), 0)
    count = sum(map(len, groups)) - len(groups)
    same_bytes = sum(map(len, duplicates)) - len(duplicates)
    return Copies(groups, distances, same_bytes, count - same_bytes, duplicates, pairs)


def find_duplicates(paths: list[Path]) -> list[list[int]]:
    """Return the positions in `paths` of files with equal bytes, as groups of two or more.

    Only files of equal length are opened, and of these only the ones with equal middles are read
    whole. Files that cannot be read have no duplicates.
    """
    groups = [list(range(len(paths)))]
    with ThreadPoolExecutor(THREADS) as executor:
        for key in (_length, _probe, _digest):
            groups = _subdivide(groups, paths, key, executor)
    return groups


def _subdivide(
    groups: Iterable[list[int]],
    paths: list[Path],
    key: Callable[[Path], Hashable],
    executor: Executor,
) -> list[list[int]]:
    """Divide each group into files of equal key, and drop files that are the only one of theirs."""
    members = [(number, i) for number, group in enumerate(groups) for i in group]
    chunks = [members[i : i + CHUNK] for i in range(0, len(members), CHUNK)]

    def keys_of(chunk: list[tuple[int, int]]) -> list[Hashable | None]:
        return [_key_or_none(key, paths[i]) for _, i in chunk]

    subgroups: dict[Hashable, list[int]] = defaultdict(list)
    for chunk, keys in zip(chunks, executor.map(keys_of, chunks), strict=True):
        for (number, i), value in zip(chunk, keys, strict=True):
            if value is not None:
                subgroups[number, value].append(i)
    return [group for group in subgroups.values() if len(group) > 1]


def _key_or_none(key: Callable[[Path], Hashable], path: Path) -> Hashable | None:
    try:
        return key(path)
    except OSError:
        return None


def _length(path: Path) -> int:
    return path.stat().st_size


def _probe(path: Path) -> bytes:
    """Return a digest of the middle of a file."""
    with path.open("rb", buffering=0) as file:
        file.seek(max(0, (os.fstat(file.fileno()).st_size - PROBE_BYTES) // 2))
        return hashlib.blake2b(file.read(PROBE_BYTES), digest_size=16).digest()


def _digest(path: Path) -> bytes:
    """Return a digest of a whole file."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.digest()
