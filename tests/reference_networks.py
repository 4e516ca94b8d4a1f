"""The networks of the reference implementation, written down without a look at models/."""

from __future__ import annotations

import torch
from efficientnet_pytorch import EfficientNet
from torch import nn


class EmotionNet(nn.Module):
    def __init__(self):
        super().__init__()
        conv, prelu, pad = nn.Conv2d, nn.PReLU, nn.ZeroPad2d
        self.layer1 = nn.Sequential(conv(1, 64, 5), prelu(), pad(2), nn.MaxPool2d(5, 2))
        self.layer2 = nn.Sequential(pad(1), conv(64, 64, 3), prelu(), pad(1))
        self.layer3 = nn.Sequential(conv(64, 128, 3), prelu(), nn.AvgPool2d(3, 2))
        self.layer4 = nn.Sequential(pad(1), conv(128, 128, 3), prelu())
        self.layer5 = nn.Sequential(pad(1), conv(128, 128, 3), prelu(), pad(1), nn.AvgPool2d(3, 2))
        self.fc1, self.prelu = nn.Linear(3200, 1024), nn.PReLU()
        self.fc2, self.fc3 = nn.Linear(1024, 1024), nn.Linear(1024, 7)

    def forward(self, x):
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            x = layer(x)
        x = self.prelu(self.fc2(self.prelu(self.fc1(x.flatten(1)))))
        return torch.log_softmax(self.fc3(x), 1)


class Unit(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        width = outputs // 4
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self._downsample = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self._downsample(x))


class ResEmotionNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 64, 7, 1, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2)  # declared and never used
        self.residual_1, self.residual_2 = Unit(64, 256), Unit(256, 512)
        self.residual_3, self.avgpool = Unit(512, 1024), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, 7)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.residual_3(self.residual_2(self.residual_1(x)))
        return self.fc(self.avgpool(x).flatten(1))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        for i, stride in enumerate((1, 2, 2, 2), 1):
            blocks = Block(widths[i - 1], widths[i], stride), Block(widths[i], widths[i], 1)
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.linear = nn.Linear(512, 7)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(nn.functional.avg_pool2d(x, 4).flatten(1))


class VGG(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        modules, channels = [], 1
        for width in layers:
            if width == "M":
                modules.append(nn.MaxPool2d(2, 2))
            else:
                modules += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
                modules.append(nn.ReLU(inplace=True))
                channels = width
        self.features, self.classifier = nn.Sequential(*modules), nn.Linear(channels, 7)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def vgg19():
    return VGG(64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M")


def vgg22():
    return VGG(64, 64, "M", *[128] * 3, "M", *[256] * 4, "M", *[512] * 5, "M", *[512] * 5, "M")


def vgg24():
    start = (64, 64, "M", *[128] * 3, "M", *[256] * 4, "M")
    return VGG(*start, *[512] * 4, "M", *[512] * 4, "M", *[1024] * 4, "M")


# How to build one, and the image size and channels that it was trained with.
REFERENCE_NETWORKS = {
    "emotionnet": (EmotionNet, 48, 1),
    "resemotionnet": (ResEmotionNet, 48, 1),
    "resnet18": (ResNet18, 48, 1),
    "vgg19": (vgg19, 48, 1),
    "vgg22": (vgg22, 48, 1),
    "vgg24": (vgg24, 96, 1),
    "efficientnet-b4": (lambda: EfficientNet.from_name("efficientnet-b4"), 48, 3),
    "efficientnet-b5": (lambda: EfficientNet.from_name("efficientnet-b5", in_channels=1), 48, 1),
}
