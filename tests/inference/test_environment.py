"""What a result comes from: versions, device and precision."""

from __future__ import annotations

import json

import torch

from utils import __version__
from utils.inference.environment import describe_environment, device_name

CPU = torch.device("cpu")


def test_describe_environment_names_precision_versions_and_device():
    environment = describe_environment(CPU, "bf16")
    assert environment == {
        "amp": "bf16",
        "torch": str(torch.__version__),
        "toolkit": __version__,
        "device": device_name(CPU),
        "threads": torch.get_num_threads(),
    }
    assert json.loads(json.dumps(environment)) == environment
    assert all(environment.values())


def test_device_name_is_that_of_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert device_name(torch.device("cuda", 1)) == "GPU 1"
