"""EmotionNet, beside the reference implementation's."""

from __future__ import annotations

import pytest
import torch

import models
from models.emotionnet import EmotionNet
from tests import reference_networks
from tests.networks import check_network, check_reference, count_parameters


def test_emotionnet_answers_as_the_reference_with_fewer_layers():
    ours, reference = models.create("emotionnet", 7, 1, 48).eval(), reference_networks.EmotionNet()
    assert count_parameters(ours) == 4_742_221
    reference.eval().load_state_dict(ours.state_dict())
    images = torch.rand(4, 1, 48, 48)
    torch.testing.assert_close(ours(images), reference(images))
    check_reference("emotionnet", reference, 48, 1)


def test_emotionnet_takes_any_channels_and_classes_and_48_pixels():
    assert models.create("emotionnet", 3, 3, 48)(torch.rand(2, 3, 48, 48)).shape == (2, 3)
    with pytest.raises(models.NetworkError, match="48 pixels, not 64"):
        models.create("emotionnet", 7, 1, 64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_emotionnet_computes_its_last_step_in_the_precision_of_its_input(dtype):
    model = models.create("emotionnet", 7, 1, 48).to(dtype).eval()
    images = torch.rand(2, 1, 48, 48, dtype=dtype)
    last = []
    model.fc3.register_forward_hook(lambda _layer, _inputs, output: last.append(output))
    with torch.no_grad():
        assert torch.equal(model(images), torch.log_softmax(last[0], 1))


def test_emotionnet_returns_float32_in_bf16():
    model = models.create("emotionnet", 7, 1, 48).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.rand(2, 1, 48, 48))
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs.exp().sum(1), torch.ones(2), rtol=0, atol=1e-6)


def test_emotionnet_learns_with_every_parameter():
    check_network("emotionnet", 4_742_221, 48, 64)


def test_emotionnet_starts_with_a_signal_that_does_not_shrink():
    """With PyTorch's initialization fc2's outputs differ about 400 times less between images."""
    torch.manual_seed(0)
    network, outputs = EmotionNet(7, 1).eval(), []
    network.fc2.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    network(torch.rand(8, 1, 48, 48))
    assert outputs[0].std(0).mean() > 0.01
