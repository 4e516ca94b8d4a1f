"""Checkpoints of the reference implementation: `{'model': state_dict, 'optimizer': …}`.

The file does not name its network. It is the registered one whose tensors have these names and
shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

import models

NUM_CLASSES = 7  # its EfficientNets have 1000 outputs, of which only the first 7 were trained
# Pixels. The reference implementation trained at 96 only what 48 is too small for: vgg24.
DEFAULT_IMAGE_SIZE, LARGER_IMAGE_SIZE = 48, 96


def identify(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[str, int, dict[str, torch.Tensor]] | None:
    """Find the network of a state_dict.

    Return its registered name, its input channels (1 or 3) and its weights for NUM_CLASSES classes,
    or None if no network has such tensors.
    """
    # A network that was trained on several GPUs has the prefix of its wrapper.
    tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    first_kernel = next((tensor for tensor in tensors.values() if tensor.ndim == 4), None)
    if first_kernel is None or first_kernel.shape[1] not in (1, 3):
        return None
    image_channel = first_kernel.shape[1]
    # resnet18 has the same tensors as resnet18-original, the one that reference checkpoints hold.
    for name in ("resnet18-original", *models.NETWORKS):
        shapes = models.shapes(name, NUM_CLASSES, image_channel)
        if shapes.keys() != tensors.keys():
            continue
        head = {key: tensors[key] for key in models.head(name)}
        weights = tensors | {
            key: tensor[:NUM_CLASSES] for key, tensor in head.items() if tensor.ndim
        }
        if {key: tuple(tensor.shape) for key, tensor in weights.items()} == shapes:
            return name, image_channel, weights
    return None


def default_image_size(name: str) -> int:
    """Return the image size, in pixels, at which the reference implementation trained a network."""
    if models.NETWORKS[name].takes(DEFAULT_IMAGE_SIZE):
        return DEFAULT_IMAGE_SIZE
    return LARGER_IMAGE_SIZE
