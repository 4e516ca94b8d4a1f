"""The split: which photo goes to train, to validation or to test."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from utils.data.image_folder import SPLITS

PASSES = 20  # over all groups, to find a better set for each; a few are enough


class SplitItem(NamedTuple):
    """A photo as the split sees it."""

    label: str
    name: str  # the file's, in NFC

    @property
    def subject(self) -> str | None:
        """Who is on the photo: the first token of `<subject>_…`; None where the name has none."""
        first, underscore, _ = self.name.partition("_")
        return first if underscore and first else None


def assign_splits(
    photos: Sequence[SplitItem],
    together: Iterable[Sequence[int]],
    ratio: Sequence[Fraction],
    seed: int,
) -> list[str]:
    """The set of each photo, one of SPLITS.

    Of the n photos of a class validation and test get their shares, each rounded down, and train
    the rest. The photos whose places are in one sequence of `together` go into one set; then the
    numbers are as close to that as they can be brought, and photos by themselves make up for what
    is missing. The result depends on the photos, the ratio and the seed, not on any order.
    """
    classes = sorted({photo.label for photo in photos})
    groups = [group for group in _merge_groups(together) if len(group) > 1]
    sets: list[str] = [""] * len(photos)
    placed: Counter[tuple[str, str]] = Counter()
    for group, name in zip(
        groups, _assign_groups(groups, photos, classes, ratio, seed), strict=True
    ):
        for i in group:
            sets[i] = name
            placed[name, photos[i].label] += 1

    single: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(photos)), key=photos.__getitem__):
        if not sets[i]:
            single[photos[i].label].append(i)
    number = Counter(photo.label for photo in photos)
    for label, members in single.items():
        _, *shares = (int(number[label] * part / sum(ratio)) for part in ratio)
        names: list[str] = []
        for name, share in zip(SPLITS[1:], shares, strict=True):
            names += [name] * max(0, share - placed[name, label])
        names += [SPLITS[0]] * (len(members) - len(names))
        order = random.Random(os.fsencode(f"{seed}/{label}")).sample(members, len(members))
        for i, name in zip(order, names, strict=False):
            sets[i] = name
    return sets


def group_by_subject(photos: Sequence[SplitItem]) -> dict[str, list[int]]:
    """Subject → the places of the photos that show it. Photos without a subject are left out."""
    found: dict[str, list[int]] = defaultdict(list)
    for i, photo in enumerate(photos):
        if (subject := photo.subject) is not None:
            found[subject].append(i)
    return found


def _merge_groups(together: Iterable[Sequence[int]]) -> list[list[int]]:
    """The sequences, those with a common member made one."""
    leader: dict[int, int] = {}

    def find(i: int) -> int:
        while leader.setdefault(i, i) != i:
            leader[i] = i = leader[leader[i]]
        return i

    for first, *others in together:
        for other in others:
            leader[find(other)] = find(first)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in leader:
        groups[find(i)].append(i)
    return list(groups.values())


def _assign_groups(
    groups: Sequence[Sequence[int]],
    photos: Sequence[SplitItem],
    classes: Sequence[str],
    ratio: Sequence[Fraction],
    seed: int,
) -> list[str]:
    """A set for each group, so that in each set each class has about its share of their photos.

    In random order each group goes where it is missed most; then, over and over, each is moved to
    where it fits better. What is made small is the sum over sets and classes of (n - share)² /
    share, which counts a photo too many the more the smaller the set.
    """
    if not groups:
        return []
    index = {label: i for i, label in enumerate(classes)}
    counts = np.zeros((len(groups), len(classes)))
    for row, group in zip(counts, groups, strict=True):
        for i in group:
            row[index[photos[i].label]] += 1
    names = [name for name, part in zip(SPLITS, ratio, strict=True) if part]
    parts = np.array([float(part / sum(ratio)) for part in ratio if part])
    share = np.outer(parts, counts.sum(axis=0))
    weight = 1 / np.maximum(share, 1)

    def cost_of(count: np.ndarray) -> np.ndarray:
        """What it costs each set, as it is now, to take so many more of each class."""
        return ((2 * (now - share) + count) * count * weight).sum(axis=1)

    order = sorted(range(len(groups)), key=lambda g: min(photos[i] for i in groups[g]))
    random.Random(seed).shuffle(order)
    now = np.zeros_like(share)
    place = np.zeros(len(groups), dtype=int)
    for g in order:
        place[g] = cost_of(counts[g]).argmin()
        now[place[g]] += counts[g]
    for _ in range(PASSES):
        moved = False
        for g in order:
            now[place[g]] -= counts[g]
            cost = cost_of(counts[g])
            better = int(cost.argmin())
            if cost[better] < cost[place[g]] - 1e-9:
                place[g], moved = better, True
            now[place[g]] += counts[g]
        if not moved:
            break
    return [names[i] for i in place]
