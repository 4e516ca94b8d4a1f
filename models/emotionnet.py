"""EmotionNet: the seed's small convolutional network for 48×48 faces."""

from __future__ import annotations

import torch
from torch import nn

from models.dropout import Dropout
from models.prelu import PReLU


class EmotionNet(nn.Module):
    """Five convolutions and three linear layers: 4,742,221 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, 48, 48) in [0, 1] → log-probabilities (N, num_classes). Module
    names and positions are those of the original's checkpoints.
    """

    def __init__(self, num_classes: int, image_channel: int) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(image_channel, 64, 5),
            PReLU(),
            nn.ZeroPad2d(2),
            nn.MaxPool2d(5, stride=2),
        )
        # The original pads in layers of their own; here the next layer pads, which gives the same
        # numbers faster, and an Identity keeps each place. (Not before the max-pool: its own
        # padding would be -inf, not 0.)
        self.layer2 = nn.Sequential(
            nn.Identity(), nn.Conv2d(64, 64, 3, padding=1), PReLU(), nn.Identity()
        )
        self.layer3 = nn.Sequential(
            nn.Conv2d(64, 128, 3, padding=1), PReLU(), nn.AvgPool2d(3, stride=2)
        )
        self.layer4 = nn.Sequential(nn.Identity(), nn.Conv2d(128, 128, 3, padding=1), PReLU())
        self.layer5 = nn.Sequential(
            nn.Identity(),
            nn.Conv2d(128, 128, 3, padding=1),
            PReLU(),
            nn.Identity(),
            nn.AvgPool2d(3, stride=2, padding=1),
        )
        self.fc1 = nn.Linear(128 * 5 * 5, 1024)
        self.prelu = PReLU()
        self.dropout = Dropout(0.2)
        self.fc2 = nn.Linear(1024, 1024)
        self.fc3 = nn.Linear(1024, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """He et al. 2015 (arXiv 1502.01852), for PReLU's slope of 0.25; Glorot for the last layer.

        With PyTorch's own defaults the signal shrinks from layer to layer, and training stands
        still at the loss of guessing for the first epochs, on a small set for dozens.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
                nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.fc3.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer5(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        x = self.dropout(self.prelu(self.fc1(x.flatten(1))))
        x = self.dropout(self.prelu(self.fc2(x)))
        return torch.log_softmax(self.fc3(x), dim=1)
