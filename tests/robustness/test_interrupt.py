"""Ctrl-C at any moment of any script, from its first import to its end: one line, no traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT, command, jpeg, make_faces, name_of, row, write_table
from utils.inference.model_path import BUNDLED_MODEL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals"),
]

IMPORTS = ROOT / "tests/robustness/imports"
SCRIPTS = {
    "downloadImage.py": ("--input", "t.tsv", "--retries", 0),
    "cropImages.py": ("--input", "t.tsv"),
    "dataPreparation.py": ("--input", "faces/train", "--output", "out"),
    "train.py": ("--data_path", "faces", "--epochs", 1, "--amp", "off"),
    "test.py": ("--model_path", BUNDLED_MODEL, "--data_path", "faces"),
    "emotion.py": ("--img", "1.jpg", "2.jpg", "--detect_face", "--save", "marked"),
    "video.py": ("--source", "1.jpg", "--log", "faces.csv", "--no_display"),
    "export.py": ("--model_path", BUNDLED_MODEL),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    for part in ("train", "validation", "test"):
        make_faces(tmp_path / "faces" / part, ["분노", "기쁨"], 4)
    write_table(tmp_path / "t.tsv", [row(name_of("기쁨"))])
    (tmp_path / "original").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    return tmp_path


def start(script: str, folder: Path, *more: object, **environment: object) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": str(IMPORTS)}
    env |= {name.upper(): str(value) for name, value in environment.items()}
    words = command(script, *SCRIPTS[script], *more)
    return subprocess.Popen(
        words, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def check(script: str, process: subprocess.Popen) -> None:
    """Check that a script was interrupted, or had ended before."""
    _, errors = process.communicate()
    assert "Traceback" not in errors
    assert process.returncode in (0, 1, 130), errors
    if process.returncode == 130:
        before = r"((note|failed|stopping after this step)[:;] .*\n)*"
        pattern = rf"{before}{re.escape(script)}: interrupted; .+\n"
        assert re.fullmatch(pattern, errors), errors


# A script imports about 300 modules, with onnxruntime 400, and 1,300 with torch.
@pytest.mark.parametrize(
    ("script", "more", "moments"),
    [
        ("downloadImage.py", (), [1, 150]),
        ("cropImages.py", (), [1, 150]),
        ("dataPreparation.py", (), [1, 50]),
        ("train.py", (), [1, 150, 500, 1000]),
        ("test.py", (), [1, 150, 800, 1250]),
        ("emotion.py", (), [1, 2, 30, 100, 150, 200, 250, 300, 350]),
        ("emotion.py", ("--model_path", BUNDLED_MODEL), [300, 500, 700, 900, 1100, 1200]),
        ("video.py", (), [1, 200, 350]),
        ("export.py", (), [1, 150, 800]),
    ],
)
def test_ctrl_c_during_imports_prints_one_line(script, more, moments, folder):
    for number in moments:
        process = start(script, folder, *more, interrupt_at=number)
        check(script, process)
        assert process.returncode == 130, number


@pytest.mark.parametrize("script", ["emotion.py", "train.py", "cropImages.py"])
def test_ctrl_c_at_any_moment_prints_one_line(script, folder):
    for moment in (0, 0.1, 0.3, 0.8, 1.4, 2.5):
        started = folder / "started"
        process = start(script, folder, started=started)
        while not started.exists():
            time.sleep(0.005)
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        check(script, process)
        started.unlink()
