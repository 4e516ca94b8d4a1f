"""Threads import nothing: two that import the same module at the same time may get half of it."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT, box_cell, command, jpeg, make_faces, name_of, row, run, write_table
from tests.photos import ASTRONAUT

pytestmark = pytest.mark.slow

PHOTOS = ("a.jpg", "b.png", "c.bmp", "d.webp", "e.tif", "f.gif", "g.avif", "h.mpo", "none.jpg")


def run_watched(folder: Path, script: str, *args: object) -> subprocess.CompletedProcess:
    """Run a script, and check that no thread of it imported a module."""
    imported = folder / "imported"
    env = {"PYTHONPATH": str(ROOT / "tests/robustness/imports"), "IN_THREADS": str(imported)}
    done = run(script, *args, cwd=folder, env=env)
    assert not imported.exists(), imported.read_text()
    return done


def write_photos(folder: Path) -> None:
    for i, name in enumerate(PHOTOS[:-1]):
        Image.fromarray(np.roll(ASTRONAUT[:256, :256], i, 1)).save(folder / name)
    (folder / "none.jpg").write_bytes(b"<html>")


def test_emotion_imports_nothing_in_its_threads(tmp_path, server):
    write_photos(tmp_path)
    server.files["/사진.jpg"] = (tmp_path / "a.jpg").read_bytes()
    photos = (*PHOTOS, f"{server.url}/사진.jpg")
    done = run_watched(tmp_path, "emotion.py", *photos, "--detect_face", "--save", "marked")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and ["error" in answer for answer in answers] == [
        photo == "none.jpg" for photo in photos
    ]
    assert run_watched(tmp_path, "emotion.py", *photos).returncode == 1


def test_crop_imports_nothing_in_its_threads(tmp_path):
    names = [name_of("기쁨", i) for i in range(6)]
    (tmp_path / "original/기쁨").mkdir(parents=True)
    for name in names[1:]:  # the first one is missing
        (tmp_path / "original/기쁨" / name).write_bytes(jpeg((200, 200)))
    rows = [row(name, box=box_cell(10, 10, 150, 160)) for name in names]
    write_table(tmp_path / "t.tsv", rows)
    args = ("--input", "t.tsv", "--workers", 3, "--contact_sheet", "sheet.jpg")
    assert run_watched(tmp_path, "cropImages.py", *args).returncode == 1


def test_split_training_and_test_import_nothing_in_their_threads(tmp_path):
    make_faces(tmp_path / "crop", ["기쁨", "슬픔"], 540, 16)  # so many that workers decode
    args = ("--ratio", 97, 1, 2)
    assert run_watched(tmp_path, "dataPreparation.py", *args).returncode == 0
    args = ("--epochs", 1, "--amp", "off", "--model", "resnet18", "--image_size", 8)
    assert run_watched(tmp_path, "train.py", *args).returncode == 0
    assert run_watched(tmp_path, "test.py").returncode == 0


def test_emotion_finds_faces_in_twenty_fresh_processes(tmp_path):
    for i in range(10):
        Image.fromarray(np.roll(ASTRONAUT[:256, :256], i, 1)).save(tmp_path / f"{i}.jpg")
    words = command("emotion.py", "--img", tmp_path, "--detect_face", "--no-gpu")

    def recognize(_: int) -> tuple[int, str]:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr.replace("\n", " ")

    with ThreadPoolExecutor(2) as two_at_a_time:
        results = list(two_at_a_time.map(recognize, range(20)))
    assert set(results) == {results[0]}
    status, output = results[0]
    assert status == 0 and output.count('"rect"') >= 10


def test_video_imports_nothing_in_its_threads(tmp_path):
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    film = cv2.VideoWriter(str(tmp_path / "in.mp4"), codec, 10, (256, 256))
    for i in range(12):
        film.write(np.roll(ASTRONAUT[:256, :256, ::-1], i, 1))
    film.release()
    args = ("in.mp4", "--output", "out.mp4", "--log", "faces.csv", "--no_display")
    assert run_watched(tmp_path, "video.py", *args).returncode == 0
    assert (tmp_path / "out.mp4").exists()


def test_video_imports_nothing_in_its_threads_if_a_source_cannot_be_opened(tmp_path):
    (tmp_path / "text.mp4").write_bytes("기쁨\n".encode("cp949") * 100)
    (tmp_path / "page.mp4").write_bytes(b"<html>")
    for source in ("text.mp4", "page.mp4", "http://없는집.invalid/x", "http://127.0.0.1:9/x"):
        assert run_watched(tmp_path, "video.py", source, "--log", "x.csv").returncode == 2
