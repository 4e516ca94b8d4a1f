"""The demo, smaller than `make demo` runs it: every stage in a row, on a sample with faults."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.helpers import (
    crops_in,
    one_line_error,
    run_module,
)
from utils.data.annotations import Table
from utils.emotions import EMOTIONS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    args = ("--per_class", 14, "--epochs", 1, "--output", folder)
    done = run_module("demo.run", *args, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_demo_runs_every_stage(demo):
    out, told = demo
    faces = list(crops_in(out / "crop"))
    assert len(faces) == 14 * 7
    for part in ("accuracy", "| Truth\\Prediction  |0|1|2|3|4|5|6|", "done in", "emotion.py --img"):
        assert part in told
    [answer] = json.loads(next(line for line in told.splitlines() if line.startswith("[{")))
    assert answer["label"] in EMOTIONS and len(answer["probs"]) == 7


def test_demo_logs_every_fault_of_its_sample(demo):
    out, told = demo
    logs = {
        "download": {
            "gone": "404", "page": "HTML page", "truncated": "truncated", "local": "not an http",
            "..": "not safe",
        },
        "parse": {"unsure": "TaskB_emotion", "garbled": "not JSON", "..": "not safe"},
        "crop": {
            "gone": "No such file", "page": "No such file", "local": "No such file",
            "truncated": "No such file", "outside": "no face region",
        },
    }  # fmt: skip
    for log, expected in logs.items():
        rows = {
            r["name"].replace("/", "_").split("_")[0]: r.error[0]
            for r in Table(out / f"{log}.error.log", ())
        }
        assert rows.keys() == expected.keys()
        for kind, reason in expected.items():
            assert reason in rows[kind] and rows[kind] in told
    assert not any("truncated" in path or "outside" in path for path in crops_in(out / "crop"))


def test_demo_makes_upright_crops_and_pictures(demo):
    out, _ = demo
    turned = 0
    for path in (out / "original").rglob("*.jpg"):
        with Image.open(path) as photo:
            if photo.getexif().get(0x0112, 1) in (6, 8):
                turned += 1
                assert photo.width < photo.height
    assert turned >= 2
    for face in (out / "crop").rglob("*.jpg"):
        with Image.open(face) as image:
            assert image.height > image.width * 0.9  # heads are taller than wide
    for name in ("pipeline.png", "results.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 1000


def test_demo_empties_no_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "emotions.tsv").touch()
    (tmp_path / "thesis.txt").write_text("years of work")
    one_line_error(run_module("demo.run", "--output", tmp_path, cwd=tmp_path), "not empty")
    assert (tmp_path / "thesis.txt").exists()
