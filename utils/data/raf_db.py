"""RAF-DB's list of labels, `list_patition_label.txt` (its own spelling), beside its images.

A line is `train_00001.jpg 5`: an image, whose name begins with its set, and a number from 1. The
image is the aligned one, `train_00001_aligned.jpg`, if it is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.data.split import SplitItem
from utils.emotions import UNKNOWN
from utils.errors import StageError, describe_os_error
from utils.filenames import has_image_suffix, nfc
from utils.imaging.image_files import walk_files

LISTS = ("list_patition_label.txt", "list_partition_label.txt")
LABEL_FOLDER = "EmoLabel"
CLASSES = ("놀람", "공포", "혐오", "기쁨", "슬픔", "분노", "중립")  # of the numbers 1 to 7
COMPOUND = 11  # classes in the list of compound emotions
_LINE = re.compile(r"(\S.*?)\s+(\d{1,4})")
_ALIGNED = "_aligned"


class Listed(NamedTuple):
    """The images of a list, what to say about them, and the lines that failed."""

    photos: list[SplitItem]  # sorted by class and name; the part is train or test
    line: str
    failures: list[tuple[Path, str]]


def find_list(root: Path) -> Path | None:
    """Return the list in a folder or in one right below it; None without one.

    Raise StageError if there are several, as those of basic and compound emotions.
    """
    if root.name in LISTS and root.is_file():
        return root
    if not root.is_dir():
        return None
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    places = [*folders, *(folder / LABEL_FOLDER for folder in folders)]
    found = {place / name for place in places for name in LISTS if (place / name).is_file()}
    if len(found) > 1:
        paths = " and ".join(str(path) for path in sorted(found))
        raise StageError(f"{paths}: name one of these lists with --input")
    return found.pop() if found else None


def read_list(path: Path, names: Sequence[str] | None = None) -> Listed:
    """Return the images of a list with their labels and sets.

    `names`: of the classes, from 1 on, instead of RAF-DB's seven. Raise StageError if the list has
    other classes than names, or none of its images is there.
    """
    lines = _read_lines(path)
    classes = tuple(names or CLASSES)
    highest = max((int(match[2]) for match in lines.values() if match), default=0)
    if not names and highest == COMPOUND:
        raise StageError(
            f"{path} has {highest} classes, as RAF-DB's compound emotions: name them with --classes"
        )
    root = path.parent.parent if path.parent.name == LABEL_FOLDER else path.parent
    images = _find_images(root)
    photos: dict[str, SplitItem] = {}
    failures = []
    for number, match in lines.items():
        try:
            photo = _make_photo(match, classes, images)
            if photos.setdefault(photo.name, photo) != photo:
                raise ValueError(f"{photo.name} has another label in an earlier line")
        except ValueError as error:
            failures.append((path, f"line {number}: {error}"))
    if not photos:
        reason = failures[0][1] if failures else "it is empty"
        raise StageError(f"{path} names no image below {root} with its class ({reason})")
    aligned = sum(Path(name).stem.endswith(_ALIGNED) for name in photos)
    line = f"{path} labels {len(photos)} images, {aligned} of them aligned"
    if others := len({_key(Path(image).name) for image in images.values()}) - len(photos):
        line += f"; {others} that it does not name are left out"
    kept = [photo for photo in photos.values() if photo.label != UNKNOWN]
    return Listed(sorted(kept), line, failures)


def _read_lines(path: Path) -> dict[int, re.Match[str] | None]:
    """Return the number of each line that is not empty → its two words; None for other lines."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise StageError(describe_os_error(error)) from None
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return {number: _LINE.fullmatch(line) for number, line in lines if line}


def _make_photo(
    match: re.Match[str] | None, classes: Sequence[str], images: dict[str, str]
) -> SplitItem:
    """Return the photo of a line. Raise ValueError with the reason if there is none."""
    if not match:
        raise ValueError("it is no name and number")
    name, number = match[1], int(match[2])
    part = name.partition("_")[0].lower()
    if part not in ("train", "test"):
        raise ValueError(f"{name} begins with neither train_ nor test_")
    if not 1 <= number <= len(classes):
        raise ValueError(f"{number} is no class; there are 1 to {len(classes)}")
    if not (found := images.get(_key(name))):
        raise ValueError(f"{name}: no such image")
    path = Path(found)
    return SplitItem(classes[number - 1], nfc(path.name), path, part=part)


def _key(name: str) -> str:
    """Return what an image has in common with its aligned form."""
    stem, suffix = os.path.splitext(nfc(name))  # noqa: PTH122 - the name comes from a file
    return (stem.removesuffix(_ALIGNED) + suffix).lower()


def _find_images(root: Path) -> dict[str, str]:
    """Return key → path of each image; the aligned one, if there are two."""
    images: dict[str, str] = {}
    for path in sorted(entry.path for entry in walk_files(os.fspath(root))):
        if has_image_suffix(path):
            key = _key(os.path.basename(path))  # noqa: PTH119
            is_aligned = os.path.splitext(path)[0].endswith(_ALIGNED)  # noqa: PTH122
            if is_aligned or key not in images:
                images[key] = path
    return images
