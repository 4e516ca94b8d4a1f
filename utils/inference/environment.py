"""The environment that a result comes from: versions, device and precision."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from utils import __version__


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
    return _cpu_name() or platform.processor() or platform.machine()


def _cpu_name() -> str:
    """Return the CPU's model as Linux tells it, or an empty text."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    names = re.findall(r"^model name\s*:\s*(.*\S)", text, re.M)
    return names[0] if names else ""
