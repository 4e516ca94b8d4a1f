"""Folds of the training images: how many of each class, and who stays together."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers import make_faces
from utils.data.folds import (
    ALWAYS,
    Fold,
    assign_folds,
    digest_of,
    find_groups,
    make_photos,
    predictions_path,
)
from utils.data.image_folder import make_samples, scan_class_folders
from utils.data.split import SplitItem
from utils.emotions import UNKNOWN
from utils.errors import StageError


def make(**counts: int) -> list[SplitItem]:
    return [SplitItem(label, f"{i:03d}.png") for label, n in counts.items() for i in range(n)]


def sizes_of(photos: list[SplitItem], folds: list[int]) -> dict[str, list[int]]:
    """Class → its photos in each fold, the smallest first."""
    counts = Counter(zip((photo.label for photo in photos), folds, strict=True))
    labels = {photo.label for photo in photos}
    return {a: sorted(n for (b, _), n in counts.items() if a == b) for a in labels}


def test_fold_is_read_and_written_as_a_fraction():
    fold = Fold.parse(" 2/5")
    assert (fold, str(fold), fold.name) == (Fold(2, 5), "2/5", "fold2of5")


@pytest.mark.parametrize("text", ["2", "0/5", "6/5", "1/1", "-1/5", "1/101", "a/5", "", "2/5/5"])
def test_fold_refuses_other_texts(text):
    with pytest.raises(ValueError, match=r".*"):
        Fold.parse(text)


def test_predictions_lie_beside_the_model():
    assert predictions_path(Path("a/b.pt")) == Path("a/b-folds/predictions.csv")


def test_assign_folds_gives_each_fold_as_many_of_each_class():
    photos = make(x=103, y=52, z=3)
    folds = assign_folds(photos, [], 5, 0)
    assert sizes_of(photos, folds) == {
        "x": [20, 20, 21, 21, 21], "y": [10, 10, 10, 11, 11], "z": [1, 1, 1],
    }  # fmt: skip
    assert max(Counter(folds).values()) - min(Counter(folds).values()) <= 1  # in all, too


def test_assign_folds_depends_on_photos_and_seed_alone():
    photos, groups = make(x=40, y=33), [[3, 4, 70], [4, 9]]
    folds = dict(zip(photos, assign_folds(photos, groups, 4, 1), strict=True))
    order = random.Random(0).sample(range(73), 73)
    moved = [[order.index(i) for i in group] for group in reversed(groups)]
    shuffled = [photos[i] for i in order]
    assert folds == dict(zip(shuffled, assign_folds(shuffled, moved, 4, 1), strict=True))
    assert folds != dict(zip(photos, assign_folds(photos, groups, 4, 2), strict=True))


def test_assign_folds_keeps_groups_whole_and_classes_even():
    chance = random.Random(3)
    photos = make(x=300, y=200)
    groups = [chance.sample(range(500), chance.randint(1, 6)) for _ in range(60)]
    folds = assign_folds(photos, groups, 5, 0)
    for group in groups:
        assert len({folds[i] for i in group}) == 1
    for label, count in (("x", 60), ("y", 40)):
        counts = Counter(f for f, photo in zip(folds, photos, strict=True) if photo.label == label)
        assert all(abs(counts[fold] - count) <= 3 for fold in range(1, 6)), counts


def test_a_large_group_of_one_class_leaves_the_others_even():
    photos = make(x=20, y=20)
    folds = assign_folds(photos, [range(8)], 5, 0)
    assert sizes_of(photos, folds) == {"x": [3, 3, 3, 3, 8], "y": [4, 4, 4, 4, 4]}


def test_assign_folds_leaves_unknown_out_only_with_its_group():
    photos = [*make(x=8), *make(UNKNOWN=3)]
    folds = assign_folds(photos, [[0, 8], [9, 10]], 2, 0)
    assert folds[8] == folds[0] != ALWAYS  # a copy of a photo that is left out
    assert folds[9:] == [ALWAYS, ALWAYS]
    assert photos[8].label == UNKNOWN


def test_make_photos_and_groups_of_a_folder(tmp_path):
    root = make_faces(tmp_path / "train", ["기쁨", "분노"], 3)
    (root / "기쁨/sub").mkdir()
    (root / "기쁨/0002.png").rename(root / "기쁨/sub/0002.png")
    (root / "분노/0001.png").write_bytes((root / "기쁨/0000.png").read_bytes())
    folders = scan_class_folders(root)
    photos = make_photos(make_samples(folders, list(folders)), root)
    names = [(photo.label, photo.name) for photo in photos]
    assert names[:3] == [("기쁨", "0000.png"), ("기쁨", "0001.png"), ("기쁨", "sub/0002.png")]
    # No list of copies, for dataPreparation.py did not make the folder: the bytes are compared.
    assert find_groups(photos, tmp_path) == [[0, 4]]
    (tmp_path / "split.tsv").write_text("file\tclass\tset\n")
    assert find_groups(photos, tmp_path) == []
    header = "same\tclass\tfile\tset\tdistance\n"
    rows = [
        "7\t기쁨\t0001.png\ttrain\t0.1",
        "7\t분노\t0002.png\ttrain\t0.1",
        "7\t분노\tx.png\ttest\t0",
    ]
    (tmp_path / "copies.tsv").write_text(header + "".join(f"{row}\n" for row in rows))
    assert find_groups(photos, tmp_path) == [[1, 5]]
    (tmp_path / "copies.tsv").write_text("what\n1\n")
    with pytest.raises(StageError, match=r"copies\.tsv is not a list of copies"):
        find_groups(photos, tmp_path)


def test_find_groups_keeps_people_together(tmp_path):
    names = [f"p{i % 12:02d}_{i}.png" for i in range(48)]
    photos = [SplitItem("x", name, tmp_path / name) for name in names]
    assert [0, 12, 24, 36] in find_groups(photos, tmp_path)


def test_digest_of_depends_on_folds_and_images():
    assert digest_of([1, 2], "a") == digest_of([1, 2], "a")
    assert len({digest_of([1, 2], "a"), digest_of([2, 1], "a"), digest_of([1, 2], "b")}) == 3
