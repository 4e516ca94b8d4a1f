"""RAF-DB's list of labels and the images beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.data.raf_db import find_list, read_list
from utils.errors import StageError

LINES = ["train_00001.jpg 5", "train_00002.jpg 4", "test_0001.jpg 1", "test_0002.jpg 7"]


def make_set(root: Path, lines: list[str], folder: str = "Image/aligned") -> Path:
    path = root / "EmoLabel/list_patition_label.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")
    (root / folder).mkdir(parents=True)
    for line in LINES:
        stem = line.split(".")[0]
        (root / folder / f"{stem}_aligned.jpg").write_text(stem)
    return path


def test_the_list_gives_classes_and_sets(tmp_path):
    path = make_set(tmp_path, LINES)
    (tmp_path / "Image/original").mkdir()
    (tmp_path / "Image/original/train_00001.jpg").write_text("original")
    assert find_list(tmp_path) == find_list(path) == path
    listed = read_list(path)
    assert listed.failures == []
    assert listed.line == f"{path} labels 4 images, 4 of them aligned"
    found = {(photo.part, photo.label, photo.name) for photo in listed.photos}
    assert found == {
        ("train", "슬픔", "train_00001_aligned.jpg"),
        ("train", "기쁨", "train_00002_aligned.jpg"),
        ("test", "놀람", "test_0001_aligned.jpg"),
        ("test", "중립", "test_0002_aligned.jpg"),
    }


def test_original_images_beside_the_list(tmp_path):
    path = tmp_path / "list_patition_label.txt"
    path.write_text("train_00001.jpg 5\ntest_0001.jpg 1\n")
    for name in ("train_00001.jpg", "test_0001.jpg", "test_0002.jpg"):
        (tmp_path / name).write_text(name)
    listed = read_list(path, ["a", "b", "c", "d", "e"])
    assert [(photo.label, photo.name) for photo in listed.photos] == [
        ("a", "test_0001.jpg"), ("e", "train_00001.jpg")
    ]  # fmt: skip
    assert listed.line.endswith("2 images, 0 of them aligned; 1 that it does not name are left out")


def test_bad_lines_are_failures(tmp_path):
    bad = ["train_00009.jpg 5", "test_0001.jpg 8", "hello", "val_1.jpg 2", "train_00001.jpg 6"]
    path = make_set(tmp_path, [*LINES, "", *bad])
    listed = read_list(path)
    assert len(listed.photos) == 4
    assert [reason for _, reason in listed.failures] == [
        "line 6: train_00009.jpg: no such image",
        "line 7: 8 is no class; there are 1 to 7",
        "line 8: it is no name and number",
        "line 9: val_1.jpg begins with neither train_ nor test_",
        "line 10: train_00001_aligned.jpg has another label in an earlier line",
    ]


def test_lists_that_cannot_be_used(tmp_path):
    assert find_list(tmp_path) is None
    compound = make_set(tmp_path / "compound", ["train_00001.jpg 11"])
    with pytest.raises(StageError, match="has 11 classes"):
        read_list(compound)
    empty = make_set(tmp_path / "basic", ["train_7.jpg 1"])
    with pytest.raises(StageError, match="no such image"):
        read_list(empty)
    (tmp_path / "compound/list_patition_label.txt").write_text("")
    with pytest.raises(StageError, match="name one of these lists"):
        find_list(tmp_path / "compound")
