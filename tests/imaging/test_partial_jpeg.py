"""Decoding no more of a JPEG than a part of it needs: the same pixels, with less work."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from utils.imaging.geometry import Box
from utils.imaging.partial_jpeg import dct_factor, decode_down_to

WIDTH, HEIGHT = 123, 101  # no multiples of a JPEG's blocks
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
KINDS = {
    "4:2:0": {},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 3},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "two pictures": {"format": "MPO", "save_all": True, "append_images": [PICTURE]},
}


def encode(picture: Image.Image = PICTURE, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    picture.convert(mode).save(file, **{"format": "JPEG", **options})
    return file.getvalue()


def decode(jpeg: bytes, factor: int = 1) -> np.ndarray:
    """Decode it all, with Pillow alone."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        if factor > 1:
            picture.draft(None, (picture.width // factor, picture.height // factor))
        return np.asarray(picture)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_the_rows_are_those_of_the_whole_picture(kind, factor):
    jpeg = encode(**KINDS[kind])
    whole = decode(jpeg, factor)
    for bottom in (1, 7, 8, 9, 16, 17, 40, HEIGHT - 1, HEIGHT):
        with Image.open(io.BytesIO(jpeg)) as picture:
            assert decode_down_to(picture, bottom, factor)
            rows = -(-bottom // factor)
            assert np.array_equal(np.asarray(picture), whole[:rows]), bottom
            assert picture.size == (whole.shape[1], rows)


def test_the_rest_of_the_file_is_not_read():
    jpeg = encode(Image.effect_noise((1000, 1000), 99).convert("RGB"), quality=95)
    file = io.BytesIO(jpeg)
    with Image.open(file) as picture:
        assert decode_down_to(picture, 300)
    assert file.tell() < 0.4 * len(jpeg)


def test_a_picture_cut_above_the_row_is_refused():
    jpeg = encode()
    for cut in (jpeg[: len(jpeg) // 2], jpeg[:-2] if (HEIGHT % 8) else jpeg):
        with Image.open(io.BytesIO(cut)) as picture:
            assert not decode_down_to(picture, HEIGHT - 1)


def test_a_broken_jpeg_is_no_picture_that_is_full():
    # Both end the decoder with the same error. A scan of coefficients 70 and up cannot be.
    jpeg = bytearray(encode(progressive=True))
    scan = jpeg.rindex(b"\xff\xda")
    jpeg[scan + 4 + 1 + 2 * jpeg[scan + 4]] = 70
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert not decode_down_to(picture, 20)
    with pytest.raises(OSError, match="broken data stream"):
        decode(bytes(jpeg))


def test_a_jpeg_without_pixels_is_no_picture():
    jpeg = encode()
    cut = jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9"
    for bottom in (20, HEIGHT):
        with Image.open(io.BytesIO(cut)) as picture:
            assert not picture.tile
            assert not decode_down_to(picture, bottom)


def test_a_picture_thinner_than_the_factor_is_left_to_the_whole_decoder():
    with Image.open(io.BytesIO(encode(Image.new("RGB", (200, 3))))) as picture:
        assert not decode_down_to(picture, 3, 4)


@pytest.mark.parametrize(
    ("longest", "factor"),
    [(None, 1), (1301, 1), (1300, 1), (651, 1), (650, 2), (512, 2), (325, 4), (163, 4), (162, 8)],
)
def test_the_box_keeps_the_pixels_that_it_needs(longest, factor):
    for box in (Box(7, 9, 1307, 300), Box(9, 7, 300, 1307)):
        assert dct_factor(box, longest) == factor
