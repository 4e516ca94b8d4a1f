"""Weights that do not name their network: of the reference implementation, or of any code."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch

import models
from models.legacy import compare, default_image_size, identify


def tensors_of(name: str, classes: int = 7, channels: int = 1) -> dict[str, torch.Tensor]:
    """Tensors of a network's shapes that take no memory."""
    shapes = models.shapes(name, classes, channels)
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in models.NETWORKS if name != "resnet18"])
def test_identify_finds_each_network_by_its_tensors(name, channels):
    found = identify(tensors_of(name, channels=channels))
    assert (found.network, found.image_channel, found.outputs) == (name, channels, 7)
    assert found.tensors.keys() == models.shapes(name, 7, channels).keys()


def test_identify_takes_resnet18_for_the_form_of_the_reference():
    assert identify(tensors_of("resnet18")).network == "resnet18-original"


WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")


@pytest.mark.parametrize(
    "prefix",
    ["".join(words) for n in (1, 2, 3) for words in product(WRAPPERS, repeat=n)],
)
def test_identify_ignores_the_prefixes_of_wrappers_in_any_order_and_number(prefix):
    tensors = {f"{prefix}{key}": tensor for key, tensor in tensors_of("emotionnet").items()}
    found = identify(tensors)
    assert found.network == "emotionnet"
    assert found.tensors.keys() == models.shapes("emotionnet", 7, 1).keys()


def test_identify_ignores_a_wrapper_around_a_part_of_the_network():
    tensors = {
        key.replace("features.", "features.module."): tensor
        for key, tensor in tensors_of("vgg19").items()
    }
    assert any("features.module." in key for key in tensors)
    assert identify(tensors).network == "vgg19"


def test_identify_ignores_the_counter_of_an_averaged_model():
    tensors = {f"module.{key}": tensor for key, tensor in tensors_of("emotionnet").items()}
    assert identify({"n_averaged": torch.tensor(3), **tensors}).network == "emotionnet"


def test_identify_fills_in_the_counters_that_old_files_lack():
    tensors = tensors_of("vgg19")
    old = {k: tensor for k, tensor in tensors.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(tensors) and identify(old).tensors.keys() == tensors.keys()


@pytest.mark.parametrize("name", ["emotionnet", "vgg19", "efficientnet-b4"])
@pytest.mark.parametrize("classes", [2, 8, 1000])
def test_identify_counts_the_outputs(name, classes):
    assert identify(tensors_of(name, classes)).outputs == classes


def test_first_outputs_keeps_the_first_seven_of_a_thousand_outputs():
    tensors = tensors_of("efficientnet-b4", classes=1000, channels=3)
    tensors["_fc.bias"] = torch.arange(1000.0)
    found = identify(tensors).first_outputs(7)
    assert found.network == "efficientnet-b4" and found.outputs == 7
    assert found.tensors["_fc.bias"].tolist() == list(range(7))
    assert found.tensors["_fc.weight"].shape[0] == 7


@pytest.mark.parametrize("change", ["missing", "another shape", "another name", "no kernel"])
def test_identify_returns_none_for_other_tensors(change):
    tensors = tensors_of("emotionnet")
    if change == "missing":
        del tensors["fc2.bias"]
    elif change == "another shape":
        tensors["fc2.bias"] = torch.zeros(5)
    elif change == "another name":
        tensors["fc9.bias"] = tensors.pop("fc2.bias")
    else:
        tensors = {"fc2.bias": torch.zeros(5)}
    assert identify(tensors) is None


def test_identify_returns_none_for_an_image_of_two_channels():
    assert identify(tensors_of("emotionnet", channels=2)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "nearly those of emotionnet, but it lacks fc2.bias"),
        ("several missing", "nearly those of emotionnet, but it lacks fc2.weight and 1 more"),
        ("another shape", r"has fc2\.bias of the shape \(5,\), not \("),
        ("besides", "nearly those of emotionnet, but it also holds gate.weight"),
        ("nothing alike", r"its tensors \(a0 and 3 more\) are those of no network here"),
    ],
)
def test_compare_says_what_is_wrong(change, message):
    tensors = tensors_of("emotionnet")
    if change == "missing":
        del tensors["fc2.bias"]
    elif change == "several missing":
        del tensors["fc2.weight"], tensors["fc2.bias"]
    elif change == "another shape":
        tensors["fc2.bias"] = torch.zeros(5)
    elif change == "besides":
        tensors["gate.weight"] = torch.zeros(5)
    else:
        tensors = {f"a{i}": torch.zeros(1, 1, 3, 3) for i in range(4)}
    assert re.search(message, compare({f"module.{k}": tensor for k, tensor in tensors.items()}))


def test_default_image_size_is_larger_where_a_network_cannot_take_48():
    sizes = {name: default_image_size(name) for name in models.NETWORKS}
    assert sizes.pop("vgg24") == 96 and set(sizes.values()) == {48}
