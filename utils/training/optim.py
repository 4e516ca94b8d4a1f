"""How weights move: the optimizers, the learning rate over time, and the average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn

# What the original used (adamw is ours); 0.1 is right for Adadelta and would wreck Adam.
LEARNING_RATES = {"adadelta": 0.1, "adam": 0.001, "adamw": 0.001, "sgd": 0.01}
WEIGHT_DECAYS = {"adadelta": 0.0, "adam": 0.0, "adamw": 0.01, "sgd": 5e-4}
ONECYCLE = (1 / 25, 0.3, 1e-4)  # first rate, share of the training that rises, last rate


def make_optimizer(
    name: str, model: nn.Module, lr: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """The optimizer, otherwise with the original's settings. `momentum` is sgd's alone."""
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
    """What the learning rate is multiplied by in step `step` (from 0) of `steps`.

    The first `warmup` steps rise in a line. After them: `none` stays at 1; `cosine` falls to 0
    (Loshchilov and Hutter 2017, arXiv 1608.03983); `onecycle` rises from 1/25 to 1 in the warm-up,
    or where there is none in 30 % of the steps, and falls to 1/10,000, both as a half cosine
    (Smith and Topin 2017, arXiv 1708.07120, its momentum left alone).
    """
    if schedule == "onecycle":
        first, share, last = ONECYCLE
        rising = warmup or max(1, round(share * steps))
        if step < rising:
            return _half_cosine(first, 1, step / rising)
        return _half_cosine(1, last, (step - rising) / max(1, steps - rising))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "cosine":
        return _half_cosine(1, 0, (step - warmup) / max(1, steps - warmup))
    return 1.0


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1))) / 2
