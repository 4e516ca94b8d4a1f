"""Labelled images in folders: one folder per class, named like the class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from utils.emotions import UNKNOWN
from utils.errors import StageError
from utils.filenames import has_image_suffix, is_printable, nfc

SPLITS = ("train", "validation", "test")


class Sample(NamedTuple):
    """An image file and the index of its class."""

    path: Path
    label: int


def scan_class_folders(root: Path) -> dict[str, list[Path]]:
    """Return class name (NFC) → its image files, both sorted by name.

    Every folder in `root` that holds an image is a class, except UNKNOWN. The sorted order is the
    class order: for the seven emotions it is that of the reference implementation. Hidden files and
    folders are ignored. If a name exists in composed and decomposed form, the first one counts.

    Raise StageError if `root` is not a folder, or a class name holds a control character.
    """
    if not root.is_dir():
        raise StageError(
            f"{root}: no such folder; it should hold a folder of images for each class"
        )
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
            # Folders may exist in composed and decomposed form too: they are one class.
            for path in map(Path, paths):
                classes.setdefault(name, {}).setdefault(nfc(path.name), path)
    return {
        label: [path for _, path in sorted(images.items())]
        for label, images in sorted(classes.items())
    }


def make_samples(images: dict[str, list[Path]], classes: list[str]) -> list[Sample]:
    """Return the images as samples, labelled with the indices of their classes in `classes`."""
    index = {name: i for i, name in enumerate(classes)}
    return [Sample(path, index[name]) for name, paths in images.items() for path in paths]


def _is_image(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or not has_image_suffix(entry.name):
        return False
    try:
        return entry.is_file()
    except OSError:  # a symbolic link to itself
        return False
