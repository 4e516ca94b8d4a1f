"""The model that comes with the project: it is the one that was measured, and it is found."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from tests.helpers import ROOT, make_faces, one_line_error, run
from utils.inference.checkpoint import BUNDLED_MODEL, Checkpoint

CLASSES = "분노 혐오 공포 기쁨 중립 슬픔 놀람"
SHA256 = "2518cf9b8ce7ebcbdaf9ef77bc8d24e7dc4dacda7b59e414c3d6662a4c5dc54d"


def test_it_is_the_one_that_was_measured():
    content = BUNDLED_MODEL.read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert len(content) < 25 << 20
    for page in ("docs/models.md", "docs/ko/models.md"):
        assert SHA256 in (ROOT / page).read_text(encoding="utf-8")
    model = Checkpoint.load(BUNDLED_MODEL)
    assert " ".join(model.classes) == CLASSES
    assert {weight.dtype for weight in model.weights.values()} == {torch.float32}
    stored = torch.load(BUNDLED_MODEL, weights_only=True)["weights"]
    assert {weight.dtype for weight in stored.values()} == {torch.float16}


@pytest.fixture
def smile(tmp_path):
    """A photo of a person who smiles, in front of a good deal else."""
    Image.fromarray(astronaut()).save(tmp_path / "smile.png")
    return tmp_path


def test_a_photo_is_answered_without_any_model(smile):
    done = run("emotion.py", "--img", "smile.png", "--detect_face", cwd=smile)
    assert done.returncode == 0
    expected = "note: model.pt does not exist here; using pretrained/emotionnet-fer2013.pt\n"
    assert done.stderr == expected
    [face] = json.loads(done.stdout)
    assert face["label"] == "기쁨" and len(face["probs"]) == 7


def test_ones_own_model_comes_first(smile):
    (smile / "model.pt").write_bytes(b"mine")
    done = run("emotion.py", "--img", "smile.png", cwd=smile)
    one_line_error(done, "model.pt")
    done = run("emotion.py", "--img", "smile.png", "--model_path", BUNDLED_MODEL, cwd=smile)
    assert done.returncode == 0 and done.stderr == ""


def test_it_can_be_trained_on(tmp_path):
    for name, count in {"train": 8, "validation": 2}.items():
        make_faces(tmp_path / "data" / name, ["기쁨", "당황"], count)
    done = run("train.py", "--init", BUNDLED_MODEL, "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0 and "당황" in done.stdout + done.stderr


def test_halving_keeps_the_answers_and_renames_the_classes(tmp_path):
    model = Checkpoint.load(BUNDLED_MODEL)
    model.save(tmp_path / "whole.pt")
    names = [f"{name}!" for name in model.classes]
    half, make = tmp_path / "half.pt", [sys.executable, "-m", "pretrained.make"]
    make += [str(tmp_path / "whole.pt"), "--output", str(half), "--classes"]

    def run_make(names: list[str]) -> subprocess.CompletedProcess:
        return subprocess.run([*make, *names], cwd=ROOT, capture_output=True, encoding="utf-8")

    assert run_make(names).returncode == 0
    half = Checkpoint.load(tmp_path / "half.pt")
    assert half.classes == names
    assert all(torch.equal(half.weights[key], model.weights[key]) for key in model.weights)
    for names in (["one"], [*"abcdefg", "g"]):
        one_line_error(run_make(names), "7 different names")
    assert Checkpoint.load(tmp_path / "half.pt").classes == half.classes
