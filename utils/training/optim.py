"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math

import torch
from torch import nn

# Those of the reference implementation, which has no adamw. A rate of 0.1 suits Adadelta alone.
LEARNING_RATES = {"adadelta": 0.1, "adam": 0.001, "adamw": 0.001, "sgd": 0.01}
WEIGHT_DECAYS = {"adadelta": 0.0, "adam": 0.0, "adamw": 0.01, "sgd": 5e-4}
# Of the one-cycle schedule: first and last factor of the rate, and the fraction of the steps in
# which it rises.
ONECYCLE_FIRST, ONECYCLE_LAST, ONECYCLE_RISE = 1 / 25, 1e-4, 0.3


def make_optimizer(
    name: str, model: nn.Module, lr: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """Return the optimizer called `name`; only sgd uses `momentum`.

    All other settings are those of the reference implementation.
    """
    parameters = model.parameters()
    if name == "adadelta":
        return torch.optim.Adadelta(
            parameters, lr=lr, rho=0.95, eps=1e-8, weight_decay=weight_decay
        )
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)


def lr_factor(schedule: str, step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate in step `step` (from 0) of `steps`.

    It rises linearly in the first `warmup` steps. After them `none` stays at 1, and `cosine` falls
    to 0 (Loshchilov and Hutter 2017, arXiv 1608.03983). `onecycle` rises from 1/25 to 1 in the
    warm-up, or without one in 30 % of the steps, and falls to 1/10,000, both as a half cosine
    (Smith and Topin 2017, arXiv 1708.07120, with constant momentum).
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


def _half_cosine(start: float, end: float, done: float) -> float:
    """Return the value between `start` and `end` after the fraction `done` of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1))) / 2
