"""The end of a picture's file: there, cut off, or followed by something else."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, features

from utils.imaging.ending import has_end

NOISE = Image.effect_noise((200, 160), 60).convert("RGB")
KINDS = {
    "baseline": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "restart markers": ("JPEG", {"restart_marker_blocks": 3}),
    "two pictures": ("MPO", {"save_all": True, "append_images": [NOISE]}),
    "PNG": ("PNG", {}),
    "lossy WebP": ("WEBP", {}),
    "lossless WebP": ("WEBP", {"lossless": True}),
    "AVIF": ("AVIF", {}),
}


def encode(image_format: str, picture: Image.Image = NOISE, **options: object) -> bytes:
    if image_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    file = io.BytesIO()
    picture.save(file, image_format, **options)
    return file.getvalue()


def ends(tmp_path: Path, content: bytes, image_format: str) -> bool | None:
    path = tmp_path / "picture"
    path.write_bytes(content)
    with path.open("rb") as file:
        of_file = has_end(file, image_format)
    assert has_end(io.BytesIO(content), image_format) is of_file
    return of_file


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_has_its_end_whatever_follows(tmp_path, kind):
    image_format, options = KINDS[kind]
    content = encode(image_format, **options)
    for more in (b"", b"\0\0", b"\r\n", b"<br><b>Warning</b>: a script went wrong" * 9):
        assert ends(tmp_path, content + more, image_format) is True


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_anywhere_has_no_end(tmp_path, kind):
    image_format, options = KINDS[kind]
    content = encode(image_format, **options)
    if image_format == "MPO":  # its second picture is not used
        content = content[: content.index(b"\xff\xd9") + 2]
    for cut in (9, 20, 100, len(content) // 2, len(content) - 30):
        assert ends(tmp_path, content[:-cut], image_format) is False, cut


def test_a_jpeg_that_lacks_only_the_marker_has_no_end(tmp_path):
    assert ends(tmp_path, encode("JPEG")[:-2], "JPEG") is False


def test_the_end_of_a_thumbnail_is_not_that_of_the_photo(tmp_path):
    thumbnail = encode("JPEG", NOISE.resize((40, 30)))
    content = encode("JPEG", exif=b"Exif\0\0" + thumbnail)
    cut = content[: content.index(thumbnail) + len(thumbnail)]
    assert cut.endswith(b"\xff\xd9") and ends(tmp_path, cut, "JPEG") is False
    assert ends(tmp_path, content[:-500], "JPEG") is False


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "BMP", None])
def test_other_formats_show_no_end(tmp_path, image_format):
    assert ends(tmp_path, b"content", image_format) is None
