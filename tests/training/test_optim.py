"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.prelu import PReLU
from utils.training.optim import (
    LEARNING_RATES,
    WEIGHT_DECAYS,
    load_optimizer_state,
    lr_factor,
    make_optimizer,
    optimizer_state,
    plateau_factor,
    set_lr,
)


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adadelta", torch.optim.Adadelta, {"rho": 0.95, "eps": 1e-8}),
        ("adam", torch.optim.Adam, {"betas": (0.9, 0.999), "eps": 1e-8}),
        ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-8}),
        ("sgd", torch.optim.SGD, {"momentum": 0.7, "nesterov": False}),
    ],
)
def test_make_optimizer_has_the_reference_settings(name, kind, settings):
    optimizer = make_optimizer(name, nn.Linear(2, 2), lr=0.3, weight_decay=0.02, momentum=0.7)
    [group] = optimizer.param_groups
    assert type(optimizer) is kind and len(group["params"]) == 2
    expected = settings | {"lr": 0.3, "weight_decay": 0.02}
    assert {key: group[key] for key in expected} == expected


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), PReLU(), nn.Flatten())


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_and_adamw_decay_the_weights_of_layers_alone(name):
    model = layers()
    optimizer = make_optimizer(name, model, 0.1, 0.5, 0, split_decay=True)
    decayed, others = optimizer.param_groups
    assert decayed["params"] == [model[0].weight] and decayed["weight_decay"] == 0.5
    expected = [model[0].bias, model[1].weight, model[1].bias, model[2].weight]
    assert all(a is b for a, b in zip(others["params"], expected, strict=True))
    assert others["weight_decay"] == 0
    # Without a gradient but the decay's, only the weights move.
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [True, False, False, False, False]


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_the_others_and_older_runs_decay_every_parameter(name):
    [group] = make_optimizer(name, layers(), 0.1, 0.5, 0.9).param_groups
    assert len(group["params"]) == 5 and group["weight_decay"] == 0.5
    split = make_optimizer(name, layers(), 0.1, 0.5, 0.9, split_decay=True).param_groups
    assert len(split) == (2 if name in ("adam", "adamw") else 1)


def test_a_model_of_biases_alone_has_one_group():
    model = nn.Sequential(nn.BatchNorm2d(2))
    [group] = make_optimizer("adam", model, 0.1, 0.5, 0, split_decay=True).param_groups
    assert group["weight_decay"] == 0


def test_nesterov_is_for_sgd():
    [group] = make_optimizer("sgd", layers(), 0.1, 0.5, 0.9, nesterov=True).param_groups
    assert group["nesterov"] is True and group["momentum"] == 0.9


def test_defaults_name_every_optimizer():
    assert LEARNING_RATES == {"adadelta": 0.1, "adam": 0.001, "adamw": 0.001, "sgd": 0.01}
    assert WEIGHT_DECAYS == {"adadelta": 0, "adam": 0, "adamw": 0.01, "sgd": 5e-4}


def rates(schedule: str, warmup: int) -> list[float]:
    return [lr_factor(schedule, step, 100, warmup) for step in range(100)]


def test_lr_factor_none_is_constant_after_the_warm_up():
    assert rates("none", 0) == [1.0] * 100
    assert rates("none", 4)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert rates("none", 4)[4:] == [1.0] * 96


def test_lr_factor_cosine_falls_after_the_warm_up():
    cosine = rates("cosine", 10)
    assert cosine[10] == 1 and cosine[55] == pytest.approx(0.5) and cosine[-1] < 0.001
    assert cosine[:10] == rates("none", 10)[:10]
    assert cosine[10:] == sorted(cosine[10:], reverse=True)


def test_lr_factor_onecycle_rises_and_falls_as_in_torch():
    one = rates("onecycle", 0)
    assert one[0] == pytest.approx(0.04) and one[30] == 1 and one[-1] < 0.01 and max(one) == 1
    assert one == pytest.approx(torch_onecycle(), abs=0.03)


def test_lr_factor_onecycle_rises_in_the_warm_up_if_there_is_one():
    one = rates("onecycle", 12)
    assert one[12] == 1 and one[11] < 1 and one[13] < 1


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_factor_is_that_of_torch(patience):
    generator = torch.Generator().manual_seed(patience)
    climb = (torch.rand(60, generator=generator) * 0.2 + torch.linspace(0, 0.6, 60)).tolist()
    accuracies = [*climb, *[climb[-1]] * 9, 0.0, 0.8, 0.80001, 0.8]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.75, patience)
    for count, accuracy in enumerate(accuracies, 1):
        schedule.step(accuracy)
        rate = optimizer.param_groups[0]["lr"]
        assert plateau_factor(accuracies[:count], 0.75, patience) == pytest.approx(rate)
    assert rate < 0.5 and plateau_factor([], 0.75, patience) == 1


def test_lr_factor_plateau_warms_up_and_is_constant():
    assert rates("plateau", 4) == rates("none", 4)


def torch_onecycle() -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 101, cycle_momentum=False)
    factors = []
    for _ in range(100):
        factors.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return factors


def stepped(name: str, **settings: object) -> torch.optim.Optimizer:
    """An optimizer after one step, which it may take on a GPU alone if it is capturable."""
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(name, model, 0.25, 0.5, 0.9, **settings)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    for group in optimizer.param_groups:
        group["capturable"] = False
    optimizer.step()
    for group in optimizer.param_groups:
        group["capturable"] = settings.get("capturable", False)
    return optimizer


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_set_lr_sets_a_number_or_the_tensor_that_a_graph_reads(name):
    for capturable in (False, True):
        optimizer = make_optimizer(name, nn.Linear(2, 2), 0.25, 0, 0.9, capturable=capturable)
        [group] = optimizer.param_groups
        before = group["lr"]
        assert isinstance(before, torch.Tensor) == capturable and before == 0.25
        assert group.get("capturable", False) == (capturable and name != "sgd")
        set_lr(optimizer, 0.125)
        assert group["lr"] == 0.125 and (group["lr"] is before) == capturable


@pytest.mark.parametrize("name", LEARNING_RATES)
@pytest.mark.parametrize(("one", "other"), [(False, True), (True, False), (False, False)])
def test_a_state_is_loaded_on_another_device_with_its_own_settings(name, one, other):
    state = optimizer_state(stepped(name, capturable=one))
    assert {type(group["lr"]) for group in state["param_groups"]} == {float}
    optimizer = make_optimizer(name, nn.Linear(2, 2), 0.5, 0.125, 0.75, capturable=other)
    before = [dict(group) for group in optimizer.param_groups]
    load_optimizer_state(optimizer, state)
    [group], [saved] = optimizer.param_groups, before
    assert isinstance(group["lr"], torch.Tensor) == other and group["lr"] == 0.25
    kept = ("weight_decay", "momentum", "nesterov", "fused", "capturable")
    assert all(group[name] == saved[name] for name in kept if name in saved)
    values = [v for values in optimizer.state.values() for v in values.values()]
    saved_values = [v for values in state["state"].values() for v in values.values()]
    assert values and all(map(torch.equal, values, saved_values))
