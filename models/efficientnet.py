"""EfficientNet (Tan and Le 2019, arXiv 1905.11946), as efficientnet-pytorch builds it."""

from __future__ import annotations

import contextlib
import sys

from efficientnet_pytorch import EfficientNet
from torch import nn

from models.dropout import Dropout
from utils.cli import StageError


def efficientnet_b4(num_classes: int, image_channel: int) -> nn.Module:
    """17,560,303 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, S, S) in [0, 1], S of 32 or more → logits (N, num_classes).
    """
    return _shared(_build("efficientnet-b4", num_classes, image_channel))


def efficientnet_b5(num_classes: int, image_channel: int) -> nn.Module:
    """28,354,263 parameters for 1 channel, 7 classes; shapes as for b4."""
    return _shared(_build("efficientnet-b5", num_classes, image_channel))


def pretrained(name: str, num_classes: int, image_channel: int) -> nn.Module:
    """The network with the weights that the library's authors trained on ImageNet.

    The library fetches them from the internet, once, into torch's cache. Raises StageError where
    that fails.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the library prints there what it does
            model = EfficientNet.from_pretrained(
                name, in_channels=image_channel, num_classes=num_classes
            )
    except OSError as error:
        raise StageError(
            f"--pretrained: the weights of {name} could not be fetched ({error}); it needs the "
            f"internet once, or leave the flag out"
        ) from None
    return _shared(model)


def _build(name: str, num_classes: int, image_channel: int) -> EfficientNet:
    return EfficientNet.from_name(name, in_channels=image_channel, num_classes=num_classes)


def _shared(model: EfficientNet) -> EfficientNet:
    model._dropout = Dropout(model._dropout.p)
    return model
