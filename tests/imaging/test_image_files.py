"""Which files of a folder are images: one rule for all scripts."""

from __future__ import annotations

import builtins
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from utils.filenames import IMAGE_SUFFIXES
from utils.imaging.formats import can_read
from utils.imaging.image_files import LeftOut, find_images

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
needs_links = pytest.mark.skipif(os.name == "nt", reason="only administrators may make links")


def image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, kind)
    return file.getvalue()


def write(root: Path, name: str, content: bytes = b"") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names_in(folder: Path) -> tuple[list[str], str]:
    paths, left_out = find_images(folder)
    return [Path(path).relative_to(folder).as_posix() for path in paths], str(left_out)


def test_a_file_with_the_suffix_of_an_image_is_taken_unopened(tmp_path, monkeypatch):
    for suffix in IMAGE_SUFFIXES:
        write(tmp_path, "a" + suffix)
        write(tmp_path, "B" + suffix.upper())

    def fail(path: str, *args: object, **options: object) -> None:
        raise AssertionError(f"{path} is opened")

    monkeypatch.setattr(builtins, "open", fail)
    paths, left_out = find_images(tmp_path)
    assert len(paths) == 2 * len(IMAGE_SUFFIXES) and not left_out


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("name", ["u1", "u2.dat", "u3.mpo", "u4.2020 01 01 사진", "u5.pjpeg"])
def test_the_first_bytes_of_another_file_decide(tmp_path, kind, name):
    write(tmp_path, name, image(kind))
    write(tmp_path, f"text {name}", b"hello")
    names, left_out = names_in(tmp_path)
    assert names == [name] and left_out.startswith("1 file left out: 1 ")


def test_left_out_files_are_counted_by_their_reason(tmp_path):
    contents = {
        "notes.txt": b"hello",
        "more.TXT": b"hello",
        "film.mov": b"\0\0\0\x14ftypqt  ",
        "raw.psd": b"8BPS\0\1",
        "README": b"",
        "a.tar.gz": b"\x1f\x8b",
        "2020.01.01 사진": b"hello",
        ".hidden.txt": b"",
        "Thumbs.db": b"x",
        "split.tsv": b"x",
        "index.html": b"<!doctype html>",
        "annotators.json": b"{}",
        "test.error.log": b"x",
    }
    for name, content in contents.items():
        write(tmp_path, name, content)
    assert names_in(tmp_path) == (
        [],
        "7 files left out: 1 .psd (convert them to JPEG or PNG), 2 .txt, 2 without a suffix, "
        "1 .gz, 1 .mov",
    )


def test_heic_without_its_package_is_left_out_unless_it_is_a_jpeg(tmp_path, monkeypatch):
    for name in ("a.heic", "b.HEIC", "c"):
        write(tmp_path, name, HEIC)
    write(tmp_path, "d.heic", image("JPEG"))  # as some phones name it
    can_read.cache_clear()
    assert names_in(tmp_path) == (["a.heic", "b.HEIC", "c", "d.heic"], "")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    can_read.cache_clear()
    advice = "pip install pillow-heif, or convert them"
    assert names_in(tmp_path) == (
        ["d.heic"],
        f"3 files left out: 2 .heic ({advice}), 1 without a suffix ({advice})",
    )
    can_read.cache_clear()


def test_subfolders_are_walked_and_hidden_ones_are_not(tmp_path):
    for name in ("b.jpg", "a/2.jpg", "a/1.jpg", "a/deep/er/3.jpg", ".store/4.jpg", "a/.x/5.jpg"):
        write(tmp_path, name)
    assert names_in(tmp_path) == (["a/1.jpg", "a/2.jpg", "a/deep/er/3.jpg", "b.jpg"], "")


@needs_links
def test_links_are_followed_and_loops_end(tmp_path):
    write(tmp_path, "elsewhere/1.jpg")
    write(tmp_path, "elsewhere/deep/2.jpg")
    write(tmp_path, "album/own.jpg")
    (tmp_path / "album/linked").symlink_to("../elsewhere")
    (tmp_path / "elsewhere/back").symlink_to("../album")
    (tmp_path / "elsewhere/deep/itself").symlink_to(".")
    (tmp_path / "album/file.jpg").symlink_to("../elsewhere/1.jpg")
    assert names_in(tmp_path / "album") == (
        ["file.jpg", "linked/1.jpg", "linked/deep/2.jpg", "own.jpg"],
        "",
    )


@needs_links
def test_a_folder_that_is_linked_too_counts_once_under_its_own_name(tmp_path):
    write(tmp_path, "z/1.jpg")
    (tmp_path / "a").symlink_to("z")
    (tmp_path / "b").symlink_to("z")
    assert names_in(tmp_path) == (["z/1.jpg"], "")


@needs_links
def test_links_between_all_folders_end(tmp_path):
    for i in range(9):
        write(tmp_path, f"{i}/x.jpg")
        for j in range(9):
            (tmp_path / f"{i}/to{j}").symlink_to(f"../{j}")
    assert len(find_images(tmp_path)[0]) == 9


@needs_links
def test_links_to_nothing_and_special_files_are_counted(tmp_path):
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "b.jpg").symlink_to("b.jpg")
    os.mkfifo(tmp_path / "c.jpg")
    assert names_in(tmp_path) == (
        [],
        "3 files left out: 2 whose link leads nowhere, 1 as pipes or devices",
    )


def test_a_file_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    write(tmp_path, "x")

    def fail(path: str, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(builtins, "open", fail)
    assert str(find_images(tmp_path)[1]) == (
        "1 file left out: 1 that cannot be opened (Permission denied)"
    )


def test_left_out_names_only_some_of_many_kinds():
    left_out = LeftOut({f".a{i}": i for i in range(1, 12)})
    text = str(left_out)
    assert text.startswith("66 files left out: 11 .a11, 10 .a10,")
    assert text.endswith("4 .a4, 6 of 3 other kinds")
    assert str(LeftOut()) == ""
