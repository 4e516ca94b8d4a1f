"""Labelled images as folders hold them: a folder for each class, its name the class's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from utils.emotions import UNKNOWN
from utils.errors import StageError
from utils.filenames import IMAGE_SUFFIXES, is_printable, nfc

SPLITS = ("train", "validation", "test")


class Sample(NamedTuple):
    """An image file and the index of its class."""

    path: Path
    label: int


def scan_class_folders(root: Path) -> dict[str, list[Path]]:
    """Class name (NFC) → its image files, both sorted by name, so that no listing order matters.

    Every folder in `root` that holds an image is a class, UNKNOWN excepted. The seven emotions thus
    have the seed's order, which is their sorted one. Hidden files and folders are left out, and of
    one name in both composed and decomposed form the first is taken.

    Raises StageError where `root` is no folder, or a class's name holds a control character.
    """
    if not root.is_dir():
        raise StageError(f"{root}: no such folder; it should hold a folder of images a class")
    classes: dict[str, dict[str, Path]] = {}
    with os.scandir(root) as folders:
        for folder in folders:
            name = nfc(folder.name)
            if not folder.is_dir() or name.startswith(".") or name == UNKNOWN:
                continue
            if not is_printable(name):
                raise StageError(f"{folder.path}: a name with a control character; rename it")
            with os.scandir(folder.path) as entries:
                paths = sorted(entry.path for entry in entries if _is_image(entry))
            # A class may be there twice too, its name composed and decomposed.
            for path in map(Path, paths):
                classes.setdefault(name, {}).setdefault(nfc(path.name), path)
    return {
        label: [path for _, path in sorted(images.items())]
        for label, images in sorted(classes.items())
    }


def make_samples(images: dict[str, list[Path]], classes: list[str]) -> list[Sample]:
    """The images as samples, each labelled with its class's index in `classes`."""
    index = {name: i for i, name in enumerate(classes)}
    return [Sample(path, index[name]) for name, paths in images.items() for path in paths]


def _is_image(entry: os.DirEntry) -> bool:
    name = entry.name.lower()
    if not name.endswith(IMAGE_SUFFIXES) or name.startswith("."):
        return False
    try:
        return entry.is_file()
    except OSError:  # a symbolic link to itself
        return False
