"""The VGG networks, beside the reference implementation's."""

from __future__ import annotations

import pytest
import torch

from tests import reference_networks
from tests.networks import check_network, check_reference

SIZES = [
    ("vgg19", 20_037_831, 32, 64),
    ("vgg22", 24_907_335, 63, 31),
    ("vgg24", 53_231_687, 64, 48),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters", "image_size", "refused_size"), SIZES)
def test_vgg_has_the_reference_size_and_learns(name, parameters, image_size, refused_size):
    check_network(name, parameters, image_size, refused_size)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters", "image_size", "refused_size"), SIZES)
def test_vgg_answers_as_the_reference(name, parameters, image_size, refused_size):
    torch.manual_seed(0)
    check_reference(name, getattr(reference_networks, name)(), image_size, 1)
