"""ResNet29: dlib's face recognition network (King 2017), with another last layer.

http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from models.dropout import Dropout

# What dlib's network sees. Its weights know parts of a face by their size in pixels.
NATURAL_SIZE = 150
# Of each stage: channels and number of blocks. The first block of all but the first stage halves
# the feature map.
STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))


class PaddedBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut without weights.

    Where they differ in channels or size, the smaller is padded with zeros behind the last.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        # dlib pads no convolution with a stride.
        padding = 1 if stride == 1 else 0
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform a feature map, float (N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.avg_pool2d(x, self.stride)
        height, width = (max(x.shape[i], y.shape[i]) for i in (2, 3))
        channels = y.shape[1]
        return torch.relu(pad(x, channels, height, width) + pad(y, channels, height, width))


class ResNet29(nn.Module):
    """Fourteen blocks of two convolutions: 5,576,935 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, S, S) in [0, 1], S of 32 or more → logits (N, num_classes).
    Images of less than 150 pixels are enlarged to 150 within the network.
    """

    def __init__(self, num_classes: int, image_channel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image_channel, STAGES[0][0], 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGES[0][0])
        blocks: list[nn.Module] = []
        inputs = STAGES[0][0]
        for stage, (outputs, count) in enumerate(STAGES):
            for block in range(count):
                blocks.append(PaddedBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.dropout = Dropout(0.4)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify float images (N, image_channel, S, S): logits (N, num_classes)."""
        return self.fc(self.dropout(self.features(x)))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return what dlib's last layer makes an identity of, float (N, 256)."""
        if x.shape[-1] < NATURAL_SIZE:
            size = (NATURAL_SIZE, NATURAL_SIZE)
            x = functional.interpolate(x, size, mode="bilinear", align_corners=False)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.blocks(functional.max_pool2d(x, 3, 2))
        return x.mean((2, 3))


def pad(x: torch.Tensor, channels: int, height: int, width: int) -> torch.Tensor:
    """Add zeros behind the last channel, row and column of a feature map (N, C, H, W)."""
    _, c, h, w = x.shape
    missing = (0, width - w, 0, height - h, 0, channels - c)
    return functional.pad(x, missing) if any(missing) else x
