"""Weights without a description: the state_dicts of the reference implementation, or of any code.

They do not name their network. It is the registered one whose tensors have these names and shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

import torch

import models

NUM_CLASSES = 7  # of the reference implementation
# Its EfficientNets have as many outputs as ImageNet has classes. Only the first 7 were trained.
UNTRIMMED_OUTPUTS = 1000
# Pixels. The reference implementation trained at 96 only what 48 is too small for: vgg24.
DEFAULT_IMAGE_SIZE, LARGER_IMAGE_SIZE = 48, 96

# What wrappers put into the names of tensors: DataParallel, DistributedDataParallel and torch's
# averaged models; torch.compile; FSDP; activation checkpointing; Lightning Fabric.
WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
AVERAGE_COUNTER = "n_averaged"  # the tensor that torch's averaged models add
BATCH_COUNTER = "num_batches_tracked"  # of batch norm; it has no effect here, and old files lack it
NEARLY = 0.5  # common names, as a fraction of all, of tensors that are nearly those of a network


class Weights(NamedTuple):
    """Weights, and what their names and shapes tell about their network."""

    network: str  # registered name
    image_channel: int  # 1 or 3
    outputs: int
    tensors: dict[str, torch.Tensor]

    def first_outputs(self, count: int) -> Weights:
        """Return the weights for the first outputs alone."""
        head = {key: self.tensors[key][:count] for key in models.head(self.network)}
        return self._replace(outputs=count, tensors=self.tensors | head)


def identify(tensors: Mapping[str, torch.Tensor]) -> Weights | None:
    """Return the weights of a state_dict with their network, or None if no network has them."""
    tensors = unwrap(tensors)
    image_channel = _image_channel(tensors)
    if image_channel not in (1, 3):
        return None
    # resnet18 has the same tensors as resnet18-original, the one that reference checkpoints hold.
    for name in ("resnet18-original", *models.NETWORKS):
        outputs = _count_outputs(name, tensors)
        shapes = _shapes(name, outputs, image_channel) if outputs else {}
        missing = shapes.keys() - tensors.keys()
        if not shapes or any(not key.endswith(BATCH_COUNTER) for key in missing):
            continue
        complete = dict(tensors) | {key: torch.tensor(0) for key in missing}
        if {key: tuple(tensor.shape) for key, tensor in complete.items()} == shapes:
            return Weights(name, image_channel, outputs, complete)
    return None


def unwrap(tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Return the tensors without what WRAPPERS put into their names, in any order and number."""
    unwrapped = {
        ".".join(part for part in key.split(".") if part not in WRAPPERS): tensor
        for key, tensor in tensors.items()
        if key != AVERAGE_COUNTER
    }
    ambiguous = len(unwrapped) < len(tensors) - (AVERAGE_COUNTER in tensors)
    return tensors if ambiguous else unwrapped


def compare(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return what sets tensors, which `identify` does not know, apart from the nearest network."""
    tensors = unwrap(tensors)
    image_channel = 1 if _image_channel(tensors) == 1 else 3
    candidates = {
        name: _shapes(name, _count_outputs(name, tensors) or NUM_CLASSES, image_channel)
        for name in models.NETWORKS
    }
    name = max(candidates, key=lambda name: _likeness(tensors, candidates[name]))
    shapes = candidates[name]
    if _likeness(tensors, shapes) < NEARLY:
        return f"its tensors ({_some(tensors)}) are those of no network here"
    differences = []
    if missing := [key for key in shapes if key not in tensors and BATCH_COUNTER not in key]:
        differences.append(f"lacks {_some(missing)}")
    if others := [key for key in tensors if key not in shapes]:
        differences.append(f"also holds {_some(others)}")
    for key in shapes.keys() & tensors.keys():
        shape = tuple(tensors[key].shape)
        if shape != shapes[key]:
            differences.append(f"has {key} of the shape {shape}, not {shapes[key]}")
            break
    return f"its tensors are nearly those of {name}, but it {' and '.join(differences)}"


def default_image_size(name: str) -> int:
    """Return the image size, in pixels, at which the reference implementation trained a network."""
    if models.NETWORKS[name].takes(DEFAULT_IMAGE_SIZE):
        return DEFAULT_IMAGE_SIZE
    return LARGER_IMAGE_SIZE


def _image_channel(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the input channels of the first convolution, or 0 if there is none."""
    return next((tensor.shape[1] for tensor in tensors.values() if tensor.ndim == 4), 0)


def _count_outputs(name: str, tensors: Mapping[str, torch.Tensor]) -> int:
    """Return how many outputs a network's head has in these tensors, or 0 without such a head."""
    sizes = {len(tensors[key]) if _has_rows(tensors, key) else 0 for key in _head(name)}
    return sizes.pop() if len(sizes) == 1 else 0


def _has_rows(tensors: Mapping[str, torch.Tensor], key: str) -> bool:
    return key in tensors and tensors[key].ndim > 0


_shapes = cache(models.shapes)
_head = cache(models.head)


def _likeness(one: Mapping[str, object], other: Mapping[str, object]) -> float:
    return len(one.keys() & other.keys()) / len(one.keys() | other.keys())


def _some(keys: Iterable[str]) -> str:
    """Return the first name, and how many more there are."""
    first, *others = keys
    return first + (f" and {len(others)} more" if others else "")
