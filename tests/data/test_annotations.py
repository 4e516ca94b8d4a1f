"""The annotation table and its rows."""

from __future__ import annotations

import unicodedata

import pytest

from tests.helpers import box_cell, row, write_table
from utils.data.annotations import COLUMNS, NameRegistry, RowError, Table
from utils.data.boxes import consensus
from utils.emotions import majority_vote
from utils.errors import StageError
from utils.imaging.geometry import Box


def read(path, required=("name", "url")):
    return list(Table(path, required))


def test_table_without_header_gives_the_same_rows(tmp_path):
    rows = [row("a_기쁨_.jpg"), row("b_기쁨_.jpg")]
    with_header = read(write_table(tmp_path / "a.tsv", rows))
    without = read(write_table(tmp_path / "b.tsv", rows, header=False))
    assert [r.cells for r in with_header] == [r.cells for r in without]
    assert [r.line for r in with_header] == [2, 3] and [r.line for r in without] == [1, 2]
    assert [r.photo_name() for r in without] == ["a_기쁨_.jpg", "b_기쁨_.jpg"]


def test_table_finds_columns_by_name(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("extra\turl\tname\n1\thttp://x/a\ta.jpg\n", encoding="utf-8")
    [only] = read(path)
    assert (only["url"], only.photo_name()) == ("http://x/a", "a.jpg")


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_table_ignores_bom_line_ends_and_blank_lines(tmp_path, bom, end, last):
    lines = [b"name\turl", "기쁨.jpg\thttp://x/".encode(), b"", b'"b.jpg"\t"http://y/"']
    path = tmp_path / "t.tsv"
    path.write_bytes(bom + end.join(lines) + (end if last else b""))
    assert [(r.photo_name(), r["url"]) for r in read(path)] == [
        ("기쁨.jpg", "http://x/"),
        ("b.jpg", "http://y/"),
    ]


def test_row_reads_quoted_cells_with_doubled_quotes_and_tabs(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('name\turl\tx\n"a ""1"".jpg"\t"http://x/\ta"\t\n"b.jpg\thttp://y\tz\n')
    first, second = read(path)
    assert (first["name"], first["url"], first["x"]) == ('a "1".jpg', "http://x/\ta", "")
    # A quote that is never closed is text, and takes no other cell or row with it.
    assert (second["name"], second["url"]) == ('"b.jpg', "http://y")


def test_row_composes_names_and_keeps_urls(tmp_path):
    decomposed = unicodedata.normalize("NFD", "a_기쁨_.jpg")
    [only] = read(write_table(tmp_path / "t.tsv", [row(decomposed, "http://x/" + decomposed)]))
    assert only.photo_name() == "a_기쁨_.jpg" and only.posed_emotion() == "기쁨"
    assert only["url"] == "http://x/" + decomposed


def test_row_gives_answers_and_boxes(tmp_path):
    cells = row("a_기쁨_.jpg", seen="기쁨 슬픔 슬픔")
    cells["TaskB_result"] = '"' + box_cell(12, 10, 52, 60).replace('"', '""') + '"'
    cells["TaskC_result"] = box_cell(400, 400, 500, 500)
    [only] = read(write_table(tmp_path / "t.tsv", [cells]))
    assert (only.posed_emotion(), majority_vote(only.answers())) == ("기쁨", "슬픔")
    assert consensus(only.boxes()) == Box(11, 10, 51, 60)


@pytest.mark.parametrize(
    ("change", "what", "reason"),
    [
        ({"name": "../a_기쁨_.jpg"}, "photo_name", "not safe"),
        ({"name": ""}, "photo_name", "empty"),
        ({"name": "photo.jpg"}, "posed_emotion", "none of the seven"),
        ({"TaskB_emotion": "모름"}, "answers", "TaskB_emotion"),
        ({"TaskB_emotion": ""}, "answers", "TaskB_emotion is empty"),
        ({"TaskC_result": "{"}, "boxes", "TaskC_result is not JSON"),
        ({"TaskC_result": "[]"}, "boxes", "TaskC_result has no box"),
        ({"more": "cells"}, "answers", "12 cells in a table of 11"),
    ],
)
def test_row_error_names_the_cell_and_the_reason(tmp_path, change, what, reason):
    [only] = read(write_table(tmp_path / "t.tsv", [row("a_기쁨_.jpg") | change]))
    with pytest.raises(RowError, match=reason):
        getattr(only, what)()


def test_row_names_the_emotion_of_an_invalid_answer(tmp_path):
    cells = row("a_기쁨_.jpg") | {"TaskB_emotion": "기쁨/슬픔"}
    [only] = read(write_table(tmp_path / "t.tsv", [cells]))
    with pytest.raises(RowError, match="TaskB_emotion '기쁨/슬픔' is not one of"):
        only.answers()


def test_row_that_is_not_utf8_fails_alone(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes("name\turl\n기쁨.jpg\thttp://x\n".encode() + "슬픔.jpg\tu\n".encode("cp949"))
    good, bad = read(path)
    assert good.photo_name() == "기쁨.jpg"
    with pytest.raises(RowError, match="UTF-8"):
        bad.photo_name()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xff\xd8\xff\0\0binary", "binary"),
        ("name\turl\n".encode("utf-16"), "UTF-16"),
        ("name\turl\n기쁨.jpg\tu\n슬픔.jpg\tu\n".encode("cp949"), "CP949"),
        (b"name\tTaskA_emotion\n", "no column url"),
        (b"hello\n", "no header and 1 column"),
        (b"name\turl\ra.jpg\thttp://x\r", "CR alone"),
        (b"name,url\na.jpg,http://x\n", "no header and 1 column"),
    ],
)
def test_table_refuses_other_files_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    with pytest.raises(StageError, match=reason):
        Table(path, ("name", "url"))


def test_table_reports_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(StageError, match=r"none\.tsv: no such file; name the table with --input"):
        Table(tmp_path / "none.tsv", ())
    with pytest.raises(StageError, match=r"directory|denied"):
        Table(tmp_path, ())


def test_table_separates_the_columns_of_an_error_log(tmp_path):
    path = tmp_path / "x.error.log"
    path.write_text("name\turl\terror\ttime\na.jpg\tu\tbroken\tnow\n")
    table = Table(path, ("name",))
    assert table.is_error_log and table.columns == ("name", "url")
    [only] = table
    assert only.cells == ("a.jpg", "u") and only.error == ("broken", "now")


def test_table_counts_its_rows(tmp_path):
    rows = [row(f"{i}_기쁨_.jpg") for i in range(7)]
    assert Table(write_table(tmp_path / "a.tsv", rows), ()).count() == 7
    assert Table(write_table(tmp_path / "b.tsv", rows, header=False), ()).count() == 7


def test_name_registry_tells_repeated_from_conflicting_rows(tmp_path):
    [first] = Table(write_table(tmp_path / "t.tsv", [row("a.jpg")]), ())
    names = NameRegistry()
    assert names.is_new(first, "a", 1) is True
    assert names.is_new(first, "b", 1) is True
    assert names.is_new(first, "a", 1) is False
    with pytest.raises(RowError, match="earlier row"):
        names.is_new(first, "a", 2)


@pytest.mark.parametrize("names", [("a.jpg", "A.jpg"), ("A.jpg", "a.jpg"), ("aB.jpg", "Ab.jpg")])
def test_name_registry_refuses_names_that_differ_in_case_where_the_disk_does(tmp_path, names):
    [row_] = Table(write_table(tmp_path / "t.tsv", [row(names[0])]), ())
    registry = NameRegistry()
    assert [registry.is_new(row_, name, name, lambda: False) for name in names] == [True, True]
    registry = NameRegistry()
    assert registry.is_new(row_, names[0], 1, lambda: True)
    assert not registry.is_new(row_, names[0], 1, lambda: True)  # a repeated row
    with pytest.raises(RowError, match="earlier row differs in upper and lower case only"):
        registry.is_new(row_, names[1], 1, lambda: True)
    assert not registry.is_new(row_, names[0], 1, lambda: True)


# The text of NameRegistry.CONFLICT, and the one that the logs of version 0.1.0 hold.
CONFLICTS = (
    "conflict: an earlier row has this name and other content; correct the table itself",
    "the name stands in an earlier row, with other content: correct the table itself",
)


@pytest.mark.parametrize("reason", CONFLICTS)
def test_name_registry_remembers_a_conflict_from_an_error_log(tmp_path, reason):
    path = tmp_path / "parse.error.log"
    cells = ["\t".join(row(name).values()) for name in ("a.jpg", "b.jpg")]
    path.write_text(
        "\t".join([*COLUMNS, "error", "time"]) + "\n"
        f"{cells[0]}\t{reason}\t2024-01-01T00:00:00+0900\n"
        f"{cells[1]}\tTaskA_result is not JSON\t2024-01-01T00:00:00+0900\n",
        encoding="utf-8",
    )
    conflict, other = Table(path, ())
    names = NameRegistry()
    with pytest.raises(RowError, match="earlier row"):
        names.is_new(conflict, "a", 1)
    assert names.is_new(other, "b", 1) is True


def test_name_registry_writes_a_reason_that_it_knows_again():
    assert (NameRegistry.CONFLICT, NameRegistry.OLD_CONFLICT) == CONFLICTS


def test_table_accepts_repeated_columns_and_short_rows(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("name\tnote\tnote\turl\na.jpg\t1\t2\thttp://x\n")
    assert [(r.photo_name(), r["url"]) for r in read(path)] == [("a.jpg", "http://x")]
    rows = [row("a.jpg"), row("b.jpg")]
    write_table(path, rows, header=False)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("a.jpg\thttp://x\n" + lines[1] + "\n", encoding="utf-8")
    assert [r.photo_name() for r in read(path)] == ["a.jpg", "b.jpg"]


def test_answers_of_an_annotator_who_cannot_tell_are_no_vote(tmp_path):
    table = write_table(tmp_path / "t.tsv", [row("a.jpg", seen="기쁨 알수없음 기쁨")])
    [only] = Table(table, required=())
    assert only.answers() == ["기쁨", "알수없음", "기쁨"]
    assert majority_vote(only.answers()) == "기쁨"
