"""Class folders."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from utils.data.image_folder import Sample, make_samples, scan_class_folders
from utils.errors import StageError


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_scan_class_folders_sorts_classes_and_files(tmp_path):
    write(tmp_path, "슬픔/b.jpg", "슬픔/a.PNG", "기쁨/2.jpg", "기쁨/10.jpg")
    classes = scan_class_folders(tmp_path)
    assert list(classes) == ["기쁨", "슬픔"]
    assert [path.name for path in classes["기쁨"]] == ["10.jpg", "2.jpg"]
    assert [path.name for path in classes["슬픔"]] == ["a.PNG", "b.jpg"]


def test_scan_class_folders_leaves_out_what_is_not_an_image_of_a_class(tmp_path):
    write(tmp_path, "x/a.jpg", "x/notes.txt", "x/.hidden.jpg", "x/.part-0.jpg", "x/sub/b.jpg")
    write(tmp_path, "UNKNOWN/a.jpg", ".cache/a.jpg", "none/notes.txt", "loose.jpg")
    (tmp_path / "x/folder.jpg").mkdir()
    if os.name != "nt":
        (tmp_path / "x/loop.jpg").symlink_to("loop.jpg")
    assert scan_class_folders(tmp_path) == {"x": [tmp_path / "x/a.jpg"]}


def test_scan_class_folders_joins_composed_and_decomposed_names(tmp_path):
    decomposed = unicodedata.normalize("NFD", "기쁨")
    write(tmp_path, "기쁨/가.jpg", f"{decomposed}/나.jpg")
    write(tmp_path, "기쁨/" + unicodedata.normalize("NFD", "가.jpg"))
    [(name, paths)] = scan_class_folders(tmp_path).items()
    assert name == "기쁨"
    assert [unicodedata.normalize("NFC", path.name) for path in paths] == ["가.jpg", "나.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode on other systems")
def test_scan_class_folders_keeps_undecodable_names(tmp_path):
    name = os.fsdecode("기쁨".encode("cp949"))
    write(tmp_path, f"{name}/a.jpg")
    assert scan_class_folders(tmp_path) == {name: [tmp_path / name / "a.jpg"]}


def test_scan_class_folders_refuses_a_missing_folder(tmp_path):
    with pytest.raises(StageError, match="none: no such folder"):
        scan_class_folders(tmp_path / "none")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_scan_class_folders_refuses_control_characters(tmp_path):
    write(tmp_path, "x\x1b[31m/a.jpg")
    with pytest.raises(StageError, match="control character"):
        scan_class_folders(tmp_path)


def test_make_samples_labels_by_the_given_class_order():
    images = {"기쁨": [Path("a.jpg")], "슬픔": [Path("b.jpg"), Path("c.jpg")]}
    assert make_samples(images, ["슬픔", "중립", "기쁨"]) == [
        Sample(Path("a.jpg"), 2), Sample(Path("b.jpg"), 0), Sample(Path("c.jpg"), 0)
    ]  # fmt: skip
