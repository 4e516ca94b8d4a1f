"""Checkpoints of the reference implementation, which do not name their network."""

from __future__ import annotations

import pytest
import torch

import models
from models.legacy import default_image_size, identify


def tensors_of(name: str, classes: int = 7, channels: int = 1) -> dict[str, torch.Tensor]:
    """Tensors of a network's shapes that take no memory."""
    shapes = models.shapes(name, classes, channels)
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in models.NETWORKS if name != "resnet18"])
def test_identify_finds_each_network_by_its_tensors(name, channels):
    found, found_channels, weights = identify(tensors_of(name, channels=channels))
    assert (found, found_channels) == (name, channels)
    assert weights.keys() == models.shapes(name, 7, channels).keys()


def test_identify_takes_resnet18_for_the_form_of_the_reference():
    assert identify(tensors_of("resnet18"))[0] == "resnet18-original"


def test_identify_ignores_the_prefix_of_several_gpus():
    tensors = {f"module.{key}": tensor for key, tensor in tensors_of("emotionnet").items()}
    name, _, weights = identify(tensors)
    assert name == "emotionnet" and not any(key.startswith("module.") for key in weights)


def test_identify_keeps_the_first_seven_of_a_thousand_outputs():
    tensors = tensors_of("efficientnet-b4", classes=1000, channels=3)
    tensors["_fc.bias"] = torch.arange(1000.0)
    name, _, weights = identify(tensors)
    assert name == "efficientnet-b4" and weights["_fc.bias"].tolist() == list(range(7))
    assert weights["_fc.weight"].shape[0] == 7


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


def test_default_image_size_is_larger_where_a_network_cannot_take_48():
    sizes = {name: default_image_size(name) for name in models.NETWORKS}
    assert sizes.pop("vgg24") == 96 and set(sizes.values()) == {48}
