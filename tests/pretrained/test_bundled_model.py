"""The model that comes with the project: it is the one that was measured, and it is found."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from PIL import Image

from tests.helpers import ROOT, make_faces, one_line_error, run
from tests.photos import ASTRONAUT
from utils.inference.checkpoint import BUNDLED_MODEL, Checkpoint

CLASSES = "분노 혐오 공포 기쁨 중립 슬픔 놀람"
SHA256 = "2518cf9b8ce7ebcbdaf9ef77bc8d24e7dc4dacda7b59e414c3d6662a4c5dc54d"


def test_bundled_model_is_the_one_that_was_measured():
    content = BUNDLED_MODEL.read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert len(content) < 25 << 20
    for page in ("docs/models.md", "docs/ko/models.md"):
        assert SHA256 in (ROOT / page).read_text(encoding="utf-8")


def test_bundled_model_is_half_as_large_as_what_it_is_read_as():
    model = Checkpoint.load(BUNDLED_MODEL)
    assert " ".join(model.classes) == CLASSES
    assert {weight.dtype for weight in model.weights.values()} == {torch.float32}
    stored = torch.load(BUNDLED_MODEL, weights_only=True)["weights"]
    assert {weight.dtype for weight in stored.values()} == {torch.float16}


@pytest.fixture
def smile(tmp_path):
    """A folder with the photo of a person who smiles, in front of much else."""
    Image.fromarray(ASTRONAUT).save(tmp_path / "smile.png")
    return tmp_path


@pytest.mark.slow
def test_bundled_model_answers_if_there_is_no_other(smile):
    done = run("emotion.py", "--img", "smile.png", "--detect_face", cwd=smile)
    assert done.returncode == 0
    expected = "note: model.pt does not exist here; using pretrained/emotionnet-fer2013.pt\n"
    assert done.stderr == expected
    [face] = json.loads(done.stdout)
    assert face["label"] == "기쁨" and len(face["probs"]) == 7


@pytest.mark.slow
def test_bundled_model_comes_after_ones_own(smile):
    (smile / "model.pt").write_bytes(b"mine")
    done = run("emotion.py", "--img", "smile.png", cwd=smile)
    one_line_error(done, "model.pt")
    done = run("emotion.py", "--img", "smile.png", "--model_path", BUNDLED_MODEL, cwd=smile)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
def test_bundled_model_can_be_trained_on(tmp_path):
    for name, count in {"train": 8, "validation": 2}.items():
        make_faces(tmp_path / "data" / name, ["기쁨", "당황"], count)
    done = run("train.py", "--init", BUNDLED_MODEL, "--epochs", 1, "--amp", "off", cwd=tmp_path)
    assert done.returncode == 0 and "당황" in done.stdout + done.stderr
