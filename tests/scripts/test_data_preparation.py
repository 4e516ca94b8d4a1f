"""dataPreparation.py, run as a user runs it."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

import dataPreparation
from tests.helpers import (
    command,
    crops_in,
    decompose,
    kill_at,
    make_faces,
    one_line_error,
    run,
    steps_of,
    tree,
)
from utils.data.duplicates import Copies
from utils.data.official import write_parts
from utils.data.split import SplitItem

pytestmark = pytest.mark.slow


def split_of(data: Path) -> dict[str, str]:
    """Photo (class/name) → split. Fail if a photo is in two."""
    splits: dict[str, str] = {}
    for path in tree(data):
        if "/" in path:
            split, photo = path.split("/", 1)
            assert photo not in splits, f"{photo} in {split} and {splits[photo]}"
            splits[photo] = split
    return splits


def test_split_links_photos_and_leaves_out_unknown(tmp_path):
    make_faces(tmp_path / "crop", ["기쁨", "슬픔", "UNKNOWN"], 21)
    make_faces(tmp_path / "more", ["중립"], 9)
    (tmp_path / "more/중립").rename(tmp_path / "crop/중립")
    done = run("dataPreparation.py", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:5] == [
        "\ttrain\tvalidation\ttest",
        "기쁨\t17\t2\t2",
        "슬픔\t17\t2\t2",
        "중립\t9\t0\t0",
        "all\t43\t4\t4",
    ]
    found = split_of(tmp_path / "data")
    assert set(found) == {p for p in crops_in(tmp_path / "crop") if not p.startswith("UNKNOWN")}
    for path, name in found.items():
        assert (tmp_path / "data" / name / path).samefile(tmp_path / "crop" / path)

    test_photo = next((tmp_path / "data/test/기쁨").iterdir())
    shutil.copy(test_photo, tmp_path / "crop/UNKNOWN/copy.png")
    done = run("dataPreparation.py", "--unknown", "keep", cwd=tmp_path)
    assert done.returncode == 0 and "UNKNOWN\t21\t0\t0\n" in done.stdout
    assert "note: 1 photos of UNKNOWN are left out: copies of them, or" in done.stderr
    kept = split_of(tmp_path / "data")
    assert {path: split for path, split in kept.items() if not path.startswith("UNK")} == found
    assert sum(path.startswith("UNKNOWN/") for path in kept) == 21
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    assert split_of(tmp_path / "data") == found


def test_split_depends_on_the_seed_alone(tmp_path):
    make_faces(tmp_path / "a", ["x", "y"], 40)
    for path in sorted((tmp_path / "a").rglob("*.png"), reverse=True):
        copy = tmp_path / "b" / path.relative_to(tmp_path / "a")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())

    def split(faces, out, *more):
        run("dataPreparation.py", "--input", faces, "--output", out, *more, cwd=tmp_path)
        return split_of(tmp_path / out)

    one = split("a", "one")
    assert split("b", "two") == one
    assert split("a", "three", "--seed", 1) != one


def test_split_again_never_leaves_a_photo_in_two_sets(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 30)
    for more in ((), ("--seed", 7), ("--ratio", 50, 25, 25), ("--ratio", 0.8, 0.2, 0)):
        assert run("dataPreparation.py", *more, cwd=tmp_path).returncode == 0
        assert len(split_of(tmp_path / "data")) == 60
    assert Counter(split_of(tmp_path / "data").values()) == {"train": 48, "validation": 12}
    (tmp_path / "crop/x/0000.png").rename(tmp_path / "crop/y/moved.png")
    (tmp_path / "crop/x/0001.png").unlink()
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    assert set(split_of(tmp_path / "data")) == set(crops_in(tmp_path / "crop"))
    (tmp_path / "crop/x/0002.png").unlink()
    Image.new("L", (5, 5)).save(tmp_path / "crop/x/0002.png")
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    by_name = {p.split("/", 1)[1]: c for p, c in tree(tmp_path / "data").items() if "/" in p}
    assert by_name == crops_in(tmp_path / "crop")


def test_split_ratios_are_exact(tmp_path):
    # As floats, 0.7 of 10 is 7 and 0.1 · 3 / 0.3 is less than 1.
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    run("dataPreparation.py", "--ratio", "0.1", "0.1", "0.1", cwd=tmp_path)
    counts = Counter(split_of(tmp_path / "data").values())
    assert counts == {"train": 8, "validation": 6, "test": 6}


def test_split_copies_if_links_cannot_be_made(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 5)
    broken_link = tmp_path / "sitecustomize.py"
    broken_link.write_text(
        "import os\ndef no(*a, **k): raise OSError(18, 'Invalid cross-device link')\nos.link = no\n"
    )
    done = run("dataPreparation.py", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0
    data, crop = tmp_path / "data/train/x/0000.png", tmp_path / "crop/x/0000.png"
    assert data.read_bytes() == crop.read_bytes() and not data.samefile(crop)
    inode = data.stat().st_ino
    again = run("dataPreparation.py", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert again.returncode == 0 and data.stat().st_ino == inode


@pytest.mark.parametrize("first", ["link", "copy", "symlink"])
@pytest.mark.parametrize("then", ["link", "copy", "symlink"])
def test_split_in_each_mode_after_each_other(tmp_path, first, then):
    make_faces(tmp_path / "crop", ["x", "y"], 12)
    for mode in (first, then):
        assert run("dataPreparation.py", "--mode", mode, cwd=tmp_path).returncode == 0
    assert len(split_of(tmp_path / "data")) == 24
    for path, name in split_of(tmp_path / "data").items():
        source, there = tmp_path / "crop" / path, tmp_path / "data" / name / path
        assert there.read_bytes() == source.read_bytes()
        assert there.is_symlink() == (then == "symlink")
        if then == "copy":
            assert not there.samefile(source)
    if then == "symlink":  # both folders can move together
        (tmp_path / "moved").mkdir()
        for name in ("crop", "data"):
            (tmp_path / name).rename(tmp_path / "moved" / name)
        assert len(split_of(tmp_path / "moved/data")) == 24


def test_split_removes_links_to_missing_photos(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 12)
    run("dataPreparation.py", "--mode", "symlink", cwd=tmp_path)
    (tmp_path / "crop/x/0000.png").unlink()
    assert run("dataPreparation.py", "--mode", "symlink", cwd=tmp_path).returncode == 0
    assert not [
        p for p in (tmp_path / "data").rglob("*.png") if p.name == "0000.png" and "x" in p.parts
    ]


def test_split_keeps_duplicates_together_and_reports_conflicting_labels(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 40)
    crop = tmp_path / "crop"
    for i in range(10):  # each three times in x, two of them in y too
        for copy in "ab":
            shutil.copy(crop / f"x/{i:04d}.png", crop / f"x/{i}{copy}.png")
    for i in range(2):
        shutil.copy(crop / f"x/{i:04d}.png", crop / f"y/other{i}.png")
    done = run("dataPreparation.py", cwd=tmp_path)
    assert done.returncode == 0
    assert "22 photos are duplicates of others" in done.stdout
    assert (
        "2 groups of duplicates have conflicting labels, for example x/0000.png and y/other0.png"
        in done.stdout
    )
    found = split_of(tmp_path / "data")
    for i in range(10):
        names = [f"x/{i:04d}.png", f"x/{i}a.png", f"x/{i}b.png", *([f"y/other{i}.png"] * (i < 2))]
        assert len({found[name] for name in names}) == 1
    assert Counter(found.values()) == {"train": 82, "validation": 10, "test": 10}
    listed = (tmp_path / "data/copies.tsv").read_text().splitlines()
    assert listed[0] == "same\tclass\tfile\tset\tdistance" and len(listed) == 33
    assert all(line.endswith("\t0") for line in listed[1:])
    shutil.rmtree(crop / "y")
    for path in crop.rglob("*[ab].png"):
        path.unlink()
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "data/copies.tsv").exists()


def test_split_by_subject_puts_nobody_into_two_sets(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 200)
    generator = random.Random(0)
    for path in (tmp_path / "crop").rglob("*.png"):
        path.rename(
            path.with_name(f"s{generator.randrange(40):02d}_{path.parent.name}_{path.name}")
        )
    done = run("dataPreparation.py", cwd=tmp_path)
    assert re.search(r"^\d+ of 40 subjects are in more than one set", done.stdout, re.M)

    done = run("dataPreparation.py", "--group", "subject", cwd=tmp_path)
    assert "none of 40 subjects is in more than one set" in done.stdout
    sets = {}
    for path, name in split_of(tmp_path / "data").items():
        sets.setdefault(path.split("/")[1].split("_")[0], set()).add(name)
    assert len(sets) == 40 and all(len(names) == 1 for names in sets.values())
    rows = [line.split("\t") for line in (tmp_path / "data/split.tsv").read_text().splitlines()]
    assert rows[0] == ["file", "class", "subject", "set"] and len(rows) == 401
    assert all(row[2] == row[0].split("_")[0] for row in rows[1:])


@pytest.mark.parametrize(
    ("name", "word"), [("IMG_{}.png", "'IMG'"), ("{}.png", "no file name begins with <subject>_")]
)
def test_split_by_subject_refuses_names_without_subjects(tmp_path, name, word):
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    for path in (tmp_path / "crop").rglob("*.png"):
        path.rename(path.with_name(name.format(path.stem)))
    done = run("dataPreparation.py", "--group", "subject", cwd=tmp_path)
    one_line_error(done, "--group subject", word)
    assert "subjects" not in run("dataPreparation.py", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "line", ["../x.png\tx\t\ttrain", "x.png\t..\t\ttrain", "x.png\tx\t\t..", "x"]
)
def test_split_removes_nothing_that_a_manifest_names_elsewhere(tmp_path, line):
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/split.tsv").write_text(f"file\tclass\tsubject\tset\n{line}\n")
    before = tree(tmp_path)
    one_line_error(run("dataPreparation.py", cwd=tmp_path), "not a list that this script wrote")
    assert tree(tmp_path) == before


def test_split_refuses_control_characters_and_keeps_other_names(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    (tmp_path / "crop/x/0001.png").rename(tmp_path / "crop/x/a\\1.png")
    for _ in range(2):
        assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    (tmp_path / "crop/y").rename(tmp_path / "crop/y\x1b[31m")
    one_line_error(run("dataPreparation.py", cwd=tmp_path), "a name with a control character")


def test_split_of_symbolic_links_and_undecodable_folder_names(tmp_path):
    make_faces(tmp_path / "pictures", ["x"], 4)
    for folder in ("y", "z", os.fsdecode("기쁨".encode("cp949"))):
        (tmp_path / "crop" / folder).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "crop" / folder / f"{i}.png").symlink_to(f"../../pictures/x/{i:04d}.png")
    for _ in range(2):
        assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
        files = list((tmp_path / "data/train").rglob("*.png"))
        assert len(files) == 12 and not any(path.is_symlink() for path in files)


def test_split_of_its_own_output_is_refused(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    run("dataPreparation.py", cwd=tmp_path)
    before = tree(tmp_path / "data")
    for source in ("data/train", "data"):
        one_line_error(run("dataPreparation.py", "--input", source, cwd=tmp_path), source)
    assert tree(tmp_path / "data") == before


def test_split_again_after_a_mac_has_decomposed_the_names(tmp_path):
    make_faces(tmp_path / "crop", ["기쁨", "슬픔"], 20)
    for path in (tmp_path / "crop").rglob("*.png"):
        path.rename(path.with_name(f"가{path.name}"))
    run("dataPreparation.py", cwd=tmp_path)
    decompose(tmp_path / "data")
    done = run("dataPreparation.py", "--seed", 3, cwd=tmp_path)
    assert done.returncode == 0
    paths = [unicodedata.normalize("NFC", path) for path in tree(tmp_path / "data")]
    names = [path.split("/", 1)[1] for path in paths if "/" in path]
    assert len(names) == len(set(names)) == 40


def test_splits_at_the_same_time_wait_for_each_other(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 300, size=2)
    both = [
        subprocess.Popen(command("dataPreparation.py", "--seed", seed), cwd=tmp_path, stdout=-3)
        for seed in (1, 2)
    ]
    assert [stage.wait() for stage in both] == [0, 0]
    assert len(split_of(tmp_path / "data")) == 600


def test_split_leaves_a_folder_with_other_images_alone(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 5)
    make_faces(tmp_path / "data/train", ["x"], 2)
    before = tree(tmp_path / "data")
    one_line_error(run("dataPreparation.py", cwd=tmp_path), "not put there by this script")
    assert tree(tmp_path / "data") == before


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ([], "crop: no such folder"),
        (["--input", "."], "no class folders"),
        (["--ratio", "8", "-1", "1"], "--ratio"),
        (["--ratio", "0", "0", "0"], "--ratio"),
        (["--sed", "1"], "--sed"),
    ],
)
def test_split_reports_bad_arguments_in_one_line(tmp_path, args, word):
    one_line_error(run("dataPreparation.py", *args, cwd=tmp_path), word)
    assert not any(tmp_path.iterdir())


def test_split_help_shows_examples(tmp_path):
    done = run("dataPreparation.py", "--help", cwd=tmp_path, env={"COLUMNS": "100"})
    assert done.returncode == 0 and done.stderr == ""
    assert "python dataPreparation.py --group subject" in done.stdout


def save(path: Path, kind: str, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9), (number, 80, 90)).save(path, kind)


@pytest.fixture
def phone_folder(tmp_path: Path) -> Path:
    """Class folders as phones and browsers fill them."""
    faces = tmp_path / "faces"
    for n in range(12):
        save(faces / f"happy/p{n}_a.jpg", "JPEG", n)
    for n in range(4):
        save(faces / f"sad/q{n}.jfif", "JPEG", 40 + n)
        save(faces / f"sad/second session/r{n}.JPG", "JPEG", 50 + n)
        save(faces / f"angry/t{n}.avif", "AVIF", 60 + n)
        save(faces / f"angry/u{n}", "JPEG", 70 + n)
        (faces / f"angry/IMG_{n:04}.HEIC").write_bytes(HEIC)
        (faces / f"happy/notes {n}.txt").write_text("hello")
    (faces / "none").mkdir()
    (faces / "none/film.mov").write_bytes(b"\0\0\0\x14ftypqt  ")
    return faces


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
NO_HEIF = "import sys\nsys.modules['pillow_heif'] = None\n"


@pytest.mark.parametrize("has_heif", [True, False])
def test_split_of_a_folder_that_a_phone_filled(tmp_path, phone_folder, has_heif):
    env = {}
    if not has_heif:
        (tmp_path / "sitecustomize.py").write_text(NO_HEIF)
        env = {"PYTHONPATH": str(tmp_path)}
    done = run("dataPreparation.py", "--input", "faces", cwd=tmp_path, env=env or None)
    assert done.returncode == 0
    heic = "" if has_heif else "4 .heic (pip install pillow-heif, or convert them), "
    assert done.stderr.splitlines() == [
        f"note: faces: {5 if has_heif else 9} files left out: {heic}4 .txt, 1 .mov",
        "note: faces/none is no class, because it has no readable image: 1 file left out: 1 .mov",
    ]
    assert f"{32 if has_heif else 28} photos -> data, 0 moved or removed" in done.stdout
    found = set(split_of(tmp_path / "data"))
    expected = {f"happy/p{n}_a.jpg" for n in range(12)}
    for n in range(4):
        expected |= {f"sad/q{n}.jfif", f"sad/second session_r{n}.JPG"}
        expected |= {f"angry/t{n}.avif", f"angry/u{n}"}
        expected |= {f"angry/IMG_{n:04}.HEIC"} if has_heif else set()
    assert found == expected
    again = run("dataPreparation.py", "--input", "faces", cwd=tmp_path, env=env or None)
    assert again.returncode == 0 and "0 moved or removed" in again.stdout


def test_split_of_a_folder_without_an_image_says_what_it_saw(tmp_path):
    (tmp_path / "faces/x").mkdir(parents=True)
    for name in ("x/a.txt", "x/b.txt", "loose.jpg"):
        (tmp_path / "faces" / name).write_text("hello")
    done = run("dataPreparation.py", "--input", "faces", cwd=tmp_path)
    one_line_error(done, "no class folders with images in them: 3 files left out: 2 .txt, 1 in no")


def test_split_keeps_photos_of_one_name_in_subfolders_apart(tmp_path):
    for n, folder in enumerate(("x", "x/a", "x/b", "x/a/deep", "y")):
        for i in range(5):
            save(tmp_path / f"faces/{folder}/{i}.png", "PNG", 10 * n + i)
    done = run("dataPreparation.py", "--input", "faces", cwd=tmp_path)
    assert done.returncode == 0 and "25 photos -> data" in done.stdout
    placed = sorted(content for path, content in tree(tmp_path / "data").items() if "/" in path)
    assert placed == sorted(tree(tmp_path / "faces").values())
    lines = (tmp_path / "data/split.tsv").read_text(encoding="utf-8").splitlines()
    assert "a_deep_0.png\tx\t\ttrain" in lines or "a_deep_0.png\tx\t\ttest" in lines
    assert len(lines) == 26
    # Subfolders of the sets are not of this script's making.
    save(tmp_path / "data/train/x/mine/0.png", "PNG", 200)
    again = run("dataPreparation.py", "--input", "faces", cwd=tmp_path)
    one_line_error(again, "mine/0.png", "not put there by this script")


def test_split_by_subject_reads_the_own_name_of_a_photo_in_a_subfolder(tmp_path):
    for subject in range(10):
        for session in ("one", "two"):
            save(tmp_path / f"faces/x/{session}/p{subject}_a.png", "PNG", subject)
            save(tmp_path / f"faces/y/{session}/p{subject}_b.png", "PNG", 100 + subject)
    run("dataPreparation.py", "--input", "faces", "--group", "subject", cwd=tmp_path)
    lines = (tmp_path / "data/split.tsv").read_text(encoding="utf-8").splitlines()[1:]
    splits: dict[str, set[str]] = {}
    for _, _, subject, split in (line.split("\t") for line in lines):
        splits.setdefault(subject, set()).add(split)
    assert len(splits) == 10 and all(len(names) == 1 for names in splits.values())


def test_split_keeps_the_sets_of_the_data(tmp_path):
    make_faces(tmp_path / "faces/train", ["x", "y"], 27, 8)
    make_faces(tmp_path / "faces/Test", ["x", "y"], 4, 8, seed=1)
    shutil.copy(tmp_path / "faces/train/x/0000.png", tmp_path / "faces/train/loose.png")
    done = run("dataPreparation.py", "--input", "faces", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "note: faces/train: 1 file left out: 1 in no class folder\n"
        "note: faces: the sets train and test are kept, validation is taken out of train (11.1 % "
        "of it)\n"
    )
    assert "x\t24\t3\t4\ny\t24\t3\t4\n" in done.stdout
    found = tree(tmp_path / "data")
    for label in "xy":
        for i in range(4):
            expected = (tmp_path / f"faces/Test/{label}/{i:04d}.png").read_bytes()
            assert found[f"test/{label}/{i:04d}.png"] == expected

    make_faces(tmp_path / "faces/valid", ["x", "y"], 2, 8, seed=2)
    again = run("dataPreparation.py", "--input", "faces", cwd=tmp_path)
    assert again.returncode == 0 and "x\t27\t2\t4\ny\t27\t2\t4\n" in again.stdout
    assert "note: faces: the sets train, validation and test are kept\n" in again.stderr
    ratio = run("dataPreparation.py", "--input", "faces", "--ratio", 1, 1, 1, cwd=tmp_path)
    assert ratio.returncode == 2 and "--split ratio splits all photos again" in ratio.stderr
    words = ("--ratio", 1, 1, 1, "--split", "ratio", "--input", "faces")
    anew = run("dataPreparation.py", *words, cwd=tmp_path)
    assert anew.returncode == 0 and "x\t11\t11\t11\ny\t11\t11\t11\n" in anew.stdout
    kept = sorted(content for path, content in tree(tmp_path / "data").items() if "/" in path)
    photos = {path: c for path, c in tree(tmp_path / "faces").items() if "loose" not in path}
    assert kept == sorted(photos.values())


def pictures(count: int, side: int = 96) -> list[Image.Image]:
    """Pictures with large and small structures, all of them different."""
    made = []
    for seed in range(count):
        generator = np.random.default_rng(seed)
        layers = [
            Image.fromarray(generator.integers(0, top, (cells, cells), dtype=np.uint8)).resize(
                (side, side), Image.Resampling.BICUBIC
            )
            for cells, top in ((5, 180), (24, 70))
        ]
        made.append(ImageChops.add(*layers))
    return made


def test_copies_in_classes_of_one_meaning_are_no_conflict(capsys):
    photos = [SplitItem("happy", "a.png", split="train"), SplitItem("기쁨", "b.png", split="test"),
              SplitItem("sad", "c.png", split="test")]  # fmt: skip
    for group, conflicts in (([0, 1], 0), ([0, 1, 2], 1)):
        copies = Copies([group], dict.fromkeys(group, 0.0), 1, 0, [group], [])
        dataPreparation.print_copies(photos, copies, Path("data"))
        out = capsys.readouterr().out
        assert f"1 photos are duplicates of others: data{os.sep}copies.tsv\n" in out
        assert (
            out.count("example happy/a.png and sad/c.png") == out.count("conflicting") == conflicts
        )


def test_split_keeps_near_duplicates_together(tmp_path):
    for i, picture in enumerate(pictures(60)):
        folder = tmp_path / "crop" / "xy"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{i:02d}.png")
        if i < 20:  # twenty photos are there four times, one of them in the other class
            picture.save(folder / f"{i:02d}-a.jpg", quality=60)
            picture.resize((48, 48)).save(folder / f"{i:02d}-b.png")
            other = tmp_path / "crop" / "yx"[i % 2] if i == 7 else folder
            picture.resize((130, 130)).convert("RGB").save(other / f"{i:02d}-c.webp", quality=80)
    shutil.copy(tmp_path / "crop/x/00.png", tmp_path / "crop/x/00-same.png")
    done = run("dataPreparation.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 photos are duplicates of others and in the same set" in done.stdout
    assert "60 photos are near duplicates of others and in the same set" in done.stdout
    assert "1 groups of duplicates have conflicting labels, for example x/07-c.webp" in done.stdout
    sets: dict[str, set[str]] = {}
    for path, split in split_of(tmp_path / "data").items():
        sets.setdefault(path.split("/")[1][:2], set()).add(split)
    assert len(sets) == 60 and all(len(names) == 1 for names in sets.values())
    assert {split for names in sets.values() for split in names} == {"train", "validation", "test"}
    rows = [line.split("\t") for line in (tmp_path / "data/copies.tsv").read_text().splitlines()]
    assert rows[0] == ["same", "class", "file", "set", "distance"] and len(rows) == 82
    assert len({row[0] for row in rows[1:]}) == 20
    assert all(0 <= float(row[4]) <= 0.1 for row in rows[1:])
    distances = {row[2]: row[4] for row in rows[1:]}
    assert distances["00.png"] == distances["00-same.png"] == "0"
    assert float(distances["07-a.jpg"]) > 0

    off = run("dataPreparation.py", "--near_copies", "off", cwd=tmp_path)
    assert "1 photos are duplicates" in off.stdout and "near duplicates" not in off.stdout
    assert len((tmp_path / "data/copies.tsv").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["IMG_{:03d}.png", "{0:03d}_IMG.png"])
def test_names_that_begin_with_no_people_are_no_subjects(tmp_path, name):
    make_faces(tmp_path / "crop", ["x", "y"], 20)
    for i, path in enumerate(sorted((tmp_path / "crop").rglob("*.png"))):
        path.rename(path.with_name(name.format(i)))
    done = run("dataPreparation.py", cwd=tmp_path)
    assert done.returncode == 0 and "subject" not in done.stdout
    rows = (tmp_path / "data/split.tsv").read_text().splitlines()[1:]
    assert len(rows) == 40 and all(row.split("\t")[2] == "" for row in rows)


def test_split_official_keeps_training_apart_and_halves_validation_by_subject(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 100)
    parts = {}
    for i, path in enumerate(sorted((tmp_path / "crop").rglob("*.png"))):
        subject = i % 20
        renamed = path.rename(path.with_name(f"s{subject:02d}_여_20_기쁨_실내_{i:03d}.png"))
        if i >= 4:  # the others come from elsewhere
            parts[renamed.name] = "Validation" if subject < 8 else "Training"
    refused = run("dataPreparation.py", "--split", "official", cwd=tmp_path)
    one_line_error(refused, "crop has no official parts", "crop.parts.tsv")
    write_parts(tmp_path / "crop", parts.items())
    done = run("dataPreparation.py", "--split", "official", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "note: crop: Training is train, the halves of Validation are validation and test\n"
        "note: 4 of 200 photos have no official part and are left out: their subjects may be in "
        "any of the sets\n"
    )
    assert "none of 20 subjects is in more than one set" in done.stdout
    splits = {path.split("/")[1]: split for path, split in split_of(tmp_path / "data").items()}
    assert {name for name, split in splits.items() if split == "train"} == {
        name for name, part in parts.items() if part == "Training"
    }
    counts = Counter(splits.values())
    assert counts["train"] == 120 and abs(counts["validation"] - counts["test"]) <= 10
    assert "196 photos" in done.stdout
    write_parts(tmp_path / "crop", dict.fromkeys(parts, "Validation").items())
    empty = run("dataPreparation.py", "--split", "official", cwd=tmp_path)
    assert "note: train is empty, because crop holds no photo of Training" in empty.stderr
    default = run("dataPreparation.py", cwd=tmp_path)
    assert default.returncode == 0 and "all\t160\t20\t20" in default.stdout


def write_fer(path: Path, faces: np.ndarray, bad: dict[int, str] | None = None) -> Path:
    usages = ("Training", "PublicTest", "PrivateTest")
    lines = [f"{i % 7},{' '.join(map(str, face.ravel()))},{usages[i % 3]}"
             for i, face in enumerate(faces)]  # fmt: skip
    for i, line in (bad or {}).items():
        lines[i] = line
    path.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    return path


def test_split_of_fer2013_with_bad_rows_and_with_the_votes_of_ferplus(tmp_path):
    faces = np.random.default_rng(0).integers(0, 256, (30, 48, 48), dtype=np.uint8)
    write_fer(tmp_path / "fer.csv", faces, {4: "0,1 2 3,Training", 8: "9,x,Training"})
    done = run("dataPreparation.py", "--input", "fer.csv", cwd=tmp_path)
    assert done.returncode == 1 and "28 photos -> data" in done.stdout
    assert "2 failed, with their reasons: preparation.error.log" in done.stdout
    log = (tmp_path / "preparation.error.log").read_text().splitlines()
    assert [line.split("\t")[:2] for line in log[1:]] == [
        ["fer.csv", "line 6: 3 pixels instead of 48×48 = 2304"],
        ["fer.csv", "line 10: the emotion '9' is no class; they are 0 to 6"],
    ]
    written = {path: content for path, content in tree(tmp_path / "data").items() if "/" in path}
    assert len(written) == 28 and "train/분노/fer0000021.png" in written
    for path in written:
        number = int(path[-11:-4])
        assert path.split("/")[0] == ("train", "validation", "test")[number % 3]
        assert (np.asarray(Image.open(tmp_path / "data" / path)) == faces[number]).all()

    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"
    rows = [f"Training,fer{i:07}.png," + ("0,9,1" if i % 2 else "4,4,1") + ",0,0,0,0,0,0,0"
            for i in range(30)]  # fmt: skip
    (tmp_path / "new.csv").write_text("\n".join([f"{header},unknown,NF", *rows]) + "\n")
    words = ("--input", "fer.csv", "--votes", "new.csv")
    write_fer(tmp_path / "fer.csv", faces)
    voted = run("dataPreparation.py", *words, cwd=tmp_path)
    assert voted.returncode == 0 and not (tmp_path / "preparation.error.log").exists()
    assert "note: 15 rows are left out: no class has the majority of votes\n" in voted.stderr
    assert {path.split("/")[1] for path in tree(tmp_path / "data") if "/" in path} == {"기쁨"}
    assert len(split_of(tmp_path / "data")) == 15
    kept = run("dataPreparation.py", *words, "--unknown", "keep", cwd=tmp_path)
    assert kept.returncode == 0 and "UNKNOWN\t5\t0\t0\n" in kept.stdout
    one_line_error(run("dataPreparation.py", "--votes", "new.csv", cwd=tmp_path), "--votes")
    (tmp_path / "test.csv").write_text("pixels\n1 2 3\n")
    no_labels = run("dataPreparation.py", "--input", "test.csv", cwd=tmp_path)
    one_line_error(no_labels, "test.csv has no column emotion", "test data, which has no labels")


def test_split_of_fer2013_killed_at_any_moment_is_resumed(tmp_path):
    faces = np.random.default_rng(0).integers(0, 256, (12, 48, 48), dtype=np.uint8)
    write_fer(tmp_path / "fer.csv", faces)
    stage = ("dataPreparation.py", "--input", "fer.csv")
    steps = steps_of(*stage, "--output", "whole", cwd=tmp_path)
    whole = tree(tmp_path / "whole")
    for step in range(1, steps, max(1, steps // 8)):
        kill_at(step, *stage, cwd=tmp_path)
        stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("fer*.png")}
        assert run(*stage, cwd=tmp_path).returncode == 0
        assert tree(tmp_path / "data") == whole
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
        shutil.rmtree(tmp_path / "data")


def test_split_of_raf_db_and_of_numbered_folders(tmp_path):
    lines = []
    for i, picture in enumerate(pictures(36, 40)):
        name = f"train_{i:05d}" if i < 27 else f"test_{i:04d}"
        lines.append(f"{name}.jpg {4 if i % 9 else 5}")
        for folder in ("basic/Image/aligned", f"numbered/train/{i % 3}", f"numbered/val/{i % 3}"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / f"basic/Image/aligned/{name}_aligned.jpg")
        picture.save(tmp_path / f"numbered/{'train' if i < 27 else 'val'}/{i % 3}/{i}.jpg")
    (tmp_path / "basic/EmoLabel").mkdir()
    (tmp_path / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join([*lines, "x"]))
    done = run("dataPreparation.py", "--input", "basic", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "labels 36 images, 36 of them aligned\n" in done.stderr
    assert "기쁨\t22\t2\t8\n슬픔\t3\t0\t1\n" in done.stdout and "subject" not in done.stdout
    log = (tmp_path / "preparation.error.log").read_text()
    assert "list_patition_label.txt\tline 37: it is no name and number\t" in log

    words = ("--input", "numbered", "--output", "n")
    done = run("dataPreparation.py", *words, cwd=tmp_path)
    assert done.returncode == 0 and "--input numbered --classes NAME NAME …\n" in done.stderr
    done = run("dataPreparation.py", *words, "--classes", "중립", "기쁨", "슬픔", cwd=tmp_path)
    assert done.returncode == 0 and "numbers" not in done.stderr
    assert "기쁨\t9\t3\t0\n슬픔\t9\t3\t0\n중립\t9\t3\t0\n" in done.stdout


def test_relabel_moves_photos_within_their_sets_and_is_undone(tmp_path):
    make_faces(tmp_path / "crop", ["기쁨", "슬픔", "UNKNOWN"], 21)
    shutil.copy(tmp_path / "crop/슬픔/0003.png", tmp_path / "crop/기쁨/copy.png")
    before = run("dataPreparation.py", cwd=tmp_path)
    assert "1 groups of duplicates have conflicting labels" in before.stdout
    found = split_of(tmp_path / "data")
    crops, manifest = crops_in(tmp_path / "crop"), (tmp_path / "data/split.tsv").read_bytes()
    rows = [
        f"{found['기쁨/0001.png']}\t기쁨\t0001.png\tmove\t슬픔",
        "\t기쁨\tcopy.png\tmove\tsad",
        "\t슬픔\t0002.png\tdrop\t",
        "\t슬픔\t0005.png\tkeep\t",
        "\t기쁨\t0007.png\tmove\t놀람",
        "\tUNKNOWN\t0001.png\tmove\t기쁨",
    ]
    text = "\n".join(["set\tclass\tfile\tdecision\tnew class", *rows, ""])
    (tmp_path / "relabel.tsv").write_text(text, "utf-8")
    done = run("dataPreparation.py", "--relabel", "relabel.tsv", cwd=tmp_path)
    assert done.returncode == 1
    assert "2 photos are moved to another class, 1 are left out, 1 keep theirs" in done.stderr
    assert "failed: relabel.tsv: line 6: 기쁨/0007.png: '놀람' is no class" in done.stderr
    assert "2 failed, with their reasons: preparation.error.log" in done.stdout
    log = (tmp_path / "preparation.error.log").read_text("utf-8")
    assert "line 6: 기쁨/0007.png" in log and "line 7: UNKNOWN/0001.png: no such photo" in log
    assert "conflicting" not in done.stdout  # the copy has the label of the other one now

    # Every other photo is where it was; moved ones are in their sets.
    expected = {photo: split for photo, split in found.items() if photo != "슬픔/0002.png"}
    expected["슬픔/0001-2.png"] = expected.pop("기쁨/0001.png")
    expected["슬픔/copy.png"] = expected.pop("기쁨/copy.png")
    assert split_of(tmp_path / "data") == expected and crops_in(tmp_path / "crop") == crops
    lines = (tmp_path / "data/split.tsv").read_text("utf-8").splitlines()
    assert lines[0] == "file\tclass\tsubject\tset\twas"
    assert f"0001-2.png\t슬픔\t\t{found['기쁨/0001.png']}\t기쁨" in lines
    assert sum(line.endswith("\t기쁨") for line in lines) == 2

    again = run("dataPreparation.py", cwd=tmp_path)
    assert again.returncode == 0 and not (tmp_path / "preparation.error.log").exists()
    assert "note: data: every photo has the class of the input again" in again.stderr
    assert split_of(tmp_path / "data") == found
    assert (tmp_path / "data/split.tsv").read_bytes() == manifest
    assert "again, without" not in run("dataPreparation.py", cwd=tmp_path).stderr
    one_line_error(run("dataPreparation.py", "--relabel", "crop", cwd=tmp_path), "crop is not a")


def test_relabel_of_a_csv_of_faces(tmp_path):
    rows = [f"{n % 2},{' '.join([str(40 * n)] * 48 * 48)},Training" for n in range(6)]
    (tmp_path / "fer.csv").write_text("\n".join(["emotion,pixels,Usage", *rows, ""]))
    list_ = (
        "class,file,decision,new class\n분노,fer0000002.png,move,혐오\n분노,fer0000004.png,drop,\n"
    )
    (tmp_path / "r.csv").write_text(list_, "utf-8")
    words = ("--input", "fer.csv", "--relabel", "r.csv")
    done = run("dataPreparation.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(split_of(tmp_path / "data")) == [
        "분노/fer0000000.png", "혐오/fer0000001.png", "혐오/fer0000002.png", "혐오/fer0000003.png",
        "혐오/fer0000005.png",
    ]  # fmt: skip
    with Image.open(tmp_path / "data/train/혐오/fer0000002.png") as image:
        assert image.getpixel((0, 0)) == 80
