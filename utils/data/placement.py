"""The folders of the sets: put photos into them, and take those of an earlier split out.

`split.tsv` lists what this program put there. Only files that it lists are ever removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from utils.console import ProgressBar
from utils.data.image_folder import SPLITS, scan_class_folders
from utils.data.split import SplitItem
from utils.errors import StageError, describe_os_error, is_fatal_os_error
from utils.filenames import is_stored
from utils.files import atomic_file, make_folder, remove_stale_temp_files, write_tsv

MANIFEST, COPIES = "split.tsv", "copies.tsv"  # in the output folder
WAS = "was"  # the column of MANIFEST with the class in the input, for photos that were relabelled

Failures = list[tuple[Path, str]]  # files with reasons


class Target(NamedTuple):
    """Where a photo goes below the output folder, as in `train/기쁨/x.jpg`."""

    split: str
    label: str
    name: str


def target_of(photo: SplitItem) -> Target:
    """Return where a photo goes."""
    return Target(photo.split, photo.label, photo.name)


class PlacedFiles:
    """The images in the sets of an output folder, and which of them an earlier run put there."""

    def __init__(self, output: Path) -> None:
        """Raise StageError if the sets hold other images, or the manifest is of another program."""
        self._output = output
        self._stored: dict[Target, Path] = {}
        for split in SPLITS:
            if (output / split).is_dir():
                images = scan_class_folders(output / split)
                for label, paths in images.items():
                    remove_stale_temp_files(output / split / label)
                    # A photo in a subfolder has a name that no target has.
                    self._stored |= {
                        Target(split, label, images.name_of(path)): path for path in paths
                    }
        self._listed = read_manifest(output)
        if foreign := self._stored.keys() - self._listed:
            raise StageError(
                f"{self._stored[min(foreign)]} and {len(foreign) - 1} more were not put there by "
                f"this script and would be mixed into the split: name another --output, or move "
                f"them away"
            )

    def remove_stale(self, photos: Sequence[SplitItem]) -> int:
        """Remove the photos of an earlier split that are no longer at their target. Count them.

        This comes before any photo is placed, so that none is in two splits at any moment.
        """
        wanted = {target_of(photo) for photo in photos}
        removed = 0
        for target in self._listed:
            path = self._output.joinpath(*target)
            stored_path = self._stored.get(target, path)  # a Mac may have decomposed the name
            if target not in wanted or stored_path != path:
                for each in {path, stored_path}:
                    if is_stored(each):
                        each.unlink()
                        removed += 1
        return removed


def make_class_folders(photos: Sequence[SplitItem], output: Path) -> None:
    """Make the folders of all sets and classes."""
    for split, label in sorted({(photo.split, photo.label) for photo in photos}):
        make_folder(output / split / label)


def place_files(photos: Sequence[SplitItem], output: Path, mode: str) -> Failures:
    """Put every photo into its split, unless it is there already. Return what failed.

    `mode`: one of MODES.
    """
    make_class_folders(photos, output)
    failures = []
    with ProgressBar(len(photos), "split") as bar:
        for photo in photos:
            try:
                MODES[mode](photo.path, output.joinpath(*target_of(photo)))
            except OSError as error:
                if is_fatal_os_error(error):
                    raise
                failures.append((photo.path, describe_os_error(error)))
                bar.fail(photo.path, describe_os_error(error))
            bar.update()
    return failures


def place_hardlink(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if the file systems do not allow one."""
    try:
        # Linux would link a symbolic link itself, which leads nowhere from another folder.
        target.hardlink_to(source.resolve() if source.is_symlink() else source)
    except FileExistsError:
        existing = target.lstat()
        if not (os.path.samestat(source.stat(), existing) or is_copy(source, existing)):
            target.unlink()  # of an earlier version of the source, or a symbolic link
            place_hardlink(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        place_copy(source, target)


def place_copy(source: Path, target: Path) -> None:
    """Make `target` an independent copy of `source`, with its time."""
    with suppress(FileNotFoundError):
        if is_copy(source, target.lstat()):
            return
    with source.open("rb") as original, atomic_file(target) as file:
        shutil.copyfileobj(original, file)
        file.flush()
        shutil.copystat(source, file.name)


def place_symlink(source: Path, target: Path) -> None:
    """Make `target` a relative symbolic link to `source`, so that both can move together."""
    path = os.path.relpath(source.resolve(), target.parent.resolve())
    if target.is_symlink() and os.fspath(target.readlink()) == path:
        return
    target.unlink(missing_ok=True)
    target.symlink_to(path)


MODES: dict[str, Callable[[Path, Path], None]] = {
    "link": place_hardlink,
    "copy": place_copy,
    "symlink": place_symlink,
}


def is_copy(source: Path, existing: os.stat_result) -> bool:
    """Return whether the existing file is another one with the size and time of the source."""
    state = source.stat()
    same_stamp = (state.st_mode, state.st_size, state.st_mtime_ns) == (
        existing.st_mode,
        existing.st_size,
        existing.st_mtime_ns,
    )
    return same_stamp and not os.path.samestat(state, existing)


def read_manifest(output: Path) -> set[Target]:
    """Return the targets that an earlier run filled.

    Raise StageError if the manifest was not written by this script: its files are removed.
    """
    path = output / MANIFEST
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")[:-1]
    try:
        columns = [lines[0].split("\t").index(column) for column in ("set", "class", "file")]
        rows = [line.split("\t") for line in lines[1:]]
        targets = {Target(*(row[column] for column in columns)) for row in rows}
    except (IndexError, ValueError):
        targets = {Target("", "", "")}
    if not all(is_safe(target) for target in targets):
        raise StageError(f"{path} is not a list that this script wrote: move it away")
    return targets


def is_safe(target: Target) -> bool:
    """Return whether the target lies in a class folder of a split, and nowhere else."""
    names = (target.label, target.name)
    return target.split in SPLITS and all(
        name not in ("", ".", "..") and not set(name) & {"/", os.sep, "\0"} for name in names
    )


def write_manifest(
    photos: Sequence[SplitItem], output: Path, with_subjects: bool, is_relabelled: bool = False
) -> None:
    """List the split of every photo. `with_subjects`: the names begin with a person.

    `is_relabelled`: decisions were applied; a last column has the class that a photo had before.
    """
    rows = sorted(
        (photo.name, photo.label, (with_subjects and photo.subject) or "", photo.split)
        + (photo.was,) * is_relabelled
        for photo in photos
    )
    header = ("file", "class", "subject", "set") + (WAS,) * is_relabelled
    write_tsv(output / MANIFEST, [header, *rows])


def is_relabelled(output: Path) -> bool:
    """Return whether decisions about labels were applied when the manifest was written."""
    path = output / MANIFEST
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        return WAS in file.readline().rstrip("\n").split("\t")
