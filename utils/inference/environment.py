"""The environment that a result comes from: versions, device and precision."""

from __future__ import annotations

import torch

from utils import __version__
from utils.inference.cpu import cpu_name


def describe_environment(device: torch.device, amp: str) -> dict[str, str | int]:
    """Return what may change a result besides flags and data, for options.json and report.json.

    `amp` is the precision that was used: bf16, fp16 or off.
    """
    return {
        "amp": amp,
        "torch": str(torch.__version__),
        "toolkit": __version__,
        "device": device_name(device),
        "threads": torch.get_num_threads(),  # of the CPU; sums depend on their number
    }


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the CPU's model if the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()
