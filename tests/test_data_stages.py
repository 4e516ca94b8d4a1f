"""downloadImage.py, cropImages.py and dataPreparation.py, run as a user runs them."""

from __future__ import annotations

import gzip
import os
import time
import unicodedata
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tests.helpers import (
    box_cell,
    jpeg,
    make_faces,
    name_of,
    one_line_error,
    row,
    run,
    tree,
    write_table,
)
from utils.annotations import Table


def reasons(path) -> dict[str, str]:
    """An error log as name → reason."""
    return {r["name"]: r.error[0] for r in Table(path, ())} if path.exists() else {}


# --- downloadImage.py


def test_download_sorts_by_emotion_asked_for_and_is_done_once(tmp_path, server):
    # The last one is a name of 222 bytes, but of 432 when it is decomposed.
    last = f"a b&(c)_{'가' * 60}_분노_실내_2020.jpg"
    names = [name_of("기쁨", 1), name_of("슬픔", 2), last]
    server.files = {f"/{name}": jpeg(colour=(i * 50, 0, 0)) for i, name in enumerate(names)}
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    done = run("downloadImage.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "3 downloaded, 0 already there, 0 failed" in done.stdout
    assert tree(tmp_path / "original") == {
        f"{emotion}/{name}": server.files[f"/{name}"]
        for emotion, name in zip(("기쁨", "슬픔", "분노"), names, strict=True)
    }
    assert all("facial-emotion-recognition" in agent for agent in server.agents)
    again = run("downloadImage.py", "--input", table, cwd=tmp_path)
    assert "0 downloaded, 3 already there, 0 failed" in again.stdout
    assert sum(server.asked.values()) == 3
    assert not (tmp_path / "download.error.log").exists()


def test_decomposed_names_are_stored_composed(tmp_path, server):
    name = name_of("기쁨")
    decomposed = unicodedata.normalize("NFD", name)
    server.files = {f"/{decomposed}": jpeg()}
    table = write_table(tmp_path / "t.tsv", [row(decomposed, f"{server.url}/{decomposed}")])
    assert run("downloadImage.py", "--input", table, cwd=tmp_path).returncode == 0
    assert list(tree(tmp_path / "original")) == [f"기쁨/{name}"]


def short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "5678")
    handler.end_headers()
    handler.wfile.write(jpeg()[:600])
    handler.close_connection = True


def zipped(handler):
    content = gzip.compress(jpeg())
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def to_a_file(handler):
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/hostname")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def silent(handler):
    time.sleep(3)
    handler.close_connection = True


def stalls(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "70000")
    handler.end_headers()
    handler.wfile.write(bytes(65536))
    handler.wfile.flush()
    silent(handler)


def test_what_fails_is_logged_with_its_reason_and_tried_again(tmp_path, server):
    causes = {
        "gone": (None, "404"),
        "page": (b"<!DOCTYPE html><html>", "HTML page"),
        "empty": (b"", "empty file"),
        "text": (b"sorry", "a text"),
        "short": (short, "truncated: 600 of 5,678 bytes"),
        "redirect": (to_a_file, "request failed"),
        "silent": (silent, "no answer for 1 seconds"),
        "stalls": (stalls, "stalled after 65,536 bytes"),
    }
    rows, expected = [], {}
    for cause, (content, reason) in causes.items():
        name = f"{cause}_여_20_기쁨_실내_2020.jpg"
        server.files[f"/{name}"] = content
        rows.append(row(name, f"{server.url}/{name}"))
        expected[name] = reason
    for name, url, reason in (
        ("../../x_기쁨_.jpg", f"{server.url}/x.jpg", "not safe"),
        ("/etc/x_기쁨_.jpg", f"{server.url}/x.jpg", "not safe"),
        ("local_기쁨_.jpg", "file:///etc/passwd", "not an http"),
        ("odd_기쁨_.jpg", "http://[::1/", "not an http"),
        ("plain.jpg", f"{server.url}/x.jpg", "none of the seven"),
        ("closed_기쁨_.jpg", "http://127.0.0.1:9/x.jpg", "connection failed"),
    ):
        rows.append(row(name, url))
        expected[name] = reason
    good = name_of("기쁨")
    server.files[f"/{good}"] = jpeg()
    table = write_table(tmp_path / "t.tsv", [*rows, row(good, f"{server.url}/{good}")])

    done = run("downloadImage.py", "--input", table, "--timeout", 1, cwd=tmp_path)
    assert (
        done.returncode == 1 and f"1 downloaded, 0 already there, {len(rows)} failed" in done.stdout
    )
    log = tmp_path / "download.error.log"
    told = reasons(log)
    assert told.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in told[name], (name, told[name])
    assert list(tree(tmp_path / "original")) == [f"기쁨/{good}"]
    assert {p.name for p in tmp_path.iterdir()} == {"t.tsv", "original", log.name}
    assert not (tmp_path.parent / "x_기쁨_.jpg").exists()

    for cause in causes:
        server.files[f"/{cause}_여_20_기쁨_실내_2020.jpg"] = jpeg()
    asked = server.asked[f"/{good}"]
    done = run("downloadImage.py", "--input", log, "--timeout", 5, cwd=tmp_path)
    assert done.returncode == 1 and f"{len(causes)} downloaded" in done.stdout
    assert len(reasons(log)) == 6 and server.asked[f"/{good}"] == asked


def test_a_server_that_compresses_is_understood(tmp_path, server):
    name = name_of("기쁨")
    server.files = {f"/{name}": zipped}
    table = write_table(tmp_path / "t.tsv", [row(name, f"{server.url}/{name}")])
    assert run("downloadImage.py", "--input", table, cwd=tmp_path).returncode == 0
    assert tree(tmp_path / "original") == {f"기쁨/{name}": jpeg()}


def test_one_name_from_two_addresses_is_an_error(tmp_path, server):
    name = name_of("기쁨")
    server.files = {"/a": jpeg(colour="red"), "/b": jpeg(colour="blue")}
    rows = [row(name, f"{server.url}/{path}") for path in ("a", "b", "a")]
    done = run("downloadImage.py", "--input", write_table(tmp_path / "t.tsv", rows), cwd=tmp_path)
    assert done.returncode == 1 and "(1 rows were repeated)" in done.stdout
    assert "earlier row" in reasons(tmp_path / "download.error.log")[name]
    assert tree(tmp_path / "original") == {f"기쁨/{name}": server.files["/a"]}


def test_folders_and_log_go_where_they_are_told(tmp_path, server):
    name = name_of("기쁨")
    table = write_table(tmp_path / "t.tsv", [row(name, f"{server.url}/none")])
    args = ("--input", table, "--output", "a/photos", "--log_dir", "b/logs")
    assert run("downloadImage.py", *args, cwd=tmp_path).returncode == 1
    assert {p.name for p in tmp_path.iterdir()} == {"t.tsv", "a", "b"}
    assert (tmp_path / "b/logs/download.error.log").exists()


# --- cropImages.py


def store(tmp_path, name, content, emotion="기쁨"):
    folder = tmp_path / "original" / emotion
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_crop_by_majority_with_the_consensus_box(tmp_path):
    rows = []
    for i, seen in enumerate(("기쁨 기쁨 기쁨", "기쁨 슬픔 슬픔", "기쁨 슬픔 중립")):
        store(tmp_path, name_of("기쁨", i), jpeg((200, 100)))
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
    again = run("cropImages.py", "--input", tmp_path / "t.tsv", cwd=tmp_path)
    assert "0 cropped, 3 already there, 0 failed" in again.stdout


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_are_of_the_photo_as_displayed(tmp_path, orientation):
    shown = Image.new("RGB", (200, 120), "black")
    shown.paste("white", (150, 20, 180, 60))
    turn = {1: 0, 3: 180, 6: 90, 8: 270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x9286] = b"where it was taken"
    name = name_of("기쁨")
    store(tmp_path, name, b"")
    shown.rotate(turn, expand=True).save(tmp_path / "original/기쁨" / name, quality=95, exif=exif)
    table = write_table(tmp_path / "t.tsv", [row(name, box=box_cell(150, 20, 180, 60))])
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    with Image.open(tmp_path / "crop/기쁨" / name) as face:
        assert face.size == (30, 40) and np.asarray(face).mean() > 245
        assert not face.getexif() and "comment" not in face.info


def test_bad_rows_and_bad_photos_have_a_log_each(tmp_path):
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
            store(tmp_path, f"{kind}_기쁨_.jpg", content)
    good = name_of("기쁨")
    store(tmp_path, good, whole)
    table = write_table(tmp_path / "t.tsv", [cells for cells, _, _ in bad.values()] + [row(good)])
    done = run("cropImages.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 1 and "1 cropped, 0 already there, 7 failed" in done.stdout
    for log in ("parse", "crop"):
        expected = {cells["name"] for cells, _, kind in bad.values() if kind == log}
        assert reasons(tmp_path / f"{log}.error.log").keys() == expected
    assert list(tree(tmp_path / "crop")) == [f"기쁨/{good}"]

    store(tmp_path, "missing_기쁨_.jpg", whole)
    done = run("cropImages.py", "--input", "crop.error.log", cwd=tmp_path)
    assert done.returncode == 1 and "1 cropped, 0 already there, 3 failed" in done.stdout
    assert len(reasons(tmp_path / "crop.error.log")) == 3
    assert len(reasons(tmp_path / "parse.error.log")) == 3


def test_a_photo_that_is_labelled_anew_changes_its_folder(tmp_path):
    name = name_of("기쁨")
    store(tmp_path, name, jpeg())
    for seen, label in (("기쁨 기쁨 기쁨", "기쁨"), ("슬픔 슬픔 기쁨", "슬픔")):
        table = write_table(tmp_path / "t.tsv", [row(name, seen=seen)])
        assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
        assert list(tree(tmp_path / "crop")) == [f"{label}/{name}"]


def test_no_photo_is_lost_to_a_crop_that_fails_or_goes_astray(tmp_path):
    name = name_of("기쁨")
    store(tmp_path, name, jpeg())
    table = write_table(tmp_path / "t.tsv", [row(name, seen="슬픔 슬픔 슬픔")])
    done = run("cropImages.py", "--input", table, "--output", "original", cwd=tmp_path)
    one_line_error(done, "same folder")
    assert list(tree(tmp_path / "original")) == [f"기쁨/{name}"]
    run("cropImages.py", "--input", table, cwd=tmp_path)
    store(tmp_path, name, b"broken since")
    table = write_table(tmp_path / "t.tsv", [row(name, seen="분노 분노 분노")])
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 1
    assert list(tree(tmp_path / "crop")) == [f"슬픔/{name}"]


def test_a_contradiction_stays_one_when_it_is_tried_again(tmp_path):
    name = name_of("기쁨")
    store(tmp_path, name, jpeg())
    rows = [row(name, seen=seen) for seen in ("기쁨 기쁨 기쁨", "슬픔 슬픔 슬픔")]
    table = write_table(tmp_path / "t.tsv", rows)
    for source in (table, "parse.error.log", "parse.error.log"):
        assert run("cropImages.py", "--input", source, cwd=tmp_path).returncode == 1
        assert list(tree(tmp_path / "crop")) == [f"기쁨/{name}"]
        assert "earlier row" in reasons(tmp_path / "parse.error.log")[name]


def test_a_face_that_no_file_can_hold_is_a_row_in_the_log(tmp_path):
    store(tmp_path, "wide_기쁨_.webp", jpeg((17000, 20)))
    store(tmp_path, name_of("기쁨"), jpeg())
    rows = [row("wide_기쁨_.webp", box=box_cell(0, 0, 17000, 20)), row(name_of("기쁨"))]
    table = write_table(tmp_path / "t.tsv", rows)
    done = run("cropImages.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 1 and "1 cropped, 0 already there, 1 failed" in done.stdout
    assert "cannot be written" in reasons(tmp_path / "crop.error.log")["wide_기쁨_.webp"]


# --- dataPreparation.py


def sets_of(data) -> dict[str, str]:
    """class/name → set; fails where a photo is in two."""
    found: dict[str, str] = {}
    for path in tree(data):
        if path != "split.tsv":
            name, rest = path.split("/", 1)
            assert rest not in found, f"{rest} in {name} and {found[rest]}"
            found[rest] = name
    return found


def test_split_counts_links_and_leaves_out_unknown(tmp_path):
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
    found = sets_of(tmp_path / "data")
    assert set(found) == {p for p in tree(tmp_path / "crop") if not p.startswith("UNKNOWN")}
    for path, name in found.items():
        assert (tmp_path / "data" / name / path).samefile(tmp_path / "crop" / path)


def test_split_depends_on_the_seed_alone(tmp_path):
    make_faces(tmp_path / "a", ["x", "y"], 40)
    for path in sorted((tmp_path / "a").rglob("*.png"), reverse=True):
        copy = tmp_path / "b" / path.relative_to(tmp_path / "a")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())

    def split(faces, out, *more):
        run("dataPreparation.py", "--input", faces, "--output", out, *more, cwd=tmp_path)
        return sets_of(tmp_path / out)

    one = split("a", "one")
    assert split("b", "two") == one
    assert split("a", "three", "--seed", 1) != one


def test_another_seed_or_ratio_never_leaves_a_photo_in_two_sets(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 30)
    for more in ((), ("--seed", 7), ("--ratio", 50, 25, 25), ("--ratio", 0.8, 0.2, 0)):
        assert run("dataPreparation.py", *more, cwd=tmp_path).returncode == 0
        assert len(sets_of(tmp_path / "data")) == 60
    assert Counter(sets_of(tmp_path / "data").values()) == {"train": 48, "validation": 12}
    (tmp_path / "crop/x/0000.png").rename(tmp_path / "crop/y/moved.png")
    (tmp_path / "crop/x/0001.png").unlink()
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    assert set(sets_of(tmp_path / "data")) == set(tree(tmp_path / "crop"))
    (tmp_path / "crop/x/0002.png").unlink()
    Image.new("L", (5, 5)).save(tmp_path / "crop/x/0002.png")
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    by_name = {p.split("/", 1)[1]: c for p, c in tree(tmp_path / "data").items() if "/" in p}
    assert by_name == tree(tmp_path / "crop")


def test_ratios_are_exact(tmp_path):
    # As floats, 0.7 of 10 is 7 and 0.1 · 3 / 0.3 is less than 1.
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    run("dataPreparation.py", "--ratio", "0.1", "0.1", "0.1", cwd=tmp_path)
    counts = Counter(sets_of(tmp_path / "data").values())
    assert counts == {"train": 8, "validation": 6, "test": 6}


def test_copies_where_links_cannot_be_made(tmp_path):
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


def test_symbolic_links_and_undecodable_folder_names(tmp_path):
    make_faces(tmp_path / "pictures", ["x"], 4)
    for folder in ("y", "z", os.fsdecode("기쁨".encode("cp949"))):
        (tmp_path / "crop" / folder).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "crop" / folder / f"{i}.png").symlink_to(f"../../pictures/x/{i:04d}.png")
    for _ in range(2):
        assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
        files = list((tmp_path / "data/train").rglob("*.png"))
        assert len(files) == 12 and not any(path.is_symlink() for path in files)


def test_a_split_of_its_own_output_is_refused(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    run("dataPreparation.py", cwd=tmp_path)
    before = tree(tmp_path / "data")
    for source in ("data/train", "data"):
        one_line_error(run("dataPreparation.py", "--input", source, cwd=tmp_path), source)
    assert tree(tmp_path / "data") == before


def test_a_folder_with_other_peoples_images_is_left_alone(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 5)
    make_faces(tmp_path / "data/train", ["x"], 2)
    before = tree(tmp_path / "data")
    one_line_error(run("dataPreparation.py", cwd=tmp_path), "not put there by this script")
    assert tree(tmp_path / "data") == before


# --- what no stage can run on


@pytest.mark.parametrize("script", ["downloadImage.py", "cropImages.py"])
@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (bytes(range(256)), "binary"),
        (b"name\n", "no column"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path, script, content, word):
    if content is not None:
        (tmp_path / "t.tsv").write_bytes(content)
    one_line_error(run(script, "--input", "t.tsv", cwd=tmp_path), "t.tsv", word)
    assert {p.name for p in tmp_path.iterdir()} <= {"t.tsv"}


@pytest.mark.parametrize(
    ("script", "args", "word"),
    [
        ("downloadImage.py", ["--input", "."], "directory"),
        ("downloadImage.py", ["--workers", "0"], "--workers"),
        ("downloadImage.py", ["--timeout", "soon"], "--timeout"),
        ("cropImages.py", ["--quality", "101"], "--quality"),
        ("dataPreparation.py", [], "crop: no such folder"),
        ("dataPreparation.py", ["--input", "."], "no class folders"),
        ("dataPreparation.py", ["--ratio", "8", "-1", "1"], "--ratio"),
        ("dataPreparation.py", ["--ratio", "0", "0", "0"], "--ratio"),
        ("dataPreparation.py", ["--sed", "1"], "--sed"),
    ],
)
def test_bad_arguments_are_one_clear_line(tmp_path, script, args, word):
    one_line_error(run(script, *args, cwd=tmp_path), word)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX locales")
@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_hangul_under_any_locale(tmp_path, server, env):
    env |= {"PYTHONCOERCECLOCALE": "0"}
    name = name_of("기쁨")
    server.files = {f"/{name}": jpeg()}
    table = write_table(tmp_path / "표.tsv", [row(name, f"{server.url}/{name}")])
    assert run("downloadImage.py", "--input", table, cwd=tmp_path, env=env).returncode == 0
    done = run("cropImages.py", "--input", table, cwd=tmp_path, env=env)
    assert "기쁨 1  당황 0" in done.stdout
    assert list(tree(tmp_path / "crop")) == [f"기쁨/{name}"]
