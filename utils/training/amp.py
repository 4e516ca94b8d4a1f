"""Automatic mixed precision: convolutions and matrix products in 16 bits, weights in float32."""

from __future__ import annotations

import copy
import time
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import nn

MIN_SPEEDUP = 1.2  # of bf16 over float32 on a CPU; below it float32 is chosen
PROBE_IMAGES = 8  # in the first timed step, by which the batch of the others is chosen
PROBE_SECONDS = 0.3  # longest step to time; a larger batch is cut to it

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """Return the context in which a forward pass runs in `amp`: bf16, fp16 or off."""
    return torch.autocast(device.type, DTYPES.get(amp), enabled=amp != "off")


def resolve_amp(amp: str, model: nn.Module, batch: tuple[int, ...], device: torch.device) -> str:
    """Return the precision that `amp` stands for: bf16, fp16 or off. Only `auto` needs a choice.

    A GPU gets bf16 if its hardware has it, else fp16. A CPU gets bf16 if its hardware has it and
    timed training steps of this model are at least MIN_SPEEDUP times as fast with it. The steps are
    timed on a batch of shape (N, C, S, S), or on as many of its images as take PROBE_SECONDS.
    """
    if amp != "auto":
        return amp
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if not _cpu_has_bf16():
        return "off"
    rows, *image_shape = batch
    seconds = _step_seconds(model, (PROBE_IMAGES, *image_shape), "off")
    rows = max(PROBE_IMAGES, min(rows, int(PROBE_IMAGES * PROBE_SECONDS / seconds)))
    batch = (rows, *image_shape)
    speedup = _step_seconds(model, batch, "off") / _step_seconds(model, batch, "bf16")
    return "bf16" if speedup >= MIN_SPEEDUP else "off"


def _cpu_has_bf16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def _step_seconds(model: nn.Module, batch: tuple[int, ...], amp: str) -> float:
    """Time three training steps of a copy of the model, and return the shortest, in seconds.

    Leave the model and torch's random state as they were.
    """
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
