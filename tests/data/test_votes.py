"""Tables of votes of any number of annotators, and the majority."""

from __future__ import annotations

import csv
import os

import pytest

from utils.data.annotations import RowError
from utils.data.votes import VotesTable, fer_plus_class, majority, open_votes
from utils.emotions import UNKNOWN
from utils.errors import StageError

FER_PLUS = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\n"
    "Training,,0,0,0,0,0,0,0,0,0,10\n"
    "PublicTest,fer0000002.png,0,10,0,0,0,0,0,0,0,0\n"
)


def write(path, text: str, encoding: str = "utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("counts", "minimum", "winner"),
    [
        ({"a": 2, "b": 1}, 1, "a"),
        ({"a": 2, "b": 2}, 1, None),
        ({"a": 2, "b": 1, "c": 1}, 1, None),  # half is not more than half
        ({"a": 2, "b": 1, "c": 1}, 2, "a"),
        ({"a": 1, "b": 1}, 2, None),
        ({"a": 0, "b": 0}, 1, None),
        ({}, 1, None),
    ],
)
def test_majority_needs_more_than_half_of_the_votes_that_count(counts, minimum, winner):
    assert majority(counts, minimum) == winner


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        ({"anger": 3, "neutral": 1, "sadness": 1, "fear": 1}, "anger"),
        ({"anger": 3, "neutral": 3}, UNKNOWN),
        ({"unknown": 6, "neutral": 4}, UNKNOWN),
        ({"NF": 10}, UNKNOWN),
        ({"anger": 1}, UNKNOWN),
    ],
)
def test_fer_plus_class_is_that_of_the_papers_majority(counts, name):
    assert fer_plus_class(counts) == name


def test_votes_table_reads_fer_plus(tmp_path):
    table = VotesTable(write(tmp_path / "fer2013new.csv", FER_PLUS))
    first, empty, last = table
    assert (first.name, empty.name, last.name) == ("fer0000000.png", "", "fer0000002.png")
    assert first.counts() == {
        "neutral": 4, "happiness": 0, "surprise": 0, "sadness": 1, "anger": 3, "disgust": 2,
        "fear": 0, "contempt": 0, "unknown": 0, "NF": 0,
    }  # fmt: skip
    assert empty.counts()["NF"] == 10 and last.where == "fer2013new.csv line 4"
    assert table.describe_columns() == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_votes_table_of_any_text(tmp_path, encoding, delimiter, end):
    lines = ["파일명,기쁨,슬픔,알수없음", "", '"분노, 1.png",2,1.0,', "b.png, 3 ,0,1"]
    lines[2] = '"분노, 1.png"' + lines[2].removeprefix('"분노, 1.png"').replace(",", delimiter)
    text = end.join(
        line if i == 2 else line.replace(",", delimiter) for i, line in enumerate(lines)
    )
    table = VotesTable(write(tmp_path / "v", text, encoding), ["sad", "happy"])
    assert [row.name for row in table] == ["분노, 1.png", "b.png"]
    assert [row.counts() for row in table] == [
        {"happy": 2, "sad": 1, "알수없음": 0},
        {"happy": 3, "sad": 0, "알수없음": 1},
    ]
    [line] = table.describe_columns()
    assert line.endswith("has the classes by other names: 기쁨 = happy, 슬픔 = sad")


@pytest.mark.parametrize(
    "column", ["file", "name", "image", "Image name", "filename", "image_path", "FILE", "파일"]
)
def test_votes_table_finds_the_column_of_files(tmp_path, column):
    table = VotesTable(
        write(tmp_path / "v.csv", f"calm,{column},tired\n1,x.png,2\n"), ["calm", "tired"]
    )
    assert [(row.name, row.counts()) for row in table] == [("x.png", {"calm": 1, "tired": 2})]


def test_votes_table_names_the_columns_that_it_does_not_use(tmp_path):
    text = "file,Usage,width,calm,tired,sad\na.png,Training,48,1,2,3\nshort.png\n"
    table = VotesTable(write(tmp_path / "v.csv", text), ["calm", "tired"])
    assert table.classes == ["calm", "tired", "sad"]
    assert table.describe_columns() == [
        f"{tmp_path / 'v.csv'}: not used, because no class is called so: width"
    ]
    assert [row.counts()["calm"] for row in table] == [1, 0]


@pytest.mark.parametrize(
    ("header", "classes", "unused"),
    [
        ("file,age,calm,bored,tired,width", ["calm", "bored", "tired"], "age width"),
        ("id,1,2,file,3,4,age,5", ["1", "2", "3", "4", "age", "5"], ""),
        ("0,1,2,3,file,age", ["0", "1", "2", "3"], "age"),
    ],
)
def test_votes_for_classes_that_the_training_lacks_are_votes(tmp_path, header, classes, unused):
    table = VotesTable(write(tmp_path / "v.csv", header + "\n"), ["calm", "tired", "1", "5"])
    assert table.classes == classes
    assert " ".join(table.unused) == unused


@pytest.mark.parametrize("cell", ["-1", "x", "nan", "0.5", "1e3", "1_0", "٣", "9" * 99])
def test_a_cell_that_is_no_number_of_votes_is_an_error_of_its_row(tmp_path, cell):
    table = VotesTable(write(tmp_path / "v.csv", f"file,happy,sad\na,{cell},0\nb,1,2\n"))
    bad, good = table
    with pytest.raises(RowError, match="in the column happy is no whole number of votes"):
        bad.counts()
    assert good.counts() == {"happy": 1, "sad": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no table of votes"),
        (b"hello\n", "is no table of votes"),
        (b"a,b,c\n1,2,3\n", "has no column of file names .*; its header is: a b c"),
        (b"file,b,c\n1,2,3\n", "has no column of votes for a class; its header is: file b c"),
        (b"file,happy,happy\n", "has two columns for 기쁨; put their votes into one"),
        (b"file,joy,happy\n", r"joy and happy are the same class \(기쁨\)"),
        (b"\x89PNG\0\0\0", "is a binary file"),
        (
            b'file,happy,sad\n"a.png,1,0\nb.png,1,0\n',
            "line 3: a cell has several lines; a quote",
        ),
    ],
)
def test_votes_table_refuses_what_is_no_table(tmp_path, content, message):
    path = tmp_path / "v.csv"
    path.write_bytes(content)
    with pytest.raises(StageError, match=message):
        list(VotesTable(path, ["기쁨", "슬픔"]))


def test_votes_table_refuses_a_huge_cell(tmp_path):
    limit = csv.field_size_limit(1000)
    try:
        table = VotesTable(write(tmp_path / "v.csv", f"file,happy,sad\na{'b' * 2000},1,0\n"))
        with pytest.raises(StageError, match="line 2: field larger than field limit"):
            list(table)
    finally:
        csv.field_size_limit(limit)


def test_votes_table_refuses_a_missing_file(tmp_path):
    with pytest.raises(StageError, match="no such file"):
        VotesTable(tmp_path / "v.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
def test_open_votes_does_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "v.csv")
    with pytest.raises(StageError, match="is not a regular file"):
        open_votes(tmp_path / "v.csv", ())
