"""The rules of the data: emotions, votes, boxes, names."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

import pytest

from tests.helpers import box_cell
from utils.data.boxes import consensus, parse_boxes
from utils.data.image_folder import SPLITS
from utils.data.split import SplitItem, assign_splits, group_by_subject
from utils.imaging.geometry import Box, BoxError, to_pixels

BOX = '"minX": 1, "minY": 2.5, "maxX": 30, "maxY": 40'


@pytest.mark.parametrize(
    "cell",
    [
        f'{{"boxes": [{{{BOX}}}]}}',
        f"[{{{BOX}}}]",
        f'{{"boxes": [{{"label": "기쁨", {BOX}}}]}}',
        '[{"minX": "1", "minY": "2.5", "maxX": "30", "maxY": "40"}]',
        '[{"minX": 30, "minY": 40, "maxX": 1, "maxY": 2.5}]',
    ],
)
def test_every_form_of_a_box_cell(cell):
    assert parse_boxes(cell) == [Box(1, 2.5, 30, 40)]


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "{",
        "7",
        "null",
        "{}",
        "[]",
        '{"boxes": []}',
        '{"boxes": 3}',
        "[1]",
        "[null]",
        '[{"minX": 1}]',
        '[{"minX": "a", "minY": 2, "maxX": 3, "maxY": 4}]',
        '[{"minX": NaN, "minY": 2, "maxX": 3, "maxY": 4}]',
        '[{"minX": 1e999, "minY": 2, "maxX": 3, "maxY": 4}]',
        f'[{{"minX": {"9" * 400}, "minY": 2, "maxX": 3, "maxY": 4}}]',
        "[" * 100_000,
        f"[{','.join(['{}'] * 101)}]",
    ],
)
def test_a_cell_without_a_box_is_an_error(cell):
    with pytest.raises(BoxError):
        parse_boxes(cell)


def test_consensus_averages_the_closest_two_of_three():
    near, nearer, careless = Box(10, 10, 50, 50), Box(14, 12, 54, 52), Box(200, 0, 300, 90)
    expected = Box(12, 11, 52, 51)
    for three in ([near, nearer, careless], [careless, near, nearer], [nearer, careless, near]):
        assert consensus([[box] for box in three]) == expected


def test_consensus_takes_the_face_on_which_annotators_agree():
    one, other = Box(0, 0, 40, 40), Box(100, 100, 140, 140)
    assert consensus([[one, other], [Box(101, 101, 141, 141)], [Box(60, 0, 90, 40)]]) == Box(
        100.5, 100.5, 140.5, 140.5
    )


def test_pixels_are_clamped_and_rounded():
    assert to_pixels(Box(-5, 3.4, 99.6, 300), 100, 80) == (0, 3, 100, 80)
    assert to_pixels(Box(0.4, 0.6, 10, 10), 100, 80) == (0, 1, 10, 10)


@pytest.mark.parametrize(
    "box", [Box(200, 0, 300, 50), Box(5, 5, 5, 50), Box(-50, -50, -1, -1), Box(5.1, 5, 5.3, 9)]
)
def test_nothing_left_is_an_error(box):
    with pytest.raises(BoxError, match="100×80"):
        to_pixels(box, 100, 80)


def test_box_cell_helper_reads_back():
    assert parse_boxes(box_cell(1, 2, 3, 4)) == [Box(1, 2, 3, 4)]


RATIO = [Fraction(80), Fraction(10), Fraction(10)]


def test_the_split_rounds_down_for_validation_and_test():
    photos = [SplitItem("x", f"{i}") for i in range(29)] + [
        SplitItem("y", f"{i}") for i in range(9)
    ]
    sets = assign_splits(photos, [], RATIO, 0)
    counts = Counter((photo.label, name) for photo, name in zip(photos, sets, strict=True))
    assert counts == {
        ("x", "train"): 25, ("x", "validation"): 2, ("x", "test"): 2, ("y", "train"): 9
    }  # fmt: skip


def test_the_split_does_not_depend_on_the_order_of_the_photos():
    photos = [SplitItem(label, f"{i % 30}_{i}.jpg") for label in "xy" for i in range(300)]
    shuffled = random.Random(1).sample(photos, len(photos))
    for together in (lambda photos: [], lambda photos: group_by_subject(photos).values()):
        one = dict(zip(photos, assign_splits(photos, together(photos), RATIO, 3), strict=True))
        two = dict(
            zip(shuffled, assign_splits(shuffled, together(shuffled), RATIO, 3), strict=True)
        )
        assert one == two
        assert one != dict(
            zip(photos, assign_splits(photos, together(photos), RATIO, 4), strict=True)
        )


@pytest.mark.parametrize("seed", range(5))
def test_subjects_are_split_close_to_the_ratio_in_each_class(seed):
    chance = random.Random(seed)
    labels = chance.choices("uvwxyz", weights=(1, 2, 3, 4, 5, 6), k=20000)
    people = [chance.expovariate(1) for _ in range(300)]  # some have many photos, most few
    who = chance.choices(range(300), weights=people, k=20000)
    photos = [SplitItem(a, f"{b}_{i}") for i, (a, b) in enumerate(zip(labels, who, strict=True))]
    subjects = group_by_subject(photos)
    sets = assign_splits(photos, subjects.values(), RATIO, seed)
    assert all(len({sets[i] for i in group}) == 1 for group in subjects.values())
    counts = Counter((photo.label, name) for photo, name in zip(photos, sets, strict=True))
    for label, total in Counter(labels).items():
        for name, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
            assert abs(counts[label, name] - share * total) < 0.01 * total
    assert {name: sets.count(name) for name in SPLITS} == pytest.approx(
        {"train": 16000, "validation": 2000, "test": 2000}, abs=60
    )


def test_groups_with_a_common_photo_are_one():
    photos = [SplitItem("x", f"{i}") for i in range(100)]
    sets = assign_splits(photos, [[0, 1], [1, 2], [50, 51], [2, 50], [7]], RATIO, 0)
    assert len({sets[i] for i in (0, 1, 2, 50, 51)}) == 1
    assert Counter(sets) == {"train": 80, "validation": 10, "test": 10}
