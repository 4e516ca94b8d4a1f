"""Exported networks give the same answers as torch, for every network and any batch."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import models
from utils.errors import StageError
from utils.imaging.geometry import FaceGeometry
from utils.imaging.preprocess import Preprocess
from utils.inference import export as module
from utils.inference.checkpoint import Checkpoint
from utils.inference.export import (
    exported_probs,
    largest_difference,
    probs_of,
    to_half,
    to_int8,
    to_onnx,
    to_torchscript,
)
from utils.inference.model_info import ModelInfo
from utils.inference.model_path import BUNDLED_MODEL, BUNDLED_ONNX, SMALL_MODEL, SMALL_ONNX
from utils.inference.onnx_model import METADATA_KEY, OnnxModel

FAST = {"emotionnet", "resemotionnet"}


def make_checkpoint(name: str = "resemotionnet", channels: int = 1, size: int = 16) -> Checkpoint:
    torch.manual_seed(0)
    model = models.create(name, 3, channels, size)
    preprocess = Preprocess(size, channels).to_dict()
    return Checkpoint(
        name, ["기쁨", "b", "c"], preprocess, 1, 0.5, model.state_dict(), temperature=2.0,
        tta="flip", face=FaceGeometry("square").to_dict(), class_priors=[0.5, 0.25, 0.25],
    )  # fmt: skip


def images_for(checkpoint: Checkpoint, count: int) -> np.ndarray:
    shape = (count, *checkpoint.preprocessing().shape)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


# One network of each kind: a larger one of a kind has the same layers.
KINDS = ("emotionnet", "resemotionnet", "resnet18", "resnet29", "vgg19", "efficientnet-b4")


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in KINDS]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_to_onnx_answers_as_torch_for_any_batch(tmp_path, name, channels):
    checkpoint = make_checkpoint(name, channels, 48)
    path = tmp_path / "모델.onnx"
    path.write_bytes(to_onnx(checkpoint))
    model = OnnxModel(path)
    assert model.info == checkpoint.info()
    for count in (1, 5):
        images = images_for(checkpoint, count)
        probs = exported_probs(path, "onnx", images)
        assert largest_difference(probs, probs_of(checkpoint, images)) < 1e-5


def test_no_pooling_follows_a_padding_that_onnxruntime_would_take_into_it():
    exported = to_onnx(make_checkpoint("emotionnet", size=48))
    for content in (exported, SMALL_ONNX.read_bytes(), BUNDLED_ONNX.read_bytes()):
        nodes = onnx.load_from_string(content).graph.node
        pads = {node.output[0] for node in nodes if node.op_type == "Pad"}
        pooled = {node.input[0] for node in nodes if node.op_type.endswith("Pool")}
        assert pads and not pads & pooled


def test_onnx_file_takes_plain_floats_and_describes_itself(tmp_path):
    checkpoint = make_checkpoint()
    session = onnxruntime.InferenceSession(to_onnx(checkpoint))
    [entry], [output] = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.type, entry.shape[1:]) == ("images", "tensor(float)", [1, 16, 16])
    assert (output.name, output.shape[1:]) == ("outputs", [3])
    text = session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    assert ModelInfo.from_json(text) == checkpoint.info()
    images = images_for(checkpoint, 2)
    [outputs] = session.run(None, {"images": images.astype(np.float32) / 255})
    softmax = torch.from_numpy(outputs).double().softmax(1).numpy()
    assert softmax == pytest.approx(probs_of(checkpoint, images), abs=1e-5)


@pytest.mark.parametrize(
    ("model", "tolerance"),
    # Both have float16 weights. Batch normalization is folded into those of BUNDLED_MODEL before
    # they are rounded again.
    [(SMALL_MODEL, 1e-5), (BUNDLED_MODEL, 1e-3)],
    ids=lambda value: getattr(value, "stem", None),
)
def test_to_half_halves_the_file_and_keeps_the_answers_of_half_weights(tmp_path, model, tolerance):
    bundled = Checkpoint.load(model)
    content = to_onnx(bundled)
    path = tmp_path / "x.onnx"
    path.write_bytes(to_half(content))
    assert path.stat().st_size < 0.51 * len(content)
    images = images_for(bundled, 4)
    difference = largest_difference(exported_probs(path, "onnx", images), probs_of(bundled, images))
    assert difference < tolerance
    assert OnnxModel(path).info == bundled.info()


@pytest.mark.slow
def test_to_int8_quarters_the_file_and_nearly_keeps_the_answers(tmp_path):
    bundled = Checkpoint.load(BUNDLED_MODEL)
    content, images = to_onnx(bundled), images_for(bundled, 40)
    path = tmp_path / "x.onnx"
    path.write_bytes(to_int8(content, images, bundled.info()))
    assert path.stat().st_size < 0.27 * len(content) and OnnxModel(path).info == bundled.info()
    difference = largest_difference(exported_probs(path, "onnx", images), probs_of(bundled, images))
    assert 1e-4 < difference < 0.3


@pytest.mark.parametrize("name", sorted(FAST))
def test_to_torchscript_answers_as_torch_and_describes_itself(tmp_path, name):
    checkpoint = make_checkpoint(name, 3, 48)
    path = tmp_path / "x.torchscript"
    path.write_bytes(to_torchscript(checkpoint))
    for count in (1, 5):
        images = images_for(checkpoint, count)
        probs = exported_probs(path, "torchscript", images)
        assert largest_difference(probs, probs_of(checkpoint, images)) < 1e-5
    extra = {METADATA_KEY: ""}
    torch.jit.load(io.BytesIO(path.read_bytes()), _extra_files=extra)
    assert ModelInfo.from_json(extra[METADATA_KEY].decode()) == checkpoint.info()


def test_largest_difference_is_infinite_for_what_is_no_number():
    probs = np.array([[0.5, 0.5]])
    assert largest_difference(probs + np.array([[0.1, -0.25]]), probs) == 0.25
    assert largest_difference(probs * np.nan, probs) == np.inf


def test_to_onnx_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(StageError, match=r"--format onnx needs onnx .*: pip install onnx"):
        module._import_onnx()


def write_model(path: Path, checkpoint: Checkpoint, **changes: object) -> Path:
    """Export the model with a description of another one."""
    path.write_bytes(module._describe(to_onnx(checkpoint), replace(checkpoint.info(), **changes)))
    return path


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"classes": ["a", "b"], "class_priors": None}, "is not the network that it describes"),
        ({"preprocess": Preprocess(20, 1).to_dict()}, "is not the network that it describes"),
        ({"preprocess": Preprocess(16, 3).to_dict()}, "is not the network that it describes"),
    ],
)
def test_onnx_model_refuses_a_network_that_it_does_not_describe(tmp_path, changes, problem):
    path = write_model(tmp_path / "x.onnx", make_checkpoint(), **changes)
    with pytest.raises(StageError, match=problem):
        OnnxModel(path)
