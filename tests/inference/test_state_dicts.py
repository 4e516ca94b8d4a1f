"""Where a network's weights are in a file that another program wrote."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch

import models
from utils.inference.state_dicts import StateDictError, find_weights


def tensors_of(name: str, classes: int = 7, prefix: str = "") -> dict[str, torch.Tensor]:
    """Tensors of a network's shapes that take no memory."""
    shapes = models.shapes(name, classes, 1)
    return {prefix + key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


STATE = tensors_of("vgg19")
ADAM = {"state": {0: {"step": 1, "exp_avg": torch.ones(2, 1, 3, 3)}}, "param_groups": [{"lr": 1}]}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (STATE, ""),
        (OrderedDict(STATE), ""),
        (STATE | {"epoch": 3}, ""),
        ({"model": STATE, "optimizer": ADAM}, "model"),
        ({"state_dict": STATE, "epoch": 3, "arch": "vgg19"}, "state_dict"),
        ({"epoch": 3, "loss": 0.1, "model_state_dict": STATE}, "model_state_dict"),
        ({"net": STATE, "acc": 70.1}, "net"),
        ({"module": STATE}, "module"),
        ({"any word": STATE}, "any word"),
        ({"checkpoint": {"model": {"state_dict": STATE}}}, "checkpoint.model.state_dict"),
        ({"state_dict": tensors_of("vgg19", prefix="model.")}, "state_dict.model"),
        ({"state_dict": tensors_of("vgg19", prefix="module.net.body.")}, "state_dict.net.body"),
        (
            {"state_dict": {"loss.weight": torch.ones(7), **tensors_of("vgg19", prefix="model.")}},
            "state_dict.model",
        ),
    ],
)  # fmt: skip
def test_find_weights_takes_a_state_dict_under_any_key(content, place):
    found = find_weights(content)
    assert (found.place, found.weights.network, found.others) == (place, "vgg19", [])
    assert found.weights.tensors.keys() == STATE.keys() and found.classes is None


@pytest.mark.parametrize("average", ["ema", "state_dict_ema", "model_ema"])
def test_find_weights_prefers_the_usual_key_and_names_the_others(average):
    other = {key: tensor.clone() for key, tensor in STATE.items()}
    found = find_weights({average: other, "state_dict": STATE})
    assert found.place == "state_dict" and found.others == [average]
    assert found.weights.tensors["classifier.bias"] is STATE["classifier.bias"]


@pytest.mark.parametrize(
    "content",
    [
        {"student": STATE, "teacher": tensors_of("emotionnet")},
        {"student": STATE, "history": {"model": dict(STATE)}},
        {"state_dict": tensors_of("vgg19", prefix="a.") | tensors_of("vgg19", prefix="b.")},
    ],
)
def test_find_weights_refuses_to_choose_between_networks(content):
    with pytest.raises(
        StateDictError, match=r"holds several networks \(.*, .*\): save the state_d"
    ):
        find_weights(content)


def test_find_weights_refuses_a_layer_beside_the_network():
    """A spatial transformer before the network, for instance, changes what the network sees."""
    tensors = {"stn.weight": torch.ones(8, 1, 7, 7), **tensors_of("vgg19", prefix="model.")}
    with pytest.raises(StateDictError, match=r"holds stn\.weight beside the vgg19 of model\.\*"):
        find_weights({"state_dict": tensors})
    with pytest.raises(StateDictError, match=r"nearly those of vgg19, but it also holds stn\.weig"):
        find_weights({"stn.weight": torch.ones(8, 1, 7, 7), **STATE})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (5, "holds no state_dict with a convolution"),
        ([STATE], "holds no state_dict with a convolution"),
        ({}, "holds no state_dict with a convolution"),
        ({"a": torch.ones(2)}, "holds no state_dict with a convolution"),
        (ADAM, "holds no state_dict with a convolution"),
        ({"model": {"a.weight": torch.ones(1, 1, 3, 3)}}, "those of no network here"),
        (
            {key: t for key, t in STATE.items() if "running" not in key},
            "but it lacks .*running_mean",
        ),
    ],
)
def test_find_weights_says_why_it_finds_none(content, message):
    with pytest.raises(
        StateDictError, match=f"is not a model that this toolkit knows: .*{message}"
    ):
        find_weights(content)


def test_find_weights_goes_no_deeper_than_a_few_dictionaries():
    content: dict = dict(STATE)
    for _ in range(10_000):
        content = {"x": content}
    with pytest.raises(StateDictError):
        find_weights(content)


def test_find_weights_visits_a_dictionary_once():
    loop: dict = {"model": STATE, "state_dict": STATE}
    loop |= {str(i): loop for i in range(100)}
    assert find_weights(loop).others == []


@pytest.mark.parametrize(
    "names",
    [
        {"classes": ["가", "b", "c"]},
        {"class_names": ("가", "b", "c")},
        {"class_to_idx": {"c": 2, "가": 0, "b": 1}},
        {"class_to_idx": {"c": torch.tensor(2), "가": 0, "b": 1.0}, "epoch": 3},
    ],
)
def test_find_weights_returns_the_names_of_the_classes(names):
    state = tensors_of("vgg19", 3)
    for content in ({"state_dict": state, **names}, {"checkpoint": {"model": state, **names}}):
        assert find_weights(content).classes == ["가", "b", "c"]


def test_find_weights_returns_class_names_in_nfc():
    content = {"model": STATE, "classes": ["가", "b"]}
    assert find_weights(content).classes == ["가", "b"]
