"""Photos stored turned: every orientation in every format comes out upright, with its size."""

from __future__ import annotations

import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.turned import FORMATS, write_turned
from utils.imaging import image_io
from utils.imaging.formats import can_read
from utils.imaging.geometry import Box
from utils.imaging.image_io import ImageError, open_header, open_image, open_region, open_upright

SIZE = (600, 400)
REGION = Box(100, 40, 420, 210)


def upright_picture() -> Image.Image:
    """A picture whose parts all differ, and smooth, so that any encoder keeps it."""
    picture = Image.new("RGB", SIZE, (200, 60, 30))
    picture.paste((20, 200, 60), (0, 0, 280, 130))
    picture.paste((40, 60, 220), (300, 200, 600, 400))
    return picture


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(
        np.abs(np.asarray(a.convert("RGB"), int) - np.asarray(b.convert("RGB"), int)).mean()
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_format_is_upright(tmp_path, name, orientation):
    picture = upright_picture()
    path = write_turned(tmp_path / "photo", picture, name, orientation)  # no suffix: the bytes tell
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
    path = write_turned(tmp_path / "x.heic", upright_picture(), "HEIF", 1)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    can_read.cache_clear()
    with pytest.raises(ImageError, match=r"^a HEIC photo: pip install pillow-heif, or convert it$"):
        open_image(path)
    can_read.cache_clear()


def test_heic_with_a_broken_package(tmp_path, monkeypatch):
    path = write_turned(tmp_path / "x.heic", upright_picture(), "HEIF", 1)

    def fail() -> None:
        raise OSError("libheif.so.1: cannot open shared object file")

    monkeypatch.setattr(pillow_heif, "register_heif_opener", fail)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ImageError, match=r"pillow-heif cannot be loaded: libheif\.so\.1"):
        open_image(path)


def test_a_broken_heic_is_refused_in_a_line(tmp_path):
    path = write_turned(tmp_path / "x.heic", upright_picture(), "HEIF", 1)
    whole = path.read_bytes()
    for content in (whole[:-100], whole[:300], whole[:24] + b"\xc8" * 5000):
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"^broken image: .+") as error:
            open_image(path)
        assert "\n" not in str(error.value)


def test_avif_of_a_pillow_that_cannot_read_it(tmp_path, monkeypatch):
    path = write_turned(tmp_path / "x.jpg", upright_picture(), "AVIF", 1)
    with open_header(path) as header:
        assert (header.format, header.size) == ("AVIF", SIZE)
    monkeypatch.setattr(image_io.features, "check", lambda feature: False)
    monkeypatch.setitem(Image.OPEN, "AVIF", (None, lambda prefix: False))
    with (
        pytest.raises(ImageError, match="an AVIF image, which this Pillow cannot read: pip"),
        open_header(path),
    ):
        pass


def test_open_upright_of_bytes():
    file = io.BytesIO()
    upright_picture().save(file, "TIFF")
    assert open_upright(file).size == SIZE
