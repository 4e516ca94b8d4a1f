"""Reduced precision where it pays: fewer bits in convolutions and products, weights in float32."""

from __future__ import annotations

import copy
import time
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import nn

MIN_SPEEDUP = 1.2  # times as fast as float32 is what bf16 must be on a CPU to be chosen
PROBE = 8, 0.3  # images that are timed first; seconds that a step is to take of those timed next

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """The context in which a forward pass runs with `amp`: bf16, fp16 or off."""
    return torch.autocast(device.type, DTYPES.get(amp), enabled=amp != "off")


def resolve_amp(amp: str, model: nn.Module, batch: tuple[int, ...], device: torch.device) -> str:
    """What `auto` stands for: bf16, fp16 or off. Any other `amp` stands for itself.

    On a GPU bf16 if it has it in hardware, else fp16. On a CPU bf16 if it has it in hardware and
    training steps of this model on batches of shape (N, C, S, S), or on as much of one as takes
    0.3 seconds, are measured to be at least 1.2 times as fast with it.
    """
    if amp != "auto":
        return amp
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if not _cpu_has_bf16():
        return "off"
    few, wanted = PROBE
    seconds = _seconds(model, (few, *batch[1:]), "off")
    batch = (max(few, min(batch[0], int(few * wanted / seconds))), *batch[1:])
    gain = _seconds(model, batch, "off") / _seconds(model, batch, "bf16")
    return "bf16" if gain >= MIN_SPEEDUP else "off"


def _cpu_has_bf16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def _seconds(model: nn.Module, batch: tuple[int, ...], amp: str) -> float:
    """The best of three training steps of a copy, without a trace in the random numbers."""
    times = []
    with torch.random.fork_rng(devices=[]):
        model = copy.deepcopy(model).train().to(memory_format=torch.channels_last)
        images = torch.rand(batch).contiguous(memory_format=torch.channels_last)
        for _ in range(4):
            started = time.perf_counter()
            with autocast(torch.device("cpu"), amp):
                outputs = model(images)
            F.cross_entropy(outputs.float(), torch.zeros(batch[0], dtype=torch.int64)).backward()
            times.append(time.perf_counter() - started)
    return min(times[1:])
