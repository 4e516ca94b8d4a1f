"""The device that a network runs on."""

from __future__ import annotations

import pytest
import torch

from utils.errors import StageError
from utils.inference.device import choose_device, is_small_request


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the system has some GPUs. Return the calls that make one the current GPU."""
    current = []

    def pretend(count: int) -> list[torch.device]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", current.append)
        return current

    return pretend


def test_choose_device_is_the_cpu_without_a_gpu_or_the_wish_for_one(gpus):
    gpus(0)
    assert choose_device(True, 0) == choose_device(True, 3) == torch.device("cpu")
    gpus(2)
    assert choose_device(False, 0) == torch.device("cpu")


def test_choose_device_is_the_gpu_of_the_index_and_makes_it_the_current_one(gpus):
    current = gpus(2)
    assert choose_device(True, 1) == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]


def test_choose_device_is_the_cpu_on_a_mac_with_its_own_gpu(gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(True, 0) == torch.device("cpu")


def test_choose_device_refuses_an_index_that_no_gpu_has(gpus):
    gpus(2)
    with pytest.raises(StageError, match=r"--cuda_idx 2: this system has 2 GPU\(s\)"):
        choose_device(True, 2)


def test_a_request_is_small_by_its_pixels():
    assert is_small_request(999, 48) and not is_small_request(1000, 48)
    assert is_small_request(45, 224) and not is_small_request(46, 224)
