"""Which images a table means by a file's name or path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from utils.filenames import has_image_suffix, nfc


class NameIndex:
    """Finds images by the names or paths of a table, in any Unicode form."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """`paths`: the images."""
        self._paths = paths
        self._by_name: dict[str, list[int]] = {}
        for i, path in enumerate(paths):
            self._by_name.setdefault(nfc(path.name), []).append(i)
        self._by_stem: dict[str, list[int]] = {}  # made when it is needed

    def find(self, name: str) -> list[tuple[int, int]]:
        """Return position and certainty of each image that a row may mean.

        The certainty is 1, and 1 more for each folder before the name that agrees. Of several
        images of one name, only those in the folder that the table names count, if it names one. A
        name without the suffix of an image is that of a file without its suffix.
        """
        *folders, name = nfc(name.replace("\\", "/")).split("/")
        positions = self._by_name.get(name, [])
        if not positions and name and not has_image_suffix(name):
            positions = self._stems().get(name, [])
        if not folders:
            return [(i, 1) for i in positions]
        found = [(i, 1 + self._agreeing(i, folders)) for i in positions]
        most = max((certainty for _, certainty in found), default=0)
        return [pair for pair in found if pair[1] == most] if most > 1 or len(found) == 1 else []

    def _agreeing(self, i: int, folders: list[str]) -> int:
        """Return how many of the folders above an image agree, from the nearest on."""
        count = 0
        for folder, own in zip(reversed(folders), self._paths[i].parents, strict=False):
            if folder != nfc(own.name):
                break
            count += 1
        return count

    def _stems(self) -> dict[str, list[int]]:
        if not self._by_stem:
            for i, path in enumerate(self._paths):
                self._by_stem.setdefault(nfc(path.stem), []).append(i)
        return self._by_stem
