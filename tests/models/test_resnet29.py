"""ResNet29: its size, the sizes of its feature maps, and what its blocks pad."""

from __future__ import annotations

import pytest
import torch

import models
from models.resnet29 import NATURAL_SIZE, PaddedBlock, pad
from tests.networks import check_network


def test_resnet29_has_the_size_of_dlibs_network_and_learns():
    check_network("resnet29", 5_576_935, 48, 31)
    shapes = models.shapes("resnet29", 7, 3).values()
    assert sum(len(shape) == 4 for shape in shapes) == 29  # convolutions


def test_a_small_image_is_enlarged_to_the_size_that_dlibs_network_sees():
    torch.manual_seed(0)
    network = models.create("resnet29", 3, 1, 48).eval()
    image = torch.rand(1, 1, 48, 48)
    size = (NATURAL_SIZE, NATURAL_SIZE)
    large = torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=False)
    seen = []
    network.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    with torch.no_grad():
        torch.testing.assert_close(network(image), network(large))
        network(torch.rand(1, 1, 200, 200))
    assert seen == [NATURAL_SIZE, NATURAL_SIZE, 200]


def test_pad_adds_zeros_behind_the_last_channel_row_and_column():
    x = torch.ones(1, 2, 3, 4)
    padded = pad(x, 5, 4, 6)
    assert padded.shape == (1, 5, 4, 6) and padded.sum() == x.sum()
    assert torch.equal(padded[:, :2, :3, :4], x)
    assert pad(x, 2, 3, 4) is x


@pytest.mark.parametrize(("side", "smaller"), [(8, 3), (9, 4)])
def test_a_block_that_halves_adds_the_mean_of_four_pixels_to_a_smaller_map(side, smaller):
    """Without padding, a convolution of stride 2 makes 3 rows of 8, and the mean makes 4."""
    block = PaddedBlock(1, 2, 2).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    torch.nn.init.ones_(block.bn2.bias)  # the convolutions' part: ones, where it has any
    x = torch.rand(1, 1, side, side)
    y = block(x)
    assert block.conv1(x).shape[-1] == smaller and y.shape == (1, 2, 4, 4)
    means = torch.nn.functional.avg_pool2d(x, 2)
    ones = torch.zeros(1, 2, 4, 4)
    ones[:, :, :smaller, :smaller] = 1
    ones[:, :1] += means
    torch.testing.assert_close(y, ones)
