"""Where the photo of a row is looked for: where the download puts it, then everywhere."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tests.aihub import photo_name, write_zip
from utils.data.annotations import COLUMNS, Row, RowError
from utils.data.downloads import Downloads
from utils.data.photo_source import PhotoSource, part_of


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"photo")


def find(source: PhotoSource, name: str):
    cells = (name, *[""] * (len(COLUMNS) - 1))
    return source.find(Row(1, cells, {"name": 0}, len(cells)), name)


def test_all_but_the_folders_of_the_emotions_is_searched(tmp_path, monkeypatch):
    write(
        tmp_path,
        "기쁨.jpg",
        "슬픔/기쁨1.jpg",
        "슬픔/part 1/deep/기쁨2.jpg",
        "zip/슬픔/기쁨3.jpg",
    )
    write(tmp_path, unicodedata.normalize("NFD", "슬픔/기쁨4.jpg"), "zip/기쁨5.jpg")
    write(tmp_path, "crop/기쁨/기쁨6.jpg", "기쁨/기쁨7.jpg")
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path, Path()):
        source = PhotoSource([root], root / "crop")
        assert find(source, "기쁨7.jpg") == root / "기쁨/기쁨7.jpg" and "_all" not in vars(source)
        assert find(source, "기쁨.jpg") == root / "기쁨.jpg"
        assert find(source, "기쁨2.jpg") == root / "슬픔/part 1/deep/기쁨2.jpg"
        assert find(source, "기쁨3.jpg") == root / "zip/슬픔/기쁨3.jpg"
        assert find(source, "기쁨5.jpg") == root / "zip/기쁨5.jpg"
        for name in ("기쁨1.jpg", "기쁨4.jpg", "기쁨6.jpg", "기쁨8.jpg"):
            assert find(source, name) is None
        assert source.expected_path("기쁨8.jpg") == root / "기쁨/기쁨8.jpg"


def test_photos_of_one_name_have_to_be_equal(tmp_path):
    write(tmp_path, "1/기쁨.jpg", "2/기쁨.jpg", "1/슬픔.jpg", "2/슬픔.jpg")
    (tmp_path / "2/슬픔.jpg").write_bytes(b"another")
    source = PhotoSource([tmp_path], Path("crop"))
    assert find(source, "기쁨.jpg") == tmp_path / "1/기쁨.jpg"
    with pytest.raises(RowError, match=r"two photos have this name: .*1/슬픔.jpg and .*2"):
        find(source, "슬픔.jpg")


def test_several_roots_and_archives(tmp_path):
    name = photo_name("기쁨", 1)
    write(tmp_path, "a/기쁨/기쁨1.jpg", "b/기쁨/기쁨2.jpg")
    archive = write_zip(tmp_path / "c" / "x_VALID.zip", [(name, b"x")])
    write_zip(tmp_path / "c" / "y.zip", [("../x.jpg", b"x")])
    source = PhotoSource([tmp_path / "a", tmp_path / "b", tmp_path / "c"], tmp_path / "crop")
    assert not source.are_optional and source.problems == []
    assert find(source, "기쁨2.jpg") == tmp_path / "b/기쁨/기쁨2.jpg"
    found = find(source, name)
    assert str(found) == str(archive) and part_of(found) == "Validation"
    assert len(source.problems) == 1
    with pytest.raises(RowError, match="none of the seven"):
        find(source, "x.jpg")


def test_photos_of_downloads_that_are_known(tmp_path):
    write(tmp_path, "Training/기쁨/기쁨1.jpg", "기쁨/x.jpg")
    source = PhotoSource([tmp_path], Path("crop"), Downloads([tmp_path]))
    assert source.are_optional
    assert part_of(find(source, "기쁨1.jpg")) == "Training"
    assert part_of(find(source, "x.jpg")) == "" == part_of(None)
