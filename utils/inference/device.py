"""Where a network runs."""

from __future__ import annotations

import torch

from utils.errors import StageError


def choose_device(gpu: bool, cuda_idx: int) -> torch.device:
    """The GPU of that index, where the system has GPUs and one is wanted; else the CPU.

    Raises StageError for an index that no GPU has.
    """
    if not gpu or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if cuda_idx >= count:
        raise StageError(f"--cuda_idx {cuda_idx}: this system's {count} GPU(s) count from 0")
    return torch.device("cuda", cuda_idx)
