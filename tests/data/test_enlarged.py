"""Sets of small images: when they are kept small, and the pixels that a network gets of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import make_faces
from utils.data.dataset import load_dataset
from utils.data.enlarged import common_side, enlarge, load_enlarged
from utils.data.image_folder import make_samples, scan_class_folders
from utils.imaging.preprocess import Preprocess

CPU, LARGE = torch.device("cpu"), Preprocess(56, 1)


@pytest.fixture
def samples(tmp_path):
    """Twelve faces of 24 pixels."""
    make_faces(tmp_path / "faces", ["a", "b"], 6, size=24)
    return make_samples(scan_class_folders(tmp_path / "faces"), ["a", "b"])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("small", "large"), [(48, 224), (24, 56), (20, 21), (1, 7), (47, 48)])
def test_enlarge_has_the_pixels_of_preprocess_to_one_level(channels, small, large):
    generator = np.random.default_rng(small)
    pixels = generator.integers(0, 256, (5, small, small, channels), dtype=np.uint8)
    pixels[1] = 255
    pictures = [Image.fromarray(each[..., 0] if channels == 1 else each) for each in pixels]
    expected = torch.from_numpy(np.stack([Preprocess(large, channels)(p) for p in pictures]))
    ours = enlarge(torch.from_numpy(pixels).permute(0, 3, 1, 2), large)
    assert ours.dtype == torch.uint8 and ours.shape == expected.shape
    difference = (ours.int() - expected.int()).abs()
    assert difference.max() <= 1
    # Most are equal: Pillow alone rounds twice.
    assert (difference == 0).float().mean() > 0.6 and torch.equal(ours[1], expected[1])


def test_an_enlarged_set_is_the_set_but_for_its_memory(samples, tmp_path):
    whole = load_dataset(samples, LARGE, "train", tmp_path / "whole")
    small = load_enlarged(samples, LARGE, 24, "train", tmp_path / "small")
    assert small.images.shape == (12, 1, 24, 24) and whole.images.shape == (12, 1, 56, 56)
    assert (small.samples, small.fingerprint) == (whole.samples, whole.fingerprint)
    assert small.preprocess == LARGE and torch.equal(small.labels, whole.labels)
    assert len(small) == 12 and small.to_device(CPU).device == CPU
    rows = [torch.tensor([3, 0, 11]), torch.tensor([5])]
    for one, other in (
        (small.batches(rows, CPU), whole.batches(rows, CPU)),
        (small.in_order(2, 9, 4, CPU), whole.in_order(2, 9, 4, CPU)),
    ):
        for ours, expected in zip(one, other, strict=True):
            assert ours.shape == expected.shape and ours.dtype == torch.uint8
            assert (ours.int() - expected.int()).abs().max() <= 1


def test_common_side_is_that_of_small_equal_squares(samples):
    assert common_side(samples, LARGE) == 24 and common_side([], LARGE) is None
    for preprocess in (Preprocess(24, 1), Preprocess(20, 1), Preprocess(56, 1, "bicubic")):
        assert common_side(samples, preprocess) is None


@pytest.mark.parametrize("size", [(23, 23), (25, 24), (24, 48), (300, 300)])
def test_common_side_is_none_if_one_image_differs(samples, size):
    Image.new("L", size).save(samples[-1].path)
    assert common_side(samples, LARGE) is None


def test_common_side_does_not_mind_a_broken_file(samples, tmp_path):
    samples[2].path.write_bytes(b"<html>")
    assert common_side(samples, LARGE) == 24
    data = load_enlarged(samples, LARGE, 24, "train", tmp_path / "store")
    assert len(data) == 11 and [path for path, _ in data.failures] == [samples[2].path]
