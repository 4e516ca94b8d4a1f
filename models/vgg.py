"""The reference implementation's VGG networks, with batch norm.

Simonyan and Zisserman 2014, arXiv 1409.1556.
"""

from __future__ import annotations

import torch
from torch import nn

from models.dropout import Dropout


class VGG(nn.Module):
    """3×3 convolutions and max-pools, then one linear layer.

    Float images (N, image_channel, S, S) in [0, 1] → logits (N, num_classes). The pools must bring
    the size S down to 1×1.
    """

    LAYERS: tuple[int, ...]  # output channels of the convolutions; 0: a pool that halves the image

    def __init__(self, num_classes: int, image_channel: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = image_channel
        for width in self.LAYERS:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
                layers += [nn.ReLU(inplace=True)]
                channels = width
            else:
                layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.dropout = Dropout(0.5)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify float images (N, image_channel, S, S): logits (N, num_classes)."""
        return self.classifier(self.dropout(self.features(x).flatten(1)))


class VGG19(VGG):
    """16 convolutions: 20,037,831 parameters for 1 channel, 7 classes."""

    LAYERS = (*[64] * 2, 0, *[128] * 2, 0, *[256] * 4, 0, *[512] * 4, 0, *[512] * 4, 0)


class VGG22(VGG):
    """19 convolutions: 24,907,335 parameters for 1 channel, 7 classes."""

    LAYERS = (*[64] * 2, 0, *[128] * 3, 0, *[256] * 4, 0, *[512] * 5, 0, *[512] * 5, 0)


class VGG24(VGG):
    """21 convolutions, six pools: 53,231,687 parameters for 1 channel, 7 classes."""

    LAYERS = (
        *(*[64] * 2, 0, *[128] * 3, 0, *[256] * 4, 0),
        *(*[512] * 4, 0, *[512] * 4, 0, *[1024] * 4, 0),
    )
