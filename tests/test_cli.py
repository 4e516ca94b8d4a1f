"""Flags, and what a script does when something ends it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess

import pytest

from tests.helpers import command, jpeg, name_of, row, run, write_table
from utils import cli
from utils.console import one_line


def parser() -> cli.Parser:
    made = cli.Parser("docs")
    made.device_flags()
    made.switch("--detect_face", "find faces", False)
    return made


@pytest.mark.parametrize(
    ("words", "gpu"),
    [
        ("", True), ("--gpu", True), ("--gpu True", True), ("--gpu=1", True), ("--gpu yes", True),
        ("--gpu False", False), ("--gpu false", False), ("--gpu=0", False), ("--no-gpu", False),
        ("--no_gpu", False), ("--no-gpu --gpu", True),
    ],
)  # fmt: skip
def test_every_spelling_of_a_switch(words, gpu):
    assert parser().parse_args(words.split()).gpu is gpu


@pytest.mark.parametrize("words", ["--no-detect-face", "--no_detect_face", "--detect_face False"])
def test_a_switch_of_two_words(words):
    assert parser().parse_args(["--detect_face", *words.split()]).detect_face is False


def test_control_characters_never_reach_the_terminal():
    assert one_line("a\x1b[2J\r\nb\u202e기쁨") == "a\\x1b[2J\\r\\nb\\u202e기쁨"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", ""])
def test_positive_refuses(text):
    with pytest.raises(Exception, match="whole number"):
        cli.positive_int(text)


@pytest.mark.parametrize("text", ["0", "-0.1", "nan", "inf", "x"])
def test_positive_float_refuses(text):
    with pytest.raises(Exception, match="number above 0"):
        cli.positive_float(text)


@pytest.mark.parametrize(
    "script",
    ["downloadImage.py", "cropImages.py", "dataPreparation.py", "emotion.py", "video.py"],
)
def test_help_shows_examples(tmp_path, script):
    done = run(script, "--help", cwd=tmp_path, env={"COLUMNS": "100"})
    assert done.returncode == 0 and f"python {script}" in done.stdout and done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar_with_rate_and_failures(tmp_path):
    (tmp_path / "original/기쁨").mkdir(parents=True)
    (tmp_path / "original/기쁨" / name_of("기쁨")).write_bytes(jpeg())
    rows = [row(name_of("기쁨")), row("a_기쁨_.jpg", box="{")]
    table = write_table(tmp_path / "t.tsv", rows)
    shown = on_a_terminal(command("cropImages.py", "--input", table), tmp_path)
    assert re.search(r"crop: 100%\|█+\| 2/2 .*photo/s, failed=1\]", shown)
    assert "failed: t.tsv line 3: TaskA_result is not JSON" in shown


def on_a_terminal(words: list[str], cwd) -> str:
    """What a command writes on a terminal of 30 lines of 100 characters."""
    import fcntl
    import pty
    import struct
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(words, cwd=cwd, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells that the other end is closed
        while piece := os.read(ours, 4096):
            shown += piece
    process.wait()
    os.close(ours)
    return shown.decode()


def test_reader_that_leaves_early_is_no_error(tmp_path):
    script = subprocess.Popen(
        command("emotion.py", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    script.stdout.close()
    assert b"Traceback" not in script.stderr.read()
    script.wait()
