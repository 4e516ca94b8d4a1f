"""cropImages.py on AI-Hub's downloads: every layout, partial and damaged ones, and both routes."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.aihub import photo, photo_name, record, write_labels, write_zip
from tests.helpers import (
    crops_in,
    one_line_error,
    reasons_in,
    row,
    run,
    write_table,
)
from utils.data.official import read_parts

pytestmark = pytest.mark.slow

SEEN = {"기쁨": ("기쁨 기쁨 슬픔", "기쁨"), "슬픔": ("알수없음 분노 분노", "분노")}
SEEN_RARELY = ("기쁨 슬픔 중립", "UNKNOWN")


def seen_in(emotion: str, number: int) -> tuple[str, str]:
    return SEEN_RARELY if number % 5 == 4 else SEEN[emotion]


# (part, emotion) → photo names. Every photo has a pattern of its own, and some are turned.
NAMES = {
    (part, emotion): [photo_name(emotion, number) for number in range(first, first + 10)]
    for part, first in (("Training", 0), ("Validation", 10))
    for emotion in SEEN
}
EXPECTED = {
    f"{seen_in(emotion, number)[1]}/{photo_name(emotion, number)}"
    for emotion in SEEN
    for number in range(20)
}


def content_of(name: str) -> bytes:
    number = int(name.rpartition("-")[2].split(".")[0]) + 100 * ("슬픔" in name)
    return photo(number, orientation=(1, 6, 3)[number % 3])


def records_of(part: str, emotion: str) -> list[dict]:
    numbers = range(0, 10) if part == "Training" else range(10, 20)
    return [record(photo_name(emotion, i), seen_in(emotion, i)[0]) for i in numbers]


def write_downloads(root: Path, shell: bool = False) -> Path:
    """Write the archives as a browser saves them, or as aihubshell lays them out."""
    for (part, emotion), names in NAMES.items():
        photos = root / part
        labels = photos
        if shell:
            photos = root / "01.데이터" / {"Training": "1.Training"}.get(part, "2.Validation")
            photos, labels = photos / "원천데이터_0114_add", photos / "라벨링데이터"
        tag = "TRAIN" if part == "Training" else "VALID"
        bracket = "" if shell and tag == "VALID" else "[라벨]"
        write_labels(labels / f"{bracket}EMOIMG_{emotion}_{tag}.zip", records_of(part, emotion))
        shares = {"_01": names[::2], "_02": names[1::2]} if tag == "TRAIN" else {"": names}
        for share, some in shares.items():
            inner = f"EMOIMG_{emotion}_TRAIN_01/" if share == "_01" else ""
            files = [(inner + name, content_of(name)) for name in some]
            write_zip(photos / f"[원천]EMOIMG_{emotion}_{tag}{share}.zip", files)
    return root


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Path:
    """A folder with the downloads, the crops made from them, and their manifest."""
    cwd = tmp_path_factory.mktemp("browser")
    write_downloads(cwd / "AI-Hub [82]")
    done = run("cropImages.py", "--input", "AI-Hub [82]", cwd=cwd)
    assert done.returncode == 0 and done.stderr == ""
    assert "40 cropped, 0 already there, 0 failed" in done.stdout and "records" not in done.stdout
    assert sorted(path.name for path in cwd.iterdir()) == ["AI-Hub [82]", "crop", "crop.parts.tsv"]
    return cwd


def test_crops_of_the_archives(browser):
    assert crops_in(browser / "crop").keys() == EXPECTED
    parts = read_parts(browser / "crop")
    assert parts == {name: part for (part, _), names in NAMES.items() for name in names}
    for path in (browser / "crop").glob("*/*.jpg"):
        with Image.open(path) as face:  # the mean of A's and B's box, of the photo as displayed
            assert face.size[0] in (49, 50, 51) and face.size[1] in (50, 49, 51, 48)
    again = run("cropImages.py", "--input", "AI-Hub [82]", cwd=browser)
    assert "0 cropped, 40 already there, 0 failed" in again.stdout


def test_crops_are_those_of_the_table(browser, tmp_path):
    rows = []
    for part, emotion in NAMES:
        for entry in records_of(part, emotion):
            name = entry["filename"]
            path = tmp_path / "original" / emotion / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content_of(name))
            cells = {}
            for letter in "ABC":
                annotation = entry[f"annot_{letter}"]
                cells[f"Task{letter}_emotion"] = annotation["faceExp"]
                cells[f"Task{letter}_result"] = json.dumps({"boxes": [annotation["boxes"]]})
            rows.append(row(name) | cells)
    table = write_table(tmp_path / "t.tsv", rows)
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    assert crops_in(tmp_path / "crop") == crops_in(browser / "crop")
    assert not read_parts(tmp_path / "crop")

    # The same table with the photos in archives.
    downloads = sorted((browser / "AI-Hub [82]").rglob("*원천*"))
    args = ("--input", table, "--original", *downloads, "--output", "faces")
    assert run("cropImages.py", *args, cwd=tmp_path).returncode == 0
    assert crops_in(tmp_path / "faces") == crops_in(browser / "crop")


def unpack(root: Path, decomposed: bool) -> Path:
    """Unpack every archive into a folder beside it, under names as a Mac stores them or not."""
    for path in sorted(root.rglob("*.zip")):
        folder = path.with_suffix("")
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.encode("cp437").decode("cp949")
                name = unicodedata.normalize("NFD", name) if decomposed else name
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(info))
        path.unlink()
    return root


def in_parts(root: Path) -> Path:
    """Cut every archive into the parts that aihubshell downloads."""
    for path in sorted(root.rglob("*.zip")):
        data = path.read_bytes()
        for start in range(0, len(data), 9000):
            Path(f"{path}.part{start}").write_bytes(data[start : start + 9000])
        path.unlink()
    return root


def renamed(root: Path) -> Path:
    """Give the archives names of the user's own, twice each, all in one folder."""
    for number, path in enumerate(sorted(root.rglob("*.zip"))):
        for copy in ("", " (1)"):
            shutil.copy(path, root / f"happy or sad {number}{copy}.zip")
        path.unlink()
    return root


@pytest.mark.parametrize("layout", ["aihubshell", "unpacked", "unpacked on a Mac", "parts", "own"])
def test_crops_of_every_layout_are_the_same(browser, tmp_path, layout):
    root = write_downloads(tmp_path / "downloads", shell=layout in ("aihubshell", "parts"))
    if layout.startswith("unpacked"):
        unpack(root, layout.endswith("Mac"))
    if layout == "parts":
        in_parts(root)
    if layout == "own":
        renamed(root)
    done = run("cropImages.py", "--input", root, "--workers", 2, cwd=tmp_path)
    assert done.returncode == 0 and "40 cropped, 0 already there, 0 failed" in done.stdout
    assert crops_in(tmp_path / "crop") == crops_in(browser / "crop")
    assert read_parts(tmp_path / "crop") == read_parts(browser / "crop")
    copies = sum("is a copy of" in line for line in done.stderr.splitlines())
    assert copies == (10 if layout == "own" else 0)
    assert "repeated" not in done.stdout


def test_records_whose_photos_were_not_fetched_are_counted(browser, tmp_path):
    root = write_downloads(tmp_path / "downloads")
    for path in root.rglob("*_02.zip"):
        path.unlink()
    labels = root / "Training" / "[라벨]EMOIMG_기쁨_TRAIN.zip"
    broken = records_of("Training", "기쁨")
    broken[1] |= {"annot_A": None}  # its photo is not there: nobody misses it
    write_labels(labels, broken)
    done = run("cropImages.py", "--input", root, cwd=tmp_path)
    assert done.returncode == 0 and "30 cropped, 0 already there, 0 failed" in done.stdout
    assert "10 of 40 records have no photo among the archives given" in done.stdout
    assert done.stderr == "" and not list(tmp_path.glob("*.log"))
    expected = crops_in(browser / "crop")
    assert all(expected[path] == face for path, face in crops_in(tmp_path / "crop").items())

    # What comes later is added, and crops stay whose archives are gone.
    later = tmp_path / "later"
    write_downloads(later)
    write_labels(labels, records_of("Training", "기쁨"))
    photos = sorted(later.rglob("*_02.zip"))
    done = run("cropImages.py", "--input", root, "--original", *photos, cwd=tmp_path)
    assert done.returncode == 0 and "10 cropped, 30 already there, 0 failed" in done.stdout
    assert crops_in(tmp_path / "crop") == expected
    assert read_parts(tmp_path / "crop") == read_parts(browser / "crop")


def test_one_label_file_and_photos_elsewhere(browser, tmp_path):
    root = browser / "AI-Hub [82]"
    labels = root / "Validation" / "[라벨]EMOIMG_슬픔_VALID.zip"
    plain = write_labels(tmp_path / "슬픔.json", records_of("Validation", "슬픔"), zipped=False)
    photos = root / "Validation" / "[원천]EMOIMG_슬픔_VALID.zip"
    for i, (path, more) in enumerate(
        [(labels, ()), (plain, ("--original", photos)), (plain, ("--original", root, photos))]
    ):
        output = ("--output", f"crop{i}")
        done = run("cropImages.py", "--input", path, *more, *output, cwd=tmp_path)
        assert done.returncode == 0 and "10 cropped, 0 already there, 0 failed" in done.stdout
        others = (10, 0, 30)[i]  # photos of other label files
        assert (f"{others} photos have no record in" in done.stdout) == (others > 0)
        parts = read_parts(tmp_path / f"crop{i}")
        assert parts == dict.fromkeys(NAMES["Validation", "슬픔"], "Validation")
    # A run that was killed has written no manifest: the next one does, for all crops.
    (tmp_path / "crop1.parts.tsv").unlink()
    run("cropImages.py", "--input", plain, "--original", photos, "--output", "crop1", cwd=tmp_path)
    assert read_parts(tmp_path / "crop1") == parts

    (tmp_path / "labels").mkdir()
    shutil.copy(plain, tmp_path / "labels")
    (tmp_path / "labels" / "page.zip").write_bytes(b"<html>")
    args = ("--input", "labels", "--original", photos, "--output", "crop0")
    done = run("cropImages.py", *args, cwd=tmp_path)
    assert done.returncode == 1 and "0 cropped, 10 already there, 0 failed" in done.stdout
    assert "have no record" not in done.stdout
    assert "page.zip" in (tmp_path / "archive.error.log").read_text(encoding="utf-8")
    (tmp_path / "empty").mkdir()
    done = run("cropImages.py", "--input", labels, "--original", "empty", cwd=tmp_path)
    one_line_error(done, "no photo is in it", "--original")
    one_line_error(run("cropImages.py", "--input", photos, cwd=tmp_path), "no label file")
    one_line_error(run("cropImages.py", "--input", "empty", cwd=tmp_path), "no label file")
    done = run("downloadImage.py", "--input", labels, cwd=tmp_path)
    one_line_error(done, "nothing to download", "python cropImages.py --input")


def test_shards_of_the_archives(browser, tmp_path):
    for part in ("1/3", "2/3", "3/3"):
        args = ("--input", browser / "AI-Hub [82]", "--shard", part)
        assert run("cropImages.py", *args, cwd=tmp_path).returncode == 0
    assert crops_in(tmp_path / "crop") == crops_in(browser / "crop")
    assert len(list(tmp_path.glob("crop.parts.*-of-3.tsv"))) == 3
    assert read_parts(tmp_path / "crop") == read_parts(browser / "crop")


def broken_downloads(root: Path) -> dict[str, str]:
    """Write archives with faults of every kind. Return name of a row that fails → its log."""
    folder = root / "Training"
    names = iter(photo_name("기쁨", number) for number in range(100, 200))
    records, photos, logs = [], [], {}

    def add(log: str = "", content: bytes | None = None, stored: object = "", **change: object):
        name = next(names)
        records.append(record(name) | change)
        photos.append((stored(name) if stored else name, content or photo(1)))
        if log:
            logs[name] = log

    box = records_of("Training", "기쁨")[0]["annot_A"]["boxes"]
    add()
    add("parse", annot_A={"boxes": None, "faceExp": "기쁨"})
    add("parse", annot_B=None)
    add(annot_A={"boxes": [box], "faceExp": "기쁨"})
    add(annot_A={"boxes": {k: str(v) for k, v in box.items()}, "faceExp": "기쁨"})
    far = {"boxes": {k: v + 9000 for k, v in box.items()}, "faceExp": "기쁨"}
    add("crop", annot_A=far, annot_B=far)
    add("crop", photo(1)[:700])
    add("crop", b"<html>")
    add("crop", b" ")
    add(stored=lambda name: name.replace("&", "_"))
    add(stored=lambda name: name.replace(".jpg", ".JPG"))
    add(stored=lambda name: f"EMOIMG/2021/{name}")
    add(stored=lambda name: unicodedata.normalize("NFD", name).encode())
    for unsafe in ("../../{}", "/abs/{}", "a\\{}"):
        add(stored=unsafe.format)
    records.append(records[0])
    write_zip(folder / "photos.zip", [*photos, ("__MACOSX/._x.jpg", b"\0\5\x16\7")])
    cut = [next(names) for _ in range(6)]
    records += [record(name) for name in cut]
    path = write_zip(folder / "cut.zip", [(name, photo(2)) for name in cut])
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"PK\3\4") + 500])
    write_labels(folder / "labels.zip", records)
    (folder / "page.zip").write_bytes(b"<html>404</html>")
    return logs


def test_faults_are_logged_by_name_and_the_rest_is_cropped(tmp_path):
    logs = broken_downloads(tmp_path / "downloads")
    done = run("cropImages.py", "--input", "downloads", cwd=tmp_path)
    assert done.returncode == 1
    assert "12 cropped, 0 already there, 6 failed (repeated rows skipped: 1)" in done.stdout
    assert "4 of 23 records have no photo" in done.stdout  # 3 refused, 1 cut
    for log in ("parse", "crop"):
        expected = {name for name, where in logs.items() if where == log}
        assert reasons_in(tmp_path / f"{log}.error.log").keys() == expected
    lines = (tmp_path / "archive.error.log").read_text(encoding="utf-8").splitlines()
    reasons = [line.split("\t")[1] for line in lines]
    assert lines[0] == "file\terror\ttime" and len(lines) == 7
    for words in ("leads out", "absolute path", "back-slash", "damaged: ", "cut short within it"):
        assert sum(words in reason for reason in reasons) == 1, words
    assert f"downloads{os.sep}Training{os.sep}page.zip\tnot a ZIP" in "\n".join(lines)
    assert not list(tmp_path.glob("**/etc")) and not (tmp_path.parent / "x.jpg").exists()

    # The log is a table: after new downloads it is retried with them.
    failed = reasons_in(tmp_path / "crop.error.log")
    fixed = [(name, photo(1)) for name in failed]
    (tmp_path / "downloads/Training/cut.zip").unlink()
    (tmp_path / "downloads/Training/page.zip").unlink()
    write_zip(tmp_path / "downloads/Training/photos.zip", fixed)
    args = ("--input", "crop.error.log", "--original", "downloads")
    done = run("cropImages.py", *args, cwd=tmp_path)
    assert "3 cropped, 0 already there, 1 failed" in done.stdout and done.returncode == 1
    [reason] = reasons_in(tmp_path / "crop.error.log").values()
    assert "leaves nothing of" in reason and len(read_parts(tmp_path / "crop")) == 15
    assert not (tmp_path / "archive.error.log").exists()
    assert len(reasons_in(tmp_path / "parse.error.log")) == 2
