"""Checks that every network must pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def check_network(name: str, parameters: int, image_size: int, refused_size: int) -> None:
    """Check a network's size, that all of it learns, its other shapes, and a size it refuses."""
    model = models.create(name, 7, 1, image_size)
    assert count_parameters(model) == parameters
    torch.log_softmax(model(torch.rand(2, 1, image_size, image_size)), 1)[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    other = models.create(name, 3, 3, image_size).eval()
    assert other(torch.rand(2, 3, image_size, image_size)).shape == (2, 3)
    expected = f"{name} takes images of .* pixels, not {refused_size}"
    with pytest.raises(models.NetworkError, match=expected):
        models.create(name, 7, 1, refused_size)


def check_reference(name: str, reference: nn.Module, image_size: int, image_channel: int) -> None:
    """Check that a network with the weights of the reference implementation answers as it does."""
    model = models.create(name, 7, image_channel, image_size).eval()
    model.load_state_dict(reference.state_dict())
    images = torch.rand(2, image_channel, image_size, image_size)
    with torch.no_grad():
        expected, outputs = reference.eval()(images), model(images)
    torch.testing.assert_close(outputs.log_softmax(1), expected.log_softmax(1))
