"""Files that viewers show and strict decoders refuse: open them whole, or refuse them."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
import skimage.data
from PIL import Image

from utils.imaging.image_io import ImageError, open_image, open_region, open_upright
from utils.imaging.preprocess import Preprocess
from utils.imaging.repair import drop_broken_chunks

FACE = Image.fromarray(skimage.data.astronaut()[:200, 120:320])


def jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    FACE.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def png() -> bytes:
    file = io.BytesIO()
    FACE.save(file, "PNG")
    return file.getvalue()


def chunk(kind: bytes, data: bytes, check: int = 0) -> bytes:
    """A part of a PNG, with a wrong checksum if `check` is not 0."""
    checksum = zlib.crc32(kind + data) ^ check
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


KINDS = [{}, {"progressive": True}, {"subsampling": 2}, {"restart_marker_rows": 1}]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_opens(options, missing):
    whole = jpeg(**options)
    cut = io.BytesIO(whole[:-missing])
    assert open_image(cut).tobytes() == open_image(io.BytesIO(whole)).tobytes()
    region = open_region(cut, lambda width, height: (10, 10, 90, 90))
    assert region.tobytes() == open_image(io.BytesIO(whole)).crop((10, 10, 90, 90)).tobytes()
    small = Preprocess(24, 1)
    assert np.array_equal(small.read(cut), small.read(io.BytesIO(whole)))
    assert open_upright(cut, 24).size == FACE.size


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.97, 0.99])
def test_a_jpeg_that_lacks_pixels_is_refused(options, kept):
    whole = jpeg(**options)
    with pytest.raises(ImageError, match="truncated"):
        open_image(io.BytesIO(whole[: int(len(whole) * kept)]))
    with pytest.raises(ImageError, match="truncated"):
        Preprocess(24, 1).read(io.BytesIO(whole[: int(len(whole) * kept)]))


def test_a_jpeg_is_refused_wherever_its_pixels_are_cut():
    """Also behind the first byte of a pair, and between the passes of a progressive one."""
    for options in KINDS:
        whole = jpeg(**options)
        expected = open_image(io.BytesIO(whole)).tobytes()
        for length in range(len(whole) - 60, len(whole) - 2):
            try:
                picture = open_image(io.BytesIO(whole[:length]))
            except ImageError:
                continue
            assert picture.tobytes() == expected  # the missing bits meant nothing
        first_scans = [i for i in range(len(whole)) if whole[i : i + 2] == b"\xff\xda"][1:]
        for end in first_scans:
            with pytest.raises(ImageError, match="truncated"):
                open_image(io.BytesIO(whole[:end]))


@pytest.mark.parametrize(
    "tail", [b"\0\0\0\x18ftypmp42" + os.urandom(900), b"\n", b"\0" * 50, jpeg()]
)
def test_what_follows_a_jpeg_is_ignored(tail):
    assert (
        open_image(io.BytesIO(jpeg() + tail)).tobytes() == open_image(io.BytesIO(jpeg())).tobytes()
    )


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(128) + os.urandom(3_000_000))),
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(os.urandom(1_500_000).hex().encode())),
        chunk(b"iTXt", b"work\0\1\0\0\0" + zlib.compress(bytes(20_000_000))),
        chunk(b"tEXt", b"work\0" + b"x" * 3_000_000),
    ],
    ids=["profile", "text", "international text", "plain text"],
)
@pytest.mark.parametrize("position", [33, -12])
def test_a_png_with_much_metadata_opens(extra, position):
    whole = png()
    large = io.BytesIO(whole[:position] + extra + whole[position:])
    assert open_image(large).tobytes() == FACE.tobytes()


def test_a_png_with_too_much_metadata_opens_without_it():
    bomb = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(70_000_000)))
    picture = open_image(io.BytesIO(png()[:33] + bomb + png()[33:]))
    assert picture.tobytes() == FACE.tobytes() and not picture.info


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"pHYs", b"gAMA", b"tIME"])
@pytest.mark.parametrize("position", [33, -12])
@pytest.mark.parametrize("check", [0, 1])  # right: only the data makes no sense
def test_a_png_with_a_broken_part_beside_its_pixels_opens(kind, position, check):
    whole = png()
    broken = chunk(kind, b"Comment\0hello", check)
    picture = open_image(io.BytesIO(whole[:position] + broken + whole[position:]))
    assert picture.tobytes() == FACE.tobytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png()[:20] + b"\1" + png()[21:], "its IHDR is damaged"),
        (png()[:33] + chunk(b"tEXt", b"a\0b", check=1) + png()[33:-2000], "its IDAT is damaged"),
        (png()[:8], "its header cannot be read"),
        (png()[:-2000], "truncated|damaged"),
    ],
)
def test_a_broken_png_is_refused_in_a_line(content, reason):
    with pytest.raises(ImageError, match=f"^a broken PNG: .*({reason})"):
        open_image(io.BytesIO(content))


def test_a_png_without_its_end_opens():
    assert open_image(io.BytesIO(png()[:-12])).tobytes() == FACE.tobytes()


def test_drop_broken_chunks_keeps_the_sound_ones():
    whole = png()
    text = chunk(b"tEXt", b"Comment\0hello")
    assert drop_broken_chunks(whole) == whole
    assert drop_broken_chunks(whole[:33] + text + whole[33:]) == whole[:33] + text + whole[33:]
    assert drop_broken_chunks(whole[:33] + text[:-1] + b"!" + whole[33:]) == whole
