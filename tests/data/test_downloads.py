"""What lies in a folder of AI-Hub's downloads: told from the content, in every layout."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.aihub import photo, photo_name, record, write_labels, write_zip
from tests.helpers import row, write_table
from utils.data.annotations import Table
from utils.data.downloads import (
    MAX_PROBLEMS,
    Downloads,
    is_aihub,
    join_parts,
    label_files,
    open_annotations,
    without_copies,
)
from utils.errors import StageError

NAMES = [photo_name("기쁨", i) for i in range(4)]


def write_downloads(root: Path) -> Path:
    """A label archive and two photo archives, as AI-Hub names them."""
    folder = root / "Training"
    write_labels(folder / "[라벨]EMOIMG_기쁨_TRAIN.zip", [record(name) for name in NAMES])
    for part in (1, 2):
        files = [(name, photo(1)) for name in NAMES[2 * part - 2 : 2 * part]]
        write_zip(folder / f"[원천]EMOIMG_기쁨_TRAIN_0{part}.zip", files)
    return root


def seen(downloads: Downloads) -> tuple[list[str], int]:
    found = sum(downloads.photos.find(name) is not None for name in NAMES)
    return [label.part for label in downloads.labels], found


def test_downloads_are_told_from_their_content(tmp_path):
    root = write_downloads(tmp_path / "[a]*")
    assert seen(Downloads([root])) == (["Training"], 4)
    for number, path in enumerate(sorted((root / "Training").iterdir())):
        path.rename(root / f"{number}")
    (root / "Training").rmdir()
    downloads = Downloads([root])
    assert seen(downloads) == (["Training"], 4) and not downloads.problems


def test_unpacked_downloads(tmp_path):
    root = tmp_path / "2.Validation"
    folder = root / "원천데이터" / "[원천]EMOIMG_기쁨_VALID"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(photo(1))
    write_labels(root / "x.json", [record(name) for name in NAMES], zipped=False)
    assert seen(Downloads([root])) == (["Validation"], 4)


def test_output_and_folders_of_emotions_are_left_out_if_asked(tmp_path):
    for folder in ("crop/기쁨", "기쁨", "other/기쁨"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{len(folder)}_{NAMES[0]}").write_bytes(b"x")
    assert len(Downloads([tmp_path]).photos) == 3
    assert len(Downloads([tmp_path], tmp_path / "crop").photos) == 2
    assert len(Downloads([tmp_path], tmp_path / "crop", skip_emotions=True).photos) == 1
    assert len(Downloads([tmp_path / "기쁨"]).photos) == 1


def test_folders_of_crops_are_left_out_with_a_line(tmp_path, capsys):
    for folder in ("in", "in/data/train/기쁨", "in/faces/기쁨", "in/photos"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / f"{len(folder)}_{NAMES[0]}").write_bytes(b"x")
    manifests = ("data/split.tsv", "faces.parts.tsv", "faces.parts.1-of-2.tsv", "gone.parts.tsv")
    for manifest in manifests:
        (tmp_path / "in" / manifest).write_text("file\n")
    assert len(Downloads([tmp_path / "in"]).photos) == 2
    notes = capsys.readouterr().err
    assert notes.count("is not searched for photos: it holds crops") == 2 and "faces" in notes
    assert len(Downloads([tmp_path / "in"], tmp_path / "in/faces").photos) == 2
    assert "faces" not in capsys.readouterr().err
    assert len(Downloads([tmp_path / "in/data"]).photos) == 1


def test_copies_are_left_out_with_a_line(tmp_path, capsys):
    root = write_downloads(tmp_path)
    path = root / "Training" / "[라벨]EMOIMG_기쁨_TRAIN.zip"
    shutil.copy(path, path.with_name("[라벨]EMOIMG_기쁨_TRAIN (1).zip"))
    (root / NAMES[0]).write_bytes(photo(1))
    downloads = Downloads([root, root / "Training", root / NAMES[0]])
    assert seen(downloads) == (["Training"], 4) and len(downloads.photos) == 6
    assert f"TRAIN (1).zip is a copy of {path} and left out" in capsys.readouterr().err


def test_files_of_one_size_that_differ_are_no_copies(tmp_path):
    for name, content in (("a", b"xy"), ("b", b"yx"), ("c", b"xy"), ("d", b"xyz")):
        (tmp_path / name).write_bytes(content)
    paths = [(str(tmp_path / name),) for name in "abcde"]
    assert [Path(files[0]).name for files in without_copies(paths)] == ["a", "b", "d", "e"]


def test_parts_are_joined_by_their_numbers(tmp_path, capsys):
    parts = ["x.zip.part1073741824", "x.zip.part0", "y.zip", "x.zip.part536870912"]
    joined = ("x.zip.part0", "x.zip.part536870912", "x.zip.part1073741824")
    assert sorted(join_parts(parts)) == [joined, ("y.zip",)]
    assert "3 parts are read as one archive" in capsys.readouterr().err
    root = write_downloads(tmp_path)
    for path in list((root / "Training").iterdir()):
        data = path.read_bytes()
        for start in range(0, len(data), 700):
            Path(f"{path}.part{start}").write_bytes(data[start : start + 700])
        path.unlink()
    assert seen(Downloads([root])) == (["Training"], 4)


def test_what_is_not_read_is_reported(tmp_path, capsys):
    files = {
        "cut.zip": b"",
        "page.zip": b"<html>",
        "all.tar": b"\0" * 600,
        "x.bin": b"\1",
        "readme.txt": b"hello",
        "list.json": b'[{"a": 1}]',
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    inner = write_zip(tmp_path / "inner", [("a.jpg", b"x")])
    write_zip(tmp_path / "outer.zip", [("in.zip", inner.read_bytes()), ("x.md", b"hi")])
    inner.unlink()
    downloads = Downloads([tmp_path])
    reasons = {Path(file).name: reason for file, reason in downloads.problems}
    assert reasons.keys() == {"cut.zip", "page.zip", "all.tar", "outer.zip: in.zip"}
    assert "download it again" in reasons["page.zip"] and "unpack" in reasons["all.tar"]
    downloads.report()
    assert "3 files left out: 1 .bin, 1 .json, 1 .md" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="pipes")
def test_pipes_and_broken_links_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / NAMES[0])
    (tmp_path / "link.zip").symlink_to("nowhere")
    downloads = Downloads([tmp_path])
    assert len(downloads.photos) == 0 and not downloads.problems
    assert downloads.left_out == {"as pipes": 2, "whose link leads nowhere": 1}


def test_archive_whose_start_is_damaged_is_read(tmp_path):
    path = write_zip(tmp_path / "photos", [(name, photo(1)) for name in NAMES])
    path.write_bytes(bytes(100) + path.read_bytes()[100:])
    downloads = Downloads([tmp_path])
    assert len(downloads.photos) == 4
    assert [downloads.photos.find(name) is not None for name in NAMES] == [True] * 4


def test_cut_label_archive_is_read_as_far_as_it_goes(tmp_path):
    records = [record(photo_name("기쁨", i)) for i in range(3000)]
    path = write_labels(tmp_path / "labels.zip", records)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    write_zip(tmp_path / "cut.zip", [(NAMES[0], photo(1))])
    os.truncate(tmp_path / "cut.zip", 500)
    downloads = Downloads([tmp_path])
    assert len(downloads.photos) == 0
    assert len([reason for _, reason in downloads.problems if "cut short within" in reason]) == 2
    labels = label_files(downloads, tmp_path)
    assert 1000 < len(list(labels)) < 3000
    assert "the records before it are read" in labels.problems[-1][1]


def test_problems_of_an_archive_do_not_fill_the_log(tmp_path):
    names = [(f"../{i}.jpg", b"") for i in range(MAX_PROBLEMS + 5)]
    downloads = Downloads([write_zip(tmp_path / "x.zip", names)])
    assert len(downloads.problems) == MAX_PROBLEMS + 1
    assert "5 more problems" in downloads.problems[-1][1]


@pytest.mark.skipif(os.name == "nt", reason="pipes")
def test_annotations_of_any_kind_are_opened(tmp_path):
    table = write_table(tmp_path / "t.tsv", [row(NAMES[0])])
    os.mkfifo(tmp_path / "pipe")
    assert not any(map(is_aihub, (table, tmp_path / "missing", tmp_path / "pipe")))
    assert isinstance(open_annotations(table, ("name",)), Table)
    root = write_downloads(tmp_path / "x")
    plain = write_labels(tmp_path / "l", [record(name) for name in NAMES], "cp949", zipped=False)
    for path in (root, next((root / "Training").glob("*라벨*")), plain):
        assert [row["name"] for row in open_annotations(path, ())] == NAMES
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    for path in (tmp_path / "other.json", next((root / "Training").glob("*원천*"))):
        with pytest.raises(StageError, match="holds no label file"):
            open_annotations(path, ())
    write_zip(tmp_path / "all/all.zip", [("in.zip", b"PK\3\4")])
    (tmp_path / "all/other.json").write_text("{}")
    with pytest.raises(StageError, match=r"all.zip: in.zip: an archive in an .*; 1 file left out"):
        open_annotations(tmp_path / "all", ())
