"""The device that a network runs on."""

from __future__ import annotations

import torch

from utils.errors import StageError

# Seconds pass until a GPU has started: CUDA, cuDNN, the choice of kernels. EmotionNet does some 800
# faces a second on one core of a CPU (see predict.py); of larger networks it is a compromise.
SMALL_REQUEST = 1000 * 48 * 48  # pixels


def is_small_request(images: int, image_size: int) -> bool:
    """Return whether a CPU has predicted so many images before a GPU has started."""
    return images * image_size**2 < SMALL_REQUEST


def choose_device(gpu: bool, cuda_idx: int) -> torch.device:
    """Return GPU `cuda_idx` if `gpu` is set and the system has CUDA GPUs, else the CPU.

    The GPU becomes the current one of this process.

    Apple's GPUs (`mps`) are not used: no test has run on one, and they lack the float64 in which
    the trainer adds up the losses.

    Raise StageError if the system has GPUs but none of this index.
    """
    if not gpu or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if cuda_idx >= count:
        raise StageError(f"--cuda_idx {cuda_idx}: this system has {count} GPU(s), numbered from 0")
    device = torch.device("cuda", cuda_idx)
    torch.cuda.set_device(device)  # else pinned memory and events belong to GPU 0
    return device
