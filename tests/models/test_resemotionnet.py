"""ResEmotionNet, beside the reference implementation's."""

from __future__ import annotations

import torch

from tests import reference_networks
from tests.networks import check_network, check_reference


def test_resemotionnet_has_the_reference_size_and_learns():
    check_network("resemotionnet", 1_977_287, 12, 0)


def test_resemotionnet_answers_as_the_reference():
    torch.manual_seed(0)
    check_reference("resemotionnet", reference_networks.ResEmotionNet(), 16, 1)
