"""Folds: the training images in k parts, each of which one of k models never sees.

Together the models predict every image as if it were new (k-fold cross-validation).
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.data.duplicates import find_duplicates
from utils.data.image_folder import Sample
from utils.data.placement import COPIES, MANIFEST
from utils.data.split import (
    SplitItem,
    group_by_subject,
    merge_groups,
    name_people,
    shuffled,
    spread_groups,
)
from utils.emotions import UNKNOWN
from utils.errors import StageError, describe_os_error
from utils.filenames import nfc
from utils.files import CSV_ENCODING

PREDICTIONS = "predictions.csv"  # of all folds, in the folder beside the model
COLUMNS = ("file", "truth", "prediction", "fold")  # of predictions; then one for each class
FIRST_CLASS = len(COLUMNS)  # column of the first class
MAX_FOLDS = 100
ALWAYS = 0  # the fold of photos that every model learns


class Fold(NamedTuple):
    """One of several folds of equal size."""

    number: int  # from 1
    total: int  # folds

    @classmethod
    def parse(cls, text: str) -> Fold:
        """Return the fold that a text such as 2/5 names. Raise ValueError if it names none."""
        number, slash, count = text.strip().partition("/")
        fold = cls(int(number), int(count))
        if not (slash and 2 <= fold.total <= MAX_FOLDS and 1 <= fold.number <= fold.total):
            raise ValueError(text)
        return fold

    def __str__(self) -> str:
        """Return the fold as `parse` takes it."""
        return f"{self.number}/{self.total}"

    @property
    def name(self) -> str:
        """The fold as a part of a file's name."""
        return f"fold{self.number}of{self.total}"


def predictions_path(model_path: Path) -> Path:
    """Return the file of the predictions of all folds: `<model>-folds/predictions.csv`."""
    return model_path.with_name(f"{model_path.stem}-folds") / PREDICTIONS


def read_predictions(path: Path, advice: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of predictions, of one fold or of all.

    Raise StageError if the file cannot be read, or, with `advice`, if it is damaged.
    """
    try:
        with path.open(encoding=CSV_ENCODING, errors="surrogateescape", newline="") as file:
            header, *rows = csv.reader(file)
        is_whole = (
            bool(rows)
            and all(_is_prediction(row, header) for row in rows)
            and len({nfc(row[0]) for row in rows}) == len(rows)
        )
    except OSError as error:
        raise StageError(describe_os_error(error)) from None
    except (ValueError, csv.Error):
        is_whole = False
    if not is_whole:
        raise StageError(f"{path} is damaged: {advice}")
    return header, rows


def _is_prediction(row: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether a row is a prediction. Raise ValueError for an invalid number."""
    return (
        len(row) == len(header)
        and label_of(row[0]) in header[FIRST_CLASS:]
        and all(0 <= float(cell) <= 1 for cell in row[FIRST_CLASS:])
    )


def label_of(file: str) -> str:
    """Return the class folder of a file, in NFC: the first part of its path in the set."""
    return nfc(file).split("/")[0]


def assign_folds(
    photos: Sequence[SplitItem], groups: Sequence[Sequence[int]], count: int, seed: int
) -> list[int]:
    """Return the fold of each photo, from 1 to `count`; all have about as many of each class.

    `groups` are positions of photos that go into the same fold. Photos of UNKNOWN, which are in no
    class, are in the fold of their group, or else in ALWAYS. The assignment is deterministic for
    the same photos and seed, in any order of photos and groups.
    """
    folds = [ALWAYS] * len(photos)
    groups = [group for group in merge_groups(filter(None, groups)) if _has_class(group, photos)]
    groups = [group for group in groups if len(group) > 1]
    places = spread_groups(groups, photos, [1 / count] * count, seed)
    for group, place in zip(groups, places, strict=True):
        for i in group:
            folds[i] = place + 1
    singles: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(photos)), key=photos.__getitem__):
        if not folds[i] and photos[i].label != UNKNOWN:
            singles[photos[i].label].append(i)
    totals = Counter(folds)
    for label, members in sorted(singles.items()):
        sizes = Counter(fold for fold, photo in zip(folds, photos, strict=True)
                        if photo.label == label)  # fmt: skip
        for i in shuffled(members, label, seed):
            folds[i] = min(range(1, count + 1), key=lambda fold: (sizes[fold], totals[fold], fold))
            sizes[folds[i]] += 1
            totals[folds[i]] += 1
    return folds


def _has_class(group: Sequence[int], photos: Sequence[SplitItem]) -> bool:
    return any(photos[i].label != UNKNOWN for i in group)


def make_photos(samples: Sequence[Sample], root: Path) -> list[SplitItem]:
    """Return the samples of the class folders in `root` as photos, with their names in them."""
    photos = []
    depth = len(root.parts)
    for path, _ in samples:
        label, *names = map(nfc, path.parts[depth:])
        photos.append(SplitItem(label, "/".join(names), path, own_name=names[-1]))
    return photos


def find_groups(photos: Sequence[SplitItem], data_path: Path) -> list[list[int]]:
    """Return the positions of photos that belong together, as groups.

    These are the copies of a picture, and the photos of a person where names begin with people. The
    copies are those in the list that dataPreparation.py made, or in another folder those with the
    same bytes.
    """
    subjects = group_by_subject(photos)
    groups = list(subjects.values()) if name_people(subjects, photos) else []
    if (data_path / MANIFEST).exists() or (data_path / COPIES).exists():
        return groups + _listed_copies(photos, data_path / COPIES)
    return groups + find_duplicates([photo.path for photo in photos])


def _listed_copies(photos: Sequence[SplitItem], path: Path) -> list[list[int]]:
    """Return the groups of copies.tsv. Raise StageError if it is another file."""
    if not path.exists():  # dataPreparation.py found none
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")[:-1]
    except OSError as error:
        raise StageError(describe_os_error(error)) from None
    positions = {(photo.label, photo.name): i for i, photo in enumerate(photos)}
    groups: dict[str, list[int]] = defaultdict(list)
    try:
        columns = [lines[0].split("\t").index(column) for column in ("same", "class", "file")]
        for line in lines[1:]:
            cells = line.split("\t")
            number, label, name = (cells[column] for column in columns)
            if (i := positions.get((nfc(label), nfc(name)))) is not None:
                groups[number].append(i)
    except (IndexError, ValueError):
        raise StageError(
            f"{path} is not a list of copies that dataPreparation.py wrote: move it away"
        ) from None
    return list(groups.values())


def digest_of(folds: Sequence[int], fingerprint: str) -> str:
    """Return a hash of the folds of images, and of a fingerprint of the images themselves."""
    text = f"{fingerprint} {' '.join(map(str, folds))}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
