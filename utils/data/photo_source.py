"""The photos of annotated rows: in the folder of the downloads, or anywhere in folders and ZIPs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from utils.data.annotations import Row, RowError, find_file
from utils.data.archives import ArchivedFile
from utils.data.downloads import Downloads
from utils.data.official import find_part
from utils.data.photo_index import AmbiguousNameError, Photo
from utils.emotions import posed_emotion


class PhotoSource:
    """Finds the photo of a row in one or several folders or archives."""

    def __init__(
        self, roots: Sequence[Path], output: Path, downloads: Downloads | None = None
    ) -> None:
        """`output`: a folder that is not searched. `downloads`: what lies in `roots`, if known.

        If it is not known, photos are looked for where downloadImage.py puts them, in the folder of
        the posed emotion, and all of `roots` is searched only when one is missing there.
        """
        self.roots = roots
        self._output = output
        self._known = downloads

    @property
    def are_optional(self) -> bool:
        """Whether most rows may lack their photo, as AI-Hub's do if one part of four is there."""
        return self._known is not None

    @property
    def problems(self) -> list[tuple[str, str]]:
        """The files that could not be read, with the reason, as far as they were searched."""
        searched = self._known or self.__dict__.get("_all")
        return searched.problems if searched else []

    @cached_property
    def _all(self) -> Downloads:
        return self._known or Downloads(self.roots, self._output, skip_emotions=True)

    def find(self, row: Row, name: str) -> Photo | None:
        """Return the photo of a row whose name in NFC is `name`, or None.

        Raise RowError if there are several that differ, or if the name should hold the posed
        emotion and does not.
        """
        if not self.are_optional:
            for root in self.roots:
                if found := find_file(root / row.posed_emotion(), name):
                    return found
        try:
            return self._all.photos.find(name)
        except AmbiguousNameError as error:
            raise RowError(str(error)) from None

    def find_used(self, name: str) -> Photo | None:
        """Return a photo of a row that needs it no more, if that costs no search of folders."""
        return self._known.photos.find_any(name) if self._known else None

    @property
    def without_row(self) -> int:
        """The number of photos in the downloads for which no row has asked."""
        return self._known.photos.unmet if self._known else 0

    def expected_path(self, name: str) -> Path:
        """Return where a photo that was not found would be looked for first."""
        return self.roots[0] / (posed_emotion(name) or "") / name


def part_of(photo: Photo | None) -> str:
    """Return AI-Hub's part by the names of a photo's archive or folders; empty if none says so."""
    path = Path(photo.files[0]) if isinstance(photo, ArchivedFile) else photo and photo.parent
    return find_part(reversed(path.parts)) or "" if path else ""
