"""The networks, by the names that `--model` takes.

A network takes float images (N, image_channel, image_size, image_size) in [0, 1] and returns
(N, num_classes): logits or log-probabilities. Softmax makes probabilities of either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import nn


class NetworkError(ValueError):
    """A name that no network has, or an image size that a network cannot take."""


class WeightsError(RuntimeError):
    """Pretrained weights that cannot be fetched."""


class Network(NamedTuple):
    """How a network is built, and the image sizes that it takes."""

    builder: str  # "module:function" in this package; called with (num_classes, image_channel)
    min_size: int  # pixels, both included
    max_size: int | None = None  # None: no limit
    # Whether bf16 speeds up a training step on a CPU that has it in hardware. Measured once, on an
    # AMD EPYC with avx512_bf16, one thread, 48 pixels (vgg24: 96): the speed is 1.8 to 2.7 times
    # that of float32, but 0.5 and 0.7 times for the EfficientNets.
    fast_in_bf16: bool = True
    # Whether its padding depends on the image size, which the builder then takes, too.
    has_static_padding: bool = False

    def takes(self, image_size: int) -> bool:
        """Return whether the network takes images of this size."""
        return self.min_size <= image_size <= (self.max_size or image_size)

    def sizes(self) -> str:
        """Return the image sizes in words, for a message."""
        if self.max_size is None:
            return f"{self.min_size} or more"
        return " to ".join(map(str, dict.fromkeys((self.min_size, self.max_size))))

    def build(
        self, num_classes: int, image_channel: int, padding_size: int | None = None
    ) -> nn.Module:
        """Build the network with random weights.

        `padding_size`: the image size for which a network with static padding pads; None: that of
        its library.
        """
        # A network imports torch, which takes seconds: --help must not wait for it.
        module, function = self.builder.split(":")
        build = getattr(import_module(f"models.{module}"), function)
        if self.has_static_padding:
            return build(num_classes, image_channel, padding_size)
        return build(num_classes, image_channel)


NETWORKS = {
    "emotionnet": Network("emotionnet:EmotionNet", 48, 48),
    "resemotionnet": Network("resemotionnet:ResEmotionNet", 1),
    "resnet18": Network("resnet:ResNet18", 8),
    "resnet29": Network("resnet29:ResNet29", 32),
    # For checkpoints of the reference implementation. The name is in users' model files.
    "resnet18-original": Network("resnet:ReferenceResNet18", 32, 56),
    "vgg19": Network("vgg:VGG19", 32, 63),
    "vgg22": Network("vgg:VGG22", 32, 63),
    "vgg24": Network("vgg:VGG24", 64, 127),
    "efficientnet-b4": Network(
        "efficientnet:efficientnet_b4", 32, fast_in_bf16=False, has_static_padding=True
    ),
    "efficientnet-b5": Network(
        "efficientnet:efficientnet_b5", 32, fast_in_bf16=False, has_static_padding=True
    ),
}
ALIASES = {"cnn": "emotionnet", "resnet": "resnet18", "efficientnet": "efficientnet-b4"}


def names() -> str:
    """Return all names with their aliases, for a help text."""
    aliases = {name: alias for alias, name in ALIASES.items()}
    return ", ".join(f"{n} (or {aliases[n]})" if n in aliases else n for n in NETWORKS)


def full_name(name: str) -> str:
    """Return the registered name for a name or alias, in any case and with - or _.

    Raise NetworkError for anything else.
    """
    key = name.lower().replace("_", "-")
    key = ALIASES.get(key, key)
    if key not in NETWORKS:
        raise NetworkError(f"no network is called {name!r}; choose from: {names()}")
    return key


def create(
    name: str, num_classes: int, image_channel: int, image_size: int, same_padding: bool = True
) -> nn.Module:
    """Build a network, its weights drawn from torch's random state.

    An EfficientNet pads for this image size if `same_padding`. Otherwise it pads as its library
    does by itself: for weights that were trained like that, as those of the reference
    implementation.

    Raise NetworkError for an image size that the network cannot take.
    """
    _check_size(name, image_size)
    padding_size = image_size if same_padding else None
    return NETWORKS[name].build(num_classes, image_channel, padding_size)


def pretrained(name: str, num_classes: int, image_channel: int, image_size: int) -> nn.Module:
    """Build an EfficientNet with ImageNet weights.

    Raise WeightsError if they cannot be fetched, and NetworkError as `create` does.
    """
    from models import efficientnet  # imports torch

    _check_size(name, image_size)
    return efficientnet.pretrained(name, num_classes, image_channel, image_size)


def shapes(name: str, num_classes: int, image_channel: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in the network's state_dict, by key.

    The network is built on torch's meta device, which allocates no memory.
    """
    import torch

    with torch.device("meta"):
        network = NETWORKS[name].build(num_classes, image_channel)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def head(name: str) -> set[str]:
    """Return the state-dict keys of the classifier head: those with a shape set by num_classes."""
    two, three = shapes(name, 2, 1), shapes(name, 3, 1)
    return {key for key in two if two[key] != three[key]}


def _check_size(name: str, image_size: int) -> None:
    network = NETWORKS[name]
    if not network.takes(image_size):
        raise NetworkError(f"{name} takes images of {network.sizes()} pixels, not {image_size}")
