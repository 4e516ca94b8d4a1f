"""Mixed precision: what --amp auto stands for, and the context of a forward pass."""

from __future__ import annotations

import time

import pytest
import torch

import models
from utils.training import amp

CPU = torch.device("cpu")


def test_autocast_runs_products_in_the_precision():
    x = torch.ones(2, 2)
    for name, dtype in (("off", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with amp.autocast(CPU, name):
            assert (x @ x).dtype == dtype


@pytest.mark.parametrize("name", ["off", "bf16", "fp16"])
def test_resolve_amp_leaves_anything_but_auto(monkeypatch, name):
    monkeypatch.setattr(amp, "_cpu_has_bf16", None)  # a call would fail
    assert amp.resolve_amp(name, "emotionnet", CPU) == name


@pytest.mark.parametrize(
    ("in_hardware", "network", "chosen"),
    [
        (True, "emotionnet", "bf16"),
        (True, "resemotionnet", "bf16"),
        (True, "resnet18", "bf16"),
        (True, "resnet18-original", "bf16"),
        (True, "vgg19", "bf16"),
        (True, "vgg22", "bf16"),
        (True, "vgg24", "bf16"),
        (True, "efficientnet-b4", "off"),
        (True, "efficientnet-b5", "off"),
        (False, "emotionnet", "off"),
        (False, "efficientnet-b4", "off"),
    ],
)
def test_resolve_amp_chooses_bf16_on_a_cpu_if_the_network_gains(
    monkeypatch, in_hardware, network, chosen
):
    monkeypatch.setattr(amp, "_cpu_has_bf16", lambda: in_hardware)
    assert amp.resolve_amp("auto", network, CPU) == chosen


@pytest.mark.parametrize(("capability", "chosen"), [((8, 0), "bf16"), ((7, 5), "fp16")])
@pytest.mark.parametrize("network", ["emotionnet", "efficientnet-b4"])
def test_resolve_amp_chooses_by_the_hardware_of_a_gpu(monkeypatch, capability, chosen, network):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert amp.resolve_amp("auto", network, torch.device("cuda")) == chosen


@pytest.mark.parametrize("network", models.NETWORKS)
def test_resolve_amp_depends_on_no_time(monkeypatch, network):
    """The load of the machine must not decide: the same seed has to give the same model."""
    monkeypatch.setattr(amp, "_cpu_has_bf16", lambda: True)
    for name in ("perf_counter", "monotonic", "time", "process_time", "thread_time"):
        monkeypatch.setattr(time, name, None)  # a call would fail
    choices = {amp.resolve_amp("auto", network, CPU) for _ in range(5)}
    assert len(choices) == 1 and choices <= {"bf16", "off"}


def test_resolve_amp_builds_no_network_and_leaves_the_random_state(monkeypatch):
    monkeypatch.setattr(amp, "_cpu_has_bf16", lambda: True)
    monkeypatch.setattr(models.Network, "build", None)  # a call would fail
    before = torch.get_rng_state()
    assert amp.resolve_amp("auto", "vgg19", CPU) == "bf16"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("supported", [True, False])
def test_the_hardware_is_asked_without_a_measurement(monkeypatch, supported):
    answers = {"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": supported}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)
    assert amp._cpu_has_bf16() is supported
