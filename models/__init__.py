"""The networks, by the names that `--model` takes.

A network takes float images (N, image_channel, image_size, image_size) in [0, 1] and returns
(N, num_classes): logits, or log-probabilities, of which softmax makes the same probabilities.
"""

from __future__ import annotations

from torch import nn

from models.emotionnet import EmotionNet
from utils.cli import StageError

NETWORKS = {"emotionnet": EmotionNet}
ALIASES = {"cnn": "emotionnet"}


def names() -> str:
    """All names, with their aliases, for a help text."""
    aliases = {name: alias for alias, name in ALIASES.items()}
    return ", ".join(f"{n} (or {aliases[n]})" if n in aliases else n for n in NETWORKS)


def full_name(name: str) -> str:
    """The registered name for a name or alias. Raises StageError for one that is neither."""
    name = ALIASES.get(name.lower(), name.lower())
    if name not in NETWORKS:
        raise StageError(f"no network is called {name!r}; there are: {names()}")
    return name


def create(name: str, num_classes: int, image_channel: int, image_size: int) -> nn.Module:
    """A network of a registered name, freshly initialised from torch's random state.

    Raises StageError for a size that the network cannot take.
    """
    network = NETWORKS[name]
    if not network.takes(image_size):
        raise StageError(f"{name} takes images of {network.SIZES} pixels, not {image_size}")
    return network(num_classes, image_channel)
