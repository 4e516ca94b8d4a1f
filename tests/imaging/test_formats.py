"""What a file is, by its first bytes."""

from __future__ import annotations

import io
import sys

import pytest
from PIL import Image

from utils.imaging.formats import HEAD_BYTES, FileType, can_read, identify


def iso_media(brand: bytes, *compatible: bytes) -> bytes:
    content = brand + bytes(4) + b"".join(compatible)
    return (8 + len(content)).to_bytes(4, "big") + b"ftyp" + content + b"heic" * 50


@pytest.mark.parametrize("name", ["JPEG", "MPO", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF"])
def test_identify_knows_every_format_that_is_read(name):
    file = io.BytesIO()
    Image.new("RGB", (9, 7)).save(file, name)
    file_type = identify(file.getvalue()[:HEAD_BYTES])
    assert file_type.format == {"MPO": "JPEG"}.get(name, name)
    assert file_type.is_image and file_type.refusal() == file_type.advice() == ""


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (iso_media(b"heic", b"mif1", b"heic"), "HEIF"),
        (iso_media(b"heix"), "HEIF"),
        (iso_media(b"hevc", b"msf1"), "HEIF"),
        (iso_media(b"mif1", b"miaf", b"heic"), "HEIF"),
        (iso_media(b"mif1", b"miaf"), "HEIF"),
        (iso_media(b"avif", b"mif1", b"miaf"), "AVIF"),
        (iso_media(b"avis", b"msf1"), "AVIF"),
        (iso_media(b"mif1", b"avif", b"miaf"), "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"MM\0*" + bytes(20), "TIFF"),
        (b"II+\0" + bytes(20), "TIFF"),
    ],
)
def test_identify_tells_the_families_apart(head, expected):
    assert identify(head).format == expected


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"", "an empty file"),
        (bytes(1), "nothing but zeros"),
        (bytes(HEAD_BYTES), "nothing but zeros"),
        (b"<!DOCTYPE html><p>", "an HTML page"),
        (b"\xef\xbb\xbf\r\n <HTML lang=ko>", "an HTML page"),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x">', "an HTML page"),
        (b"<!-- moved --><html>", "an HTML page"),
        (b"sorry", "a text"),
        (b"BM is short for bitmap, but this is a text", "a text"),
        ('{"error": "사진이 없습니다"}'.encode(), "a text"),
        ("사진이 없습니다".encode()[:-1], "a text"),
        ("사진이 없습니다".encode("cp949"), "a text"),
        ("사진".encode("utf-16"), "a text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer (git lfs pull)"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"PK\3\4\x14\0", "a ZIP archive"),
        (iso_media(b"isom", b"avc1"), "a video or sound"),
        (iso_media(b"qt  "), "a video or sound"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86", "a video"),
        (b"RIFF\0\1\0\0AVI LIST", "a video"),
        (b"\0\1\2\xff" * 50, ""),
    ],
)  # fmt: skip
def test_identify_says_what_else_a_file_is(head, name):
    file_type = identify(head)
    assert file_type == FileType(name)
    assert file_type.refusal() == (f"{name}, not an image" if name else "not an image")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\x0a\xfa\x7f", "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"8BPS\0\1", "a Photoshop file"),
        (iso_media(b"crx ", b"isom"), "a raw photo of a camera"),
        (b'<?xml version="1.0"?><svg width="3">', "an SVG drawing"),
    ],
)
def test_identify_advises_to_convert_other_images(head, name):
    file_type = identify(head)
    assert file_type.is_image and not file_type.format
    assert file_type.refusal() == f"{name}: convert it to JPEG or PNG"
    assert file_type.advice("them") == "convert them to JPEG or PNG"


def test_heic_needs_a_package(monkeypatch):
    heic = identify(iso_media(b"heic"))
    can_read.cache_clear()
    assert can_read("HEIF") and heic.refusal() == ""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    can_read.cache_clear()
    assert heic.refusal() == "a HEIC photo: pip install pillow-heif, or convert it"
    assert heic.advice("them") == "pip install pillow-heif, or convert them"
    can_read.cache_clear()
