"""Pictures of more than 8 bits: scaled by what they hold, or refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile  # which scikit-image needs
from PIL import Image

from utils.imaging.depth import DepthError, to_8_bits
from utils.imaging.image_io import ImageError, open_image, open_region

GREY = np.linspace(0, 255, 40 * 30).round().astype(np.uint8).reshape(30, 40)


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """A PNG of 16-bit colours, which Pillow cannot write: uint16 (height, width, 2 to 4)."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    colour_type = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        (GREY.astype(np.int32), "tif"),
        (GREY.astype(np.int32) * 257, "tif"),
        (GREY.astype(np.uint16), "png"),
        (GREY.astype(np.uint16), "tif"),
        (GREY.astype(np.uint16) * 257, "png"),
        (GREY.astype(np.uint16) * 257, "tif"),
        (GREY.astype(np.uint16) * 16, "png"),  # 12 bits in words of 16
        (GREY.astype(np.int32) * 16, "tif"),
        (GREY.astype(np.uint16) * 4, "png"),
        (GREY.astype(np.uint16) * 64, "tif"),
        (GREY.astype(np.float32), "tif"),
        (GREY.astype(np.float32) / 255, "tif"),
        (GREY.astype(np.float32) * 257, "tif"),
    ],
)
def test_values_of_every_scale_become_the_same_grey(tmp_path, values, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(values).save(path)
    pixels = np.asarray(open_image(path))
    assert pixels.dtype == np.uint8 and np.abs(pixels.astype(int) - GREY).max() <= 1


def test_a_region_has_the_scale_of_the_whole_picture(tmp_path):
    path = tmp_path / "x.tif"
    Image.fromarray(GREY.astype(np.float32) / 255).save(path)
    dark = np.asarray(open_region(path, lambda width, height: (0, 0, 40, 5)))
    assert np.abs(dark.astype(int) - GREY[:5]).max() <= 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.where(GREY < 9, np.nan, GREY).astype(np.float32), "NaN or infinity"),
        (np.where(GREY < 9, np.inf, GREY).astype(np.float32), "NaN or infinity"),
        (GREY.astype(np.float32) / 100, "from 0 to 2.55: convert it"),  # neither 0 to 1 nor to 255
        (GREY.astype(np.float32) - 20, "from -20 to 235"),
        (GREY.astype(np.int32) - 20, "from -20 to 235"),
        (GREY.astype(np.int32) * 300, "from 0 to 76500"),
        (GREY.astype(np.float32) * 1e6, "from 0 to 2.55e"),
        ((GREY > 99).astype(np.int32), "from 0 to 1:"),
    ],
)
def test_values_of_no_known_scale_are_refused(tmp_path, values, reason):
    path = tmp_path / "x.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(ImageError, match=reason):
        open_image(path)
    with pytest.raises(DepthError, match=reason):
        to_8_bits(Image.fromarray(values))


def test_a_dark_picture_in_floating_point_stays_dark(tmp_path):
    path = tmp_path / "x.tif"
    Image.fromarray(GREY.astype(np.float32) / 510).save(path)
    assert np.asarray(open_image(path)).max() == 127


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits(channels):
    pixels = np.repeat(GREY.astype(np.uint16)[:, :, None], channels, axis=2)
    pixels[:, :, 3:] = 65535  # opaque
    picture = open_image(io.BytesIO(png_of_16_bits(pixels * 257)))
    assert np.array_equal(np.asarray(picture.getchannel(0)), GREY)
    black = pixels.copy()
    black[:, :, :3] *= 16  # 12 bits in words of 16
    with pytest.raises(ImageError, match="its colours fill 12 of 16 bits or fewer"):
        open_image(io.BytesIO(png_of_16_bits(black)))


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}])
def test_colours_of_16_bits_in_a_tiff(tmp_path, options):
    path = tmp_path / "x.tif"
    pixels = np.repeat(GREY.astype(np.uint16)[:, :, None], 3, axis=2)
    tifffile.imwrite(path, pixels * 257, photometric="rgb", **options)
    assert np.array_equal(np.asarray(open_image(path)), pixels)
    tifffile.imwrite(path, pixels, photometric="rgb", **options)
    with pytest.raises(ImageError, match="its colours fill 12 of 16 bits or fewer"):
        open_image(path)


def test_colours_of_16_bits_in_planes_are_refused(tmp_path):
    path = tmp_path / "x.tif"
    planes = np.stack([GREY.astype(np.uint16) * 257] * 3)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageError, match="16 bits, in planes: convert it to 8 bits"):
        open_image(path)


def test_a_picture_of_8_bits_is_returned_as_it_is():
    for mode in ("L", "RGB", "P", "CMYK", "1", "LA"):
        picture = Image.new(mode, (3, 3))
        assert to_8_bits(picture) is picture


def test_a_black_picture_is_black(tmp_path: Path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "x.png")
    assert np.asarray(open_image(tmp_path / "x.png")).max() == 0
