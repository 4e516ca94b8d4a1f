"""Thumbnails: small, upright, never enlarged, and from any kind of picture."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from tests.helpers import jpeg
from utils.imaging.image_io import ImageError
from utils.pages.thumbnails import thumbnail_uri, thumbnail_uris

START = "data:image/jpeg;base64,"


def picture_of(address: str) -> Image.Image:
    assert address.startswith(START)
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix(START))))


def test_a_photo_becomes_small_and_upright(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg((600, 300), "red", orientation=6))
    picture = picture_of(thumbnail_uri(tmp_path / "a.jpg", 112))
    assert picture.size == (56, 112) and picture.format == "JPEG"
    assert len(picture_of(thumbnail_uri(tmp_path / "a.jpg")).getexif()) == 0


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("L", "L"), ("1", "RGB"), ("P", "RGB"), ("RGBA", "RGB"), ("LA", "RGB"), ("CMYK", "RGB"),
     ("I;16", "RGB"), ("RGB", "RGB")],
)  # fmt: skip
def test_pictures_of_every_mode_are_taken_and_not_enlarged(mode, wanted):
    picture = picture_of(thumbnail_uri(Image.new(mode, (48, 48)), 112))
    assert (picture.size, picture.mode) == ((48, 48), wanted)


def test_transparent_pixels_become_white():
    picture = picture_of(thumbnail_uri(Image.new("RGBA", (8, 8), (255, 0, 0, 0))))
    assert picture.getpixel((4, 4)) == (255, 255, 255)


def test_a_thin_picture_keeps_a_pixel():
    assert picture_of(thumbnail_uri(Image.new("L", (2000, 3)), 100)).size == (100, 1)


def test_many_come_in_order_and_a_broken_one_is_empty(tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(jpeg((10 + i, 10)))
    paths[3].write_bytes(b"no picture")
    paths[7].unlink()
    addresses = list(thumbnail_uris(paths, ""))
    assert addresses[3] == addresses[7] == ""
    widths = [picture_of(address).width for address in addresses if address]
    assert widths == [10 + i for i in range(20) if i not in (3, 7)]
    with pytest.raises(ImageError):
        thumbnail_uri(paths[3])
