"""The faces below a folder, as photos that can be split and placed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from utils.data.duplicates import find_duplicates
from utils.data.layouts import read_layout
from utils.data.near_duplicates import ThumbnailCache, is_worth_a_cache, read_thumbnails
from utils.data.placement import Failures, place_files
from utils.data.split import SplitItem
from utils.errors import StageError
from utils.filenames import SAME_BUT_FOR_CASE, is_printable

CACHE = ".thumbnails"  # in the output folder; hidden, so that nobody takes it for a set


class FolderFaces:
    """Photos in folders of any layout, see `read_layout`."""

    def __init__(
        self,
        root: Path,
        names: Sequence[str] | None,
        ignores_case: Callable[[], bool],
        mode: str = "link",
        with_unknown: bool = False,
    ) -> None:
        """List the photos. `names`: of numbered classes. `mode`: how they are placed.
        `with_unknown`: UNKNOWN is a class.

        Raise StageError if there are none, or a file's name cannot be used.
        """
        layout = read_layout(root, names, ignores_case, with_unknown)
        self.photos: list[SplitItem] = layout.photos
        self.failures: Failures = layout.failures
        self.lines: list[str] = layout.lines
        self._mode = mode
        _check_case({photo.label for photo in self.photos}, ignores_case)
        for photo in self.photos:
            if not is_printable(str(photo.path)):
                raise StageError(
                    f"{photo.path}: a name with a tab, line break or control character; rename it"
                )

    def duplicates(self) -> list[list[int]]:
        """Return the positions of photos with the same bytes, as groups of two or more."""
        return find_duplicates([photo.path for photo in self.photos])

    def thumbnails(self, positions: Sequence[int], output: Path) -> np.ndarray:
        """Return the thumbnails of photos by their positions.

        Those of many photos are kept in the output folder: another run does not decode them again.
        """
        paths = [self.photos[i].path for i in positions]
        if not is_worth_a_cache(len(paths)):
            return read_thumbnails(paths)
        cache = ThumbnailCache(output / CACHE)
        try:
            return read_thumbnails(paths, cache)
        finally:
            cache.close()

    def place(self, output: Path) -> Failures:
        """Put every photo into its split, unless it is there. Return what failed."""
        return place_files(self.photos, output, self._mode)


def _check_case(classes: set[str], ignores_case: Callable[[], bool]) -> None:
    """Raise StageError if the disk of the output takes two classes for one."""
    known: dict[str, str] = {}
    for name in sorted(classes):
        other = known.setdefault(name.casefold(), name)
        if other != name and ignores_case():
            raise StageError(
                f"the class {other} and the class {name}: the name {SAME_BUT_FOR_CASE}"
            )
