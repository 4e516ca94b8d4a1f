"""The networks, by the names that `--model` takes.

A network takes float images (N, image_channel, image_size, image_size) in [0, 1] and returns
(N, num_classes): logits, or log-probabilities, of which softmax makes the same probabilities.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from utils.cli import StageError

if TYPE_CHECKING:
    from torch import nn


class Network(NamedTuple):
    """Where a network is built, and the image sizes that it takes."""

    builder: str  # "module:function" in this package; called with (num_classes, image_channel)
    smallest: int  # pixels
    largest: int | None = None

    def takes(self, image_size: int) -> bool:
        return self.smallest <= image_size <= (self.largest or image_size)

    def sizes(self) -> str:
        """The sizes in words, for a message."""
        if self.largest is None:
            return f"{self.smallest} or more"
        return " to ".join(map(str, dict.fromkeys((self.smallest, self.largest))))

    def build(self, num_classes: int, image_channel: int) -> nn.Module:
        # Not imported before it is needed: torch takes seconds, which --help should not.
        module, function = self.builder.split(":")
        return getattr(import_module(f"models.{module}"), function)(num_classes, image_channel)


NETWORKS = {
    "emotionnet": Network("emotionnet:EmotionNet", 48, 48),
    "resemotionnet": Network("resemotionnet:ResEmotionNet", 1),
    "resnet18": Network("resnet:ResNet18", 8),
    "resnet18-original": Network("resnet:OriginalResNet18", 32, 56),
    "vgg19": Network("vgg:VGG19", 32, 63),
    "vgg22": Network("vgg:VGG22", 32, 63),
    "vgg24": Network("vgg:VGG24", 64, 127),
    "efficientnet-b4": Network("efficientnet:efficientnet_b4", 32),
    "efficientnet-b5": Network("efficientnet:efficientnet_b5", 32),
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
    if not network.takes(image_size):
        raise StageError(f"{name} takes images of {network.sizes()} pixels, not {image_size}")
    return network.build(num_classes, image_channel)


def shapes(name: str, num_classes: int, image_channel: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the network's state_dict, without making the network."""
    import torch

    with torch.device("meta"):
        network = NETWORKS[name].build(num_classes, image_channel)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def head(name: str) -> set[str]:
    """The keys of the layer that gives the answers: those whose shape is the number of classes'."""
    two, three = shapes(name, 2, 1), shapes(name, 3, 1)
    return {key for key in two if two[key] != three[key]}
