"""Which images a table means by a file's name or path."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from utils.data.name_index import NameIndex

IMAGES = [Path(f"data/{name}") for name in ("a/1.png", "b/1.png", "b/2.png", "기쁨/얼굴.jpg")]


def find(name: str, images: list[Path] = IMAGES) -> list[tuple[str, int]]:
    return [(str(images[i].relative_to("data")), c) for i, c in NameIndex(images).find(name)]


def test_a_name_alone_means_every_image_of_that_name():
    assert find("1.png") == [("a/1.png", 1), ("b/1.png", 1)]
    assert find("2.png") == [("b/2.png", 1)]
    assert find("3.png") == find("") == []


def test_a_folder_before_the_name_tells_images_of_one_name_apart():
    assert find("b/1.png") == find("x\\b\\1.png") == [("b/1.png", 2)]
    assert find("/home/data/a/1.png") == [("a/1.png", 3)]
    assert find("c/1.png") == []  # neither of the two
    assert find("c/2.png") == [("b/2.png", 1)]  # there is only one


def test_the_more_folders_agree_the_more_certain_it_is():
    images = [Path("data/train/a/1.png"), Path("data/test/a/1.png")]
    assert find("test/a/1.png", images) == [("test/a/1.png", 3)]
    assert find("a/1.png", images) == [("train/a/1.png", 2), ("test/a/1.png", 2)]
    assert find("val/a/1.png", images[:1]) == [("train/a/1.png", 2)]


def test_names_in_other_forms():
    for form in ("NFC", "NFD"):
        assert find(unicodedata.normalize(form, "기쁨/얼굴.jpg")) == [("기쁨/얼굴.jpg", 2)]
    assert find("얼굴") == [("기쁨/얼굴.jpg", 1)]  # without its suffix
    assert find("얼굴.png") == []
