"""The one way from a picture to a network's input."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from tests.helpers import jpeg
from utils.imaging.image_io import ImageError
from utils.imaging.preprocess import Preprocess


@pytest.mark.parametrize("channels", [1, 3])
def test_preprocess_shape_scale_and_settings(channels):
    preprocess = Preprocess(48, channels)
    pixels = preprocess(Image.new("RGB", (100, 30), (255, 255, 255)))
    assert pixels.shape == (channels, 48, 48) and pixels.dtype == np.uint8
    scaled = Preprocess.to_float(torch.from_numpy(np.array(pixels)))
    assert scaled.dtype == torch.float32 and scaled.min() == scaled.max() == 1.0
    assert Preprocess(**preprocess.to_dict()) == preprocess
    for size, count in ((0, 1), (4097, 1), (48, 2)):
        with pytest.raises(ValueError, match="image_"):
            Preprocess(size, count)


def test_preprocess_reads_a_jpeg_decoded_small_like_the_whole_jpeg(tmp_path):
    photo = Image.fromarray(skimage.data.astronaut()[:400, 60:460])
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "x.jpg", quality=95, exif=exif)
    for channels in (1, 3):
        preprocess = Preprocess(48, channels)
        size = preprocess.open(tmp_path / "x.jpg").size
        assert max(size) == 100  # a quarter, and at least twice 48
        exact = preprocess(photo.rotate(-90)).astype(int)
        assert np.abs(preprocess.read(tmp_path / "x.jpg").astype(int) - exact).mean() < 2


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"image_size": "48"}, "image_size"),
        ({"image_size": True}, "image_size"),
        ({"image_channel": 1.0}, "image_channel"),
        ({"resample": "nearest"}, "resample"),
        ({"resample": None}, "resample"),
    ],
)
def test_preprocess_names_an_invalid_setting(settings, name):
    with pytest.raises(ValueError, match=f"^{name}$"):
        Preprocess(**settings)


def test_preprocess_of_a_picture_of_its_size_changes_no_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    result = Preprocess(48, 3)(Image.fromarray(pixels))
    assert np.array_equal(result, pixels.transpose(2, 0, 1))


def test_preprocess_shrinks_with_antialiasing():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (480, 240)))
    grey = Preprocess(48, 1)(stripes)
    assert grey.min() >= 120 and grey.max() <= 135


def test_preprocess_reads_bytes_and_refuses_other_files(tmp_path):
    assert Preprocess(8, 1).read(io.BytesIO(jpeg(colour="white"))).min() >= 250
    (tmp_path / "x.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match="empty file"):
        Preprocess(8, 1).read(tmp_path / "x.jpg")
