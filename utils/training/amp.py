"""Automatic mixed precision: convolutions and matrix products in 16 bits, weights in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

import models

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """Return the context in which a forward pass runs in `amp`: bf16, fp16 or off."""
    return torch.autocast(device.type, DTYPES.get(amp), enabled=amp != "off")


def resolve_amp(amp: str, network: str, device: torch.device) -> str:
    """Return the precision that `amp` stands for: bf16, fp16 or off. Only `auto` needs a choice.

    A GPU gets bf16 if its hardware has it, else fp16. A CPU gets bf16 if its hardware has it and
    the network gains from it (see `models.Network`). Nothing is timed: on one machine, a network
    always gets the same precision, so that the same seed gives the same model.
    """
    if amp != "auto":
        return amp
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if models.NETWORKS[network].fast_in_bf16 and _cpu_has_bf16() else "off"


def _cpu_has_bf16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)
