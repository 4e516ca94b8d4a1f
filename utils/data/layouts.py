"""The layouts in which data sets of faces are published, and what each means.

Recognised are class folders; sets (train, val, test, …) that hold class folders; either of them
inside other folders; class folders inside a folder for each person; and RAF-DB's list of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from utils.data.image_folder import SPLITS, ClassFolders, scan_class_folders
from utils.data.raf_db import find_list, read_list
from utils.data.sets import name_set, quoted
from utils.data.split import SplitItem, free_name, make_items
from utils.emotions import UNKNOWN, emotion_called
from utils.errors import StageError
from utils.filenames import is_printable

MAX_DEPTH = 4  # folders above the class folders
# Words that some data sets put beside the name of a set: train_set, FER2013Test, …
_SET_WORDS = ("set", "dataset", "data", "images", "image", "fer2013", "fer")
_FER_SETS = {"publictest": "validation", "privatetest": "test"}
# Which emotions the numbers of known data sets mean, from the first number on.
NUMBERED = {
    (0, 7): ("AffectNet", "neutral happiness sadness surprise fear disgust anger contempt"),
    (1, 7): ("RAF-DB", "surprise fear disgust happiness sadness anger neutral"),
}


class Layout(NamedTuple):
    """The faces below a folder, and what the layout says of them."""

    photos: list[SplitItem]  # each with the set it is published in as its part, if there are sets
    lines: list[str]  # what was recognised and what is done with it
    failures: list[tuple[Path, str]]


def read_layout(
    root: Path,
    names: Sequence[str] | None,
    ignores_case: Callable[[], bool],
    with_unknown: bool = False,
) -> Layout:
    """Return the faces below a folder of any layout, sorted by class and name.

    `names`: of numbered classes, in the order of their numbers. `ignores_case` returns whether the
    disk takes names that differ in upper and lower case only for one. `with_unknown`: UNKNOWN is
    a class. Raise StageError if no layout fits, or if the names do not fit the numbers.
    """
    if path := find_list(root):
        listed = read_list(path, names)
        return Layout(listed.photos, [listed.line], listed.failures)
    images, lines = _unwrap(scan_class_folders(root))
    sets = _find_sets(images)
    folders = _read_sets(images, sets, lines) if sets else {"": _find_classes(images, lines)}
    if not any(folders.values()) and not images.has_unknown:
        raise StageError(explain_empty(images))
    renamed = name_classes({label for part in folders.values() for label in part}, names, root)
    if not names and renamed is None:
        lines += _hint_at_names(folders, root)
    photos = []
    for part, classes in folders.items():
        if with_unknown:
            classes.add_unknown()
        classes.report()
        for photo in make_items(classes, ignores_case):
            label = (renamed or {}).get(photo.label, photo.label)
            photos.append(photo._replace(part=part, label=label))
    if not with_unknown:
        photos = [photo for photo in photos if photo.label != UNKNOWN]
    if not photos:
        raise StageError(explain_empty(images))
    return Layout(sorted(photos, key=lambda photo: (photo.label, photo.part)), lines, [])


def ratios_of(
    parts: Iterable[str], ratio: Sequence[Fraction]
) -> tuple[dict[str, list[Fraction]], str]:
    """Return how each part of the published data is divided, and that in words.

    The sets stay as they are, but a missing validation set is taken out of train. Photos without a
    set are divided by the ratio.
    """
    parts = [part for part in ("", *SPLITS) if part in {*parts}]
    if parts == [""]:
        return {"": [*ratio]}, ""
    ratios = {part: [Fraction(part == split) for split in SPLITS] for part in SPLITS}
    ratios[""] = [*ratio]
    names = [part for part in parts if part]
    words = f"the sets {_list(names)} are kept" if names[1:] else f"the set {names[0]} is kept"
    if "validation" not in parts and ratio[1] and ratio[0]:
        ratios["train"] = [ratio[0], ratio[1], Fraction(0)]
        shares = f"{float(100 * ratio[1] / (ratio[0] + ratio[1])):.3g} %"
        words += f", validation is taken out of train ({shares} of it)"
    if "test" not in parts:
        words += "; there is no test set"
    return {part: ratios[part] for part in parts}, words


def pool(photos: Sequence[SplitItem]) -> list[SplitItem]:
    """Return the photos of all sets without their part; a number is added to a repeated name."""
    taken: dict[str, set[str]] = {}
    pooled = []
    for photo in photos:
        name = free_name(photo.name, taken.setdefault(photo.label, set()))
        own_name = photo.own_name or ("" if name == photo.name else photo.name)
        pooled.append(photo._replace(name=name, own_name=own_name, part=""))
    return pooled


def name_classes(
    labels: Iterable[str], names: Sequence[str] | None, where: Path
) -> dict[str, str] | None:
    """Return number → name for the folders of numbered classes, or None without names.

    Raise StageError if the classes are not numbers, or not as many as the names.
    """
    if not names:
        return None
    check_names(names)
    labels = sorted(labels)
    numbers = {label: int(label) for label in labels if _is_number(label)}
    if others := [label for label in labels if label not in numbers]:
        raise StageError(
            f"--classes names folders that are numbers, but {where} has {', '.join(others[:5])}"
        )
    low, high = min(numbers.values(), default=0), max(numbers.values(), default=0)
    first = 0 if low == 0 else 1
    if high - first >= len(names) or (low and high < len(names)):
        raise StageError(
            f"--classes has {len(names)} names, but the folders of {where} are {low} to {high}: "
            f"give {high + 1 - first} names, the first one for {first}"
        )
    return {label: names[number - first] for label, number in numbers.items()}


def check_names(names: Sequence[str]) -> None:
    """Raise StageError if a name cannot be that of a class folder, or stands there twice."""
    for name in names:
        if not name or name.startswith(".") or set(name) & set("/\\") or not is_printable(name):
            raise StageError(f"--classes: {name!r} cannot be the name of a class folder")
        if names.count(name) > 1 and name != UNKNOWN:
            raise StageError(f"--classes: {name} stands there twice")


def _unwrap(images: ClassFolders) -> tuple[ClassFolders, list[str]]:
    """Return the class folders or sets inside folders that are the only one in theirs."""
    start = images.root
    for _ in range(MAX_DEPTH):
        if len(images) != 1:
            break
        [(name, paths)] = images.items()
        has_loose = any(path not in images.nested for path in paths)
        if has_loose or emotion_called(name) or _is_number(name):
            break
        inner = scan_class_folders(images.root / _stored(images, name))
        if len(inner) < 2 and not _has_nested(inner):
            break
        images = inner
    depth = len(images.root.parts) - len(start.parts)
    return images, [f"{start}: the faces are in {images.root}"] if depth else []


def _stored(images: ClassFolders, name: str) -> str:
    """Return a class folder's name as the disk has it: a Mac decomposes names."""
    return images[name][0].relative_to(images.root).parts[0]


def _has_nested(images: ClassFolders) -> bool:
    return any(path in images.nested for paths in images.values() for path in paths)


def _name_set(folder: str) -> str | None:
    """Return the set that a folder of this name holds, one of SPLITS, or None."""
    word = folder.casefold().strip(" _-")
    while word:
        if name := name_set(word) or _FER_SETS.get(word):
            return name
        shorter = word
        for extra in _SET_WORDS:
            shorter = shorter.removesuffix(extra).removeprefix(extra).strip(" _-")
        if shorter == word:
            return None
        word = shorter
    return None


def _find_sets(images: ClassFolders) -> dict[str, Path]:
    """Return set → its folder, if the folders are sets that hold class folders.

    Raise StageError if there is no train set, if a set is there twice, or if sets hold no classes.
    """
    named = {folder: name for folder in images if (name := _name_set(folder))}
    sets = [f for f in named if any(path in images.nested for path in images[f])]
    if not sets:
        if named and len(named) == len(images):
            raise StageError(
                f"{images.root} holds sets ({', '.join(named)}) without class folders: put the "
                f"images of each class into a folder named like the class"
            )
        return {}
    if len(sets) < len(images) and not {"train"} < {named[folder] for folder in sets}:
        return {}
    found: dict[str, Path] = {}
    for folder in sets:
        path = images.root / _stored(images, folder)
        other = found.setdefault(named[folder], path)
        if other != path:
            raise StageError(
                f"{other} and {path} are both the {named[folder]} set: put them into one folder"
            )
    if "train" not in found:
        raise StageError(
            f"{images.root} holds sets ({', '.join(sets)}), but no train set: name the folder that "
            f"holds all of them, or the class folders themselves with --input "
            f"{quoted(images.root / sets[0])}"
        )
    return {part: found[part] for part in SPLITS if part in found}


def _read_sets(
    images: ClassFolders, sets: Mapping[str, Path], lines: list[str]
) -> dict[str, ClassFolders]:
    """Return the class folders of each set. Say what the sets lack."""
    if outside := [name for name in images if images.root / name not in sets.values()]:
        lines.append(f"{images.root}: left out, because they are no sets: {', '.join(outside)}")
    folders = {}
    for part, folder in sets.items():
        inner, inner_lines = _unwrap(scan_class_folders(folder))
        folders[part] = _find_classes(inner, inner_lines)
        lines += inner_lines
    _compare_classes(folders, lines)
    return folders


def _find_classes(images: ClassFolders, lines: list[str]) -> ClassFolders:
    """Return the class folders: those inside others, if only they are called like emotions.

    That is so where a data set has a folder for each person or session, and the classes in it.
    """
    if any(emotion_called(name) for name in images) or not images:
        return images
    for level in range(1, MAX_DEPTH):
        folders: dict[str, list[Path]] = {}
        for name, paths in images.items():
            for path in paths:
                parts = f"{name}/{images.nested.get(path, '')}".split("/")
                folders.setdefault(parts[level] if level < len(parts) - 1 else "", []).append(path)
        emotions = {folder: emotion_called(folder) for folder in folders}
        if all(emotions.values()) and len({*emotions.values()}) > 1:
            return _regroup(images, folders, emotions, lines)
    return images


def _regroup(
    images: ClassFolders,
    folders: Mapping[str, list[Path]],
    emotions: Mapping[str, str | None],
    lines: list[str],
) -> ClassFolders:
    """Return the images by the folders inside those of the persons."""
    regrouped = ClassFolders(images.root)
    regrouped.left_out, regrouped.lost = images.left_out, images.lost
    first = {emotion: folder for folder, emotion in reversed([*emotions.items()])}
    classes: dict[str, list[Path]] = {}
    for folder, paths in folders.items():  # happy and Happy are one class
        classes.setdefault(first[emotions[folder]], []).extend(paths)
    for name, paths in sorted(classes.items()):
        regrouped[name] = sorted(paths)
    for outer, paths in images.items():
        for path in paths:
            parts = f"{outer}/{images.nested[path]}".split("/")
            regrouped.nested[path] = "/".join(part for part in parts if part not in folders)
    lines.append(f"{images.root}: the classes are the folders inside {len(images)} others")
    return regrouped


def _compare_classes(folders: Mapping[str, ClassFolders], lines: list[str]) -> None:
    """Say which classes are missing in a set."""
    for part, classes in folders.items():
        if missing := sorted({*folders["train"]} - {*classes}):
            lines.append(f"{part} has no {', '.join(missing)}")
        if more := sorted({*classes} - {*folders["train"]}):
            lines.append(f"{part} has {', '.join(more)}, which train lacks")


def _hint_at_names(folders: Mapping[str, ClassFolders], root: Path) -> list[str]:
    """Return a line with the command that names numbered classes, if they are numbers."""
    labels = {label for classes in folders.values() for label in classes}
    if not labels or not all(map(_is_number, labels)):
        return []
    low, high = min(map(int, labels)), max(map(int, labels))
    source, names = NUMBERED.get((low, high), ("", "NAME NAME …"))
    meaning = f"; {source}'s are" if source else ", in their order:"
    return [
        f"the classes are the numbers {low} to {high}{meaning} python dataPreparation.py --input "
        f"{quoted(root)} --classes {names}"
    ]


def explain_empty(images: ClassFolders) -> str:
    """Return why a folder has no faces, and which command fits, if any does."""
    text = f"{images.root} has no class folders with images in them{images.seen()}"
    tables = sorted(path for path in images.root.glob("*.csv") if not path.name.startswith("."))
    fer = [path for path in tables if "fer" in path.name.lower() or path.stem == "train"]
    if fer:
        text += f"; if {fer[0].name} is FER2013's: python dataPreparation.py --input "
        text += quoted(fer[0])
    return text


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal()


def _list(words: Iterable[str]) -> str:
    """Return words as `a, b and c`."""
    return " and ".join(", ".join(words).rsplit(", ", 1))
