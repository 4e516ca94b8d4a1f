"""The log of a video: lines for every frame, in CSV and JSON."""

from __future__ import annotations

import codecs
import csv
import json

import numpy as np
import pytest

from utils.imaging.geometry import Box
from utils.recognition.tracking import TrackedFace
from utils.recognition.video_io import Frame
from utils.recognition.video_log import open_log

CLASSES = ["기쁨", "분노"]
FACES = [
    TrackedFace(1, Box(1, 2, 11, 22), np.array([0.25, 0.75]), 0.98765),
    TrackedFace(4, Box(5, 6, 8, 9), np.array([0.987654, 0.012346])),
]


def frame(number: int) -> Frame:
    return Frame(number, number / 3, np.zeros((2, 2, 3), np.uint8))


def write_log(path) -> None:
    with open_log(path, CLASSES) as log:
        log(frame(0), FACES)
        log(frame(1), [])


def test_open_log_writes_csv_by_a_header(tmp_path):
    write_log(tmp_path / "a/faces.CSV")
    assert (tmp_path / "a/faces.CSV").read_bytes().startswith(codecs.BOM_UTF8)
    with (tmp_path / "a/faces.CSV").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["frame", "timestamp", "track", "x", "y", "w", "h", "label", "기쁨", "분노"],
        ["0", "0.000", "1", "1", "2", "10", "20", "분노", "25.00", "75.00"],
        ["0", "0.000", "4", "5", "6", "3", "3", "기쁨", "98.77", "1.23"],
        ["1", "0.333", "", "", "", "", "", "", "", ""],
    ]


def test_open_log_writes_json_lines(tmp_path):
    write_log(tmp_path / "faces.jsonl")
    text = (tmp_path / "faces.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0] == {
        "frame": 0, "timestamp": 0, "track": 1, "rect": "(1, 2, 10, 20)", "box": [1, 2, 10, 20],
        "score": 0.9877, "label": "분노", "probs": [25.0, 75.0], "classes": ["기쁨", "분노"],
    }  # fmt: skip
    assert lines[1]["probs"] == [98.77, 1.23] and '"기쁨"' in text
    assert lines[2] == {"frame": 1, "timestamp": 0.333, "track": None}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_open_log_can_be_read_while_it_is_written(tmp_path, suffix):
    path = tmp_path / f"faces.{suffix}"
    path.write_text("an older log")
    with open_log(path, CLASSES) as log:
        log(frame(0), FACES)
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) == 2 + (suffix == "csv") and "an older log" not in lines
