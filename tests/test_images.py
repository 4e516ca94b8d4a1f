"""Opening what people call images, and the one way from a picture to a network's input."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tests.helpers import jpeg
from utils.imaging.image_io import (
    ImageError,
    open_header,
    open_image,
    open_region,
    save_image,
    to_channels,
    to_srgb,
    upright_size,
)
from utils.imaging.preprocess import Preprocess


def store(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    return path


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 50,000 pixels square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"\xef\xbb\xbf\n <html lang=ko>", "HTML page"),
        (b"hello", "a text"),
        (b"\xff\xd8\xff\xe0 cut short", "image"),
        (b"\x00\x01\x02\xff" * 50, "not an image"),
        (bomb(), "50000×50000"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n", "a text"),
        (jpeg()[:500], "broken image: .*[Tt]runcated"),
        (jpeg((300, 300))[:-200], "broken image: .*[Tt]runcated"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, "broken image|not an image"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(tmp_path, content, reason):
    with pytest.raises(ImageError, match=reason):
        open_image(store(tmp_path, content))


def test_exif_that_is_none_spoils_no_picture(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (60, 40), "red").save(path, exif=b"garbage!!xx")
    assert open_image(path).getpixel((0, 0)) == (255, 0, 0)
    assert open_region(path, lambda w, h: (0, 0, w, h)).size == (60, 40)
    with open_header(path) as header:
        assert upright_size(header) == (60, 40)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        open_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="directory"):
        open_image(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(tmp_path, orientation):
    upright = Image.new("RGB", (60, 40), "black")
    upright.paste("white", (0, 0, 30, 10))  # one corner tells them all apart
    turned = {
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.rotate(180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.rotate(90, expand=True),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.rotate(-90, expand=True),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path / "x.png")), np.asarray(upright))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_rgb(mode, channels):
    image = to_channels(Image.new("RGB", (4, 4), "white").convert(mode), channels)
    assert image.mode == ("L" if channels == 1 else "RGB")
    assert np.asarray(image).min() >= 250


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bits_are_scaled_not_clipped(dtype):
    image = Image.fromarray(np.full((4, 4), 32768, dtype))
    assert abs(int(np.asarray(to_channels(image, 1))[0, 0]) - 127) <= 1


def test_the_one_mode_that_cannot_be_turned_is_refused(tmp_path):
    Image.new("LAB", (6, 6)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="LAB"):
        open_image(tmp_path / "x.tif")


def test_a_phones_double_jpeg_opens(tmp_path):
    two = Image.new("RGB", (6, 6), "white")
    two.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[two])
    assert open_image(tmp_path / "x.jpg").size == (6, 6)


def test_header_is_read_without_the_pixels(tmp_path):
    with open_header(store(tmp_path, jpeg((60, 80)))) as image:
        assert image.size == (60, 80)
    with open_header(io.BytesIO(jpeg((60, 80)))) as image:
        assert image.size == (60, 80)


@pytest.mark.parametrize("channels", [1, 3])
def test_preprocess_shape_scale_and_settings(channels):
    how = Preprocess(48, channels)
    pixels = how(Image.new("RGB", (100, 30), (255, 255, 255)))
    assert pixels.shape == (channels, 48, 48) and pixels.dtype == np.uint8
    scaled = Preprocess.to_float(torch.from_numpy(np.array(pixels)))
    assert scaled.dtype == torch.float32 and scaled.min() == scaled.max() == 1.0
    assert Preprocess(**how.to_dict()) == how
    for size, count in ((0, 1), (4097, 1), (48, 2)):
        with pytest.raises(ValueError, match="image_"):
            Preprocess(size, count)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_region_is_what_turning_the_whole_picture_first_would_give(tmp_path, orientation, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    region = (11, 22, 70, 85)
    with Image.open(path) as photo:
        upright = ImageOps.exif_transpose(photo)
    sizes = []
    part = open_region(path, lambda *size: sizes.append(size) or region)
    assert sizes == [upright.size]
    assert np.array_equal(np.asarray(part), np.asarray(upright.crop(region)))
    assert np.array_equal(np.asarray(open_image(path)), np.asarray(upright))


def test_cmyk_colours_are_those_of_their_profile(tmp_path):
    picture = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert to_srgb(picture).getpixel((0, 0)) == to_channels(picture, 3).getpixel((0, 0))
    picture.info["icc_profile"] = b"broken"
    assert to_srgb(picture).getpixel((0, 0)) == to_channels(picture, 3).getpixel((0, 0))


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.webp"
    with pytest.raises(ImageError, match="cannot be written"):
        save_image(Image.new("RGB", (17000, 20)), path)
    assert not list(tmp_path.iterdir())
    save_image(Image.new("RGB", (17, 20), "red"), path)
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("WEBP", (17, 20))
