"""Groups of images by AI-Hub's file names and by tables, and who is on the images."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from tests.aihub import photo_name, record, write_labels
from utils.data.image_groups import FILE_NAMES, MAX_GROUPS, ImageGroups, find_groups
from utils.errors import StageError

PLACES = ("도심 환경", "공원&산")


def hub_images(count: int, form: str = "NFC") -> list[Path]:
    """Photos of 기쁨: ten people, each with photos in both places."""
    names = []
    for i in range(count):
        subject = hashlib.sha256(str(i % 10).encode()).hexdigest()
        sex, age, place = "남여"[i % 2], 10 * (1 + i % 3), PLACES[i % 4 // 2]
        names.append(f"{subject}_{sex}_{age}_기쁨_{place}_20210102030405-006-{i:03d}.jpg")
    return [Path("test/기쁨") / unicodedata.normalize(form, name) for name in names]


def counts(found: ImageGroups) -> dict[str, Counter]:
    return {a.name: Counter(a.groups.values()) for a in found.attributes}


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_aihub_tell_sex_age_place_and_people(form):
    images = hub_images(60, form)
    found = find_groups(images)
    assert counts(found) == {
        "sex": {"남": 30, "여": 30}, "age": {"10s": 20, "20s": 20, "30s": 20},
        "place": {"도심 환경": 30, "공원&산": 30},
    }  # fmt: skip
    assert {a.source for a in found.attributes} == {FILE_NAMES} and found.lines == []
    assert found.people.keys() == {*images} and len({*found.people.values()}) == 10


def test_images_with_other_names_are_in_no_group():
    images = hub_images(60) + [Path(f"test/기쁨/IMG_{i}.jpg") for i in range(5)]
    found = find_groups(images)
    assert counts(found)["sex"].total() == 60
    assert found.lines == [
        "5 of 65 images have other names than AI-Hub's, such as IMG_0.jpg: they are in no group by "
        "sex, age, place"
    ]
    few = find_groups([*images[:5], *images[60:]])  # not most of them
    assert few.attributes == [] and few.lines == []


def test_other_names_make_no_groups():
    assert find_groups([Path(f"fer{i:07d}.png") for i in range(9)]) == ImageGroups()
    assert find_groups([], [Path("no such table")]) == ImageGroups()


def test_folders_before_a_nested_name_hide_nobody():
    images = [path.with_name(f"EMOIMG_기쁨_01_{path.name}") for path in hub_images(40)]
    found = find_groups(images)
    assert counts(found)["sex"] == {"남": 20, "여": 20} and len({*found.people.values()}) == 10


def test_the_first_of_several_columns_of_people_counts(tmp_path):
    images = [Path(f"{i}.jpg") for i in range(4)]
    lines = [f"{i}.jpg,p{i},s{i // 2},x" for i in range(4)]
    found = find_groups(images, [written(tmp_path / "t.csv", "file,person,subject,kind", *lines)])
    assert [found.people[path] for path in images] == ["s0", "s0", "s1", "s1"]
    assert "t.csv: person is not used: subject tells who is on an image" in found.lines


def test_images_without_a_value_are_counted(tmp_path):
    images = [Path(f"{i}.jpg") for i in range(6)]
    lines = [f"{i}.jpg,{'ab'[i % 2] if i < 4 else 'NA'}," for i in range(6)]
    found = find_groups(images, [written(tmp_path / "t.csv", "file,kind,empty", *lines)])
    assert counts(found) == {"kind": {"a": 2, "b": 2}}
    assert any(line.endswith("t.csv: images without a value: kind 2") for line in found.lines)


def test_what_does_not_vary_or_varies_too_much_is_no_attribute(tmp_path):
    images = [Path(f"{i}.jpg") for i in range(60)]
    lines = [f"{i}.jpg,id{i},only,,{i % 2},{i % MAX_GROUPS}" for i in range(60)]
    found = find_groups(images, [written(tmp_path / "t.csv", "file,key,a,b,c,d", *lines)])
    assert counts(found).keys() == {"c", "d"}
    assert found.lines == ["t.csv: no groups by key (60 values), a (only only)"]


@pytest.mark.parametrize("sex", ["Sex", "성별"])
def test_a_table_replaces_an_attribute_of_the_names(tmp_path, sex):
    images = hub_images(60)
    lines = [f"{path.name},{'mf'[i % 2]}" for i, path in enumerate(images)]
    found = find_groups(images, [written(tmp_path / "t.csv", f"file,{sex}", *lines)])
    assert counts(found).keys() == {"age", "place", sex}
    assert counts(found)[sex] == {"m": 30, "f": 30}
    assert found.lines == ["sex: as in t.csv, not as in the file names"]


def test_tables_of_several_sets_are_one(tmp_path):
    images = [Path(f"{i}.jpg") for i in range(6)]
    a = written(tmp_path / "a.csv", "file,sex", "0.jpg,m", "1.jpg,f", "2.jpg,f")
    b = written(tmp_path / "b.csv", "file,sex,x", "2.jpg,m,1", "3.jpg,f,1", "4.jpg,m,2")
    found = find_groups(images, [a, b])
    assert counts(found) == {"sex": {"m": 2, "f": 3}, "x": {"1": 2, "2": 1}}
    assert f"{b}: 1 images have another sex there than in an earlier table, which counts" in (
        found.lines
    )


def test_ages_in_years_are_counted_by_decades(tmp_path):
    images = [Path(f"{i}.jpg") for i in range(4)]
    lines = ("0.jpg,9", "1.jpg,23", "2.jpg,25.0", "3.jpg,")
    found = find_groups(images, [written(tmp_path / "t.csv", "file,Age", *lines)])
    assert counts(found) == {"Age": {"0s": 1, "20s": 2}}
    assert "t.csv: Age is counted by decades" in found.lines
    odd = ["?", *map(str, range(20, 40))]
    lines = [f"{i}.jpg,{age}" for i, age in enumerate(odd)]
    images = [Path(f"{i}.jpg") for i in range(len(odd))]
    found = find_groups(images, [written(tmp_path / "t.csv", "file,age", *lines)])
    assert counts(found) == {"age": {"20s": 10, "30s": 10}}
    assert any("by decades, without 1 images whose value is no age, such as ?" in line
               for line in found.lines)  # fmt: skip
    for ages in (("10", "20", "30"), ("child", "23", "25")):  # decades, and names
        lines = tuple(f"{i}.jpg,{age}" for i, age in enumerate(ages))
        found = find_groups(images, [written(tmp_path / "t.csv", "file,age", *lines)])
        assert counts(found)["age"].keys() == {*ages}


def test_a_column_of_people_makes_no_groups_but_tells_who_is_on_an_image(tmp_path):
    images = [Path(f"{i}.jpg") for i in range(4)]
    lines = ("0.jpg,ann,f", "1.jpg,ann,f", "2.jpg,bob,m", "3.jpg,,m")
    found = find_groups(images, [written(tmp_path / "t.csv", "file,subject_id,sex", *lines)])
    assert counts(found).keys() == {"sex"}
    assert list(found.people.values()) == ["ann", "ann", "bob"]


def test_labels_of_aihub_add_agreement_but_keep_the_place_of_the_names(tmp_path):
    names = [photo_name("기쁨", i) for i in range(6)]
    seen = ("기쁨 기쁨 기쁨", "기쁨 당황 기쁨")
    records = [record(name, seen[i % 2]) for i, name in enumerate(names)]
    labels = write_labels(tmp_path / "[라벨]EMOIMG_기쁨_VALID.zip", records)
    found = find_groups([Path("test/기쁨") / name for name in names], [labels])
    assert counts(found)["agreement"] == {"3 of 3": 3, "2 of 3": 3}
    assert len(counts(found)["place"]) == 3  # not the one that every annotator saw
    assert found.lines == [
        "file names: no groups by sex (only 여), age (only 20s)",
        "[라벨]EMOIMG_기쁨_VALID.zip: no groups by isProf (only 일반인)",
    ]


def test_a_table_about_other_images_is_refused(tmp_path):
    images, train = [Path("1.jpg"), Path("3.jpg")], tmp_path / "train.csv"
    written(train, "file,sex", "2.jpg,f")
    with pytest.raises(StageError, match="no row for any of the 2 images"):
        find_groups(images, [train, train])
    test = written(tmp_path / "test.csv", "file,sex", "1.jpg,f", "3.jpg,m")
    found = find_groups(images, [train, test])  # one of them has rows
    assert counts(found) == {"sex": {"f": 1, "m": 1}}
    assert found.lines == [
        f"--groups {train} has no row for any of the 2 images; it begins with '2.jpg', the images "
        f"with '1.jpg'"
    ]
