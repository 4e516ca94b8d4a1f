"""Photos in the folders of their sets, and what an earlier split left there."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.data.placement import (
    MODES,
    PlacedFiles,
    Target,
    is_safe,
    place_files,
    read_manifest,
    write_manifest,
)
from utils.data.split import SplitItem
from utils.errors import StageError


def make_photos(folder: Path, splits: list[str]) -> list[SplitItem]:
    folder.mkdir(exist_ok=True)
    photos = []
    for i, split in enumerate(splits):
        path = folder / f"p{i}_a.jpg"
        path.write_bytes(bytes([i]))
        photos.append(SplitItem("x", path.name, path, split))
    return photos


@pytest.mark.parametrize("mode", MODES)
def test_photos_move_with_the_split(tmp_path, mode):
    output = tmp_path / "data"
    output.mkdir()
    for splits in (["train", "test", "train"], ["test", "train", "train"]):
        photos = make_photos(tmp_path / "faces", splits)
        removed = PlacedFiles(output).remove_stale(photos)
        write_manifest(photos, output, with_subjects=True)
        assert place_files(photos, output, mode) == []
        for photo in photos:
            assert (output / photo.split / "x" / photo.name).read_bytes() == photo.path.read_bytes()
        assert len([*output.rglob("*.jpg")]) == 3
    assert removed == 2
    assert read_manifest(output) == {Target(p.split, "x", p.name) for p in photos}


def test_missing_photos_are_failures(tmp_path):
    [photo] = make_photos(tmp_path / "faces", ["train"])
    photo.path.unlink()
    [(path, reason)] = place_files([photo], tmp_path / "data", "copy")
    assert path == photo.path and "No such file" in reason


def test_images_of_others_are_refused(tmp_path):
    (tmp_path / "train/x").mkdir(parents=True)
    (tmp_path / "train/x/1.jpg").write_bytes(b"1")
    with pytest.raises(StageError, match="not put there by this script"):
        PlacedFiles(tmp_path)


def test_subjects_are_listed_only_if_the_names_have_them(tmp_path):
    photos = make_photos(tmp_path / "faces", ["train"])
    for with_subjects, subject in ((True, "p0"), (False, "")):
        write_manifest(photos, tmp_path, with_subjects)
        text = (tmp_path / "split.tsv").read_text()
        assert text == f"file\tclass\tsubject\tset\np0_a.jpg\tx\t{subject}\ttrain\n"


@pytest.mark.parametrize(
    "target", [Target("train", "..", "x"), Target("crop", "x", "y"), Target("test", "x", "a/b")]
)
def test_targets_elsewhere_are_not_safe(target):
    assert not is_safe(target) and is_safe(Target("train", "x", "y.jpg"))
