"""EfficientNet (Tan and Le 2019, arXiv 1905.11946), as efficientnet-pytorch builds it."""

from __future__ import annotations

from torch import nn


def efficientnet_b4(num_classes: int, image_channel: int) -> nn.Module:
    """17,560,303 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, S, S) in [0, 1], S of 32 or more → logits (N, num_classes).
    """
    return _build("efficientnet-b4", num_classes, image_channel)


def efficientnet_b5(num_classes: int, image_channel: int) -> nn.Module:
    """28,354,263 parameters for 1 channel, 7 classes; shapes as for b4."""
    return _build("efficientnet-b5", num_classes, image_channel)


def _build(name: str, num_classes: int, image_channel: int) -> nn.Module:
    # Not imported by those who use another network.
    from efficientnet_pytorch import EfficientNet

    return EfficientNet.from_name(name, in_channels=image_channel, num_classes=num_classes)
