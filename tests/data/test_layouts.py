"""Which layouts of folders are recognised, and what each means."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from utils.data.layouts import Layout, name_classes, pool, ratios_of, read_layout
from utils.data.split import SplitItem
from utils.errors import StageError

RATIO = [Fraction(80), Fraction(10), Fraction(10)]


def layout_of(root: Path, *files: str, names: list[str] | None = None) -> Layout:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return read_layout(root, names, lambda: False)


def found(layout: Layout) -> set[str]:
    return {"/".join((photo.part, photo.label, photo.name)) for photo in layout.photos}


def test_class_folders_have_no_parts(tmp_path):
    layout = layout_of(tmp_path, "x/1.jpg", "x/day 1/1.jpg", "y/1.jpg", "UNKNOWN/1.jpg")
    assert found(layout) == {"/x/1.jpg", "/x/day 1_1.jpg", "/y/1.jpg"} and layout.lines == []


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "valid", "Testing"),
        ("train_set", "val_set", "TEST"),
        ("training_data", "dev", "test-images"),
        ("Training", "PublicTest", "PrivateTest"),
        ("FER2013Train", "FER2013Valid", "FER2013Test"),
    ],
)
def test_sets_are_parts(tmp_path, names):
    layout = layout_of(tmp_path, *(f"{name}/{label}/1.jpg" for name in names for label in "xy"))
    parts = ("train", "validation", "test")
    assert found(layout) == {f"{part}/{label}/1.jpg" for part in parts for label in "xy"}


def test_folders_above_the_classes_are_skipped(tmp_path):
    layout = layout_of(tmp_path, "archive/images/x/1.jpg", "archive/images/y/1.jpg", "README.md")
    assert found(layout) == {"/x/1.jpg", "/y/1.jpg"}
    assert layout.lines == [f"{tmp_path}: the faces are in {tmp_path / 'archive/images'}"]
    inner = tmp_path / "sets"
    files = [f"in/{part}/images/{label}/1.jpg" for part in ("train", "test") for label in "xy"]
    assert found(layout_of(inner, *files)) == {
        f"{part}/{label}/1.jpg" for part in ("train", "test") for label in "xy"
    }
    alone = layout_of(tmp_path / "one", "기쁨/day/1.jpg")  # a class, not a folder above classes
    assert found(alone) == {"/기쁨/day_1.jpg"}


def test_classes_inside_the_folders_of_persons(tmp_path):
    files = ("S1/happy/1.jpg", "S1/sad/1.jpg", "S2/Happy/1.jpg", "S3/sad/x/1.jpg")
    layout = layout_of(tmp_path, *files)
    assert found(layout) == {
        "/happy/S1_1.jpg", "/happy/S2_1.jpg", "/sad/S1_1.jpg", "/sad/S3_x_1.jpg"
    }  # fmt: skip
    assert layout.lines == [f"{tmp_path}: the classes are the folders inside 3 others"]


def test_folders_beside_the_sets_are_left_out_with_a_line(tmp_path):
    layout = layout_of(
        tmp_path, "train/x/1.jpg", "train/y/1.jpg", "val/x/1.jpg", "val/z/1.jpg", "docs/1.jpg"
    )
    assert {photo.part for photo in layout.photos} == {"train", "validation"}
    assert layout.lines == [
        f"{tmp_path}: left out, because they are no sets: docs",
        "validation has no y",
        "validation has z, which train lacks",
    ]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (("train/1.jpg", "test/1.jpg"), "without class folders"),
        (("val/x/1.jpg", "test/x/1.jpg"), "no train set"),
        (("train/x/1.jpg", "val/x/1.jpg", "valid/x/1.jpg"), "are both the validation set"),
        (("fer2013.csv", "x/a.txt"), "if fer2013.csv is FER2013's: python dataPreparation.py"),
    ],
)
def test_what_no_layout_fits_is_refused(tmp_path, files, reason):
    with pytest.raises(StageError, match=reason):
        layout_of(tmp_path, *files)


def test_numbered_classes(tmp_path):
    files = [f"{part}/{n}/1.jpg" for part in ("train", "val") for n in range(8)]
    layout = layout_of(tmp_path, *files)
    assert {photo.label for photo in layout.photos} == set("01234567")
    [line] = [line for line in layout.lines if "numbers" in line]
    assert "AffectNet's" in line and "--classes neutral happiness sadness surprise" in line
    names = ["중립", "기쁨", "슬픔", "놀람", "공포", "혐오", "분노", "UNKNOWN"]
    named = layout_of(tmp_path, names=names)
    assert {photo.label for photo in named.photos} == {*names} - {"UNKNOWN"}
    assert all(names[int(photo.path.parent.name)] == photo.label for photo in named.photos)


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ("0 1 2", "a b c", "a b c"),
        ("1 2 3", "a b c", "a b c"),
        ("0 2", "a b c", "a c"),
        ("1 3", "a b c", "a c"),
        ("0 1 2", "a b", "give 3 names, the first one for 0"),
        ("1 2 3", "a b c d", "give 3 names, the first one for 1"),
        ("x 1", "a b", "has x"),
        ("0 1", "a a", "stands there twice"),
        ("0 1", "a b/c", "cannot be the name"),
    ],
)
def test_names_of_numbers(labels, names, expected):
    if len(expected) > 5 or "x" in expected:
        with pytest.raises(StageError, match=expected):
            name_classes(labels.split(), names.split(), Path("faces"))
    else:
        renamed = name_classes(labels.split(), names.split(), Path("faces"))
        assert list(renamed.values()) == expected.split()


@pytest.mark.parametrize(
    ("parts", "train", "words"),
    [
        ({"train", "validation", "test"}, [1, 0, 0], "train, validation and test are kept"),
        ({"train", "test"}, [80, 10, 0], r"taken out of train \(11.1 % of it\)"),
        ({"train", "validation"}, [1, 0, 0], "are kept; there is no test set"),
        ({"train"}, [80, 10, 0], "^the set train is kept, .*; there is no test set"),
    ],
)
def test_a_missing_validation_set_comes_out_of_train(parts, train, words):
    ratios, text = ratios_of(parts, RATIO)
    assert ratios["train"] == train and re.search(words, text)
    assert all(ratios[part][("train", "validation", "test").index(part)] for part in parts)
    assert ratios_of({""}, RATIO) == ({"": RATIO}, "")


def test_pooled_photos_of_one_name_stay_two():
    photos = [SplitItem("x", "1.jpg", Path(part), part=part) for part in ("train", "test")]
    pooled = pool(photos)
    assert [(photo.name, photo.part) for photo in pooled] == [("1.jpg", ""), ("1-2.jpg", "")]
    assert [photo.path for photo in pooled] == [photo.path for photo in photos]
