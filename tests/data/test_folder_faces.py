"""The faces below a folder, as photos that can be split and placed."""

from __future__ import annotations

import shutil

import pytest

from tests.helpers import make_faces
from utils.data import folder_faces
from utils.data.folder_faces import FolderFaces
from utils.errors import StageError


def test_photos_duplicates_and_places(tmp_path):
    make_faces(tmp_path / "faces", ["x", "y"], 3)
    shutil.copy(tmp_path / "faces/x/0000.png", tmp_path / "faces/y/copy.png")
    faces = FolderFaces(tmp_path / "faces", None, lambda: False, "copy")
    assert [len(group) for group in faces.duplicates()] == [2]
    assert faces.failures == [] and len(faces.photos) == 7
    faces.photos = [photo._replace(split="train") for photo in faces.photos]
    assert faces.place(tmp_path / "data") == []
    assert (tmp_path / "data/train/y/copy.png").exists()


@pytest.mark.parametrize("is_worth", [False, True])
def test_thumbnails_of_many_photos_are_kept_in_the_output(tmp_path, monkeypatch, is_worth):
    monkeypatch.setattr(folder_faces, "is_worth_a_cache", lambda count: is_worth)
    make_faces(tmp_path / "faces", ["x", "y"], 3)
    faces = FolderFaces(tmp_path / "faces", None, lambda: False)
    thumbnails = faces.thumbnails([4, 1], tmp_path)
    assert (thumbnails[0] != thumbnails[1]).any()
    assert (tmp_path / ".thumbnails").exists() == is_worth
    assert (faces.thumbnails([1, 4], tmp_path)[::-1] == thumbnails).all()


def test_names_that_cannot_be_used_are_refused(tmp_path):
    make_faces(tmp_path / "faces", ["x", "X"], 1)
    if len([*(tmp_path / "faces").iterdir()]) == 2:
        with pytest.raises(StageError, match="the class X and the class x"):
            FolderFaces(tmp_path / "faces", None, lambda: True)
    (tmp_path / "faces/x/0000.png").rename(tmp_path / "faces/x/a\tb.png")
    with pytest.raises(StageError, match="rename it"):
        FolderFaces(tmp_path / "faces", None, lambda: False)
