"""Photos stored turned: every orientation in every format comes out upright, with its size."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from utils.imaging import image_io
from utils.imaging.formats import can_read
from utils.imaging.geometry import Box
from utils.imaging.image_io import ImageError, open_header, open_image, open_region, open_upright

# How an upright picture is stored for each orientation: the opposite of UPRIGHT.
STORED = dict(image_io.UPRIGHT) | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
FORMATS = ("TIFF", "JPEG", "PNG", "PNG, at its end", "WEBP", "MPO", "AVIF", "HEIF")
SIZE = (600, 400)
REGION = Box(100, 40, 420, 210)


def upright_picture() -> Image.Image:
    """A picture whose parts all differ, and smooth, so that any encoder keeps it."""
    picture = Image.new("RGB", SIZE, (200, 60, 30))
    picture.paste((20, 200, 60), (0, 0, 280, 130))
    picture.paste((40, 60, 220), (300, 200, 600, 400))
    return picture


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(STORED[orientation]) if orientation in STORED else picture


def write(path: Path, picture: Image.Image, name: str, orientation: int) -> Path:
    exif = Image.Exif()
    exif[image_io.ORIENTATION] = orientation
    stored = turned(picture, orientation)
    if name == "PNG, at its end":
        stored.save(path, "PNG")
        data = exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(data)) + b"eXIf" + data
        chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
        png = path.read_bytes()
        path.write_bytes(png[:-12] + chunk + png[-12:])
    elif name == "MPO":
        stored.save(path, name, exif=exif, quality=95, save_all=True, append_images=[stored])
    elif name == "HEIF":
        pillow_heif.from_pillow(stored).save(path, quality=95, exif=exif.tobytes())
    else:
        options = {"quality": 95} if name in ("JPEG", "WEBP", "AVIF") else {}
        stored.save(path, name, exif=exif, **options)
    return path


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(
        np.abs(np.asarray(a.convert("RGB"), int) - np.asarray(b.convert("RGB"), int)).mean()
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_format_is_upright(tmp_path, name, orientation):
    picture = upright_picture()
    path = write(tmp_path / "photo", picture, name, orientation)  # no suffix: the bytes tell
    assert open_upright(path).size == SIZE
    assert difference(open_image(path), picture) < 4
    sizes = []
    part = open_region(path, lambda *size: sizes.append(size) or REGION)
    assert sizes == [SIZE] and difference(part, picture.crop(REGION)) < 4
    reduced = open_upright(path, side=48)
    assert reduced.size == SIZE
    factor = 4 if name in ("JPEG", "MPO") else 1  # the others cannot be decoded smaller
    assert reduced.picture.size == (SIZE[0] // factor, SIZE[1] // factor)


def test_heic_without_its_package(tmp_path, monkeypatch):
    path = write(tmp_path / "x.heic", upright_picture(), "HEIF", 1)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    can_read.cache_clear()
    with pytest.raises(ImageError, match=r"^a HEIC photo: pip install pillow-heif, or convert it$"):
        open_image(path)
    can_read.cache_clear()


def test_heic_with_a_broken_package(tmp_path, monkeypatch):
    path = write(tmp_path / "x.heic", upright_picture(), "HEIF", 1)

    def fail() -> None:
        raise OSError("libheif.so.1: cannot open shared object file")

    monkeypatch.setattr(pillow_heif, "register_heif_opener", fail)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ImageError, match=r"pillow-heif cannot be loaded: libheif\.so\.1"):
        open_image(path)


def test_a_broken_heic_is_refused_in_a_line(tmp_path):
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\xc8" * 5000)
    with pytest.raises(ImageError, match=r"^broken image: .+"):
        open_image(tmp_path / "x.heic")


def test_avif_of_a_pillow_that_cannot_read_it(tmp_path, monkeypatch):
    path = write(tmp_path / "x.jpg", upright_picture(), "AVIF", 1)
    with open_header(path) as header:
        assert (header.format, header.size) == ("AVIF", SIZE)
    monkeypatch.setattr(image_io.features, "check", lambda feature: False)
    monkeypatch.setitem(Image.OPEN, "AVIF", (None, lambda prefix: False))
    with pytest.raises(ImageError, match="an AVIF image, which this Pillow cannot read: pip"):
        open_header(path)


def test_open_upright_of_bytes():
    file = io.BytesIO()
    upright_picture().save(file, "TIFF")
    assert open_upright(file).size == SIZE
