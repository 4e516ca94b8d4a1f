"""ResEmotionNet: the reference implementation's residual network without down-sampling."""

from __future__ import annotations

import torch
from torch import nn


class Residual(nn.Module):
    """A bottleneck of 1×1, 3×3 and 1×1 convolutions beside a projected shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        width = outputs // 4
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self._downsample = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform a feature map, float (N, inputs, H, W) → (N, outputs, H, W)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self._downsample(x))


class ResEmotionNet(nn.Module):
    """Three residual units at full resolution: 1,977,287 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, S, S) in [0, 1], S of 1 or more → logits (N, num_classes).
    Only the last pooling makes the image smaller, hence 4.52 GMACs at 48 pixels.
    """

    def __init__(self, num_classes: int, image_channel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image_channel, 64, 7, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.residual_1 = Residual(64, 256)
        self.residual_2 = Residual(256, 512)
        self.residual_3 = Residual(512, 1024)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify float images (N, image_channel, S, S): logits (N, num_classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.residual_3(self.residual_2(self.residual_1(x)))
        return self.fc(x.mean((2, 3)))
