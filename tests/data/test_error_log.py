"""The error log, which is a table again."""

from __future__ import annotations

import re

import pytest

from tests.helpers import box_cell, row, write_table
from utils.data.annotations import COLUMNS, Table
from utils.data.error_log import ErrorLog, kind_of, write_file_errors
from utils.errors import StageError


def make_log(path, table, names):
    with ErrorLog(path, table) as log:
        for bad in table:
            if bad["name"] in names:
                log.add(bad, "again")


def names_in(path):
    return [r["name"] for r in Table(path, ())] if path.exists() else None


def interrupt_after_first_failure(path, table):
    with ErrorLog(path, table) as log:
        log.add(next(iter(table)), "again")
        raise KeyboardInterrupt


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


def test_error_log_keeps_short_long_and_undecodable_rows(tmp_path):
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
    with pytest.raises(KeyboardInterrupt):
        interrupt_after_first_failure(path, Table(tmp_path / "t.tsv", ()))
    assert sorted(r.cells for r in Table(path, ())) == sorted(again)  # none is there twice


def test_error_log_keeps_the_rows_that_fail_again(tmp_path):
    table = Table(write_table(tmp_path / "t.tsv", [row(n) for n in ("a.jpg", "b.jpg")]), ())
    path = tmp_path / "x.error.log"
    make_log(path, table, ("a.jpg", "b.jpg"))
    make_log(path, Table(path, ()), ("b.jpg",))
    assert names_in(path) == ["b.jpg"]
    make_log(path, Table(path, ()), ())
    assert names_in(path) is None


def test_error_log_of_a_retry_keeps_rows_that_it_did_not_try(tmp_path):
    rows = [row(n) for n in ("a.jpg", "b.jpg", "c.jpg")]
    table = Table(write_table(tmp_path / "t.tsv", rows), ())
    parse, crop = tmp_path / "parse.error.log", tmp_path / "crop.error.log"
    make_log(parse, table, ("a.jpg",))
    make_log(crop, table, ("b.jpg", "c.jpg"))
    retry = Table(crop, ())
    make_log(parse, retry, ())
    make_log(crop, retry, ("c.jpg",))
    assert names_in(parse) == ["a.jpg"] and names_in(crop) == ["c.jpg"]


def test_error_log_is_replaced_by_a_run_over_the_table(tmp_path):
    table = Table(write_table(tmp_path / "t.tsv", [row("a.jpg")]), ())
    path = tmp_path / "x.error.log"
    make_log(path, table, ("a.jpg",))
    make_log(path, table, ())
    assert names_in(path) is None


@pytest.mark.parametrize("before", ["name\turl\terror\ttime\na\tb\tc\td\n", "hello\n"])
def test_error_log_refuses_to_mix_two_tables(tmp_path, before):
    table = Table(write_table(tmp_path / "t.tsv", [row("a.jpg")]), ())
    make_log(tmp_path / "keep.log", table, ("a.jpg",))
    other = tmp_path / "parse.error.log"
    other.write_text(before)
    with pytest.raises(StageError, match=r"parse\.error\.log"):
        make_log(other, Table(tmp_path / "keep.log", ()), ())
    assert other.read_text() == before


def test_error_log_of_an_interrupted_retry_keeps_rows_not_yet_tried(tmp_path):
    rows = [row(n) for n in ("a.jpg", "b.jpg", "c.jpg")]
    table = Table(write_table(tmp_path / "t.tsv", rows), ())
    path = tmp_path / "x.error.log"
    make_log(path, table, ("a.jpg", "b.jpg", "c.jpg"))
    with pytest.raises(KeyboardInterrupt):
        interrupt_after_first_failure(path, Table(path, ()))
    assert sorted(names_in(path)) == ["a.jpg", "b.jpg", "c.jpg"]


def test_error_log_of_an_interrupted_run_adds_to_the_log(tmp_path):
    rows = [row(n) for n in ("a.jpg", "b.jpg", "c.jpg")]
    table = Table(write_table(tmp_path / "t.tsv", rows), ())
    path = tmp_path / "x.error.log"
    make_log(path, table, ("a.jpg", "b.jpg"))
    with pytest.raises(KeyboardInterrupt):
        interrupt_after_first_failure(path, table)
    assert sorted(names_in(path)) == ["a.jpg", "b.jpg"]


def test_error_log_of_a_run_that_failed_at_once_stays(tmp_path):
    table = Table(write_table(tmp_path / "t.tsv", [row("a.jpg")]), ())
    path = tmp_path / "x.error.log"
    make_log(path, table, ("a.jpg",))
    before = path.read_bytes()

    def fail() -> None:
        with ErrorLog(path, table):
            raise StageError("no cluster")

    with pytest.raises(StageError, match="no cluster"):
        fail()
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"t.tsv", path.name}


def test_error_log_turns_quotes_of_a_reason_into_apostrophes(tmp_path):
    cells = row("a.jpg") | {"TaskC_result": '"stray'}
    table = Table(write_table(tmp_path / "t.tsv", [cells]), ())
    path = tmp_path / "x.error.log"
    with ErrorLog(path, table) as log:
        for bad in table:
            log.add(bad, 'he said "no"')
    [again] = Table(path, ())
    assert again.error[0] == "he said 'no'" and again["TaskC_result"] == '"stray'


def test_write_file_errors_lists_files_and_removes_an_empty_log(tmp_path):
    path = tmp_path / "preparation.error.log"
    write_file_errors(path, [(tmp_path / "가.jpg", "No such\nfile")])
    header, line = path.read_text(encoding="utf-8").splitlines()
    assert header == "file\terror\ttime"
    file, reason, when = line.split("\t")
    assert file == str(tmp_path / "가.jpg") and reason == "No such\\nfile"
    assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", when)
    write_file_errors(path, [])
    assert not path.exists()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("original/기쁨/a b.JPG: an HTML page, not an image", "an HTML page, not an image"),
        ("x.zip: 폴더/a.jpg: damaged, 12 bytes", "damaged, N bytes"),
        ("AI-Hub/[원천] 1.zip: broken image: 4 bytes", "broken image: N bytes"),
        ("49 % of the box lies in this 100×100 photo", "N % of the box lies in this N×N photo"),
        (
            "TaskA_emotion '모름' is not one of the seven",
            "TaskA_emotion '…' is not one of the seven",
        ),
        ("two photos have this name: a/x.jpg and b/x.jpg", "two photos have this name"),
        ("", "…"),
    ],
)
def test_reasons_are_counted_without_what_differs_from_row_to_row(reason, kind):
    assert kind_of(reason, "x.jpg") == kind
