"""Finding a network's weights in a file that another program wrote.

Programs save a state_dict alone, or beside the epoch, the optimizer and other things, under a key
of their choice. It is recognised by its tensors.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from models.legacy import Weights, compare, identify, unwrap

# Where the weights are, if a file holds those of several networks, such as an average beside them.
USUAL_KEYS = ("model", "state_dict", "model_state_dict", "net", "network", "weights", "params")
CLASS_KEYS = ("classes", "class_names", "class_to_idx")  # where programs put the classes' names
MAX_DEPTH = 5  # of dictionaries within dictionaries


class StateDictError(ValueError):
    """A file that holds no network's weights, or several. The message follows the file's name."""


class FoundWeights(NamedTuple):
    """A network's weights in a file."""

    place: str  # the keys that lead to them, joined by dots; empty: the file holds nothing else
    weights: Weights
    classes: list[str] | None  # as the file names them
    others: list[str]  # places of other networks' weights in the file


def find_weights(content: object) -> FoundWeights:
    """Return the weights of the network in a file's content. Raise StateDictError without one."""
    places = list(_dicts_of_tensors(content, (), set()))
    found = [
        ((*keys, *prefix), weights)
        for keys, tensors in places
        for prefix, weights in _networks(tensors)
    ]
    if not found:
        raise StateDictError(f"is not a model that this toolkit knows: {_explain(places)}")
    found.sort(key=lambda item: _rank(item[0]))
    keys, weights = found[0]
    others = [".".join(keys) for keys, _ in found[1:]]
    if others and _rank(keys)[1] == len(USUAL_KEYS):
        raise StateDictError(
            f"holds several networks ({', '.join(['.'.join(keys), *others])}): save the "
            f"state_dict() of one of them alone"
        )
    return FoundWeights(".".join(keys), weights, _class_names(content, keys), others)


def _dicts_of_tensors(
    content: object, keys: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, torch.Tensor]]]:
    """Yield every dictionary with the kernel of a convolution, after the keys that lead to it.

    Each is yielded once; `seen` holds the identities of those that were visited.
    """
    if not isinstance(content, Mapping) or len(keys) > MAX_DEPTH or id(content) in seen:
        return
    seen.add(id(content))
    items = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in items.items() if isinstance(value, torch.Tensor)}
    if any(tensor.ndim == 4 for tensor in tensors.values()):
        yield keys, unwrap(tensors)
    for key, value in items.items():
        yield from _dicts_of_tensors(value, (*keys, key), seen)


def _networks(tensors: Mapping[str, torch.Tensor]) -> list[tuple[tuple[str, ...], Weights]]:
    """Return the networks in a state_dict, each after the modules that it is a part of.

    Usually it is one, a part of nothing. Lightning saves a network as a part of its own module.
    """
    found: list[tuple[tuple[str, ...], Weights]] = []
    for prefix in sorted(_prefixes(tensors), key=len):
        start = "".join(f"{name}." for name in prefix)
        if any(prefix[: len(outer)] == outer for outer, _ in found):
            continue
        part = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        if weights := identify(part):
            found.append((prefix, weights))
    parts = [".".join(prefix) + "." for prefix, _ in found]
    if found and found[0][0]:
        # A layer outside of the network would change what the network sees or answers. Anything
        # smaller, such as the loss's weights of classes, would not.
        for key, tensor in tensors.items():
            if tensor.ndim > 1 and not key.startswith(tuple(parts)):
                raise StateDictError(
                    f"holds {key} beside the {found[0][1].network} of {parts[0]}*: this toolkit "
                    f"knows no such network"
                )
    return found


def _prefixes(tensors: Mapping[str, torch.Tensor]) -> set[tuple[str, ...]]:
    """Return the names of all modules that convolutions are parts of, as tuples."""
    names = [key.split(".") for key, tensor in tensors.items() if tensor.ndim == 4]
    return {tuple(parts[:length]) for parts in names for length in range(len(parts))}


def _rank(keys: tuple[str, ...]) -> tuple[int, int]:
    """Return the order in which places are preferred: the outermost, then by USUAL_KEYS."""
    name = keys[-1] if keys else USUAL_KEYS[0]
    return len(keys), (*USUAL_KEYS, name).index(name)


def _class_names(content: Any, keys: tuple[str, ...]) -> list[str] | None:
    """Return the classes that the file names beside the weights, or None."""
    for key in (None, *keys):
        content = content.get(key) if key else content
        if not isinstance(content, Mapping):
            break  # the rest of the keys are parts of a network
        for name in CLASS_KEYS:
            names = content.get(name)
            if isinstance(names, Mapping):  # class → index
                indices = {str(name): str(index) for name, index in names.items()}
                names = sorted(indices, key=lambda name: indices[name].zfill(9))
            if isinstance(names, list | tuple) and all(isinstance(n, str) for n in names):
                return [unicodedata.normalize("NFC", name) for name in names]
    return None


def _explain(places: list[tuple[tuple[str, ...], Mapping[str, torch.Tensor]]]) -> str:
    """Return why no place holds a network's weights."""
    if not places:
        return "it holds no state_dict with a convolution"
    return compare(max((tensors for _, tensors in places), key=len))
