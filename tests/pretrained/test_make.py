"""python -m pretrained.make: half precision and other names, the same answers."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from pretrained import make
from tests.helpers import run_module, tree
from utils.errors import StageError
from utils.imaging.geometry import FaceGeometry
from utils.inference.checkpoint import Checkpoint
from utils.inference.model_path import SMALL_MODEL
from utils.inference.onnx_model import OnnxModel


def run_main(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make.py", *map(str, words)])
    assert make.main() == 0


@pytest.fixture
def whole(tmp_path):
    """A model file in single precision, with a temperature and a balance."""
    Checkpoint.load(SMALL_MODEL).save(tmp_path / "whole.pt")
    return tmp_path / "whole.pt"


def test_make_keeps_the_answers_and_renames_the_classes(whole, monkeypatch, capsys):
    model = Checkpoint.load(whole)
    names = [f"{name}!" for name in model.classes]
    run_main(monkeypatch, whole, "--classes", *names)
    half, onnx = whole.with_name("whole-half.pt"), whole.with_name("whole-half.onnx")
    made = Checkpoint.load(half)
    assert made.classes == names and half.stat().st_size < 0.6 * whole.stat().st_size
    assert all(torch.equal(made.weights[key], model.weights[key]) for key in model.weights)
    assert capsys.readouterr().out.count("sha256") == 2
    info = OnnxModel(onnx).info
    for of_model in (made.info(), info):
        assert of_model.classes == names and of_model.temperature == model.temperature != 1
        assert of_model.balance == model.balance > 0 and of_model.tta == model.tta == "flip"
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 48, 48), dtype=np.uint8)
    with torch.no_grad():
        expected = model.build()(torch.from_numpy(images) / 255)
    found = OnnxModel(onnx).log_probs(images)
    np.testing.assert_allclose(found, expected.numpy(), atol=0.01)


def test_make_sets_what_the_network_sees(whole, monkeypatch):
    words = ("--face_shape", "box", "--face_margin", 0.25, "--tta", "none")
    run_main(monkeypatch, whole, *words, "--output", whole.with_name("box.pt"))
    for info in (
        Checkpoint.load(whole.with_name("box.pt")).info(),
        OnnxModel(whole.with_name("box.onnx")).info,
    ):
        assert (info.geometry(), info.tta) == (FaceGeometry("box", 0.25), "none")
    before = Checkpoint.load(whole).info().geometry()
    run_main(monkeypatch, whole, "--face_margin", 0)
    after = Checkpoint.load(whole.with_name("whole-half.pt")).info().geometry()
    assert after == replace(before, margin=0) != before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--classes", "one"), "8 different names"),
        (("--classes", *"abcdefgg"), "8 different names"),
        (("--classes", *"abcdefg", ""), "8 different names"),
        (("--classes", "a\nb", *"cdefghi"), "8 different names"),
        (
            ("--classes", *["분노", "혐오", "경멸", "공포", "기쁨", "중립", "슬픔", "놀람"]),
            "혐오 stands in the place of 경멸; the model's order is 분노 경멸 혐오",
        ),
        (("--output", "x.onnx"), "give the torch file's name"),
    ],
)
def test_make_refuses_names_and_writes_nothing(whole, monkeypatch, words, message):
    shutil.copy(whole, whole.with_name("whole-half.pt"))
    before = tree(whole.parent)
    monkeypatch.chdir(whole.parent)
    with pytest.raises(StageError, match=message):
        run_main(monkeypatch, whole, *words)
    assert tree(whole.parent) == before


@pytest.mark.slow
def test_make_runs_as_a_module(whole):
    done = run_module("pretrained.make", whole, "--output", "half.pt", cwd=whole.parent)
    assert done.returncode == 0, done.stderr
    assert Checkpoint.load(whole.with_name("half.pt")).classes == Checkpoint.load(whole).classes
