"""The split: which photo goes to train, to validation or to test."""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.data.image_folder import SPLITS, ClassFolders
from utils.data.photo_index import upload_of
from utils.emotions import UNKNOWN
from utils.filenames import MAX_NAME_BYTES, nfc

MAX_FLAT_NAME = MAX_NAME_BYTES - 10  # bytes; a number may be added
MAX_PEOPLE_SHARE = 10  # a person has no more than this part of the photos: a tenth
PASSES = 20  # over all groups, to find a better split for each; few are needed


class SplitItem(NamedTuple):
    """A photo and the split that it is in."""

    label: str  # its class
    name: str  # its file name in the split, in NFC
    path: Path = Path()
    split: str = ""  # one of SPLITS; empty before the photos are assigned
    own_name: str = ""  # its file's name in NFC, if `name` is another one
    part: str = ""  # of the data as published, such as its own test set; empty if it has none
    was: str = ""  # its class in the input, if relabel.tsv gives it another one

    @property
    def subject(self) -> str | None:
        """The person on the photo: the first part of `<subject>_…`, or None without one."""
        first, underscore, _ = (self.own_name or self.name).partition("_")
        return first if underscore and first else None


def make_items(images: ClassFolders, ignores_case: Callable[[], bool]) -> list[SplitItem]:
    """Return the photos, each with a name of its own in its class.

    A photo in a subfolder gets the path to it before its name, joined by `_`, so that a/1.jpg and
    b/1.jpg stay two. `ignores_case` returns whether the disk takes names that differ in upper and
    lower case only for one. Where a name is taken, a number is added.
    """
    items = []
    for label, paths in images.items():
        nested = [path for path in paths if path in images.nested] if images.nested else []
        flat = [path for path in paths if path not in images.nested] if nested else paths
        names = [nfc(path.name) for path in flat]
        taken = {name.casefold() for name in names}
        if len(taken) < len(names) and ignores_case():
            taken = set()
            names = [free_name(name, taken) for name in names]
        items += [_make_item(label, name, path) for name, path in zip(names, flat, strict=True)]
        for path in nested:
            name = free_name(_flat_name(images.nested[path]), taken)
            items.append(_make_item(label, name, path))
    return items


def _make_item(label: str, name: str, path: Path) -> SplitItem:
    own_name = nfc(path.name)
    return SplitItem(label, name, path, own_name="" if name == own_name else own_name)


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is taken, and take it. `taken` holds lower case."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - the name may be only a suffix
    number = 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}{suffix}"
    taken.add(name.casefold())
    return name


def _flat_name(relative: str) -> str:
    """Return one name for a path: `a/b/1.jpg` becomes `a_b_1.jpg`.

    If it were too long, a digest stands for the folders, or for the whole path.
    """
    folders, _, name = relative.rpartition("/")
    digest = hashlib.blake2b(os.fsencode(relative), digest_size=8).hexdigest()
    suffix = os.path.splitext(name)[1]  # noqa: PTH122
    flat = f"{folders}_{name}".replace("/", "_")
    names = (flat, f"{digest}_{name}", f"{digest}{suffix}")
    return next(name for name in names if len(os.fsencode(name)) <= MAX_FLAT_NAME)


def assign_splits(
    photos: Sequence[SplitItem],
    groups: Iterable[Sequence[int]],
    ratio: Sequence[Fraction],
    seed: int,
) -> list[str]:
    """Return the split of each photo, one of SPLITS.

    Validation and test get their parts of the n photos of each class, rounded down, and train gets
    the rest; if train has no part, the others share it. `groups` are positions of photos that go
    into the same split; their splits come as close to these numbers as possible, and single photos
    fill the rest. The assignment is deterministic for the same photos, ratio and seed, in any order
    of photos and groups.
    """
    groups = [group for group in merge_groups(groups) if len(group) > 1]
    splits = [""] * len(photos)
    names = [split for split, part in zip(SPLITS, ratio, strict=True) if part]
    shares = [float(part / sum(ratio)) for part in ratio if part]
    places = spread_groups(groups, photos, shares, seed)
    for group, place in zip(groups, places, strict=True):
        for i in group:
            splits[i] = names[place]

    placed = Counter((photo.label, split) for photo, split in zip(photos, splits, strict=True))
    singles: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(photos)), key=photos.__getitem__):
        if not splits[i]:
            singles[photos[i].label].append(i)
    sizes = Counter(photo.label for photo in photos)
    totals = Counter(splits)
    for label, members in singles.items():
        chosen: list[str] = []
        for split, part in zip(SPLITS[1:], ratio[1:], strict=True):
            wanted = int(sizes[label] * part / sum(ratio))
            chosen += [split] * max(0, wanted - placed[label, split])
        totals.update(chosen)
        for _ in range(len(members) - len(chosen)):
            chosen.append(SPLITS[0] if ratio[0] else _neediest(totals, ratio))
            totals[chosen[-1]] += 1
        for i, split in zip(shuffled(members, label, seed), chosen, strict=False):
            splits[i] = split
    return splits


def shuffled(members: Sequence[int], label: str, seed: int) -> list[int]:
    """Return the photos of a class in random order."""
    return random.Random(os.fsencode(f"{seed}/{label}")).sample(members, len(members))


def _neediest(totals: Mapping[str, int], ratio: Sequence[Fraction]) -> str:
    """Return the split that has least of its part."""
    parts = {split: part for split, part in zip(SPLITS, ratio, strict=True) if part}
    return min(parts, key=lambda split: totals[split] / parts[split])


def assign_splits_with_unknown(
    photos: Sequence[SplitItem],
    groups: Sequence[Sequence[int]],
    ratio: Sequence[Fraction],
    seed: int,
) -> list[str]:
    """Return the split of each photo as `assign_splits`, with photos of UNKNOWN in train alone.

    The other photos are split as if UNKNOWN were empty. A photo of UNKNOWN that is in a group with
    one of validation or test is in no split: an empty text.
    """
    known = [i for i, photo in enumerate(photos) if photo.label != UNKNOWN]
    position = {i: k for k, i in enumerate(known)}
    known_groups = [[position[i] for i in group if i in position] for group in groups]
    splits = [SPLITS[0]] * len(photos)
    assigned = assign_splits([photos[i] for i in known], filter(None, known_groups), ratio, seed)
    for i, split in zip(known, assigned, strict=True):
        splits[i] = split
    _leave_out_tied(photos, groups, splits)
    return splits


def _leave_out_tied(
    photos: Sequence[SplitItem], groups: Iterable[Sequence[int]], splits: list[str]
) -> None:
    """Take photos of UNKNOWN out of train if their group has one of another split."""
    for group in merge_groups(filter(None, groups)):
        if any(splits[i] not in (SPLITS[0], "") for i in group):
            for i in group:
                splits[i] = "" if photos[i].label == UNKNOWN else splits[i]


def assign_parts(
    photos: Sequence[SplitItem],
    groups: Sequence[Sequence[int]],
    ratios: Mapping[str, Sequence[Fraction]],
    seed: int,
) -> list[str]:
    """Return the split of each photo, dividing each part of the published data by its own ratio.

    `ratios`: part → its ratio. A group stays together as far as it lies in one part. See
    `assign_splits_with_unknown`.
    """
    splits = [""] * len(photos)
    for part, ratio in ratios.items():
        members = [i for i, photo in enumerate(photos) if photo.part == part]
        positions = {i: position for position, i in enumerate(members)}
        inside = [[positions[i] for i in group if i in positions] for group in groups]
        names = assign_splits_with_unknown([photos[i] for i in members], inside, ratio, seed)
        for i, name in zip(members, names, strict=True):
            splits[i] = name if ratio[0] or photos[i].label != UNKNOWN else ""
    _leave_out_tied(photos, groups, splits)
    return splits


def name_people(subjects: Mapping[str, Sequence[int]], photos: Sequence[SplitItem]) -> bool:
    """Return whether the first parts of the names of the photos are people.

    In AI-Hub's names they are. In others they are none if one of them has more than a tenth of the
    photos, as in IMG_0001.jpg, or if each has one photo only.
    """
    largest = max(subjects.values(), key=len, default=())
    if len(largest) > 1 and len(largest) * MAX_PEOPLE_SHARE <= len(photos):
        return True
    names = [photos[i].own_name or photos[i].name for i in largest]
    return bool(names) and all(upload_of(os.fsencode(name)) for name in names)


def group_by_subject(photos: Sequence[SplitItem]) -> dict[str, list[int]]:
    """Return subject → the positions of its photos. Leave out photos without a subject."""
    subjects: dict[str, list[int]] = defaultdict(list)
    for i, photo in enumerate(photos):
        if (subject := photo.subject) is not None:
            subjects[subject].append(i)
    return subjects


def merge_groups(groups: Iterable[Sequence[int]]) -> list[list[int]]:
    """Return the groups, those that have a member in common as one."""
    parents: dict[int, int] = {}

    def find_root(i: int) -> int:
        while parents.setdefault(i, i) != i:
            parents[i] = i = parents[parents[i]]
        return i

    for first, *others in groups:
        for other in others:
            parents[find_root(other)] = find_root(first)
    merged: dict[int, list[int]] = defaultdict(list)
    for i in parents:
        merged[find_root(i)].append(i)
    return list(merged.values())


def spread_groups(
    groups: Sequence[Sequence[int]],
    photos: Sequence[SplitItem],
    shares: Sequence[float],
    seed: int,
) -> list[int]:
    """Return for each group the position of the set it goes to, so that each has its share.

    `shares`: of each set in the photos of every class, with the sum 1. In random order, each group
    goes where it is missed most. Then, in several passes, each group is moved to where it fits
    better.
    """
    if not groups:
        return []
    counts = _count_labels(groups, photos)
    balance = _Balance(np.outer(shares, counts.sum(axis=0)))

    order = sorted(range(len(groups)), key=lambda g: min(photos[i] for i in groups[g]))
    random.Random(seed).shuffle(order)
    chosen = np.zeros(len(groups), dtype=int)
    for g in order:
        chosen[g] = balance.cost_of_adding(counts[g]).argmin()
        balance.counts[chosen[g]] += counts[g]
    for _ in range(PASSES):
        moved = False
        for g in order:
            balance.counts[chosen[g]] -= counts[g]
            costs = balance.cost_of_adding(counts[g])
            best = int(costs.argmin())
            if costs[best] < costs[chosen[g]] - 1e-9:
                chosen[g], moved = best, True
            balance.counts[chosen[g]] += counts[g]
        if not moved:
            break
    return chosen.tolist()


class _Balance:
    """How far the splits are from the wanted numbers of photos of each class.

    The distance is the sum over splits and classes of (count - wanted)² / wanted, in which a photo
    too many counts more in a small split.
    """

    def __init__(self, wanted: np.ndarray) -> None:
        """`wanted`: float (splits, classes), the number of photos."""
        self.counts = np.zeros_like(wanted)  # photos so far
        self._wanted = wanted
        self._weight = 1 / np.maximum(wanted, 1)

    def cost_of_adding(self, photos: np.ndarray) -> np.ndarray:
        """Return for each split how much the distance grows if it gets these photos, (classes,)."""
        growth = (2 * (self.counts - self._wanted) + photos) * photos
        return (growth * self._weight).sum(axis=1)


def _count_labels(groups: Sequence[Sequence[int]], photos: Sequence[SplitItem]) -> np.ndarray:
    """Return the number of photos of each class in each group, float (groups, classes)."""
    labels = sorted({photo.label for photo in photos})
    index = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(groups), len(labels)))
    for row, group in zip(counts, groups, strict=True):
        for i in group:
            row[index[photos[i].label]] += 1
    return counts
