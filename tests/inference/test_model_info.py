"""The description of a model: as JSON and back, and refused if it is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from utils.imaging.geometry import FaceGeometry
from utils.imaging.preprocess import Preprocess
from utils.inference.model_info import ModelInfo

INFO = ModelInfo(
    "emotionnet", ["기쁨", "분노"], Preprocess(48, 3).to_dict(), 7, 0.75, 1.25, "flip",
    FaceGeometry("square", 0.1).to_dict(), [0.25, 0.75], 0.5,
)  # fmt: skip


def test_model_info_survives_json():
    assert ModelInfo.from_json(INFO.to_json()) == INFO and "기쁨" in INFO.to_json()
    bare = ModelInfo("vgg19", ["a", "b"], Preprocess().to_dict())
    assert ModelInfo.from_json(bare.to_json()) == bare
    assert bare.geometry() == FaceGeometry() and INFO.geometry() == FaceGeometry("square", 0.1)
    assert INFO.preprocessing() == Preprocess(48, 3)


PROBS = np.array([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]])


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("temperature", [None, 2.0])
def test_probabilities_are_calibrated_then_divided_by_the_priors(temperature, balance):
    info = replace(INFO, temperature=temperature, balance=balance)
    with np.errstate(divide="ignore"):
        probs = info.probabilities(np.log(PROBS))
    expected = PROBS ** (1 / (temperature or 1))
    expected /= expected.sum(1, keepdims=True)
    expected /= np.array(INFO.class_priors) ** balance
    expected /= expected.sum(1, keepdims=True)
    assert probs == pytest.approx(expected)


def test_probabilities_keep_the_share_of_a_class_that_was_never_trained():
    info = replace(INFO, temperature=None, balance=1.0, class_priors=[0.0, 0.5])
    assert info.probabilities(np.log(PROBS[:1])) == pytest.approx(np.array([[0.9, 0.2]]) / 1.1)


def test_describe_names_network_epoch_accuracy_and_input():
    assert INFO.describe() == "emotionnet, epoch 7, validation accuracy 75.000%"
    assert replace(INFO, epoch=None).describe() == "emotionnet, epoch and accuracy unknown"
    assert INFO.describe_input() == "48×48 pixels, RGB; detected faces: square, margin 0.1"
    level = replace(INFO, face={"level": True}, preprocess=Preprocess(64).to_dict())
    assert level.describe_input() == "64×64 pixels, grey; detected faces: box, eyes level"


@pytest.mark.parametrize(
    "changes",
    [
        {"network": 1},
        {"classes": ["a"]},
        {"classes": ["a", "a"]},
        {"classes": ["a", "b\n"]},
        {"classes": "ab"},
        {"preprocess": []},
        {"preprocess": {"image_size": 0}},
        {"preprocess": {"size": 48}},
        {"epoch": "7"},
        {"val_accuracy": 1},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"tta": "often"},
        {"face": {"shape": "round"}},
        {"face": {"margin": -1}},
        {"face": {"margin": float("nan")}},
        {"face": {"level": 1}},
        {"face": {"nose": True}},
        {"face": None},
        {"class_priors": [0.5]},
        {"class_priors": [0.5, -0.5]},
        {"class_priors": None},  # a balance needs them
        {"balance": -0.5},
        {"balance": float("nan")},
        {"balance": "1"},
    ],
    ids=str,
)
def test_model_info_refuses_wrong_values(changes):
    with pytest.raises(
        ValueError, match=r"wrong|unknown|shape|margin|level|image_size|description"
    ):
        ModelInfo.from_json(json.dumps(asdict(INFO) | changes))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"network": "x"}', "[" * 10**5])
def test_model_info_refuses_other_json(text):
    with pytest.raises(ValueError, match=r"description|Expecting value|wrong"):
        ModelInfo.from_json(text)
