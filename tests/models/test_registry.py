"""The registry: names, the sizes that networks take, and their shapes without building them."""

from __future__ import annotations

import pytest
import torch

import models


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("CNN", "emotionnet"),
        ("resnet", "resnet18"),
        ("efficientnet", "efficientnet-b4"),
        ("vgg19", "vgg19"),
        ("EfficientNet-B5", "efficientnet-b5"),
    ],
)
def test_full_name_resolves_aliases_in_any_case(name, registered):
    assert models.full_name(name) == registered


def test_full_name_refuses_an_unknown_name_and_lists_the_known_ones():
    with pytest.raises(models.NetworkError, match=r"'resnet1000'.*emotionnet"):
        models.full_name("resnet1000")


def test_names_lists_every_network_and_alias():
    text = models.names()
    for name in (*models.NETWORKS, *models.ALIASES):
        assert name in text


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("emotionnet", [48], [47, 49]),
        ("resemotionnet", [1, 4096], [0]),
        ("resnet18", [8, 4096], [7]),
        ("resnet18-original", [32, 56], [31, 57]),
        ("resnet29", [32, 4096], [31]),
        ("vgg19", [32, 63], [31, 64]),
        ("vgg24", [64, 127], [63, 128]),
        ("efficientnet-b4", [32, 4096], [31]),
    ],
)
def test_network_takes_sizes_from_the_smallest_to_the_largest(name, taken, refused):
    network = models.NETWORKS[name]
    assert all(map(network.takes, taken)) and not any(map(network.takes, refused))


def test_network_sizes_names_one_size_a_range_or_a_minimum():
    sizes = {name: models.NETWORKS[name].sizes() for name in ("emotionnet", "vgg24", "resnet18")}
    assert sizes == {"emotionnet": "48", "vgg24": "64 to 127", "resnet18": "8 or more"}


@pytest.mark.parametrize("name", models.NETWORKS)
def test_shapes_are_those_of_the_network_itself(name):
    shapes = models.shapes(name, 5, 3)
    first = next(shape for shape in shapes.values() if len(shape) == 4)
    assert first[1] == 3, "image channels"
    assert any(shape[0] == 5 for shape in shapes.values() if shape), "classes"
    if name == "emotionnet":  # the others take longer to build
        state = models.create(name, 5, 3, 48).state_dict()
        assert shapes == {key: tuple(tensor.shape) for key, tensor in state.items()}


@pytest.mark.parametrize("name", models.NETWORKS)
def test_shapes_are_known_without_drawing_a_normal_number(name, monkeypatch):
    # On the meta device, torch imports its compiler for that.
    monkeypatch.setattr(torch.Tensor, "normal_", lambda *_: pytest.fail("drawn"))
    models.shapes(name, 7, 1)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("emotionnet", "fc3"),
        ("resemotionnet", "fc"),
        ("resnet18", "linear"),
        ("resnet29", "fc"),
        ("vgg19", "classifier"),
        ("efficientnet-b4", "_fc"),
    ],
)
def test_head_is_the_last_layer(name, layer):
    assert models.head(name) == {f"{layer}.weight", f"{layer}.bias"}
