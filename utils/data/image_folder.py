"""Labelled images in folders: one folder per class, named like the class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from utils.class_names import describe_other_names, match_classes, name_numbers
from utils.console import note
from utils.emotions import UNKNOWN
from utils.errors import StageError
from utils.filenames import has_image_suffix, is_printable, nfc
from utils.imaging.image_files import LeftOut, find_images

SPLITS = ("train", "validation", "test")
_NO_CLASS = "in no class folder"
_TWO_FORMS = "whose name another file has in another Unicode form"


class Sample(NamedTuple):
    """An image file and the index of its class."""

    path: Path
    label: int


class ClassFolders(dict[str, list[Path]]):
    """Class name (NFC) → its image files, both sorted, and what was left out."""

    def __init__(self, root: Path) -> None:
        """Start without a class."""
        super().__init__()
        self.root = root
        self.nested: dict[Path, str] = {}  # image in a subfolder → its path in the class, with /
        self.left_out = LeftOut()
        self.lost: dict[str, LeftOut] = {}  # folder without an image → what it holds instead
        self.has_unknown = False  # whether UNKNOWN holds anything

    def name_of(self, path: Path) -> str:
        """Return an image's path in its class folder, in NFC and with slashes."""
        return (self.nested.get(path) if self.nested else None) or nfc(path.name)

    def add_unknown(self) -> None:
        """Add the images of UNKNOWN, as if it were a class."""
        folder = self.root / UNKNOWN
        members: dict[str, Path] = {}
        if self.has_unknown:
            self.left_out.update(_add_images(members, self.nested, folder))
            self.has_unknown = False
        if members:
            self[UNKNOWN] = [path for _, path in sorted(members.items())]

    def rename_to(self, known: list[str], owner: str, numbered: Sequence[str] = ()) -> None:
        """Give each class the name in `known` that means the same, and say which in a line.

        `owner` has the classes in `known`, such as "the model". `numbered`: what 0, 1, 2 … mean as
        names. Raise StageError if two folders are one class.
        """
        folders = list(self)
        meant, known_meant = folders, known
        if numbered:
            meant = name_numbers(folders, numbered, self.root)
            known_meant = name_numbers(known, numbered, owner)
        name_of = dict(zip(known_meant, known, strict=True))
        matched = {
            name: name_of[k] for name, k in match_classes(meant, known_meant, self.root).items()
        }
        renamed = {f: matched.get(name, f) for f, name in zip(folders, meant, strict=True)}
        if pairs := describe_other_names(renamed):
            note(f"{self.root} has {owner}'s classes by other names: {pairs}")
        images = [(renamed[folder], paths) for folder, paths in self.items()]
        self.clear()
        self.update(images)

    def report(self) -> None:
        """Print what was left out, if anything was, and the folders that are no class for it."""
        if self.has_unknown:
            note(f"{self.root / UNKNOWN} is left out: its photos have no class")
        if self.left_out:
            note(f"{self.root}: {self.left_out}")
        for name, left_out in self.lost.items():
            note(f"{self.root / name} is no class, because it has no readable image: {left_out}")

    def seen(self) -> str:
        """Return what was left out as the end of a message that there is no class."""
        return f": {self.left_out}" if self.left_out else ""


def scan_class_folders(root: Path) -> ClassFolders:
    """Return class name (NFC) → its image files, both sorted by name.

    Every folder in `root` that holds an image, in itself or in a subfolder, is a class, except
    UNKNOWN. The sorted order is the class order: for the seven emotions it is that of the reference
    implementation. Hidden files and folders are ignored. If a name exists in composed and
    decomposed form, the first one counts.

    Raise StageError if `root` is not a folder, or a class name holds a control character.
    """
    if not root.is_dir():
        raise StageError(
            f"{root}: no such folder; it should hold a folder of images for each class"
        )
    folders = ClassFolders(root)
    classes: dict[str, dict[str, Path]] = {}
    for name, path in _class_folders(folders):
        # Folders may exist in composed and decomposed form too: they are one class.
        members = classes.setdefault(name, {})
        left_out = _add_images(members, folders.nested, path)
        folders.left_out.update(left_out)
        if left_out and not members:
            folders.lost[name] = left_out
    for name, members in sorted(classes.items()):
        if members:
            folders[name] = [path for _, path in sorted(members.items())]
    return folders


def _class_folders(folders: ClassFolders) -> Iterator[tuple[str, Path]]:
    """Yield name and path of each folder that may be a class, and count images beside them."""
    with os.scandir(folders.root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = nfc(entry.name)
            if name.startswith("."):
                continue
            if not _is_folder(entry):
                if has_image_suffix(name):
                    folders.left_out[_NO_CLASS] += 1
                continue
            if name == UNKNOWN:
                with os.scandir(entry.path) as content:
                    folders.has_unknown = any(content)
                continue
            if not is_printable(name):
                raise StageError(f"{entry.path}: a name with a control character; rename it")
            yield name, Path(entry.path)


def _add_images(members: dict[str, Path], nested: dict[Path, str], folder: Path) -> LeftOut:
    """Add the images of a folder by their names in it, in NFC. Return what was left out."""
    paths, left_out = find_images(folder)
    start, separator = len(str(folder)) + 1, os.sep
    for path in paths:
        relative = nfc(path[start:])
        if relative in members:
            left_out[_TWO_FORMS] += 1
            continue
        members[relative] = Path(path)
        if separator in relative:
            nested[members[relative]] = relative.replace(separator, "/")
    return left_out


def make_samples(images: dict[str, list[Path]], classes: list[str]) -> list[Sample]:
    """Return the images as samples, labelled with the indices of their classes in `classes`."""
    index = {name: i for i, name in enumerate(classes)}
    return [Sample(path, index[name]) for name, paths in images.items() for path in paths]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False
