"""ResNet18 for small images: no pooling at its entry (He et al. 2015, arXiv 1512.03385)."""

from __future__ import annotations

import torch
from torch import nn

from models.dropout import Dropout


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, which is projected if the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform a feature map, float (N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Eight basic blocks: 11,171,271 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, S, S) in [0, 1], S of 8 or more → logits (N, num_classes).
    """

    def __init__(self, num_classes: int, image_channel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image_channel, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.dropout = Dropout(0.5)
        self.linear = nn.Linear(512, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify float images (N, image_channel, S, S): logits (N, num_classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(self.dropout(self.pool(x)))

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Average a feature map over its positions, (N, C, H, W) → (N, C)."""
        return x.mean((2, 3))


class ReferenceResNet18(ResNet18):
    """ResNet18 for reference checkpoints: it pools only the top-left 4×4 of the last feature map.

    They were trained like that. At 48 pixels the map is 6×6; ResNet18 pools all of it.
    """

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Average a feature map over its top-left 4×4 positions, (N, C, H, W) → (N, C)."""
        return super().pool(x[:, :, :4, :4])
