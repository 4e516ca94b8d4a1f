"""The models that come with the project: they are those that were measured, and one answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import ROOT, make_faces, one_line_error, run
from tests.photos import ASTRONAUT
from utils.imaging.geometry import FaceGeometry
from utils.inference.checkpoint import Checkpoint
from utils.inference.face_classifier import load_model
from utils.inference.model_path import BUNDLED_MODEL, BUNDLED_ONNX, SMALL_MODEL, SMALL_ONNX

CLASSES = "분노 경멸 혐오 공포 기쁨 중립 슬픔 놀람"
SHA256 = {
    BUNDLED_MODEL: "48ec71825b9bbb49e5b774e0ac2f6baf50ab1541d5711343d0aad713a72b96ff",
    BUNDLED_ONNX: "063b9b0f69353fb319777ee4cf9a9446c65457015658d04bfbe71d9b9d6a6319",
    SMALL_MODEL: "6bbeefe23148fd7d4453a1fdc04e7e7ec882b79846b03d6091d58abe064ab703",
    SMALL_ONNX: "b8b3b3d67b02a2031b11d050c072a53acb9d9138dc9b7015b7b07884e42647b1",
}
# Of the logit adjustment in the file.
BALANCE = {BUNDLED_MODEL: 0.4, SMALL_MODEL: 0.3}
GEOMETRY = FaceGeometry("square", 0.1)
both_models = pytest.mark.parametrize("model", BALANCE, ids=lambda path: path.stem)


@pytest.mark.parametrize(("path", "digest"), SHA256.items(), ids=lambda value: Path(value).name)
def test_bundled_models_are_those_that_were_measured(path, digest):
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) < 25 << 20
    for page in ("docs/models.md", "docs/ko/models.md"):
        assert digest in (ROOT / page).read_text(encoding="utf-8")


@both_models
def test_a_bundled_model_is_the_same_in_both_forms(model):
    torch_model, onnx_model = load_model(model), load_model(model.with_suffix(".onnx"))
    assert torch_model.info == onnx_model.info
    assert torch_model.info.tta == "flip" and torch_model.info.geometry() == GEOMETRY
    assert torch_model.info.temperature and torch_model.info.balance == BALANCE[model]
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 48, 48), np.uint8)
    for tta in ("none", "flip"):
        expected = torch_model.log_probs(images, tta)
        assert onnx_model.log_probs(images, tta) == pytest.approx(expected, abs=5e-3)


@both_models
def test_a_bundled_model_is_half_as_large_as_what_it_is_read_as(model):
    read = Checkpoint.load(model)
    assert " ".join(read.classes) == CLASSES
    stored = torch.load(model, weights_only=True)["weights"]
    for weights, dtype in ((read.weights, torch.float32), (stored, torch.float16)):
        numbers = [weight for weight in weights.values() if weight.is_floating_point()]
        assert {weight.dtype for weight in numbers} == {dtype}


@pytest.fixture
def smile(tmp_path):
    """A folder with the photo of a person who smiles, in front of much else."""
    Image.fromarray(ASTRONAUT).save(tmp_path / "smile.png")
    return tmp_path


@pytest.mark.slow
def test_bundled_model_answers_if_there_is_no_other(smile):
    done = run("emotion.py", "--img", "smile.png", "--detect_face", cwd=smile)
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert line.startswith("pretrained/resnet29-ferplus.onnx (the bundled model): resnet29, ")
    assert line.endswith(f"validation accuracy 88.371%; {CLASSES}")
    [face] = json.loads(done.stdout)
    assert face["label"] == "기쁨" and len(face["probs"]) == 8


@pytest.mark.slow
def test_bundled_model_comes_after_ones_own(smile):
    (smile / "model.pt").write_bytes(b"mine")
    done = run("emotion.py", "--img", "smile.png", cwd=smile)
    one_line_error(done, "model.pt")
    done = run("emotion.py", "--img", "smile.png", "--model_path", BUNDLED_MODEL, cwd=smile)
    assert done.returncode == 0 and done.stderr.startswith("pretrained/resnet29-ferplus.pt (the")


@pytest.mark.slow
def test_bundled_model_can_be_trained_on(tmp_path):
    for name, count in {"train": 8, "validation": 2}.items():
        make_faces(tmp_path / "data" / name, ["기쁨", "당황"], count)
    done = run("train.py", "--init", BUNDLED_MODEL, "--epochs", 1, "--amp", "off", cwd=tmp_path)
    assert done.returncode == 0 and "does not know the classes 당황: " in done.stderr
