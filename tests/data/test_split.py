"""Which photo goes to train, validation or test."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from utils.data.image_folder import SPLITS, ClassFolders, scan_class_folders
from utils.data.split import (
    SplitItem,
    assign_parts,
    assign_splits,
    assign_splits_with_unknown,
    group_by_subject,
    make_items,
    name_people,
)

RATIO_80_10_10 = [Fraction(80), Fraction(10), Fraction(10)]


def test_assign_splits_rounds_down_for_validation_and_test():
    photos = [SplitItem("x", f"{i}") for i in range(29)] + [
        SplitItem("y", f"{i}") for i in range(9)
    ]
    sets = assign_splits(photos, [], RATIO_80_10_10, 0)
    counts = Counter((photo.label, name) for photo, name in zip(photos, sets, strict=True))
    assert counts == {
        ("x", "train"): 25, ("x", "validation"): 2, ("x", "test"): 2, ("y", "train"): 9
    }  # fmt: skip


@pytest.mark.parametrize(
    "group", [lambda photos: [], lambda photos: group_by_subject(photos).values()]
)
def test_assign_splits_does_not_depend_on_the_order_of_the_photos(group):
    def split(photos: list[SplitItem], seed: int) -> dict[SplitItem, str]:
        splits = assign_splits(photos, group(photos), RATIO_80_10_10, seed)
        return dict(zip(photos, splits, strict=True))

    photos = [SplitItem(label, f"{i % 30}_{i}.jpg") for label in "xy" for i in range(300)]
    shuffled = random.Random(1).sample(photos, len(photos))
    assert split(photos, 3) == split(shuffled, 3) != split(photos, 4)


@pytest.mark.parametrize("seed", range(5))
def test_assign_splits_keeps_subjects_whole_and_close_to_the_ratio(seed):
    chance = random.Random(seed)
    labels = chance.choices("uvwxyz", weights=(1, 2, 3, 4, 5, 6), k=20000)
    people = [chance.expovariate(1) for _ in range(300)]  # some have many photos, most few
    who = chance.choices(range(300), weights=people, k=20000)
    photos = [SplitItem(a, f"{b}_{i}") for i, (a, b) in enumerate(zip(labels, who, strict=True))]
    subjects = group_by_subject(photos)
    sets = assign_splits(photos, subjects.values(), RATIO_80_10_10, seed)
    assert all(len({sets[i] for i in group}) == 1 for group in subjects.values())
    counts = Counter((photo.label, name) for photo, name in zip(photos, sets, strict=True))
    for label, total in Counter(labels).items():
        for name, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
            assert abs(counts[label, name] - share * total) < 0.01 * total
    assert {name: sets.count(name) for name in SPLITS} == pytest.approx(
        {"train": 16000, "validation": 2000, "test": 2000}, abs=60
    )


def test_assign_splits_merges_groups_with_a_common_photo():
    photos = [SplitItem("x", f"{i}") for i in range(100)]
    sets = assign_splits(photos, [[0, 1], [1, 2], [50, 51], [2, 50], [7]], RATIO_80_10_10, 0)
    assert len({sets[i] for i in (0, 1, 2, 50, 51)}) == 1
    assert Counter(sets) == {"train": 80, "validation": 10, "test": 10}


def test_assign_splits_does_not_depend_on_the_order_of_the_groups():
    photos = [SplitItem("xy"[i % 2], f"{i}") for i in range(60)]
    groups = [[i, i + 20, i + 40] for i in range(20)]
    one = assign_splits(photos, groups, RATIO_80_10_10, 0)
    assert one == assign_splits(photos, groups[::-1], RATIO_80_10_10, 0)


def test_assign_splits_puts_nothing_into_a_split_of_ratio_0():
    photos = [SplitItem("x", f"{i}") for i in range(40)]
    ratio = [Fraction(1), Fraction(1), Fraction(0)]
    for groups in ([], [[2 * i, 2 * i + 1] for i in range(20)]):
        assert Counter(assign_splits(photos, groups, ratio, 0)) == {"train": 20, "validation": 20}


@pytest.mark.parametrize(("size", "validation", "test"), [(7, 11, 10), (1, 2, 1)])
def test_assign_splits_shares_what_is_left_if_train_has_no_part(size, validation, test):
    photos = [SplitItem(label, f"{i}") for label in "xyz" for i in range(size)]
    ratio = [Fraction(0), Fraction(1), Fraction(1)]
    splits = assign_splits(photos, [], ratio, 0)
    assert Counter(splits) == {"validation": validation, "test": test}


def test_assign_splits_fills_up_with_single_photos():
    photos = [SplitItem("x", f"{i}") for i in range(200)]
    groups = [range(5 * i, 5 * i + 5) for i in range(20)]  # half of the photos
    splits = assign_splits(photos, groups, RATIO_80_10_10, 0)
    assert Counter(splits) == {"train": 160, "validation": 20, "test": 20}
    assert Counter(splits[:100]) == {"train": 80, "validation": 10, "test": 10}


@pytest.mark.parametrize(
    ("name", "subject"),
    [("s1_여_20_기쁨_.jpg", "s1"), ("IMG_1.jpg", "IMG"), ("a.jpg", None), ("_a.jpg", None)],
)
def test_split_item_subject_is_the_first_part_of_the_name(name, subject):
    assert SplitItem("x", name).subject == subject


def test_group_by_subject_leaves_out_photos_without_one():
    photos = [SplitItem("x", name) for name in ("b_1", "a_1", "none", "b_2")]
    assert group_by_subject(photos) == {"b": [0, 3], "a": [1]}


@pytest.mark.parametrize(
    ("group", "digest"),
    [(lambda photos: {}, "2edd8b43485c1a81"), (group_by_subject, "f0e88efcf20987e1")],
    ids=["photos", "subjects"],
)
def test_assign_splits_of_version_0_1_0_stay_the_same(group, digest):
    """A photo must not move to another set with a new version of the program."""
    photos = [
        SplitItem(label, f"s{i * i % 41}_{label}_{i}.jpg")
        for label in ("기쁨", "슬픔", "중립")
        for i in range(200)
    ]
    splits = assign_splits(photos, list(group(photos).values()), RATIO_80_10_10, 7)
    assert hashlib.sha256(" ".join(splits).encode()).hexdigest().startswith(digest)


def folders_of(root: Path, *names: str) -> ClassFolders:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return scan_class_folders(root)


def test_make_items_keeps_the_names_of_a_flat_folder(tmp_path):
    images = folders_of(tmp_path, "x/b_1.jpg", "x/a_1.jpg", "y/a_1.jpg")
    assert make_items(images, lambda: True) == [
        SplitItem(label, name, tmp_path / label / name)
        for label, name in (("x", "a_1.jpg"), ("x", "b_1.jpg"), ("y", "a_1.jpg"))
    ]


def test_make_items_puts_the_subfolder_before_the_name(tmp_path):
    names = ["x/1.jpg", "x/a/1.jpg", "x/b/1.jpg", "x/b/c d/p7_1.jpg", "x/a_1.jpg", "x/A/1.jpg"]
    items = make_items(folders_of(tmp_path, *names), lambda: False)
    assert {item.name: item.path.read_text() for item in items} == {
        "1.jpg": "x/1.jpg",
        "a_1.jpg": "x/a_1.jpg",  # it keeps its name
        "A_1-2.jpg": "x/A/1.jpg",  # the set may move to a disk that ignores case
        "a_1-3.jpg": "x/a/1.jpg",
        "b_1.jpg": "x/b/1.jpg",
        "b_c d_p7_1.jpg": "x/b/c d/p7_1.jpg",
    }
    subjects = {item.name: item.subject for item in items}
    assert subjects["b_c d_p7_1.jpg"] == "p7" and subjects["b_1.jpg"] is None
    assert subjects["a_1.jpg"] == "a"


def test_make_items_shortens_names_that_no_disk_could_store(tmp_path):
    long, longest = "ab" * 100, "z" * 251
    names = [f"x/{long}/{long}/1.jpg", f"x/{long}/2/1.jpg", f"x/c/{longest}.jpg"]
    items = make_items(folders_of(tmp_path, *names), lambda: False)
    assert len({item.name for item in items}) == 3
    assert all(len(item.name) < 256 and item.name.endswith(".jpg") for item in items)


def test_make_items_numbers_names_that_the_disk_takes_for_one(tmp_path):
    images = folders_of(tmp_path, "x/P1_a.jpg", "x/p1_a.jpg", "x/P1_A.jpg", "y/p1_a.jpg")
    if len(images["x"]) < 3:
        pytest.skip("this disk takes them for one")
    names = [item.name for item in make_items(images, lambda: False)]
    assert names == ["P1_A.jpg", "P1_a.jpg", "p1_a.jpg", "p1_a.jpg"]
    items = make_items(images, lambda: True)
    assert [item.name for item in items] == ["P1_A.jpg", "P1_a-2.jpg", "p1_a-3.jpg", "p1_a.jpg"]
    assert [item.subject for item in items] == ["P1", "P1", "p1", "p1"]


@pytest.mark.parametrize("by_subject", [False, True])
def test_photos_of_unknown_go_to_train_unless_they_are_tied_to_another_split(by_subject):
    photos = [SplitItem(label, f"{i % 9}_{i}.jpg") for label in "xy" for i in range(90)]
    unknown = [SplitItem("UNKNOWN", f"{i}_u.jpg") for i in range(20)]
    mixed = [photo for pair in zip(photos, unknown, strict=False) for photo in pair] + photos[20:]
    copies = [[mixed.index(photos[i]), mixed.index(unknown[i])] for i in (11, 12, 13)]
    copies += [[mixed.index(unknown[18]), mixed.index(unknown[19])]]
    subjects = list(group_by_subject(mixed).values()) if by_subject else []
    splits = assign_splits_with_unknown(mixed, [*copies, *subjects], RATIO_80_10_10, 0)
    found = dict(zip(mixed, splits, strict=True))
    groups = list(group_by_subject(photos).values()) if by_subject else []
    alone = assign_splits(photos, groups, RATIO_80_10_10, 0)
    assert [found[photo] for photo in photos] == alone
    assert {found[photo] for photo in unknown} <= {"train", ""}
    for i, photo in enumerate(unknown):
        tied = {found[photos[i]]} if i in (11, 12, 13) else {"train"}
        if by_subject:
            tied |= {found[each] for each in photos if each.subject == photo.subject}
        assert (found[photo] == "") == (tied != {"train"}), photo
    assert not by_subject or "" in splits


def test_assign_parts_divides_each_part_by_its_own_ratio():
    parts = {"train": 80, "test": 30, "": 50}
    photos = [
        SplitItem("x", f"{part}{i}", part=part) for part, n in parts.items() for i in range(n)
    ]
    ratios = {
        "train": [*RATIO_80_10_10[:2], Fraction(0)],
        "test": [Fraction(0)] * 2 + [Fraction(1)],
    }
    ratios[""] = [Fraction(1)] * 3
    groups = [[0, 79, 85], [110, 111, 112]]
    splits = assign_parts(photos, groups, ratios, 0)
    found = Counter((p.part, split) for p, split in zip(photos, splits, strict=True))
    assert found == {
        ("train", "train"): 72, ("train", "validation"): 8, ("test", "test"): 30,
        ("", "train"): 18, ("", "validation"): 16, ("", "test"): 16,
    }  # fmt: skip
    assert splits[0] == splits[79] and splits[85] == "test"
    assert len({*splits[110:113]}) == 1


def test_assign_parts_of_photos_without_parts_is_assign_splits():
    photos = [SplitItem("xy"[i % 2], f"{i}") for i in range(90)]
    groups = [[i, i + 40] for i in range(9)]
    assert assign_parts(photos, groups, {"": RATIO_80_10_10}, 3) == assign_splits(
        photos, groups, RATIO_80_10_10, 3
    )


def test_assign_parts_leaves_out_unknown_of_kept_sets_and_copies_of_theirs():
    labels = ["x", "x", "UNKNOWN"]
    photos = [SplitItem(label, f"{i}", part=part)
              for part in ("train", "test") for i, label in enumerate(labels)]  # fmt: skip
    ratios = {"train": [Fraction(1), Fraction(0), Fraction(0)],
              "test": [Fraction(0), Fraction(0), Fraction(1)]}  # fmt: skip
    assert assign_parts(photos, [], ratios, 0) == ["train"] * 3 + ["test", "test", ""]
    assert assign_parts(photos, [[2, 3]], ratios, 0)[2] == ""


@pytest.mark.parametrize(
    ("sizes", "are_people"),
    [([2] * 10, True), ([10] * 10, True), ([12, *[1] * 90], False), ([1] * 50, False), ([], False)],
)
def test_name_people_if_no_subject_is_too_large_and_not_all_are_single(sizes, are_people):
    photos = [SplitItem("x", f"{i}_{k}.jpg") for i, n in enumerate(sizes) for k in range(n)]
    assert name_people(group_by_subject(photos), photos) == are_people


def test_name_people_takes_the_first_part_of_an_aihub_name_for_a_person():
    name = "{}_여_30_기쁨_도심 환경_20200108030401-110-{}.jpg"
    photos = [SplitItem("x", name.format(f"{i:064x}", k)) for i in (1, 2) for k in range(9)]
    assert name_people(group_by_subject(photos), photos)
