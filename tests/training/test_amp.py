"""Mixed precision: what --amp auto stands for, and the context of a forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from utils.training import amp

CPU = torch.device("cpu")


def test_autocast_runs_products_in_the_precision():
    x = torch.ones(2, 2)
    for name, dtype in (("off", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with amp.autocast(CPU, name):
            assert (x @ x).dtype == dtype


@pytest.mark.parametrize("name", ["off", "bf16", "fp16"])
def test_resolve_amp_measures_nothing_but_auto(monkeypatch, name):
    monkeypatch.setattr(amp, "_step_seconds", None)  # a call would fail
    assert amp.resolve_amp(name, nn.Linear(1, 1), (8, 1, 8, 8), CPU) == name


@pytest.mark.parametrize(
    ("in_hardware", "speedup", "chosen"),
    [(True, 1.3, "bf16"), (True, 1.1, "off"), (False, 9, "off")],
)
def test_resolve_amp_chooses_bf16_on_a_cpu_if_it_is_faster(
    monkeypatch, in_hardware, speedup, chosen
):
    monkeypatch.setattr(amp, "_cpu_has_bf16", lambda: in_hardware)
    seconds = {"off": speedup, "bf16": 1}
    monkeypatch.setattr(amp, "_step_seconds", lambda model, batch, name: seconds[name])
    assert amp.resolve_amp("auto", nn.Linear(1, 1), (8, 1, 8, 8), CPU) == chosen


@pytest.mark.parametrize(("capability", "chosen"), [((8, 0), "bf16"), ((7, 5), "fp16")])
def test_resolve_amp_chooses_by_the_hardware_of_a_gpu(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert amp.resolve_amp("auto", nn.Linear(1, 1), (8, 1, 8, 8), torch.device("cuda")) == chosen


def test_resolve_amp_times_no_larger_batch_than_takes_the_probe_seconds(monkeypatch):
    monkeypatch.setattr(amp, "_cpu_has_bf16", lambda: True)
    timed = []

    def step_seconds(model: nn.Module, batch: tuple[int, ...], name: str) -> float:
        timed.append((batch, name))
        return 0.125

    monkeypatch.setattr(amp, "_step_seconds", step_seconds)
    amp.resolve_amp("auto", nn.Linear(1, 1), (512, 1, 8, 8), CPU)
    assert timed[0] == ((8, 1, 8, 8), "off")
    assert timed[1:] == [((19, 1, 8, 8), "off"), ((19, 1, 8, 8), "bf16")]


def test_resolve_amp_leaves_the_model_and_the_random_state(monkeypatch):
    monkeypatch.setattr(amp, "_cpu_has_bf16", lambda: True)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    assert amp.resolve_amp("auto", model, (8, 1, 8, 8), CPU) in ("off", "bf16")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
