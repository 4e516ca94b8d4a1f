"""Class folders."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest

from tests.helpers import make_faces
from utils.data.image_folder import (
    Sample,
    make_samples,
    scan_class_folders,
)
from utils.errors import StageError
from utils.imaging.formats import can_read


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
    write(tmp_path, "x/a.jpg", "x/notes.txt", "x/.hidden.jpg", "x/.part-0.jpg", "x/.sub/b.jpg")
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


def test_scan_class_folders_reports_what_it_leaves_out(tmp_path, capsys):
    write(
        tmp_path, "x/a.jpg", "x/notes.txt", "x/README", "none/notes.txt", "loose.jpg", "table.csv"
    )
    write(tmp_path, "empty/.hidden", "x/Thumbs.db", "x/desktop.ini", "x/._a.jpg", "x/split.tsv")
    folders = scan_class_folders(tmp_path)
    folders.report()
    assert capsys.readouterr().err.splitlines() == [
        f"note: {tmp_path}: 4 files left out: 2 .txt, 1 in no class folder, 1 without a suffix",
        f"note: {tmp_path / 'none'} is no class, because it has no readable image: "
        f"1 file left out: 1 .txt",
    ]
    shutil.rmtree(tmp_path / "x")
    (tmp_path / "loose.jpg").unlink()
    assert scan_class_folders(tmp_path).seen() == ": 1 file left out: 1 .txt"


def test_scan_class_folders_says_nothing_of_folders_without_other_files(tmp_path, capsys):
    write(tmp_path, "x/a.jpg", "x/.part-1.jpg", "y/b.png", ".store/x.npy")
    (tmp_path / "z").mkdir()
    folders = scan_class_folders(tmp_path)
    folders.report()
    assert capsys.readouterr().err == folders.seen() == "" and not folders.nested


def test_scan_class_folders_names_a_class_that_loses_all_its_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    can_read.cache_clear()
    write(tmp_path, "happy/a.jpg")
    for i in range(4):
        write(tmp_path, f"angry/IMG_{i}.HEIC")
        (tmp_path / f"angry/IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    scan_class_folders(tmp_path).report()
    can_read.cache_clear()
    reason = "4 files left out: 4 .heic (pip install pillow-heif, or convert them)"
    assert capsys.readouterr().err.splitlines() == [
        f"note: {tmp_path}: {reason}",
        f"note: {tmp_path / 'angry'} is no class, because it has no readable image: {reason}",
    ]


def test_scan_class_folders_walks_down_subfolders(tmp_path, monkeypatch):
    write(tmp_path, "x/b.jpg", "x/b/1.jpg", "x/a/1.jpg", "x/a/c/1.jpg", "y/only/below/2.png")
    folders = scan_class_folders(tmp_path)
    names = ["a/1.jpg", "a/c/1.jpg", "b.jpg", "b/1.jpg"]
    assert folders == {
        "x": [tmp_path / "x" / name for name in names],
        "y": [tmp_path / "y/only/below/2.png"],
    }
    assert folders.nested == {
        tmp_path / "x/a/1.jpg": "a/1.jpg",
        tmp_path / "x/a/c/1.jpg": "a/c/1.jpg",
        tmp_path / "x/b/1.jpg": "b/1.jpg",
        tmp_path / "y/only/below/2.png": "only/below/2.png",
    }
    monkeypatch.chdir(tmp_path)
    assert list(scan_class_folders(Path()).nested.values()) == list(folders.nested.values())


def test_scan_class_folders_says_that_unknown_is_left_out(tmp_path, capsys):
    write(tmp_path, "x/a.jpg", "UNKNOWN/a.jpg")
    scan_class_folders(tmp_path).report()
    assert (
        capsys.readouterr().err
        == f"note: {tmp_path / 'UNKNOWN'} is left out: its photos have no class\n"
    )


def test_name_of_is_the_path_in_the_class(tmp_path):
    decomposed = unicodedata.normalize("NFD", "가.jpg")
    write(tmp_path, f"x/{decomposed}", f"x/sub/{decomposed}")
    folders = scan_class_folders(tmp_path)
    assert [folders.name_of(path) for path in folders["x"]] == ["sub/가.jpg", "가.jpg"]


def test_unknown_is_added_on_demand_and_classes_are_renamed(tmp_path, capsys):
    make_faces(tmp_path / "x", ["3_happy", "angry", "UNKNOWN"], 2)
    (tmp_path / "x/UNKNOWN/note.txt").write_text("hello\n")
    folders = scan_class_folders(tmp_path / "x")
    assert list(folders) == ["3_happy", "angry"]
    folders.add_unknown()
    folders.rename_to(["분노", "기쁨"], "the model")
    folders.report()
    assert {name: len(paths) for name, paths in folders.items()} == {
        "기쁨": 2,
        "분노": 2,
        "UNKNOWN": 2,
    }
    assert capsys.readouterr().err == (
        f"note: {tmp_path / 'x'} has the model's classes by other names: 3_happy = 기쁨, "
        f"angry = 분노\nnote: {tmp_path / 'x'}: 1 file left out: 1 .txt\n"
    )
