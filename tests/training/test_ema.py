"""The moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from utils.training.ema import Ema


def test_ema_follows_closely_first_and_slowly_later():
    model = nn.BatchNorm1d(1)
    average = Ema(model, 0.99)
    nn.init.zeros_(model.weight)
    average.update()
    assert average.model.weight.item() == pytest.approx(2 / 11)
    average.updates = 10_000
    before = average.model.weight.item()
    average.update()
    assert average.model.weight.item() == pytest.approx(0.99 * before)


def test_ema_copies_the_buffers_of_batch_norm():
    model = nn.BatchNorm1d(2)
    average = Ema(model, 0.9)
    model(torch.rand(5, 2))
    average.update()
    for buffer, expected in zip(average.model.buffers(), model.buffers(), strict=True):
        assert torch.equal(buffer, expected)
    assert average.model.num_batches_tracked == 1


def test_ema_is_a_model_of_its_own_without_gradients():
    model = nn.Linear(2, 2)
    average = Ema(model, 0.9)
    model.weight.data += 1
    assert not torch.equal(average.model.weight, model.weight)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert model.weight.requires_grad
