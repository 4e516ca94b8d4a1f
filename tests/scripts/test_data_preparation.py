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

import pytest
from PIL import Image

from tests.helpers import command, decompose, make_faces, one_line_error, run, tree

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
    assert set(found) == {p for p in tree(tmp_path / "crop") if not p.startswith("UNKNOWN")}
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
    assert set(split_of(tmp_path / "data")) == set(tree(tmp_path / "crop"))
    (tmp_path / "crop/x/0002.png").unlink()
    Image.new("L", (5, 5)).save(tmp_path / "crop/x/0002.png")
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    by_name = {p.split("/", 1)[1]: c for p, c in tree(tmp_path / "data").items() if "/" in p}
    assert by_name == tree(tmp_path / "crop")


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
    assert ratio.returncode == 2 and "--split ratio divides all photos anew" in ratio.stderr
    words = ("--ratio", 1, 1, 1, "--split", "ratio", "--input", "faces")
    anew = run("dataPreparation.py", *words, cwd=tmp_path)
    assert anew.returncode == 0 and "x\t11\t11\t11\ny\t11\t11\t11\n" in anew.stdout
    kept = sorted(content for path, content in tree(tmp_path / "data").items() if "/" in path)
    photos = {path: c for path, c in tree(tmp_path / "faces").items() if "loose" not in path}
    assert kept == sorted(photos.values())
