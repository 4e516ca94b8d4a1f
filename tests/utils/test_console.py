"""Lines and progress bars on stderr."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers import ROOT
from utils import console
from utils.console import ProgressBar, info, markdown_row, note, one_line


def test_one_line_escapes_control_characters():
    assert one_line("a\x1b[2J\r\nb\u202e기쁨") == "a\\x1b[2J\\r\\nb\\u202e기쁨"


def test_markdown_row_escapes_bars():
    assert markdown_row(("a|b", 1)) == "| a\\|b | 1 |"


def test_one_line_cuts_long_text():
    assert one_line("x" * console.MAX_LINE) == "x" * console.MAX_LINE
    assert one_line("x" * 60_000) == "x" * console.MAX_LINE + "…"


def test_info_and_note_print_one_line_on_stderr(capsys):
    info("a\nb")
    note("c")
    captured = capsys.readouterr()
    assert captured.err == "a\\nb\nnote: c\n" and captured.out == ""


def test_only_the_primary_process_prints(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not console.is_primary_process()
    note("from rank 1")
    monkeypatch.setenv("RANK", "0")
    assert console.is_primary_process()
    note("from rank 0")
    assert capsys.readouterr().err == "note: from rank 0\n"


def test_progress_bar_prints_the_first_failures_and_counts_all(capsys):
    with ProgressBar(10, "crop") as bar:
        assert bar.disable  # stderr is no terminal here
        for i in range(console.SHOWN_FAILURES):
            bar.fail(f"line {i}", "broken")
            assert capsys.readouterr().err == f"failed: line {i}: broken\n"
        bar.fail("another", "broken")
        assert capsys.readouterr().err == "more failures follow; the log has all of them\n"
        bar.fail("another", "broken")
    assert capsys.readouterr().err == ""
    assert bar.failures == console.SHOWN_FAILURES + 2


def test_progress_bar_needs_no_lock_between_processes():
    code = "import sys; from utils.console import ProgressBar, info; info(1); ProgressBar(1, '')"
    code += "; sys.exit('multiprocessing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_progress_bar_says_where_failures_are_and_prints_those_that_are_nowhere_else(capsys):
    with ProgressBar(20, "", record="the answers name all of them") as bar:
        for i in range(console.SHOWN_FAILURES + 2):
            bar.fail(f"read {i}", "broken")
            bar.fail(f"save {i}", "full", is_recorded=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "save" in line] == [
        f"failed: save {i}: full" for i in range(console.SHOWN_FAILURES + 2)
    ]
    assert [line for line in lines if "save" not in line] == [
        *(f"failed: read {i}: broken" for i in range(console.SHOWN_FAILURES)),
        "more failures follow; the answers name all of them",
    ]


def test_progress_bar_shows_its_count_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressBar(None, "crop") as bar:
        bar.total = 2
        bar.fail("line 3", "broken")
        bar.update(2)
    shown = capsys.readouterr().err
    assert "crop: 100%" in shown and "2/2" in shown and "failed=1" in shown
    with ProgressBar(2, "") as bar:  # without a description it is hidden
        bar.update(2)
    assert capsys.readouterr().err == ""
