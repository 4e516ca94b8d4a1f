"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

# Those of the reference implementation, which has no adamw. A rate of 0.1 suits Adadelta alone.
LEARNING_RATES = {"adadelta": 0.1, "adam": 0.001, "adamw": 0.001, "sgd": 0.01}
WEIGHT_DECAYS = {"adadelta": 0.0, "adam": 0.0, "adamw": 0.01, "sgd": 5e-4}
# Of the one-cycle schedule: first and last factor of the rate, and the fraction of the steps in
# which it rises.
ONECYCLE_FIRST, ONECYCLE_LAST, ONECYCLE_RISE = 1 / 25, 1e-4, 0.3
# Of the plateau schedule, as in Khaireddin and Chen 2021 (arXiv 2105.03588) on FER2013.
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.75, 5
PLATEAU_THRESHOLD = 1e-4  # relative: what an epoch must be better by to count; torch's default


# Settings that an optimizer keeps when it loads a state: those that a run may resume with, and
# those that belong to its device.
KEPT_SETTINGS = {"weight_decay", "momentum", "nesterov", "foreach", "fused", "capturable"}


def make_optimizer(
    name: str,
    model: nn.Module,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool = False,
    split_decay: bool = False,
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """Return the optimizer called `name`; only sgd uses `momentum` and `nesterov`.

    With `split_decay`, adam and adamw do not decay biases, norm layers and slopes of PReLU (see
    `decay_groups`). With `capturable`, a step can be recorded as a CUDA graph: the learning rate is
    a tensor on the GPU. All other settings are those of the reference implementation.
    """
    parameters: Iterable[Any] = model.parameters()
    device = next(model.parameters()).device
    # Kernels for all weights at once: a single one, where torch has it; on a CPU that would round
    # differently. Adadelta for one weight after the other would fetch the rate from the GPU.
    fused: dict[str, Any] = {"fused": True} if device.type == "cuda" else {}
    foreach: dict[str, Any] = {"foreach": True} if device.type == "cuda" else {}
    recorded: dict[str, Any] = {"capturable": True} if capturable else {}
    optimizer: torch.optim.Optimizer
    if name == "adadelta":
        optimizer = torch.optim.Adadelta(
            parameters, lr, rho=0.95, eps=1e-8, weight_decay=weight_decay, **foreach, **recorded
        )
    elif name == "sgd":
        optimizer = torch.optim.SGD(
            parameters, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, **fused
        )
    else:
        if split_decay:
            parameters = decay_groups(model)
        kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
        optimizer = kind(parameters, lr=lr, weight_decay=weight_decay, **fused, **recorded)
    if capturable:
        _take_tensor_as_lr(optimizer, device)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's state with the learning rate as a number, as on any device."""
    state = optimizer.state_dict()
    groups = [group | {"lr": float(group["lr"])} for group in state["param_groups"]]
    return state | {"param_groups": groups}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what `optimizer_state` returned, maybe of a training on another device.

    The optimizer keeps its own KEPT_SETTINGS.
    """
    groups = []
    for own, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        lr = own["lr"]
        lr = lr.fill_(saved["lr"]) if isinstance(lr, torch.Tensor) else saved["lr"]
        kept = {name: own[name] for name in KEPT_SETTINGS & own.keys()}
        groups.append({**saved, **kept, "lr": lr})
    # Only by the groups' settings does torch know on which device the count of steps belongs.
    optimizer.load_state_dict(state | {"param_groups": groups})


def _take_tensor_as_lr(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"], device=device)
    # Short batches are not recorded.
    warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters in two groups: the weights of layers, and those without decay.

    Without decay are the parameters of fewer than two dimensions, as timm has it: biases, scales of
    norm layers (He et al. 2018, arXiv 1812.01187, "no bias decay") and slopes of PReLU, which decay
    would turn into ReLU (He et al. 2015, arXiv 1502.01852).
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def lr_factor(schedule: str, step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate in step `step` (from 0) of `steps`.

    It rises linearly in the first `warmup` steps. After them `none` stays at 1, as `plateau` does
    (for it see `plateau_factor`), and `cosine` falls to 0 (Loshchilov and Hutter 2017, arXiv
    1608.03983). `onecycle` rises from 1/25 to 1 in the warm-up, or without one in 30 % of the
    steps, and falls to 1/10,000, both as a half cosine (Smith and Topin 2017, arXiv 1708.07120,
    with constant momentum).
    """
    if schedule == "onecycle":
        rise = warmup or max(1, round(ONECYCLE_RISE * steps))
        if step < rise:
            return _half_cosine(ONECYCLE_FIRST, 1, step / rise)
        return _half_cosine(1, ONECYCLE_LAST, (step - rise) / max(1, steps - rise))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "cosine":
        return _half_cosine(1, 0, (step - warmup) / max(1, steps - warmup))
    return 1.0


def plateau_factor(accuracies: Sequence[float], factor: float, patience: int) -> float:
    """Return the factor of the learning rate after epochs with these validation accuracies.

    It is multiplied by `factor` after each `patience` + 1 epochs in a row without an accuracy above
    the best so far, as by torch's ReduceLROnPlateau. It follows from the results alone: a resumed
    run needs no other state.
    """
    best, bad_epochs, result = -math.inf, 0, 1.0
    for accuracy in accuracies:
        if accuracy > best * (1 + PLATEAU_THRESHOLD):
            best, bad_epochs = accuracy, 0
        else:
            bad_epochs += 1
        if bad_epochs > patience:
            bad_epochs, result = 0, result * factor
    return result


def _half_cosine(start: float, end: float, done: float) -> float:
    """Return the value between `start` and `end` after the fraction `done` of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1))) / 2
