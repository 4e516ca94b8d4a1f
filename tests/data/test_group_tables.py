"""Tables of groups: columns, votes, annotations and AI-Hub's label files, matched by file name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aihub import photo_name, record, write_labels
from tests.helpers import name_of, row, write_table
from utils.data.group_tables import (
    AGREEMENT,
    PLACE,
    GroupRows,
    agreement_of,
    as_group,
    open_groups,
    share_of_votes,
)
from utils.errors import StageError

IMAGES = [
    Path(f"data/test/{name}") for name in ("기쁨/1.jpg", "기쁨/2.jpg", "슬픔/1.jpg", "슬픔/3.jpg")
]


def written(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "t.csv"
    path.write_text("\n".join([*lines, ""]), encoding=encoding)
    return path


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    return {row.name: row.values for row in open_groups(path)}


def matched(path: Path, images: list[Path] = IMAGES) -> GroupRows:
    return GroupRows(open_groups(path), images)


# --- columns


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949"])
def test_every_column_is_an_attribute(tmp_path, encoding):
    path = written(
        tmp_path,
        "file;성별;glasses;",
        "1.jpg; 남 ;yes;x",
        "2.jpg;여;NaN;",
        "3.jpg",
        encoding=encoding,
    )
    assert rows_of(path) == {
        "1.jpg": {"성별": "남", "glasses": "yes"},
        "2.jpg": {"성별": "여", "glasses": ""},
        "3.jpg": {"성별": "", "glasses": ""},
    }


def test_two_columns_are_enough_and_a_votes_table_needs_no_others(tmp_path):
    assert rows_of(written(tmp_path, "file,sex", "1.jpg,f")) == {"1.jpg": {"sex": "f"}}
    votes = written(tmp_path, "sex,file,neutral,happiness,NF", "f,1.jpg,8,1,1", "m,2.jpg,10,,0")
    assert rows_of(votes) == {
        "1.jpg": {"sex": "f", AGREEMENT: "80–99 %"}, "2.jpg": {"sex": "m", AGREEMENT: "100 %"},
    }  # fmt: skip


def test_columns_called_like_classes_are_votes_only_if_they_hold_counts(tmp_path):
    path = written(tmp_path, "file,truth,happy,sad", "1.jpg,happy,0.7,0.3", "2.jpg,sad,1,0")
    assert list(rows_of(path)["1.jpg"]) == ["truth", "happy", "sad"]  # predictions.csv
    path = written(tmp_path, "file,happy", "1.jpg,1", "2.jpg,0")
    assert rows_of(path)["1.jpg"] == {"happy": "1"}  # one class: nobody voted
    path = written(tmp_path, "file,happy,sex,sad", "1.jpg,9,f,1", "2.jpg,5,m,5")
    assert rows_of(path)["1.jpg"] == {"sex": "f", AGREEMENT: "80–99 %"}


def test_columns_of_one_name_are_told_apart_and_printable(tmp_path):
    path = written(tmp_path, "file,sex,Sex,a\x1b[1m", "1.jpg,m,f,x")
    assert rows_of(path)["1.jpg"] == {"sex": "m", "Sex 2": "f", "a\\x1b[1m": "x"}
    votes = written(tmp_path, "file,agreement,happy,sad", "1.jpg,low,9,1")
    assert rows_of(votes)["1.jpg"] == {"agreement 2": "low", AGREEMENT: "80–99 %"}


def test_rows_without_counts_have_no_agreement(tmp_path):
    lines = [f"{i}.jpg,9,1" for i in range(100)]
    table = open_groups(written(tmp_path, "file,happy,sad", *lines, "x.jpg,9,?"))
    assert {row.name: row.values for row in table}["x.jpg"] == {}
    [problem] = table.problems()
    assert "t.csv: 1 rows hold no counts of votes, the first: t.csv line 102: '?' in" in problem


def test_as_group_is_one_printable_line():
    assert as_group("  도심\n 환경 ") == "도심 환경"
    assert as_group("a\x1b[31m") == "a\\x1b[31m"
    assert [as_group(word) for word in ("", " ", "nan", "NaN", "NA", "N/A", "null")] == [""] * 7
    assert [as_group(word) for word in ("no", "none", "0")] == ["no", "none", "0"]


# --- annotators


def test_an_annotation_table_tells_agreement_and_place(tmp_path):
    seen = (
        "기쁨 기쁨 기쁨", "기쁨 슬픔 기쁨", "기쁨 슬픔 분노", "기쁨 알수없음 기쁨", "기쁨 x 기쁨",
    )  # fmt: skip
    rows = [row(name_of("기쁨", i), seen=words) for i, words in enumerate(seen)]
    table = open_groups(write_table(tmp_path / "t.tsv", rows))
    found = {row.name: row.values[AGREEMENT] for row in table}
    assert found == dict(
        zip(
            [name_of("기쁨", i) for i in range(4)],
            ["3 of 3", "2 of 3", "1 of 3", "2 of 3"],
            strict=True,
        )
    )
    assert (
        "t.tsv: 1 rows cannot be read, the first: t.tsv line 6: TaskB_emotion"
        in table.problems()[0]
    )


def test_label_files_tell_agreement_place_and_actors(tmp_path):
    names = [photo_name("기쁨", i) for i in range(3)]
    records: list = [
        record(names[0]), record(names[1], "기쁨 당황 기쁨", isProf="전문인"), {"annot_A": 1},
    ]  # fmt: skip
    for letter, place in zip("AB", ("실내", "문화재"), strict=True):
        records[1][f"annot_{letter}"]["bg"] = place
    write_labels(tmp_path / "Training/[라벨]EMOIMG_기쁨_TRAIN.zip", records)
    table = open_groups(tmp_path)
    assert {row.name: row.values for row in table} == {
        names[0]: {AGREEMENT: "3 of 3", PLACE: "도심 환경", "isProf": "일반인"},
        names[1]: {AGREEMENT: "2 of 3", PLACE: "", "isProf": "전문인"},
    }
    assert table.is_of_photos and "1 rows cannot be read" in table.problems()[0]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [("a a a", "3 of 3"), ("a b a", "2 of 3"), ("a b c", "1 of 3"), ("알수없음 a a", "2 of 3"),
     ("알수없음 알수없음 a", "1 of 3"), ("알수없음 알수없음 알수없음", "")],
)  # fmt: skip
def test_agreement_of_three(answers, expected):
    assert agreement_of(answers.split()) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((10, 0), "100 %"), ((9, 1), "80–99 %"), ((8, 1, 1), "80–99 %"), ((199, 1), "80–99 %"),
     ((79, 21), "60–79 %"), ((6, 4), "60–79 %"), ((2, 1), "60–79 %"), ((5, 5), "0–59 %"),
     ((1, 1, 1), "0–59 %"), ((1,), ""), ((0, 0), ""), ((), "")],
)  # fmt: skip
def test_share_of_votes(counts, expected):
    assert share_of_votes({str(i): count for i, count in enumerate(counts)}) == expected


# --- rows and images


def test_a_folder_tells_images_of_one_name_apart(tmp_path):
    path = written(tmp_path, "file,sex", "기쁨/1.jpg,m", "test/슬픔/1.jpg,f", "2.jpg,f", "9.jpg,m")
    rows = matched(path)
    assert {str(image): values["sex"] for image, values in rows.groups.items()} == {
        "data/test/기쁨/1.jpg": "m", "data/test/슬픔/1.jpg": "f", "data/test/기쁨/2.jpg": "f",
    }  # fmt: skip
    assert rows.lines() == [
        f"{path}: 1 of 4 rows are about no image here, such as 9.jpg",
        f"{path}: 1 of 4 images have no row, such as 슬픔/3.jpg",
    ]


def test_a_name_of_several_images_is_used_for_none(tmp_path):
    path = written(tmp_path, "file,sex", "1.jpg,m", "1.jpg,f", "2.jpg,f", "3.jpg,f")
    rows = matched(path)
    assert [str(image) for image in rows.groups] == ["data/test/기쁨/2.jpg", "data/test/슬픔/3.jpg"]
    assert rows.lines()[0] == (
        f"{path}: 2 rows may mean several images, such as 1.jpg, and are not used: write the class "
        f"folder before the name"
    )


def test_of_several_rows_the_first_of_the_best_path_counts(tmp_path):
    path = written(
        tmp_path,
        "file,sex",
        "train/기쁨/1.jpg,x",
        "test/기쁨/1.jpg,m",
        "2.jpg,f",
        "2.jpg,m",
        "2.jpg,f",
    )
    rows = matched(path)
    assert [values["sex"] for values in rows.groups.values()] == ["m", "f"]
    assert (
        f"{path}: 1 rows repeat an image with other values: the first row counts, not "
        in (rows.lines()[0])
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("x/7.jpg,m",), "t.csv has no row for any of the 4 images; it begins with 'x/7.jpg', the"),
        ((",m",), "has no row for any of the 4 images$"),
        (("1.jpg,m",), "of the 4 images alone, because several are called 1.jpg: write the class"),
    ],
)
def test_a_table_about_other_images_is_refused(tmp_path, lines, message):
    with pytest.raises(StageError, match=message):
        matched(written(tmp_path, "file,sex", *lines))


def test_a_quote_that_is_not_closed_is_refused(tmp_path):
    path = written(tmp_path, "file,sex", '1.jpg,"m', "2.jpg,f")
    with pytest.raises(StageError, match="line 3: a cell has several lines"):
        rows_of(path)


def test_a_path_without_a_table_is_refused(tmp_path):
    with pytest.raises(StageError, match="holds no label file of AI-Hub"):
        open_groups(tmp_path)
    with pytest.raises(StageError, match="no such file"):
        open_groups(tmp_path / "x.csv")
