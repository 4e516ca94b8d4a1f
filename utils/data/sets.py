"""The sets of a data folder: what they may be called, and which stage makes them if they lack."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.console import note
from utils.data.image_folder import SPLITS
from utils.emotions import UNKNOWN
from utils.errors import StageError
from utils.filenames import has_image_suffix, nfc

# The names of the folders of a set, besides its own.
OTHER_NAMES = {
    "train": ("training",),
    "validation": ("val", "valid", "dev"),
    "test": ("testing",),
}
SHOWN_FOLDERS = 3  # in a message
MAKE = "python dataPreparation.py"
AI_HUB = "EMOIMG_"  # in the names of AI-Hub's archives
PHOTOS = "original"  # the folder that downloadImage.py fills


def name_set(folder: str) -> str | None:
    """Return the set that a folder of this name holds, one of SPLITS, or None."""
    folder = nfc(folder).casefold()
    return next((s for s in SPLITS if folder == s or folder in OTHER_NAMES[s]), None)


def find_set(root: Path, split: str) -> Path | None:
    """Return the folder of a set, or None.

    A folder of the set's own name goes before others. Raise StageError if there are several others.
    """
    if (root / split).is_dir():
        return root / split
    folders = [path for path in _folders(root) if name_set(path.name) == split]
    if len(folders) > 1:
        names = " and ".join(path.name for path in folders)
        raise StageError(f"{root} has the folders {names}: rename the one to use to {split}")
    return folders[0] if folders else None


def train_folder(root: Path) -> Path:
    """Return the folder of the training set by whatever name, or what it should be called."""
    return find_set(root, "train") or root / "train"


def announce(folder: Path, split: str) -> Path:
    """Return the folder of a set. A note says so if it is called otherwise."""
    if folder.name != split:
        note(f"{folder} is the {split} set")
    return folder


def find_train_and_validation(root: Path) -> tuple[Path, Path]:
    """Return the folders of both sets.

    Raise StageError if one of them is missing, with the command that makes it.
    """
    train, validation = (find_set(root, split) for split in ("train", "validation"))
    if train and validation and not _is_download(train):
        return announce(train, "train"), announce(validation, "validation")
    raise StageError(explain(root, train is not None, validation is not None))


def quoted(path: Path) -> str:
    """Return a path as a word of a command line, on Windows too."""
    return f'"{path}"' if " " in str(path) else str(path)


def explain(root: Path, has_train: bool = False, has_validation: bool = False) -> str:
    """Return what is wrong with a data folder that lacks a set, and which command mends it."""
    prepare = f"{MAKE} --input {quoted(root)}"
    if not root.exists():
        return f"{root}: no such folder; {MAKE} makes one with the sets train and validation"
    if not root.is_dir():
        return _explain_file(root)
    if any(_is_download(folder) for folder in (root, *_folders(root, 3))):
        return (
            f"{root} holds archives or label files, as AI-Hub publishes them; stages 2 and 3 are "
            f"missing: python cropImages.py --input {quoted(root)}, then {MAKE}"
        )
    if has_train:
        return f"{root} has no validation set; {prepare} --output DIR takes one out of train"
    if has_validation:
        return f"{root} has no train set, but train.py needs one: name the folder that holds both"
    folders = _folders(root)
    if name_set(root.name) and _hold_images(folders):
        return f"{root} is a set, not the folder that holds the sets: --data_path {root.parent}"
    if _hold_images(folders) and root.name == PHOTOS:
        return f"{root} holds photos; stages 2 and 3 are missing: python cropImages.py, then {MAKE}"
    if _hold_images(folders):
        shown = " ".join(path.name for path in folders[:SHOWN_FOLDERS])
        more = " …" if len(folders) > SHOWN_FOLDERS else ""
        return (
            f"{root} holds classes ({shown}{more}), not the sets train and validation; stage 3 is "
            f"missing: {prepare}"
        )
    return _explain_content(root)


def _explain_file(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return f"{path} is a file; if it is FER2013's csv: {MAKE} --input {quoted(path)}"
    if suffix == ".tsv":
        return (
            f"{path} is a file; if it is an annotation table, stages 1 to 3 are missing: python "
            f"downloadImage.py --input {quoted(path)}"
        )
    if suffix in (".zip", ".json"):
        return (
            f"{path} is a file; if it is AI-Hub's: python cropImages.py --input "
            f"{quoted(path.parent)}, then {MAKE}; any other archive: unpack it, and name the folder"
        )
    return f"{path} is a file; --data_path is the folder that holds train and validation"


def _explain_content(root: Path) -> str:
    """Return what is missing for a folder that holds neither sets nor classes with images."""
    files = [path for path in sorted(root.iterdir()) if path.is_file()]
    if table := next((path for path in files if path.suffix.lower() == ".csv"), None):
        return (
            f"{root} holds no images; if {table.name} is FER2013's: {MAKE} --input {quoted(table)}"
        )
    if any(has_image_suffix(path.name) for path in files):
        return f"{root} holds images in no class folder: put them into a folder for each class"
    return f"{root} holds no train set, and nothing to make one of: see --data_path"


def _is_download(folder: Path) -> bool:
    """Return whether a folder holds parts of AI-Hub's data set as they are downloaded."""
    if any(AI_HUB in path.name for path in _folders(folder)):  # unpacked
        return True
    archives = any(path.suffix.lower() in (".zip", ".json") for path in _files(folder))
    return archives and not _hold_images(_folders(folder))


def _hold_images(folders: Iterable[Path]) -> bool:
    """Return whether an image lies in one of the folders, or in a folder in them."""
    for folder in folders:
        for path in (folder, *_folders(folder)):
            if any(has_image_suffix(each.name) for each in _files(path)):
                return True
    return False


def _folders(root: Path, depth: int = 1) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones and UNKNOWN, `depth` levels."""
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []
    found = [root / name for name in sorted(names) if name != UNKNOWN and name[0] != "."]
    deeper = [path for folder in found if depth > 1 for path in _folders(folder, depth - 1)]
    return found + deeper


def _files(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from (folder / entry.name for entry in entries if entry.is_file())
    except OSError:
        return
