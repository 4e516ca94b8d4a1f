"""The EfficientNets: their sizes, and the weights that their authors trained on ImageNet."""

from __future__ import annotations

import os

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn

import models
from models.dropout import Dropout
from models.efficientnet import DEVIATION, MEAN, pretrained
from tests.networks import check_network, count_parameters

pytestmark = pytest.mark.slow


class Hostile:
    """An object whose pickle ends the process when it is read."""

    def __reduce__(self) -> tuple:
        return os._exit, (66,)


@pytest.mark.parametrize(
    ("name", "parameters", "image_size", "refused_size"),
    [("efficientnet-b4", 17_560_303, 48, 31), ("efficientnet-b5", 28_354_263, 32, 16)],
)
def test_efficientnet_has_the_reference_size_and_learns(name, parameters, image_size, refused_size):
    check_network(name, parameters, image_size, refused_size)


@pytest.mark.parametrize(
    ("name", "classes", "channels", "parameters"),
    [
        ("efficientnet-b4", 1000, 3, 19_341_616),
        ("efficientnet-b4", 7, 3, 17_561_167),
        ("efficientnet-b5", 1000, 3, 30_389_784),
        ("efficientnet-b5", 7, 3, 28_355_127),
    ],
)
def test_efficientnet_has_the_published_size(name, classes, channels, parameters):
    with torch.device("meta"):  # parameters without memory
        assert count_parameters(models.create(name, classes, channels, 32)) == parameters


def library_network(name: str, **settings: int) -> EfficientNet:
    """The library's network as it is, but for dropout, whose random numbers are ours here."""
    torch.manual_seed(0)
    network = EfficientNet.from_name(name, in_channels=1, num_classes=7, **settings)
    network._dropout = nn.Identity()
    return network.double()


@pytest.mark.parametrize(
    ("image_size", "same_padding", "settings", "training"),
    [(48, False, {}, False), (64, True, {"image_size": 64}, True)],
)
def test_efficientnet_computes_what_the_library_does(image_size, same_padding, settings, training):
    """In double precision: outputs, and the gradients of all weights."""
    library = library_network("efficientnet-b4", **settings).train(training)
    ours = models.create("efficientnet-b4", 7, 1, image_size, same_padding).double()
    ours.train(training)._dropout = nn.Identity()
    ours.load_state_dict(library.state_dict())
    assert ours.state_dict().keys() == library.state_dict().keys()
    images = torch.rand(2, 1, image_size, image_size, dtype=torch.float64)
    results = []
    for network in (library, ours):
        torch.manual_seed(1)  # of stochastic depth
        outputs = network(images)
        outputs.square().sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in network.parameters()])
        results.append((outputs.detach(), gradients))
    (expected, expected_gradients), (outputs, gradients) = results
    torch.testing.assert_close(outputs, expected, rtol=1e-9, atol=1e-12)
    scale = expected_gradients.abs().max().item()
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-9, atol=1e-10 * scale)


def test_efficientnet_lets_torch_pad_and_activate():
    """Most of what the library does in layers written in Python."""
    with torch.device("meta"):
        layers = list(models.create("efficientnet-b4", 7, 1, 48).modules())
    names = [type(layer).__name__ for layer in layers]
    assert "SiLU" in names and "MemoryEfficientSwish" not in names
    padding = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.padding[0]]
    assert (len(padding), names.count("ZeroPad2d")) == (29, 4)
    dropouts = [layer for layer in layers if isinstance(layer, nn.Dropout | Dropout)]
    assert [type(layer) for layer in dropouts] == [Dropout] and dropouts[0].p == 0.4


@pytest.mark.parametrize(
    ("image_size", "same_padding", "side"),
    [
        *((32, True, 1), (48, True, 2), (50, True, 2), (97, True, 4), (380, True, 12)),
        *((48, False, 1), (380, False, 12)),
    ],
)
def test_same_padding_halves_the_image_five_times_and_rounds_up(image_size, same_padding, side):
    """The library's padding does so at its own size of 380 pixels alone."""
    with torch.device("meta"):
        network = models.create("efficientnet-b4", 7, 1, image_size, same_padding).eval()
        features = network.extract_features(torch.empty(1, 1, image_size, image_size))
    assert features.shape[-2:] == (side, side)


@pytest.fixture
def cached_weights(tmp_path, monkeypatch):
    """Where torch finds downloaded weights; and a b0 whose weights are there."""
    torch.manual_seed(0)
    library = EfficientNet.from_name("efficientnet-b0").eval()
    path = tmp_path / "hub/checkpoints/efficientnet-b0-355c32eb.pth"
    path.parent.mkdir(parents=True)
    torch.save(library.state_dict(), path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return path, library


@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_takes_pictures_that_are_not_normalized(cached_weights, channels):
    """As the library computes from normalized ones, except where its padding differs: the edge."""
    _, library = cached_weights
    nn.init.uniform_(library._bn0.running_mean, -1, 1)
    library._bn0.running_var.fill_(0.01)
    torch.save(library.state_dict(), cached_weights[0])
    images = torch.rand(2, channels, 64, 64)
    colours = images.expand(-1, 3, -1, -1)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    ours = pretrained("efficientnet-b0", 7, channels, 64).eval()
    with torch.no_grad():
        expected = library._bn0(library._conv_stem((colours - mean) / deviation))
        found = ours._bn0(ours._conv_stem(images))
        inner = (..., slice(0, -1), slice(0, -1))
        torch.testing.assert_close(found[inner], expected[inner], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(found[..., -1, :], expected[..., -1, :], atol=0.1)


def test_pretrained_has_the_other_layers_of_the_library(cached_weights):
    _, library = cached_weights
    ours = pretrained("efficientnet-b0", 7, 1, 48)
    changed = {"_conv_stem.weight", "_bn0.running_mean", "_fc.weight", "_fc.bias"}
    weights = library.state_dict()
    for key, weight in ours.state_dict().items():
        assert key in changed or torch.equal(weight, weights[key])
    assert ours._fc.out_features == 7 and ours.same_padding
    assert ours.extract_features(torch.rand(1, 1, 48, 48)).shape[-2:] == (2, 2)


def test_pretrained_refuses_a_size_before_it_downloads():
    with pytest.raises(models.NetworkError, match="images of 32 or more pixels, not 31"):
        models.pretrained("efficientnet-b4", 7, 1, 31)


def test_pretrained_refuses_weights_that_would_run_code(cached_weights):
    path, _ = cached_weights
    torch.save(Hostile(), path)
    with pytest.raises(models.WeightsError, match="cannot be fetched"):
        pretrained("efficientnet-b0", 7, 3, 64)
