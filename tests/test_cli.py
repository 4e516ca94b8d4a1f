"""Flags, and what a script does when something ends it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess

import pytest

from tests.helpers import command, jpeg, name_of, row, run, write_table


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
