"""Flags, and what a script does when something ends it."""

from __future__ import annotations

import pytest

from tests.helpers import command, run
from utils import cli


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
    assert cli.one_line("a\x1b[2J\r\nb\u202e기쁨") == "a\\x1b[2J\\r\\nb\\u202e기쁨"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", ""])
def test_positive_refuses(text):
    with pytest.raises(Exception, match="whole number"):
        cli.positive(text)


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


def test_reader_that_leaves_early_is_no_error(tmp_path):
    import subprocess

    script = subprocess.Popen(
        command("emotion.py", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    script.stdout.close()
    assert b"Traceback" not in script.stderr.read()
    script.wait()
