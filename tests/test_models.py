"""The networks, their checkpoint, and the random variation of training images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import models
from tests.helpers import write_no_model
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.training.augment import Augment


def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    weights = models.create("emotionnet", 2, 1, 48).state_dict()
    return Checkpoint("emotionnet", ["기쁨", "슬픔"], Preprocess().to_dict(), 3, 0.5, weights)


def test_checkpoint_is_plain_and_comes_back_whole(tmp_path):
    made = checkpoint()
    made.save(tmp_path / "m.pt")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    assert set(content) == {
        "network", "classes", "preprocess", "epoch", "val_accuracy", "weights", "version",
    }  # fmt: skip
    assert content["preprocess"] == {"image_size": 48, "image_channel": 1, "resample": "bilinear"}
    loaded = Checkpoint.load(tmp_path / "m.pt")
    images = torch.rand(2, 1, 48, 48)
    torch.testing.assert_close(loaded.build()(images), made.build()(images))
    assert not loaded.build().training


@pytest.mark.parametrize(
    "change",
    [
        {"network": 5},
        {"network": "nonet"},
        {"classes": ["one"]},
        {"classes": "기쁨"},
        {"classes": ["기쁨", "기쁨"]},
        {"classes": ["기쁨", "\x1b[31m"]},
        {"preprocess": {"image_size": 48}},
        {"preprocess": {"image_size": 10**9, "image_channel": 1, "resample": "bilinear"}},
        {"preprocess": {"image_size": 48, "image_channel": 2, "resample": "bilinear"}},
        {"preprocess": {"image_size": 48, "image_channel": 1, "resample": "magic"}},
        {"preprocess": {"image_size": 48, "image_channel": 1.0, "resample": "bilinear"}},
        {"preprocess": {"image_size": 48, "image_channel": torch.ones(3), "resample": "bilinear"}},
        {"preprocess": {"image_size": 48, "image_channel": 1, "resample": ["bilinear"]}},
        {"weights": {1: torch.ones(1)}},
        {"weights": {"layer1": torch.ones(1)}},
        {"preprocess": {"image_size": "48", "image_channel": 1, "resample": "bilinear"}},
        {"weights": {}},
        {"weights": {"layer1": 5}},
        {"epoch": "3"},
        {"temperature": 0},
        {"temperature": True},
        {"temperature": 10**400},
        {"more": 1},
    ],
)
def test_a_checkpoint_that_is_not_what_it_says_is_refused(tmp_path, change):
    fields = {name: getattr(checkpoint(), name) for name in Checkpoint.__annotations__}
    torch.save(fields | change, tmp_path / "m.pt")
    with pytest.raises(StageError):
        Checkpoint.load(tmp_path / "m.pt").build()


def test_a_whole_temperature_is_a_number_like_any_other(tmp_path):
    replace(checkpoint(), temperature=2).save(tmp_path / "m.pt")
    loaded = Checkpoint.load(tmp_path / "m.pt").temperature
    assert loaded == 2 and type(loaded) is float


@pytest.mark.parametrize("kind", ["random", "text", "evil", "evil pickle", "other", "cut"])
def test_a_file_that_is_no_checkpoint_is_refused_and_not_run(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    checkpoint().save(tmp_path / "good.pt")
    write_no_model(tmp_path / "m.pt", kind, (tmp_path / "good.pt").read_bytes())
    with pytest.raises(StageError, match=r"m\.pt"):
        Checkpoint.load(tmp_path / "m.pt")
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt", "good.pt"}


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
