"""The networks, by the names that `--model` takes.

A network takes float images (N, image_channel, image_size, image_size) in [0, 1] and returns
(N, num_classes): logits, or log-probabilities, of which softmax makes the same probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from models.efficientnet import efficientnet_b4, efficientnet_b5
from models.emotionnet import EmotionNet
from models.resemotionnet import ResEmotionNet
from models.resnet import ResNet18
from models.vgg import VGG19, VGG22, VGG24
from utils.cli import StageError


class Network(NamedTuple):
    """How to build a network, `build(num_classes, image_channel)`, and the image sizes it takes."""

    build: Callable[[int, int], nn.Module]
    smallest: int  # pixels
    largest: int | None = None

    def sizes(self) -> str:
        """The sizes in words, for a message."""
        if self.largest is None:
            return f"{self.smallest} or more"
        return " to ".join(map(str, dict.fromkeys((self.smallest, self.largest))))


NETWORKS = {
    "emotionnet": Network(EmotionNet, 48, 48),
    "resemotionnet": Network(ResEmotionNet, 1),
    "resnet18": Network(ResNet18, 8),
    "vgg19": Network(VGG19, 32, 63),
    "vgg22": Network(VGG22, 32, 63),
    "vgg24": Network(VGG24, 64, 127),
    "efficientnet-b4": Network(efficientnet_b4, 32),
    "efficientnet-b5": Network(efficientnet_b5, 32),
}
ALIASES = {"cnn": "emotionnet", "resnet": "resnet18", "efficientnet": "efficientnet-b4"}


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
    if not network.smallest <= image_size <= (network.largest or image_size):
        raise StageError(f"{name} takes images of {network.sizes()} pixels, not {image_size}")
    return network.build(num_classes, image_channel)
