"""ResNet18 in the project's form, and as the reference implementation pools it."""

from __future__ import annotations

import torch

import models
from tests import reference_networks
from tests.networks import check_network, check_reference


def test_resnet18_has_the_reference_size_and_learns():
    check_network("resnet18", 11_171_271, 8, 7)


def test_resnet18_original_answers_as_the_reference():
    torch.manual_seed(0)
    check_reference("resnet18-original", reference_networks.ResNet18(), 48, 1)


def test_resnet18_sees_the_part_of_the_image_that_the_reference_leaves_out():
    """Of 48 pixels the last feature map is 6×6; the reference averages its top left 4×4."""
    torch.manual_seed(0)
    reference = models.create("resnet18-original", 7, 1, 48).eval()
    whole = models.create("resnet18", 7, 1, 48).eval()
    whole.load_state_dict(reference.state_dict())
    features = torch.zeros(1, 512, 6, 6)
    features[:, :, 5, 5] = 36
    assert torch.equal(reference.pool(features), torch.zeros(1, 512))
    assert torch.equal(whole.pool(features), torch.ones(1, 512))
