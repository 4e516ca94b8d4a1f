"""cropImages.py, run as a user runs it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from tests.helpers import (
    box_cell,
    command,
    crops_in,
    decompose,
    jpeg,
    name_of,
    one_line_error,
    reasons_in,
    row,
    run,
    tree,
    write_table,
)
from utils.data.annotations import NameRegistry

pytestmark = pytest.mark.slow


def write_photo(folder: Path, name: str, content: bytes = b"", emotion: str = "기쁨") -> Path:
    """Write a photo where downloadImage.py puts it."""
    path = folder / "original" / emotion / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_crop_takes_the_consensus_box_and_sorts_by_majority(tmp_path):
    rows = []
    for i, seen in enumerate(("기쁨 기쁨 기쁨", "기쁨 슬픔 슬픔", "기쁨 슬픔 중립")):
        write_photo(tmp_path, name_of("기쁨", i), jpeg((200, 100)))
        cells = row(name_of("기쁨", i), seen=seen)
        cells["TaskA_result"] = box_cell(20, 10, 60, 70)
        cells["TaskB_result"] = box_cell(24, 12, 64, 72)
        cells["TaskC_result"] = box_cell(150, 0, 199, 99)
        rows.append(cells)
    done = run("cropImages.py", "--input", write_table(tmp_path / "t.tsv", rows), cwd=tmp_path)
    assert done.returncode == 0 and "3 cropped, 0 already there, 0 failed" in done.stdout
    assert "기쁨 1  당황 0  분노 0  불안 0  상처 0  슬픔 1  중립 0  UNKNOWN 1" in done.stdout
    for label, i in (("기쁨", 0), ("슬픔", 1), ("UNKNOWN", 2)):
        with Image.open(tmp_path / "crop" / label / name_of("기쁨", i)) as face:
            assert face.size == (40, 60)
    page = tmp_path / "crop/index.html"
    assert "crop/index.html" in done.stdout and '<html lang="en">' in page.read_text("utf-8")
    (tmp_path / "crop/슬픔" / name_of("기쁨", 1)).replace(tmp_path / "away.jpg")
    again = run("cropImages.py", "--input", tmp_path / "t.tsv", "--lang", "ko", cwd=tmp_path)
    assert "1 cropped, 2 already there, 0 failed" in again.stdout
    content = page.read_text("utf-8")
    assert '<html lang="ko">' in content and content.count("data:image/jpeg") == 3
    annotators = json.loads((tmp_path / "crop/annotators.json").read_text("utf-8"))
    assert annotators["labels"] == "majority" and annotators["rows"] == 3


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KINDS_OF_PHOTOS = (
    "L_기쁨_.png", "P_기쁨_.png", "RGBA_기쁨_.png", "1_기쁨_.png", "16 bits_기쁨_.png",
    "CMYK_기쁨_.jpg", "progressive_기쁨_.jpg",
)  # fmt: skip
ROTATIONS = {1: 0, 3: 180, 6: 90, 8: 270}  # EXIF orientation → degrees


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """The crops of photos of every kind, made in one run, and its error log."""
    folder = tmp_path_factory.mktemp("crops")
    grey = Image.new("L", (80, 80), 60)
    grey.paste(190, (20, 20, 60, 60))
    rows = []
    for name in KINDS_OF_PHOTOS:
        mode = name.split("_")[0]
        photo = grey.convert(mode) if mode in ("P", "RGBA", "1", "CMYK") else grey
        if mode == "16 bits":
            photo = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        photo.save(write_photo(folder, name), progressive=True)
        rows.append(row(name, box=box_cell(25, 25, 55, 55)))

    shown = Image.new("RGB", (200, 120), "black")
    shown.paste("white", (150, 20, 180, 60))
    for orientation, angle in ROTATIONS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x9286] = b"where it was taken"
        path = write_photo(folder, name_of("기쁨", orientation))
        shown.rotate(angle, expand=True).save(path, quality=95, exif=exif)
        rows.append(row(path.name, box=box_cell(150, 20, 180, 60)))

    orange = Image.new("RGB", (80, 80), (200, 100, 50))
    for name, options in (("plain", {}), ("profile", {"icc_profile": PROFILE})):
        path = write_photo(folder, f"{name}_기쁨_.jpg")
        orange.save(path, quality=95, comment=b"secret", **options)
        rows.append(row(path.name))

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[34675] = 3  # where the colour profile should be, a whole number
    tags[34675] = 5
    for mode in ("CMYK", "RGB"):
        path = write_photo(folder, f"{mode}_기쁨_.tif")
        Image.new(mode, (80, 80)).save(path, tiffinfo=tags)
        rows.append(row(path.name))

    write_photo(folder, "wide_기쁨_.webp", jpeg((17000, 20)))
    rows.append(row("wide_기쁨_.webp", box=box_cell(0, 0, 17000, 20)))
    done = run("cropImages.py", "--input", write_table(folder / "t.tsv", rows), cwd=folder)
    assert done.returncode == 1
    assert f"{len(rows) - 1} cropped, 0 already there, 1 failed" in done.stdout
    return folder


@pytest.mark.parametrize("orientation", ROTATIONS)
def test_crop_box_is_of_the_photo_as_displayed(crops, orientation):
    with Image.open(crops / "crop/기쁨" / name_of("기쁨", orientation)) as face:
        assert face.size == (30, 40) and np.asarray(face).mean() > 245
        assert not face.getexif() and "comment" not in face.info


@pytest.mark.parametrize("name", KINDS_OF_PHOTOS)
def test_crop_of_every_kind_of_photo(crops, name):
    with Image.open(crops / "crop/기쁨" / name) as face:
        assert face.size == (30, 30) and face.mode in ("L", "RGB")
        assert name[0] == "1" or abs(np.asarray(face.convert("L")).mean() - 190) < 4


@pytest.mark.parametrize(("name", "profile"), [("plain", None), ("profile", PROFILE)])
def test_crop_keeps_colours_with_their_profile_and_no_metadata(crops, name, profile):
    content = (crops / f"crop/기쁨/{name}_기쁨_.jpg").read_bytes()
    with Image.open(io.BytesIO(content)) as face:
        assert face.info.get("icc_profile") == profile
        assert np.abs(np.asarray(face).astype(int) - (200, 100, 50)).max() < 4
    assert b"secret" not in content


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
def test_crop_ignores_a_colour_profile_that_is_none(crops, mode):
    with Image.open(crops / f"crop/기쁨/{mode}_기쁨_.tif") as face:
        assert face.size == (40, 50)


def test_crop_logs_a_face_that_no_file_can_hold(crops):
    [(name, reason)] = reasons_in(crops / "crop.error.log").items()
    assert name == "wide_기쁨_.webp" and "cannot be written" in reason


def test_max_size_shrinks_the_faces_that_are_larger(tmp_path):
    soft = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(soft).resize((900, 700), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown with 700 × 900 pixels
    boxes = {"large.jpg": (31, 55, 631, 815), "large.png": (31, 55, 631, 455),
             "small.jpg": (31, 55, 160, 183)}  # fmt: skip
    rows = []
    for name, box in boxes.items():
        file = io.BytesIO()
        photo.save(file, "PNG" if name.endswith("png") else "JPEG", quality=95, exif=exif)
        rows.append(row(f"x_기쁨_{name}", box=box_cell(*box)))
        write_photo(tmp_path, f"x_기쁨_{name}", file.getvalue())
    table = write_table(tmp_path / "t.tsv", rows)
    run("cropImages.py", "--input", table, "--output", "full", cwd=tmp_path)
    done = run("cropImages.py", "--input", table, "--max_size", 128, cwd=tmp_path)
    assert done.returncode == 0
    full = {name: tmp_path / "full" / "기쁨" / f"x_기쁨_{name}" for name in boxes}
    faces = {name: tmp_path / "crop" / "기쁨" / f"x_기쁨_{name}" for name in boxes}
    sizes = {"large.jpg": (101, 128), "large.png": (128, 85)}
    for name, size in sizes.items():
        with Image.open(faces[name]) as face, Image.open(full[name]) as whole:
            assert face.size == size
            shrunk = whole.resize(size, Image.Resampling.BICUBIC)
            assert np.abs(np.subtract(face, shrunk, dtype=float)).mean() < 2
    with Image.open(full["small.jpg"]) as small:
        assert small.size == (129, 128)
    with Image.open(faces["small.jpg"]) as small:
        assert small.size == (128, 127)

    before = crops_in(tmp_path / "crop")
    again = run("cropImages.py", "--input", table, "--max_size", 64, cwd=tmp_path)
    assert "0 cropped, 3 already there" in again.stdout
    assert crops_in(tmp_path / "crop") == before


def test_crop_logs_invalid_rows_and_unusable_photos_apart(tmp_path):
    whole = jpeg((300, 300))
    bad = {
        "vote": (row("vote_기쁨_.jpg", seen="기쁨 기쁨 모름"), whole, "parse"),
        "box": (row("box_기쁨_.jpg", box="{"), whole, "parse"),
        "name": (row("../name_기쁨_.jpg"), whole, "parse"),
        "missing": (row("missing_기쁨_.jpg"), None, "crop"),
        "html": (row("html_기쁨_.jpg"), b"<html>", "crop"),
        "cut": (row("cut_기쁨_.jpg"), whole[: len(whole) // 2], "crop"),
        "away": (row("away_기쁨_.jpg", box=box_cell(400, 0, 500, 99)), whole, "crop"),
    }
    for kind, (_, content, _) in bad.items():
        if content:
            write_photo(tmp_path, f"{kind}_기쁨_.jpg", content)
    good = name_of("기쁨")
    write_photo(tmp_path, good, whole)
    table = write_table(tmp_path / "t.tsv", [cells for cells, _, _ in bad.values()] + [row(good)])
    done = run("cropImages.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 1 and "1 cropped, 0 already there, 7 failed" in done.stdout
    for log in ("parse", "crop"):
        expected = {cells["name"] for cells, _, kind in bad.values() if kind == log}
        assert reasons_in(tmp_path / f"{log}.error.log").keys() == expected
    assert list(crops_in(tmp_path / "crop")) == [f"기쁨/{good}"]

    write_photo(tmp_path, "missing_기쁨_.jpg", whole)
    page = (tmp_path / "crop/index.html").read_text("utf-8")
    assert "the name holds" in page and "an HTML page" in page and "crop.error.log" in page
    done = run("cropImages.py", "--input", "crop.error.log", cwd=tmp_path)
    assert done.returncode == 1 and "1 cropped, 0 already there, 3 failed" in done.stdout
    assert "crop/index.html stays as it is" in done.stdout
    assert (tmp_path / "crop/index.html").read_text("utf-8") == page
    assert len(reasons_in(tmp_path / "crop.error.log")) == 3
    assert len(reasons_in(tmp_path / "parse.error.log")) == 3


def test_crop_moves_to_another_class_if_the_labels_change(tmp_path):
    name = name_of("기쁨")
    write_photo(tmp_path, name, jpeg())
    for seen, label in (("기쁨 기쁨 기쁨", "기쁨"), ("슬픔 슬픔 기쁨", "슬픔")):
        table = write_table(tmp_path / "t.tsv", [row(name, seen=seen)])
        assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
        assert list(crops_in(tmp_path / "crop")) == [f"{label}/{name}"]


def test_crop_removes_no_earlier_crop_if_it_fails(tmp_path):
    name = name_of("기쁨")
    write_photo(tmp_path, name, jpeg())
    table = write_table(tmp_path / "t.tsv", [row(name, seen="슬픔 슬픔 슬픔")])
    done = run("cropImages.py", "--input", table, "--output", "original", cwd=tmp_path)
    one_line_error(done, "same folder")
    assert list(tree(tmp_path / "original")) == [f"기쁨/{name}"]
    run("cropImages.py", "--input", table, cwd=tmp_path)
    write_photo(tmp_path, name, b"broken since")
    table = write_table(tmp_path / "t.tsv", [row(name, seen="분노 분노 분노")])
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 1
    assert list(crops_in(tmp_path / "crop")) == [f"슬픔/{name}"]


def test_crop_logs_a_conflict_again_on_every_retry(tmp_path):
    name = name_of("기쁨")
    write_photo(tmp_path, name, jpeg())
    rows = [row(name, seen=seen) for seen in ("기쁨 기쁨 기쁨", "슬픔 슬픔 슬픔")]
    table = write_table(tmp_path / "t.tsv", rows)
    log = tmp_path / "parse.error.log"
    for source in (table, log, log):
        assert run("cropImages.py", "--input", source, cwd=tmp_path).returncode == 1
        assert list(crops_in(tmp_path / "crop")) == [f"기쁨/{name}"]
        assert "earlier row" in reasons_in(log)[name]
    # A log of version 0.1.0 has another text.
    text = log.read_text(encoding="utf-8")
    assert NameRegistry.CONFLICT in text
    old_text = text.replace(NameRegistry.CONFLICT, NameRegistry.OLD_CONFLICT)
    log.write_text(old_text, encoding="utf-8")
    assert run("cropImages.py", "--input", log, cwd=tmp_path).returncode == 1
    assert list(crops_in(tmp_path / "crop")) == [f"기쁨/{name}"]
    assert reasons_in(log) == {name: NameRegistry.CONFLICT}


def test_crop_takes_both_unicode_forms_of_a_name_for_one_name(tmp_path):
    name = name_of("기쁨")
    write_photo(tmp_path, name, jpeg())
    decomposed = unicodedata.normalize("NFD", name)
    rows = [row(name), row(decomposed, seen="슬픔 슬픔 슬픔")]
    done = run("cropImages.py", "--input", write_table(tmp_path / "t.tsv", rows), cwd=tmp_path)
    assert done.returncode == 1 and "earlier row" in done.stderr
    assert list(crops_in(tmp_path / "crop")) == [f"기쁨/{name}"]


def test_crop_finds_photos_and_crops_with_decomposed_names(tmp_path):
    name = name_of("기쁨")
    write_photo(tmp_path, name, jpeg())
    decompose(tmp_path / "original")
    table = write_table(tmp_path / "t.tsv", [row(name)])
    done = run("downloadImage.py", "--input", table, cwd=tmp_path)
    assert "0 downloaded, 1 already there" in done.stdout
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    decompose(tmp_path / "crop")
    done = run("cropImages.py", "--input", table, cwd=tmp_path)
    assert "0 cropped, 1 already there" in done.stdout and "기쁨 1" in done.stdout
    assert len(crops_in(tmp_path / "crop")) == 1
    table = write_table(tmp_path / "t.tsv", [row(name, seen="슬픔 슬픔 슬픔")])
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    [only] = crops_in(tmp_path / "crop")
    assert unicodedata.normalize("NFC", only) == f"슬픔/{name}"


def test_crop_summary_says_how_annotators_agree(tmp_path):
    rows = []
    for i, seen in enumerate(
        ("기쁨 기쁨 기쁨", "슬픔 슬픔 슬픔", "기쁨 슬픔 슬픔", "기쁨 슬픔 중립")
    ):
        write_photo(tmp_path, name_of("기쁨", i), jpeg())
        rows.append(row(name_of("기쁨", i), seen=seen, box=box_cell(10, 10, 50, 50)))
    rows[0] |= {"TaskC_result": box_cell(10, 10, 50, 30)}  # half of the others'
    done = run(
        "cropImages.py", "--input", write_table(tmp_path / "t.tsv", [*rows, rows[0]]), cwd=tmp_path
    )
    # Fleiss: observed (1 + 1 + 1/3 + 0) / 4, by chance (5² + 6² + 1²) / 12².
    kappa = (7 / 12 - 62 / 144) / (1 - 62 / 144)
    assert (
        "annotators, over 4 rows: 50.0 % unanimous, 25.0 % two of three, 25.0 % none equal; "
        f"Fleiss' kappa {kappa:.3f}; median IoU of their boxes 1.000"
    ) in done.stdout


def test_crop_contact_sheet_shows_faces_of_each_class(tmp_path):
    colours = {"기쁨": (250, 0, 0), "슬픔": (0, 250, 0)}
    rows = []
    for emotion, colour in colours.items():
        for i in range(3):
            write_photo(tmp_path, name_of(emotion, i), jpeg(colour=colour), emotion)
            rows.append(row(name_of(emotion, i), seen=f"{emotion} {emotion} {emotion}"))
    table = write_table(tmp_path / "t.tsv", rows)
    one_line_error(
        run("cropImages.py", "--input", table, "--contact_sheet", "x.txt", cwd=tmp_path), "x.txt"
    )
    done = run("cropImages.py", "--input", table, "--contact_sheet", "x.png", cwd=tmp_path)
    assert done.returncode == 0 and "x.png" in done.stdout
    with Image.open(tmp_path / "x.png") as sheet:
        pixels = np.asarray(sheet).reshape(-1, 3).astype(int)
    seen = [(abs(pixels - colour).max(axis=1) < 12).sum() for colour in colours.values()]
    assert seen[0] == seen[1] > 20000


def test_crop_replaces_killed_workers(tmp_path):
    names = {
        i: f"{kind}_{i}_기쁨_.jpg" for i, kind in enumerate(["good"] * 20 + ["once", "deadly"])
    }
    for name in names.values():
        write_photo(tmp_path, name, jpeg((80, 80)))
    table = write_table(tmp_path / "t.tsv", [row(name) for name in names.values()])
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, signal, sys\n"
        "def watch(event, args):\n"
        "    path = str(args[0]) if event == 'open' else ''\n"
        "    once = '/once_' in path and 'original' in path and not os.path.exists('seen')\n"
        "    if once: os.mkdir('seen')\n"
        "    if once or '/deadly_' in path:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(watch)\n"
    )
    args = ("--input", table, "--workers", 2)
    done = run("cropImages.py", *args, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "21 cropped, 0 already there, 1 failed" in done.stdout
    assert "3 workers were killed" in done.stdout
    reasons = reasons_in(tmp_path / "crop.error.log")
    assert list(reasons) == [names[21]] and "killed twice" in reasons[names[21]]


def test_shards_of_both_stages_are_parts_of_the_whole(tmp_path, server):
    names = [name_of("기쁨", i) for i in range(40)]
    server.files = {f"/{name}": jpeg() for name in names}
    rows = [row(name, f"{server.url}/{name}") for name in names]
    rows += [row(f"gone{i}_기쁨_.jpg", f"{server.url}/gone") for i in range(9)]
    rows += [row("../bad_기쁨_.jpg", f"{server.url}/bad")]
    table = write_table(tmp_path / "t.tsv", rows)
    backwards = write_table(tmp_path / "b.tsv", rows[::-1])
    for part, source in (("1/3", table), ("2/3", backwards), ("3/3", table)):
        for script in ("downloadImage.py", "cropImages.py"):
            assert run(script, "--input", source, "--shard", part, cwd=tmp_path).returncode in (
                0,
                1,
            )
    assert sorted(tree(tmp_path / "crop")) == sorted(f"기쁨/{name}" for name in names)
    assert server.requests.total() == 49
    logs = [reasons_in(tmp_path / f"download.error.{i}-of-3.log") for i in (1, 2, 3)]
    assert sum(map(len, logs)) == 10 and len({name for log in logs for name in log}) == 10
    assert sum(bool(log) for log in logs) > 1


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "1/", "a/b", "1/0", "-1/3", "1/3/5"])
def test_crop_refuses_an_impossible_shard(tmp_path, part):
    one_line_error(run("cropImages.py", f"--shard={part}", cwd=tmp_path), "--shard", part)


@pytest.mark.skipif(os.name == "nt", reason="POSIX locales")
@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_hangul_names_under_any_locale(tmp_path, server, env):
    env |= {"PYTHONCOERCECLOCALE": "0"}
    name = name_of("기쁨")
    server.files = {f"/{name}": jpeg()}
    table = write_table(tmp_path / "표.tsv", [row(name, f"{server.url}/{name}")])
    assert run("downloadImage.py", "--input", table, cwd=tmp_path, env=env).returncode == 0
    done = run("cropImages.py", "--input", table, cwd=tmp_path, env=env)
    assert "기쁨 1  당황 0" in done.stdout
    assert list(crops_in(tmp_path / "crop")) == [f"기쁨/{name}"]


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_crop_on_a_terminal_shows_a_bar_with_rate_and_failures(tmp_path):
    write_photo(tmp_path, name_of("기쁨"), jpeg())
    rows = [row(name_of("기쁨")), row("a_기쁨_.jpg", box="{")]
    table = write_table(tmp_path / "t.tsv", rows)
    shown = run_on_a_terminal(command("cropImages.py", "--input", table), tmp_path)
    assert re.search(r"crop: 100%\|█+\| 2/2 .*photo/s, failed=1\]", shown)
    assert "failed: t.tsv line 3: TaskA_result is not JSON" in shown


def run_on_a_terminal(words: list[str], cwd: Path) -> str:
    """What a command writes on a terminal of 30 lines of 100 characters."""
    import fcntl
    import pty
    import struct
    import termios

    our_end, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(words, cwd=cwd, stdin=its_end, stdout=its_end, stderr=its_end)
    os.close(its_end)
    shown = b""
    with contextlib.suppress(OSError):  # which Linux raises when the other end is closed
        while piece := os.read(our_end, 4096):
            shown += piece
    process.wait()
    os.close(our_end)
    return shown.decode()


@pytest.fixture
def running_crop(tmp_path):
    """A run over 300 photos, in a process group, as a shell starts it."""
    large = jpeg((1500, 1000))
    for i in range(300):
        write_photo(tmp_path, name_of("기쁨", i), large)
    table = write_table(tmp_path / "t.tsv", [row(name_of("기쁨", i)) for i in range(300)])
    words = command("cropImages.py", "--input", table, "--workers", 1)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, cwd=tmp_path, start_new_session=True, **pipes) as stage:
        yield stage
        stage.kill()


def press_ctrl_c(stage: subprocess.Popen) -> None:
    """Interrupt the stage and its workers, as a terminal does, and check what it prints."""
    assert stage.poll() is None
    os.killpg(stage.pid, signal.SIGINT)
    _, errors = stage.communicate()
    assert errors == b"cropImages.py: interrupted; run it again to finish\n"
    assert stage.returncode == 130


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_crop_interrupted_at_work_prints_one_line(tmp_path, running_crop):
    while not list(tmp_path.glob("crop/기쁨/*.jpg")):
        time.sleep(0.01)
    press_ctrl_c(running_crop)
    assert 0 < len(list(tmp_path.glob("crop/기쁨/*.jpg"))) < 300


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's /proc")
def test_crop_interrupted_while_a_worker_starts_prints_one_line(running_crop):
    while not (workers := workers_of(running_crop.pid)):
        time.sleep(0.002)
    maps = Path(f"/proc/{workers[0]}/maps")
    while "_imaging" not in maps.read_text():  # the worker's first large import
        time.sleep(0.002)
    press_ctrl_c(running_crop)


def workers_of(pid: int) -> list[str]:
    """The worker processes that a process has started."""
    with contextlib.suppress(OSError):  # a process or thread that has just ended
        children = [
            child
            for thread in Path(f"/proc/{pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
        return [
            child
            for child in children
            if b"--multiprocessing-fork" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    return []


@pytest.mark.skipif(os.name == "nt", reason="pipes")
def test_crop_refuses_a_pipe_as_table(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    one_line_error(run("cropImages.py", "--input", "pipe", cwd=tmp_path), "pipe", "several times")


def test_crop_reports_bad_arguments_in_one_line(tmp_path):
    one_line_error(run("cropImages.py", "--quality", 101, cwd=tmp_path), "--quality")
    assert not any(tmp_path.iterdir())


def test_crop_reports_a_missing_folder_of_photos(tmp_path):
    table = write_table(tmp_path / "t.tsv", [row(name_of("기쁨"))])
    done = run("cropImages.py", "--input", table, cwd=tmp_path)
    one_line_error(done, "original: no such folder", "downloadImage.py")


def test_crop_help_shows_examples(tmp_path):
    done = run("cropImages.py", "--help", cwd=tmp_path, env={"COLUMNS": "100"})
    assert done.returncode == 0 and done.stderr == ""
    assert "python cropImages.py --input crop.error.log" in done.stdout


def crop_of_box(folder: Path, size: tuple[int, int], box: str) -> tuple[int, str]:
    """Crop a box out of a photo of this size. Return the exit status and the logged reason."""
    write_photo(folder, "a_기쁨_.jpg", jpeg(size))
    table = write_table(folder / "t.tsv", [row("a_기쁨_.jpg", box=box)])
    done = run("cropImages.py", "--input", table, cwd=folder)
    assert list(crops_in(folder / "crop")) == ([] if done.returncode else ["기쁨/a_기쁨_.jpg"])
    return done.returncode, reasons_in(folder / "crop.error.log").get("a_기쁨_.jpg", "")


@pytest.mark.parametrize(
    ("size", "box", "reason"),
    [
        # A host's preview, a third and two thirds of the photo's size; its "not available" picture.
        (
            (750, 1000),
            box_cell(900, 1000, 2200, 2300),
            "no face region: .* is it the one annotated",
        ),
        (
            (1000, 1333),
            box_cell(900, 1000, 2200, 2300),
            "^1 % of the box lies in this 1000×1333 ph",
        ),
        ((1500, 2000), box_cell(900, 1000, 2200, 2300), "^35 % of the box lies in this 1500×2000 "),
        (
            (1024, 1024),
            box_cell(900, 1000, 2200, 2300),
            "^0 % .*1024×1024 photo: is it the one ann",
        ),
        ((100, 100), box_cell(60, 20, 141, 80), "^49 % of the box lies in this 100×100 photo"),
        ((100, 100), box_cell(-41, 20, 40, 80), "^49 % of the box"),
        ((100, 100), box_cell(61, 61, 120, 120), "^43 % of the box"),
    ],
)
def test_crop_asks_whether_a_photo_is_the_one_annotated(tmp_path, size, box, reason):
    status, logged = crop_of_box(tmp_path, size, box)
    assert status == 1 and re.search(reason, logged)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((100, 100), box_cell(60, 20, 140, 80)),  # half of it
        ((100, 100), box_cell(-20, -20, 100, 100)),
        ((3000, 4000), box_cell(900, 1000, 2200, 2300)),
    ],
)
def test_crop_clips_a_box_that_lies_mostly_in_its_photo(tmp_path, size, box):
    assert crop_of_box(tmp_path, size, box) == (0, "")


def test_crop_before_the_download_says_so_once(tmp_path):
    rows = [row(name_of("기쁨", i)) for i in range(5)]
    table = write_table(tmp_path / "t.tsv", rows)
    for i in range(2):
        write_photo(tmp_path, name_of("기쁨", i), jpeg())
    (tmp_path / "original").rename(tmp_path / "photos")
    done = run("cropImages.py", "--input", table, "--original", "photos", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        f"3 photos are not downloaded: python downloadImage.py --input {table} --output photos"
    )
    (tmp_path / "metadata").mkdir()
    table.rename(tmp_path / "metadata/emotions.tsv")
    (tmp_path / "photos").rename(tmp_path / "original")
    done = run("cropImages.py", cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == ("3 photos are not downloaded: python downloadImage.py")
    for i in range(5):
        write_photo(tmp_path, name_of("기쁨", i), jpeg())
    assert "not downloaded" not in run("cropImages.py", cwd=tmp_path).stdout


def test_crop_finds_photos_in_subfolders(tmp_path):
    rows = [row(name_of("기쁨", i)) for i in range(5)]
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / name_of("기쁨", 3)).write_bytes(jpeg(colour="white"))
    write_photo(tmp_path, name_of("기쁨", 4), jpeg(colour="white"), emotion="archive 7/기쁨")
    write_photo(tmp_path, name_of("기쁨", 0), jpeg(colour="white"))
    write_photo(tmp_path, "other/" + name_of("기쁨", 0), jpeg(colour="black"))  # not asked for
    write_photo(tmp_path, "part 1/deep/" + name_of("기쁨", 1), jpeg(colour="white"))
    write_photo(tmp_path, "part 1/" + name_of("기쁨", 2), jpeg(colour="white"))
    write_photo(tmp_path, "part 2/" + name_of("기쁨", 2), jpeg(colour="white"))
    decompose(tmp_path / "original/기쁨/part 1")
    table = write_table(tmp_path / "t.tsv", rows)
    done = run("cropImages.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 0 and "5 cropped, 0 already there, 0 failed" in done.stdout
    for i in range(5):
        with Image.open(tmp_path / "crop/기쁨" / name_of("기쁨", i)) as face:
            assert np.asarray(face).min() > 250


def test_crop_takes_neither_of_two_photos_of_one_name(tmp_path):
    for part, colour in (("1", "white"), ("2", "black")):
        write_photo(tmp_path, f"part {part}/" + name_of("기쁨"), jpeg(colour=colour))
    table = write_table(tmp_path / "t.tsv", [row(name_of("기쁨"))])
    done = run("cropImages.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 1 and not crops_in(tmp_path / "crop")
    reason = reasons_in(tmp_path / "parse.error.log")[name_of("기쁨")]
    assert reason.startswith("two photos have this name:")
    assert "part 1" in reason and "part 2" in reason


@pytest.mark.parametrize(("suffix", "kind"), [("avif", "AVIF"), ("jfif", "JPEG"), ("heic", "JPEG")])
def test_crop_writes_the_format_of_the_name_or_jpeg(tmp_path, suffix, kind):
    name = f"a_기쁨_.{suffix}"
    content = io.BytesIO()
    Image.new("RGB", (80, 80), "gray").save(content, "AVIF")  # the first bytes tell, not the name
    write_photo(tmp_path, name, content.getvalue())
    table = write_table(tmp_path / "t.tsv", [row(name)])
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    with Image.open(tmp_path / "crop/기쁨" / name) as face:
        assert (face.format, face.size) == (kind, (40, 50))
