"""Reading the table, and writing the error log that is one again."""

from __future__ import annotations

import unicodedata

import pytest

from tests.helpers import box_cell, row, write_table
from utils.data.annotations import COLUMNS, NameRegistry, RowError, Table
from utils.data.boxes import consensus
from utils.data.error_log import ErrorLog
from utils.emotions import majority_vote
from utils.errors import StageError
from utils.imaging.geometry import Box


def read(path, required=("name", "url")):
    return list(Table(path, required))


def test_header_or_none_give_the_same_rows(tmp_path):
    rows = [row("a_기쁨_.jpg"), row("b_기쁨_.jpg")]
    with_header = read(write_table(tmp_path / "a.tsv", rows))
    without = read(write_table(tmp_path / "b.tsv", rows, header=False))
    assert [r.cells for r in with_header] == [r.cells for r in without]
    assert [r.line for r in with_header] == [2, 3] and [r.line for r in without] == [1, 2]
    assert [r.photo_name() for r in without] == ["a_기쁨_.jpg", "b_기쁨_.jpg"]


def test_columns_go_by_name(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("extra\turl\tname\n1\thttp://x/a\ta.jpg\n", encoding="utf-8")
    [only] = read(path)
    assert (only["url"], only.photo_name()) == ("http://x/a", "a.jpg")


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_bom_line_ends_and_blank_lines(tmp_path, bom, end, last):
    lines = [b"name\turl", "기쁨.jpg\thttp://x/".encode(), b"", b'"b.jpg"\t"http://y/"']
    path = tmp_path / "t.tsv"
    path.write_bytes(bom + end.join(lines) + (end if last else b""))
    assert [(r.photo_name(), r["url"]) for r in read(path)] == [
        ("기쁨.jpg", "http://x/"),
        ("b.jpg", "http://y/"),
    ]


def test_quoted_cells_with_doubled_quotes_and_tabs(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('name\turl\tx\n"a ""1"".jpg"\t"http://x/\ta"\t\n"b.jpg\thttp://y\tz\n')
    first, second = read(path)
    assert (first["name"], first["url"], first["x"]) == ('a "1".jpg', "http://x/\ta", "")
    # A quote that is never closed is text, and takes no other cell or row with it.
    assert (second["name"], second["url"]) == ('"b.jpg', "http://y")


def test_names_are_nfc_and_urls_are_not_touched(tmp_path):
    decomposed = unicodedata.normalize("NFD", "a_기쁨_.jpg")
    [only] = read(write_table(tmp_path / "t.tsv", [row(decomposed, "http://x/" + decomposed)]))
    assert only.photo_name() == "a_기쁨_.jpg" and only.posed_emotion() == "기쁨"
    assert only["url"] == "http://x/" + decomposed


def test_a_row_gives_its_vote_and_box(tmp_path):
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
def test_what_is_wrong_with_a_row(tmp_path, change, what, reason):
    [only] = read(write_table(tmp_path / "t.tsv", [row("a_기쁨_.jpg") | change]))
    with pytest.raises(RowError, match=reason):
        getattr(only, what)()


def test_a_row_that_is_not_utf8_fails_alone(tmp_path):
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
def test_a_file_that_is_no_table(tmp_path, content, reason):
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    with pytest.raises(StageError, match=reason):
        Table(path, ("name", "url"))


def test_count_is_known_before_reading(tmp_path):
    rows = [row(f"{i}_기쁨_.jpg") for i in range(7)]
    assert Table(write_table(tmp_path / "a.tsv", rows), ()).count() == 7
    assert Table(write_table(tmp_path / "b.tsv", rows, header=False), ()).count() == 7


def test_once_tells_repetition_from_contradiction(tmp_path):
    [first] = Table(write_table(tmp_path / "t.tsv", [row("a.jpg")]), ())
    once = NameRegistry()
    assert once.is_new(first, "a", 1) is True
    assert once.is_new(first, "b", 1) is True
    assert once.is_new(first, "a", 1) is False
    with pytest.raises(RowError, match="earlier row"):
        once.is_new(first, "a", 2)


def test_odd_tables_that_are_tables(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("name\tnote\tnote\turl\na.jpg\t1\t2\thttp://x\n")
    assert [(r.photo_name(), r["url"]) for r in read(path)] == [("a.jpg", "http://x")]
    rows = [row("a.jpg"), row("b.jpg")]
    write_table(path, rows, header=False)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("a.jpg\thttp://x\n" + lines[1] + "\n", encoding="utf-8")
    assert [r.photo_name() for r in read(path)] == ["a.jpg", "b.jpg"]


def test_error_log_is_the_row_and_two_columns(tmp_path):
    quoted = '"' + box_cell(1, 2, 3, 4).replace('"', '""') + '"'
    table = Table(write_table(tmp_path / "t.tsv", [row("a_기쁨_.jpg", box=quoted)]), ())
    path = tmp_path / "x.error.log"
    with ErrorLog(path, table) as log:
        for bad in table:
            log.add(bad, "tab\there\nand a line")
        assert not path.exists()
    header, line = path.read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == [*COLUMNS, "error", "time"]
    raw = (tmp_path / "t.tsv").read_text(encoding="utf-8").splitlines()[1]
    assert line.startswith(raw + "\ttab\\there\\nand a line\t20")
    assert next(iter(Table(path, ()))).cells == next(iter(table)).cells


def test_short_long_and_undecodable_rows_survive_two_logs(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"name\turl\tx\nshort\nlong\t1\t2\t3\t4\n\xff\xfe\tu\tv\n")
    cells = [r.cells for r in Table(path, ())]
    for number in (1, 2):
        log_path = tmp_path / f"{number}.log"
        table = Table(path, ())
        with ErrorLog(log_path, table) as log:
            for bad in table:
                log.add(bad, "no")
        path = log_path
    again = [r.cells for r in Table(path, ())]
    assert again == [("short", "", ""), *cells[1:]]
    table = Table(tmp_path / "t.tsv", ())
    with pytest.raises(KeyboardInterrupt), ErrorLog(path, table) as log:
        log.add(next(iter(table)), "no")
        raise KeyboardInterrupt
    assert sorted(r.cells for r in Table(path, ())) == sorted(again)  # none is there twice


def make_log(path, table, names):
    with ErrorLog(path, table) as log:
        for bad in table:
            if bad["name"] in names:
                log.add(bad, "again")


def names_in(path):
    return [r["name"] for r in Table(path, ())] if path.exists() else None


def test_a_retry_leaves_what_still_fails(tmp_path):
    table = Table(write_table(tmp_path / "t.tsv", [row(n) for n in ("a.jpg", "b.jpg")]), ())
    path = tmp_path / "x.error.log"
    make_log(path, table, ("a.jpg", "b.jpg"))
    make_log(path, Table(path, ()), ("b.jpg",))
    assert names_in(path) == ["b.jpg"]
    make_log(path, Table(path, ()), ())
    assert names_in(path) is None


def test_a_retry_of_another_log_takes_nothing_from_this_one(tmp_path):
    rows = [row(n) for n in ("a.jpg", "b.jpg", "c.jpg")]
    table = Table(write_table(tmp_path / "t.tsv", rows), ())
    parse, crop = tmp_path / "parse.error.log", tmp_path / "crop.error.log"
    make_log(parse, table, ("a.jpg",))
    make_log(crop, table, ("b.jpg", "c.jpg"))
    retry = Table(crop, ())
    make_log(parse, retry, ())
    make_log(crop, retry, ("c.jpg",))
    assert names_in(parse) == ["a.jpg"] and names_in(crop) == ["c.jpg"]


def test_a_new_run_over_the_table_replaces_the_log(tmp_path):
    table = Table(write_table(tmp_path / "t.tsv", [row("a.jpg")]), ())
    path = tmp_path / "x.error.log"
    make_log(path, table, ("a.jpg",))
    make_log(path, table, ())
    assert names_in(path) is None


@pytest.mark.parametrize("before", ["name\turl\terror\ttime\na\tb\tc\td\n", "hello\n"])
def test_a_retry_touches_no_log_of_another_table(tmp_path, before):
    table = Table(write_table(tmp_path / "t.tsv", [row("a.jpg")]), ())
    make_log(tmp_path / "keep.log", table, ("a.jpg",))
    other = tmp_path / "parse.error.log"
    other.write_text(before)
    with pytest.raises(StageError, match=r"parse\.error\.log"):
        make_log(other, Table(tmp_path / "keep.log", ()), ())
    assert other.read_text() == before


def test_an_interrupted_retry_keeps_the_rows_not_yet_tried(tmp_path):
    rows = [row(n) for n in ("a.jpg", "b.jpg", "c.jpg")]
    table = Table(write_table(tmp_path / "t.tsv", rows), ())
    path = tmp_path / "x.error.log"
    make_log(path, table, ("a.jpg", "b.jpg", "c.jpg"))
    retry = Table(path, ())
    with pytest.raises(KeyboardInterrupt), ErrorLog(path, retry) as log:
        log.add(next(iter(retry)), "again")
        raise KeyboardInterrupt
    assert sorted(names_in(path)) == ["a.jpg", "b.jpg", "c.jpg"]
