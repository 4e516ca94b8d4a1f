"""Opening pictures upright, refusing other files, saving pictures."""

from __future__ import annotations

import builtins
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.helpers import jpeg
from utils.imaging import image_io
from utils.imaging.geometry import Box, BoxError
from utils.imaging.image_io import (
    ImageError,
    open_header,
    open_image,
    open_region,
    open_upright,
    save_image,
    to_channels,
    to_srgb,
    to_stored_box,
    verify,
)


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    return path


def decompression_bomb() -> bytes:
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
        (decompression_bomb(), "50000×50000"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n", "a text"),
        (jpeg()[:500], "broken image: .*[Tt]runcated"),
        (jpeg((300, 300))[:-200], "broken image: .*[Tt]runcated"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, "a broken PNG: "),
    ],
)
def test_open_image_refuses_other_files_with_the_reason(tmp_path, content, reason):
    with pytest.raises(ImageError, match=reason):
        open_image(write(tmp_path, content))


def test_open_image_ignores_broken_exif(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (60, 40), "red").save(path, exif=b"garbage!!xx")
    assert open_image(path).getpixel((0, 0)) == (255, 0, 0)
    assert open_region(path, lambda w, h: (0, 0, w, h)).size == (60, 40)
    assert open_upright(path).size == (60, 40)


def test_open_image_reports_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        open_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match=r"directory|denied"):
        open_image(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_open_image_turns_every_orientation_upright(tmp_path, orientation):
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
def test_to_channels_converts_every_mode_to_grey_or_rgb(mode, channels):
    image = to_channels(Image.new("RGB", (4, 4), "white").convert(mode), channels)
    assert image.mode == ("L" if channels == 1 else "RGB")
    assert np.asarray(image).min() >= 250


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_to_channels_scales_sixteen_bits(dtype):
    image = Image.fromarray(np.full((4, 4), 32768, dtype))
    assert abs(int(np.asarray(to_channels(image, 1))[0, 0]) - 127) <= 1


def test_open_image_refuses_lab_colours(tmp_path):
    Image.new("LAB", (6, 6)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="LAB"):
        open_image(tmp_path / "x.tif")


def test_open_image_opens_a_double_jpeg_of_a_phone(tmp_path):
    two = Image.new("RGB", (6, 6), "white")
    two.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[two])
    assert open_image(tmp_path / "x.jpg").size == (6, 6)


def test_open_header_reads_the_size_from_a_file_or_bytes(tmp_path):
    with open_header(write(tmp_path, jpeg((60, 80)))) as image:
        assert image.size == (60, 80)
    with open_header(io.BytesIO(jpeg((60, 80)))) as image:
        assert image.size == (60, 80)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_open_region_equals_a_crop_of_the_upright_picture(tmp_path, orientation, suffix):
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


def soft_picture(mode: str = "RGB", size: tuple[int, int] = (230, 170)) -> Image.Image:
    """Return a picture with the detail of a photo: its pixels hardly depend on a filter."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def mean_difference(a: Image.Image, b: Image.Image) -> float:
    assert (a.size, a.mode) == (b.size, b.mode)
    return np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean()


def reduced(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("longest", [90, 60, 33, 16, 7])
def test_open_region_reduces_the_same_part(tmp_path, orientation, suffix, longest):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    soft_picture().save(path, exif=exif, quality=97)
    box = Box(31, 23, 154, 121)  # 123 × 98 pixels, nowhere on a block of the JPEG
    full = open_region(path, lambda *size: box)
    part = open_region(path, lambda *size: box, longest)
    assert part.size == (longest, round(98 * longest / 123))
    assert mean_difference(part, reduced(full, part.size)) < 4
    shifted = open_region(path, lambda *size: Box(*(value + 2 for value in box)))
    assert mean_difference(part, reduced(shifted, part.size)) > 8


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_open_region_leaves_a_small_part_as_it_is(image_format):
    file = io.BytesIO()
    soft_picture().save(file, image_format)
    parts = [open_region(file, lambda *size: Box(10, 20, 110, 90), longest)
             for longest in (None, 100, 150)]  # fmt: skip
    assert len({(part.size, part.tobytes()) for part in parts}) == 1


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [
        ("L", "JPEG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("1", "PNG"),
        ("LA", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("I;16", "PNG"), ("RGB", "WEBP"),
    ],
)  # fmt: skip
def test_open_region_reduces_every_kind_of_picture(mode, image_format):
    file = io.BytesIO()
    if mode == "I;16":
        grey = np.asarray(soft_picture("L"), dtype=np.uint16) * 257
        Image.fromarray(grey).save(file, image_format)
    else:
        soft_picture(mode).save(file, image_format, quality=97)
    box = Box(31, 23, 151, 123)
    full = open_region(file, lambda *size: box)
    if full.mode not in ("L", "RGB"):
        full = to_srgb(full)
    part = open_region(file, lambda *size: box, 40)
    assert part.size == (40, 33)
    assert mean_difference(part, reduced(full, part.size)) < 4


def test_open_region_drops_the_profile_of_cmyk_colours_that_it_converts():
    file = io.BytesIO()
    soft_picture("CMYK").save(file, "JPEG", icc_profile=b"of CMYK")
    part = open_region(file, lambda *size: Box(0, 0, 100, 100), 50)
    assert (part.mode, part.info.get("icc_profile")) == ("RGB", None)
    rgb = io.BytesIO()
    soft_picture().save(rgb, "JPEG", icc_profile=b"of RGB")
    part = open_region(rgb, lambda *size: Box(0, 0, 100, 100), 50)
    assert part.info["icc_profile"] == b"of RGB"


@pytest.mark.parametrize("longest", [None, 20])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_open_region_refuses_a_jpeg_cut_below_the_part(orientation, longest):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    soft_picture().save(file, "JPEG", exif=exif)
    whole = file.getvalue()
    assert open_region(whole + b"a trailer", lambda *size: Box(0, 0, 40, 40), longest)
    for cut in (5, 200, len(whole) // 3):
        with pytest.raises(ImageError, match="truncated"):
            open_region(whole[:-cut], lambda *size: Box(0, 0, 40, 40), longest)


@pytest.mark.parametrize("longest", [None, 100])
def test_open_region_of_a_jpeg_decodes_nothing_below_it(longest):
    file = io.BytesIO()
    Image.effect_noise((1000, 1000), 99).convert("RGB").save(file, "JPEG", quality=95)
    open_region(file, lambda *size: Box(10, 20, 310, 300), longest)
    assert file.tell() < 0.4 * len(file.getvalue())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF"])
def test_open_region_takes_a_path_an_open_file_or_bytes(tmp_path, image_format):
    content = io.BytesIO()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8))
    picture.save(content, image_format)
    path = write(tmp_path, content.getvalue())
    with path.open("rb") as file:
        file.seek(9)  # where it stands does not matter
        parts = [open_region(source, lambda *size: Box(3, 4, 20, 21))
                 for source in (path, file, content, content.getvalue())]  # fmt: skip
        assert not (file.closed or content.closed)
    assert len({part.tobytes() for part in parts}) == 1
    assert parts[0].size == (17, 17)


def test_a_photo_on_disk_is_opened_once(tmp_path, monkeypatch):
    path, opened = write(tmp_path, jpeg()), []
    open_file = io.open

    def count(file: object, *args: object, **kwargs: object) -> object:
        opened.append(file)
        return open_file(file, *args, **kwargs)

    for module in (io, builtins):  # Path.open and Pillow
        monkeypatch.setattr(module, "open", count)
    open_region(path, lambda *size: Box(0, 0, *size))
    with open_header(path):
        pass
    assert opened == [path, path]


def test_to_srgb_ignores_a_missing_or_broken_profile(tmp_path):
    picture = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert to_srgb(picture).getpixel((0, 0)) == to_channels(picture, 3).getpixel((0, 0))
    picture.info["icc_profile"] = b"broken"
    assert to_srgb(picture).getpixel((0, 0)) == to_channels(picture, 3).getpixel((0, 0))


def test_save_image_writes_the_whole_picture_or_nothing(tmp_path):
    path = tmp_path / "x.webp"
    with pytest.raises(ImageError, match="cannot be written"):
        save_image(Image.new("RGB", (17000, 20)), path)
    assert not list(tmp_path.iterdir())
    save_image(Image.new("RGB", (17, 20), "red"), path)
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("WEBP", (17, 20))


def test_save_image_keeps_the_older_file_if_the_format_cannot_hold_the_picture(tmp_path):
    path = tmp_path / "x.webp"
    path.write_bytes(b"older")
    with pytest.raises(ImageError, match="cannot be written"):
        save_image(Image.new("RGB", (17000, 20)), path)
    assert path.read_bytes() == b"older"


def test_save_image_takes_the_format_of_the_suffix_or_jpeg(tmp_path):
    for name, expected in (("a.png", "PNG"), ("b.JPG", "JPEG"), ("c.eps", "JPEG"), ("d", "JPEG")):
        save_image(Image.new("RGB", (4, 4)), tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert picture.format == expected


def test_to_srgb_converts_cmyk_by_its_profile(monkeypatch):
    picture = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    picture.info["icc_profile"] = b"a profile"
    converted = Image.new("RGB", (4, 4), (250, 10, 10))

    def convert(image: Image.Image, source: bytes, target: object, **options: str) -> Image.Image:
        assert (image, source, options) == (picture, b"a profile", {"outputMode": "RGB"})
        return converted

    monkeypatch.setattr(image_io.ImageCms, "ImageCmsProfile", io.BytesIO.read)
    monkeypatch.setattr(image_io.ImageCms, "profileToProfile", convert)
    assert to_srgb(picture) is converted


def test_verify_decodes_a_file_whose_length_was_not_announced(tmp_path):
    file = io.BytesIO()
    Image.effect_noise((100, 100), 50).save(file, "PNG")
    file.getbuffer()[4000:4100] = bytes(100)
    with write(tmp_path, file.getvalue()).open("rb") as broken:
        verify(broken, complete=True)  # its head and its end are fine
        with pytest.raises(ImageError, match="broken"):
            verify(broken, complete=False)
    with write(tmp_path, b"<html>").open("rb") as file, pytest.raises(ImageError, match="HTML"):
        verify(file, complete=True)


@pytest.mark.parametrize("complete", [True, False])
def test_verify_refuses_a_file_that_ends_too_early(tmp_path, complete):
    reason = pytest.raises(ImageError, match="truncated: the JPEG has no end")
    with write(tmp_path, jpeg((300, 300))[:-2]).open("rb") as file, reason:
        verify(file, complete)


@pytest.mark.parametrize("image_format", ["BMP", "GIF", "TIFF"])
def test_verify_decodes_a_format_whose_end_shows_nowhere_else(tmp_path, image_format):
    file = io.BytesIO()
    Image.effect_noise((300, 300), 50).save(file, image_format)
    with write(tmp_path, file.getvalue()).open("rb") as whole:
        verify(whole, complete=True)
    with write(tmp_path, file.getvalue()[:-5000]).open("rb") as cut, pytest.raises(ImageError):
        verify(cut, complete=True)


def test_open_image_reports_a_lack_of_memory(tmp_path, monkeypatch):
    def fail(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr(image_io, "_load", fail)
    with pytest.raises(ImageError, match="too little memory"):
        open_image(write(tmp_path, jpeg()))


def test_open_header_limits_the_number_of_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(image_io, "MAX_PIXELS", 60 * 80)
    with open_header(write(tmp_path, jpeg((60, 80)))):
        pass
    with (
        pytest.raises(ImageError, match="60×81 pixels; 4,800 are the most"),
        open_header(write(tmp_path, jpeg((60, 81)))),
    ):
        pass


@pytest.mark.parametrize(("kept", "blocks"), [(True, 0), (False, 4)])
def test_pillow_keeps_blocks_if_the_process_keeps_no_memory(monkeypatch, kept, blocks):
    monkeypatch.setattr(image_io, "is_freed_memory_kept", lambda: kept)
    try:
        image_io._configure_pillow.__wrapped__()
        assert Image.core.get_blocks_max() == blocks
    finally:
        Image.core.set_blocks_max(4)


def test_open_region_passes_the_errors_of_the_region(tmp_path):
    def refuse(width: int, height: int) -> Box:
        raise BoxError(f"{width}×{height}")

    with pytest.raises(BoxError, match="60×80"):
        open_region(write(tmp_path, jpeg((60, 80))), refuse)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_to_stored_box_is_the_part_that_turning_brings_into_place(orientation):
    pixels = np.arange(6 * 4).reshape(4, 6).astype(np.uint8)
    stored = Image.fromarray(pixels)
    shown = stored
    if orientation in image_io.UPRIGHT:
        shown = stored.transpose(image_io.UPRIGHT[orientation])
    region = Box(1, 2, 3, 4)
    box = to_stored_box(region, stored.size, orientation)
    assert set(np.asarray(stored.crop(box)).flat) == set(np.asarray(shown.crop(region)).flat)
