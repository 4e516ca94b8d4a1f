"""The EfficientNets: their sizes, and the weights that their authors trained on ImageNet."""

from __future__ import annotations

import os

import pytest
import torch
from efficientnet_pytorch import EfficientNet

import models
from models.dropout import Dropout
from models.efficientnet import pretrained
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


def test_efficientnet_answers_as_the_library_and_shares_its_dropout():
    torch.manual_seed(0)
    library = EfficientNet.from_name("efficientnet-b4", in_channels=1, num_classes=7).eval()
    ours = models.create("efficientnet-b4", 7, 1, 32).eval()
    ours.load_state_dict(library.state_dict())
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), library(images))
    assert isinstance(ours._dropout, Dropout) and ours._dropout.p == library._dropout.p


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


def test_pretrained_has_the_features_of_the_library_in_grey_and_colour(cached_weights):
    _, library = cached_weights
    grey = torch.rand(2, 1, 64, 64)
    for channels, images in ((3, grey.expand(-1, 3, -1, -1)), (1, grey)):
        ours = pretrained("efficientnet-b0", 7, channels).eval()
        assert ours._fc.out_features == 7
        with torch.no_grad():
            features = library.extract_features(grey.expand(-1, 3, -1, -1))
            torch.testing.assert_close(
                ours.extract_features(images), features, rtol=1e-3, atol=1e-4
            )


def test_pretrained_refuses_weights_that_would_run_code(cached_weights):
    path, _ = cached_weights
    torch.save(Hostile(), path)
    with pytest.raises(models.WeightsError, match="cannot be fetched"):
        pretrained("efficientnet-b0", 7, 3)
