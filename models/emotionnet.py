"""EmotionNet: the reference implementation's small convolutional network for 48×48 faces."""

from __future__ import annotations

import torch
from torch import nn

from models.dropout import Dropout
from models.prelu import PReLU


class EmotionNet(nn.Module):
    """Five convolutions and three linear layers: 4,742,221 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, 48, 48) in [0, 1] → log-probabilities (N, num_classes). Names
    and positions of the modules are those in reference checkpoints.
    """

    def __init__(self, num_classes: int, image_channel: int) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(image_channel, 64, 5),
            PReLU(),
            nn.ZeroPad2d(2),
            nn.MaxPool2d(5, stride=2),
        )
        # The reference implementation pads in separate layers. Here the next layer pads, which
        # gives the same numbers faster, and an Identity keeps the position. Only the max-pool needs
        # a separate layer: it would pad with -inf, not with 0.
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
        self._initialize()

    def _initialize(self) -> None:
        """Initialize by He et al. 2015 (arXiv 1502.01852) for PReLU's slope of 0.25.

        The last layer gets Glorot's initialization. With PyTorch's defaults the signal shrinks from
        layer to layer, and the loss stays at that of guessing for the first epochs, on a small
        dataset for dozens.
        """
        if self.fc3.weight.is_meta:  # torch would import its compiler, which takes seconds
            return
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
                nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.fc3.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify float images (N, image_channel, 48, 48): log-probabilities (N, num_classes)."""
        x = self.layer5(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        x = self.dropout(self.prelu(self.fc1(x.flatten(1))))
        x = self.dropout(self.prelu(self.fc2(x)))
        x = self.fc3(x)
        # Under bf16 autocast on a CPU it would otherwise round to 8 bits once more.
        return torch.log_softmax(x, dim=1, dtype=torch.promote_types(x.dtype, torch.float32))
