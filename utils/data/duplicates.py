"""Files with the same bytes, found by reading as little of them as will do."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROBE_BYTES = (
    4096  # bytes from the middle of a file, which tell nearly all files of one length apart
)
CHUNK = 256  # files that a thread takes at a time
THREADS = 8  # they wait for the disk more than they compute


def find_duplicates(paths: list[Path]) -> list[list[int]]:
    """The places in `paths` of files with equal bytes, each group in order.

    Only files of one length are opened, and only those read whole whose middles are equal too.
    Files that cannot be read are equal to none.
    """
    with ThreadPoolExecutor(THREADS) as pool:

        def divided(
            groups: Iterable[list[int]], key: Callable[[Path], Hashable]
        ) -> list[list[int]]:
            """The groups, each divided into files of one key; those of a single file dropped."""
            members = [(n, i) for n, group in enumerate(groups) for i in group]
            chunks = [members[i : i + CHUNK] for i in range(0, len(members), CHUNK)]

            def keys(chunk: list[tuple[int, int]]) -> list[Hashable]:
                return [_or_none(key, paths[i]) for _, i in chunk]

            found: dict[Hashable, list[int]] = defaultdict(list)
            for chunk, answers in zip(chunks, pool.map(keys, chunks), strict=True):
                for (n, i), answer in zip(chunk, answers, strict=True):
                    if answer is not None:
                        found[n, answer].append(i)
            return [group for group in found.values() if len(group) > 1]

        same_length = divided([list(range(len(paths)))], lambda path: path.stat().st_size)
        alike = divided(same_length, _middle)
        return divided(alike, _digest)


def _or_none(key: Callable[[Path], Hashable], path: Path) -> Hashable | None:
    try:
        return key(path)
    except OSError:
        return None


def _middle(path: Path) -> bytes:
    """A few bytes that stand for the piece in the middle of a file."""
    with path.open("rb", buffering=0) as file:
        file.seek(max(0, (os.fstat(file.fileno()).st_size - PROBE_BYTES) // 2))
        return hashlib.blake2b(file.read(PROBE_BYTES), digest_size=16).digest()


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.digest()
