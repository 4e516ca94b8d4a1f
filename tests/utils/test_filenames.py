"""Safe names, Unicode forms and printable names."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from utils.filenames import (
    MAX_NAME_BYTES,
    FileNameError,
    find_existing,
    has_image_suffix,
    is_printable,
    is_stored,
    natural_key,
    nfc,
    safe_name,
    unicode_variants,
)


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def test_nfc_composes_hangul_and_keeps_other_text():
    assert len(nfd("기쁨")) > 2
    assert nfc(nfd("기쁨")) == nfc("기쁨") == "기쁨"
    assert nfc("a b.jpg") == "a b.jpg"


def test_safe_name_changes_nothing_but_the_unicode_form():
    name = "a1_여_20_기쁨_교통 및 이동수단(택시)&_2020.JPG"
    assert safe_name(name) == name
    assert safe_name(nfd(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../x.jpg", "../../x.jpg", "/etc/x.jpg", "a/b.jpg", "a\\b.jpg", "C:x.jpg",
        "\\\\server\\x.jpg", "a\0.jpg", "a\n.jpg", "a\u202egpj.jpg", ".hidden.jpg", "con.jpg",
        "nul .jpg", "x.exe", "x", "기" * 84 + ".jpg",
    ],
)  # fmt: skip
def test_safe_name_refuses_unsafe_names(name):
    with pytest.raises(FileNameError):
        safe_name(name)


def test_safe_name_limits_the_bytes_and_not_the_letters():
    longest = "a" * (MAX_NAME_BYTES - 4) + ".jpg"
    assert safe_name(longest) == longest
    with pytest.raises(FileNameError, match="longer than 255 bytes"):
        safe_name("a" + longest)
    with pytest.raises(FileNameError, match="longer than 255 bytes"):
        safe_name("기" * 84 + ".jpg")  # 88 letters


@pytest.mark.parametrize(
    ("name", "expected"),
    [("x.jpg", True), ("기쁨.JPEG", True), ("x.webp", True), ("x.txt", False), ("jpg", False)],
)
def test_has_image_suffix(name, expected):
    assert has_image_suffix(name) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("기쁨 (1)", True), ("a\tb", False), ("a\nb", False), ("a\x1b[2J", False), ("a\x9bJ", False)],
)
def test_is_printable_refuses_control_characters(text, expected):
    assert is_printable(text) is expected


def test_find_existing_finds_a_decomposed_name(tmp_path):
    assert find_existing(tmp_path, "기쁨.jpg") is None
    (tmp_path / nfd("기쁨.jpg")).touch()
    assert find_existing(tmp_path, "기쁨.jpg").exists()


def test_find_existing_prefers_the_composed_name(tmp_path):
    for name in ("기쁨.jpg", nfd("기쁨.jpg")):
        (tmp_path / name).touch()
    assert find_existing(tmp_path, "기쁨.jpg") == tmp_path / "기쁨.jpg"


def test_unicode_variants_name_each_form_of_folder_and_file(tmp_path):
    composed = tmp_path / "기쁨"
    assert unicode_variants(composed, "a.jpg") == [composed / "a.jpg"]
    (tmp_path / "other").mkdir()
    decomposed = tmp_path / "other" / nfd("기쁨")
    decomposed.mkdir()
    assert unicode_variants(tmp_path / "other/기쁨", "가.jpg") == [
        tmp_path / "other/기쁨" / "가.jpg",
        tmp_path / "other/기쁨" / nfd("가.jpg"),
        decomposed / "가.jpg",
        decomposed / nfd("가.jpg"),
    ]


def test_unicode_variants_leave_out_a_name_that_no_file_system_could_store(tmp_path):
    name = "가" * 80 + ".jpg"  # 244 bytes, decomposed 484
    assert unicode_variants(tmp_path, name) == [tmp_path / name]


@pytest.fixture
def ignoring_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take names that differ in case only for one, as on Windows and most Macs."""
    if os.name == "nt":
        pytest.skip("Windows does not ask Python")

    def lenient(function: Callable) -> Callable:
        def call(path: os.PathLike, *args: object, **options: object) -> os.stat_result:
            folder, name = os.path.split(path)
            if folder == str(tmp_path):
                for stored in os.listdir(folder):  # noqa: PTH208 - Path would ask again
                    if stored.casefold() == name.casefold():
                        path = tmp_path / stored
            return function(path, *args, **options)

        return call

    monkeypatch.setattr(os, "lstat", lenient(os.lstat))
    monkeypatch.setattr(os, "stat", lenient(os.stat))


def test_find_existing_takes_no_file_whose_name_differs_in_case(tmp_path, ignoring_case):
    (tmp_path / "photo_기쁨.JPG").touch()
    assert find_existing(tmp_path, "photo_기쁨.JPG") == tmp_path / "photo_기쁨.JPG"
    assert is_stored(tmp_path / "photo_기쁨.JPG")
    for other in ("photo_기쁨.jpg", "Photo_기쁨.JPG"):
        assert not is_stored(tmp_path / other)
        with pytest.raises(FileNameError, match=r"photo_기쁨\.JPG differs in upper and lower case"):
            find_existing(tmp_path, other)
    assert find_existing(tmp_path, "other.jpg") is None
    # A file that is made meanwhile is found.
    (tmp_path / "new_기쁨.jpg").touch()
    assert find_existing(tmp_path, "new_기쁨.jpg") == tmp_path / "new_기쁨.jpg"


def test_find_existing_finds_a_decomposed_name_on_a_disk_that_ignores_case(tmp_path, ignoring_case):
    (tmp_path / nfd("a_기쁨.jpg")).touch()
    assert find_existing(tmp_path, "a_기쁨.jpg") == tmp_path / nfd("a_기쁨.jpg")


def test_find_existing_tells_two_files_apart_where_the_disk_does(tmp_path):
    (tmp_path / "a.jpg").touch()
    if (tmp_path / "A.jpg").exists():
        pytest.skip("this disk does not tell them apart")
    assert find_existing(tmp_path, "A.jpg") is None and not is_stored(tmp_path / "A.jpg")
    os.link(tmp_path / "a.jpg", tmp_path / "A.jpg")  # one file, but two names
    for name in ("a.jpg", "A.jpg"):
        assert find_existing(tmp_path, name) == tmp_path / name and is_stored(tmp_path / name)


def test_natural_key_sorts_by_numbers():
    names = ["100 %", "80–99 %", "9", "b", "10s", "0–59 %", "a2", "a10"]
    assert sorted(names, key=natural_key) == [
        "0–59 %", "9", "10s", "80–99 %", "100 %", "a2", "a10", "b",
    ]  # fmt: skip
