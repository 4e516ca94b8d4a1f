"""Sharpness-aware minimization: where the weights go, and what comes back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.trainings import equal_bits
from utils.training.distributed import SyncBatchNormCPU
from utils.training.sam import sharpest_nearby


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))


def losses(model: nn.Module) -> torch.Tensor:
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return -model(images).log_softmax(1)[:, 0].sum()


def test_the_weights_move_by_rho_along_the_gradient_and_come_back(model):
    losses(model).backward()
    before = copy.deepcopy(model)
    gradients = [p.grad.clone() for p in model.parameters()]
    norm = sum((gradient**2).sum() for gradient in gradients).sqrt()
    with sharpest_nearby(model, 0.05):
        for now, old, gradient in zip(
            model.parameters(), before.parameters(), gradients, strict=True
        ):
            torch.testing.assert_close(now, old + 0.05 * gradient / norm)
        moved = [
            now - old for now, old in zip(model.parameters(), before.parameters(), strict=True)
        ]
        assert sum((m**2).sum() for m in moved).sqrt().item() == pytest.approx(0.05, rel=1e-3)
    assert equal_bits(dict(model.state_dict()), dict(before.state_dict()))


def test_scaled_gradients_make_the_same_move(model):
    weights = []
    for scale in (1, 65536.0):
        model.zero_grad()
        (losses(model) * scale).backward()
        with sharpest_nearby(model, 0.1):
            weights.append(copy.deepcopy(model.state_dict()))
    torch.testing.assert_close(weights[0]["3.weight"], weights[1]["3.weight"])


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, SyncBatchNormCPU])
def test_batch_norm_keeps_the_statistics_of_the_first_pass(model, kind, monkeypatch):
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: None)
    model[1].__class__ = kind
    losses(model).backward()
    statistics = copy.deepcopy(dict(model[1].named_buffers()))
    with sharpest_nearby(model, 0.5):
        second = losses(model)
        assert not torch.equal(second, losses(model.eval())), "it normalizes by the batch"
        model.train()
    assert equal_bits(dict(model[1].named_buffers()), statistics)
    losses(model)
    assert not equal_bits(dict(model[1].named_buffers()), statistics)


def test_an_error_in_the_second_pass_leaves_the_weights_as_they_were(model):
    losses(model).backward()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt), sharpest_nearby(model, 0.5):
        raise KeyboardInterrupt
    assert equal_bits(dict(model.state_dict()), dict(before)) and model[1].track_running_stats


def test_parameters_without_a_gradient_stay(model):
    model[3].requires_grad_(False)
    losses(model).backward()
    with sharpest_nearby(model, 0.5):
        assert model[3].weight.grad is None
