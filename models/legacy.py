"""The original's checkpoints: `{'model': state_dict, 'optimizer': …}`, and no word on what it is.

The network is the registered one whose tensors have these names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

import models

CLASSES = 7  # of the original; its EfficientNets have 1000 outputs, of which the first 7 count
USUAL_SIZE, LARGER_SIZE = 48, 96  # pixels; the second for vgg24, which the first is too small for


def identify(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[str, int, dict[str, torch.Tensor]] | None:
    """The network, its input channels, and its weights for seven classes, or None."""
    # What was trained on several GPUs carries the wrapper's name.
    tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    first = next((tensor for tensor in tensors.values() if tensor.ndim == 4), None)
    if first is None or first.shape[1] not in (1, 3):
        return None
    # ResNet18 in our own form has the same tensors; the original's is the one that pools 4×4.
    for name in ("resnet18-original", *models.NETWORKS):
        shapes = models.shapes(name, CLASSES, first.shape[1])
        if shapes.keys() != tensors.keys():
            continue
        head = {key: tensors[key] for key in models.head(name)}
        weights = tensors | {key: tensor[:CLASSES] for key, tensor in head.items() if tensor.ndim}
        if {key: tuple(tensor.shape) for key, tensor in weights.items()} == shapes:
            return name, first.shape[1], weights
    return None


def default_image_size(name: str) -> int:
    """The image size at which the original trained a network, where it is not told otherwise."""
    return USUAL_SIZE if models.NETWORKS[name].takes(USUAL_SIZE) else LARGER_SIZE
