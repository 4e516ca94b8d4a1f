"""The networks, their checkpoint, and the random variation of training images."""

from __future__ import annotations

import torch

from utils.training.augment import Augment


def test_augment_turns_and_mirrors_within_bounds():
    images = torch.zeros(200, 1, 48, 48)
    images[:, :, 20:28, 4:8] = 1  # a mark at the left edge, halfway down
    augment = Augment()
    varied = augment(images, augment.sample(200, 48, torch.Generator().manual_seed(0)))
    assert varied.shape == images.shape and varied.min() >= 0 and varied.max() <= 1.0001
    rows, columns = torch.arange(48.0).view(48, 1), torch.arange(48.0)
    mass = varied.sum((1, 2, 3))
    x = (varied[:, 0] * columns).sum((1, 2)) / mass - 23.5
    y = (varied[:, 0] * rows).sum((1, 2)) / mass - 23.5
    assert 0.4 < (x > 0).float().mean() < 0.6
    angle = torch.rad2deg(torch.atan2(y, x.abs())).abs()
    assert 5 < angle.max() < 6.3 and angle.std() > 1
    again = augment(images, augment.sample(200, 48, torch.Generator().manual_seed(0)))
    assert torch.equal(varied, again)
