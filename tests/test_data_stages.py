"""downloadImage.py, cropImages.py and dataPreparation.py, run as a user runs them."""

from __future__ import annotations

import gzip
import io
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import unicodedata
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from tests.helpers import (
    box_cell,
    command,
    jpeg,
    make_faces,
    name_of,
    one_line_error,
    row,
    run,
    tree,
    write_table,
)
from utils.data.annotations import Table


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
    assert sum(server.requests.values()) == 3
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
        "redirect": (to_a_file, "not an http"),
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

    done = run("downloadImage.py", "--input", table, "--timeout", 1, "--retries", 1, cwd=tmp_path)
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
    asked = server.requests[f"/{good}"]
    done = run("downloadImage.py", "--input", log, "--timeout", 5, cwd=tmp_path)
    assert done.returncode == 1 and f"{len(causes)} downloaded" in done.stdout
    assert len(reasons(log)) == 6 and server.requests[f"/{good}"] == asked


def test_a_server_that_compresses_is_understood(tmp_path, server):
    name = name_of("기쁨")
    server.files = {f"/{name}": zipped}
    table = write_table(tmp_path / "t.tsv", [row(name, f"{server.url}/{name}")])
    assert run("downloadImage.py", "--input", table, cwd=tmp_path).returncode == 0
    assert tree(tmp_path / "original") == {f"기쁨/{name}": jpeg()}


class Moody:
    """Answers in a bad way a few times before it gives the file."""

    def __init__(self, content: bytes, *moods) -> None:
        self.content, self.moods, self.times = content, list(moods), []

    def __call__(self, handler) -> None:
        self.times.append(time.monotonic())
        if self.moods:
            self.moods.pop(0)(handler)
        else:
            answer(handler, 200, self.content)


def answer(handler, status, content=b"", **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def status(code, **headers):
    return lambda handler: answer(handler, code, **headers)


def reset(handler):
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True


def page(handler):
    answer(handler, 200, b"<html>busy, come again</html>")


def short_without_length(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(jpeg((500, 500))[:1500])
    handler.close_connection = True


def trickle(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


def trickle_in_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


def announced(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "99999999999")
    handler.end_headers()
    handler.close_connection = True


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


def test_what_may_pass_is_tried_again(tmp_path, server):
    later = status(429, Retry_After="1")
    moods = {
        "busy": [status(503), status(500)],
        "later": [later],
        "reset": [reset, reset],
        "cut": [short, short_without_length],
        "page": [page],
        "stalls": [stalls],
        "mixed": [later, reset, page],
    }
    rows = []
    for i, (kind, bad) in enumerate(moods.items()):
        path = f"/{kind}_기쁨_.jpg"
        server.files[path] = Moody(jpeg((30 + i, 40)), *bad)
        rows.append(row(path[1:], server.url + path))
    table = write_table(tmp_path / "t.tsv", rows)
    done = run("downloadImage.py", "--input", table, "--timeout", 1, cwd=tmp_path)
    assert done.returncode == 0, (tmp_path / "download.error.log").read_text()
    good = {f"기쁨{path}": moody.content for path, moody in server.files.items()}
    assert tree(tmp_path / "original") == good
    asked = {kind: server.requests[f"/{kind}_기쁨_.jpg"] for kind in moods}
    assert asked == {kind: 1 + len(bad) for kind, bad in moods.items()}
    first, second = server.files["/later_기쁨_.jpg"].times
    assert second - first >= 1


def test_a_server_that_fails_at_random_costs_no_photo(tmp_path, server):
    chance = random.Random(0)
    later = status(429, Retry_After="1")
    moods = [status(500), status(503), later, reset, short, page, short_without_length]
    rows, bad = [], {"gone": status(404), "never": status(500), "html": page}
    for i in range(60):
        path = f"/{i}_기쁨_.jpg"
        server.files[path] = Moody(jpeg((30 + i, 40)), *chance.choices(moods, k=i % 4))
        rows.append(row(path[1:], server.url + path))
    good = {f"기쁨{path}": moody.content for path, moody in server.files.items()}
    for kind, how in bad.items():
        server.files[f"/{kind}_기쁨_.jpg"] = how
        rows.append(row(f"{kind}_기쁨_.jpg", f"{server.url}/{kind}_기쁨_.jpg"))
    table = write_table(tmp_path / "t.tsv", rows)
    done = run("downloadImage.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 1 and "60 downloaded, 0 already there, 3 failed" in done.stdout
    assert tree(tmp_path / "original") == good
    told = reasons(tmp_path / "download.error.log")
    assert told["gone_기쁨_.jpg"] == "HTTP status 404 Not Found"
    assert told["never_기쁨_.jpg"] == "HTTP status 500 Internal Server Error (tried 4 times)"
    assert told["html_기쁨_.jpg"] == "an HTML page, not an image (tried 4 times)"


def test_what_will_not_pass_is_tried_once(tmp_path, server):
    server.files = {
        "/gone_기쁨_.jpg": status(410),
        "/secret_기쁨_.jpg": status(403),
        "/endless_기쁨_.jpg": endless,
        "/announced_기쁨_.jpg": announced,
        "/loop_기쁨_.jpg": status(302, Location="/loop_기쁨_.jpg".encode().decode("latin-1")),
        "/months_기쁨_.jpg": status(429, Retry_After="9000"),
        "/trickle_기쁨_.jpg": trickle,
        "/headers_기쁨_.jpg": trickle_in_headers,
    }
    rows = [row(path[1:], server.url + path) for path in server.files]
    table = write_table(tmp_path / "t.tsv", rows)
    limits = ("--deadline", 2, "--max_mb", 1)
    done = run("downloadImage.py", "--input", table, *limits, cwd=tmp_path)
    assert done.returncode == 1 and "0 downloaded" in done.stdout
    told = reasons(tmp_path / "download.error.log")
    for kind, why in {
        "gone": "HTTP status 410 Gone",
        "secret": "HTTP status 403 Forbidden",
        "endless": "larger than 1 MB",
        "announced": "larger than 1 MB",
        "loop": "more than 10 redirects",
        "months": "asks to wait 9000 seconds",
        "trickle": "not complete after 2 seconds",
        "headers": "not complete after 2 seconds: 0 bytes",
    }.items():
        assert why in told[f"{kind}_기쁨_.jpg"]
    assert server.requests.pop("/loop_기쁨_.jpg") == 11 and set(server.requests.values()) == {1}


def test_answers_that_make_no_sense_are_reasons_like_any_other(tmp_path, server):
    server.files = {
        "/redirect_기쁨_.jpg": status(302, Location="http://[::1"),
        "/later_기쁨_.jpg": status(503, Retry_After="Fri, 31 Dec 99999 23:59:59 GMT"),
        "/talks_기쁨_.jpg": lambda handler: (
            handler.send_response(403, "no" * 20000),
            handler.send_header("Content-Length", "0"),
            handler.end_headers(),
        ),
        "/quotes_기쁨_.jpg": lambda handler: (
            handler.send_response(404, 'gone"'),
            handler.send_header("Content-Length", "0"),
            handler.end_headers(),
        ),
    }
    rows = [row(path[1:], server.url + path, TaskC_result='"a') for path in server.files]
    table = write_table(tmp_path / "t.tsv", rows)
    args = ("--input", table, "--retries", 1)
    assert run("downloadImage.py", *args, cwd=tmp_path).returncode == 1
    log = tmp_path / "download.error.log"
    told = reasons(log)
    assert "not an address" in told["redirect_기쁨_.jpg"]
    assert told["later_기쁨_.jpg"] == "HTTP status 503 Service Unavailable (tried 2 times)"
    assert len(told["talks_기쁨_.jpg"]) < 1100
    assert {found["TaskC_result"] for found in Table(log, ())} == {'"a'}


def test_connections_are_kept_and_no_host_is_flooded(tmp_path, server):
    names = [name_of("기쁨", i) for i in range(60)]
    server.files = dict.fromkeys((f"/{name}" for name in names), jpeg())
    server.delay = 0.01
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    cap = ("--workers", 20, "--per_host", 3)
    assert run("downloadImage.py", "--input", table, *cap, cwd=tmp_path).returncode == 0
    assert len(tree(tmp_path / "original")) == 60
    assert server.most_at_once == 3 and server.connections == 3


@pytest.mark.skipif(sys.platform != "linux", reason="many names of 127.0.0.1")
def test_many_hosts_on_a_system_that_allows_few_open_files(tmp_path, server):
    port = server.url.rpartition(":")[2]
    names = [name_of("기쁨", i) for i in range(600)]
    server.files = dict.fromkeys((f"/{name}" for name in names), jpeg())
    hosts = [
        "127.0.0.1",
        "127.0.1",
        "127.1",
        "localhost",
        "0x7f.1",
        "0177.1",
        "2130706433",
        "0x7f.0.1",
        "0x7f000001",
    ]
    rows = [row(n, f"http://{hosts[i // 70]}:{port}/{n}") for i, n in enumerate(names)]
    stage = command("downloadImage.py", "--input", write_table(tmp_path / "t.tsv", rows))
    limited = ["bash", "-c", 'ulimit -Sn 128; exec "$@"', "-", *stage]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(tree(tmp_path / "original")) == 600


def test_one_name_from_two_addresses_is_an_error(tmp_path, server):
    name = name_of("기쁨")
    server.files = {"/a": jpeg(colour="red"), "/b": jpeg(colour="blue")}
    rows = [row(name, f"{server.url}/{path}") for path in ("a", "b", "a")]
    done = run("downloadImage.py", "--input", write_table(tmp_path / "t.tsv", rows), cwd=tmp_path)
    assert done.returncode == 1 and "(repeated rows skipped: 1)" in done.stdout
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


def test_crops_of_photos_of_every_kind(tmp_path):
    grey = Image.new("L", (80, 80), 60)
    grey.paste(190, (20, 20, 60, 60))
    photos = {f"{mode}_기쁨_.png": grey.convert(mode) for mode in ("L", "P", "RGBA", "1")}
    photos["16 bits_기쁨_.png"] = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    photos["CMYK_기쁨_.jpg"] = grey.convert("CMYK")
    photos["progressive_기쁨_.jpg"] = grey
    rows = []
    for name, photo in photos.items():
        store(tmp_path, name, b"")
        photo.save(tmp_path / "original/기쁨" / name, progressive=True)
        rows.append(row(name, box=box_cell(25, 25, 55, 55)))
    table = write_table(tmp_path / "t.tsv", rows)
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    for name in photos:
        with Image.open(tmp_path / "crop/기쁨" / name) as face:
            assert face.size == (30, 30) and face.mode in ("L", "RGB")
            assert name[0] == "1" or abs(np.asarray(face.convert("L")).mean() - 190) < 4


def test_colours_are_kept_and_meant_as_the_profile_says(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = Image.new("RGB", (80, 80), (200, 100, 50))
    wanted = {"plain_기쁨_.jpg": None, "profile_기쁨_.jpg": profile}
    for name, kept in wanted.items():
        store(tmp_path, name, b"")
        path = tmp_path / "original/기쁨" / name
        photo.save(path, quality=95, comment=b"secret", **({"icc_profile": kept} if kept else {}))
    table = write_table(tmp_path / "t.tsv", [row(name) for name in wanted])
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    for name, kept in wanted.items():
        content = (tmp_path / "crop/기쁨" / name).read_bytes()
        with Image.open(io.BytesIO(content)) as face:
            assert face.info.get("icc_profile") == kept
            assert np.abs(np.asarray(face).astype(int) - (200, 100, 50)).max() < 4
        assert b"secret" not in content


def test_a_killed_worker_costs_no_photo_but_the_one_that_kills(tmp_path):
    names = {
        i: f"{kind}_{i}_기쁨_.jpg" for i, kind in enumerate(["good"] * 20 + ["once", "deadly"])
    }
    for name in names.values():
        store(tmp_path, name, jpeg((80, 80)))
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
    told = reasons(tmp_path / "crop.error.log")
    assert list(told) == [names[21]] and "killed twice" in told[names[21]]


def test_the_summary_says_how_annotators_agree(tmp_path):
    rows = []
    for i, seen in enumerate(
        ("기쁨 기쁨 기쁨", "슬픔 슬픔 슬픔", "기쁨 슬픔 슬픔", "기쁨 슬픔 중립")
    ):
        store(tmp_path, name_of("기쁨", i), jpeg())
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


def test_the_contact_sheet_shows_faces_of_each_class(tmp_path):
    colours = {"기쁨": (250, 0, 0), "슬픔": (0, 250, 0)}
    rows = []
    for emotion, colour in colours.items():
        for i in range(3):
            store(tmp_path, name_of(emotion, i), jpeg(colour=colour), emotion)
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


def test_a_profile_that_is_none_spoils_no_other_photo(tmp_path):
    rows = []
    for mode in ("CMYK", "RGB"):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags.tagtype[34675] = 3  # where the colour profile should be, a whole number
        tags[34675] = 5
        store(tmp_path, f"{mode}_기쁨_.tif", b"")
        path = tmp_path / f"original/기쁨/{mode}_기쁨_.tif"
        Image.new(mode, (80, 80)).save(path, tiffinfo=tags)
        rows.append(row(path.name))
    table = write_table(tmp_path / "t.tsv", rows)
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0


def decompose(folder) -> None:
    """Give the folder, and what is in it, names as a Mac stores them."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))


def test_folders_that_a_mac_has_decomposed(tmp_path):
    name = name_of("기쁨")
    store(tmp_path, name, jpeg())
    decompose(tmp_path / "original")
    table = write_table(tmp_path / "t.tsv", [row(name)])
    done = run("downloadImage.py", "--input", table, cwd=tmp_path)
    assert "0 downloaded, 1 already there" in done.stdout
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    decompose(tmp_path / "crop")
    done = run("cropImages.py", "--input", table, cwd=tmp_path)
    assert "0 cropped, 1 already there" in done.stdout and "기쁨 1" in done.stdout
    assert len(tree(tmp_path / "crop")) == 1
    table = write_table(tmp_path / "t.tsv", [row(name, seen="슬픔 슬픔 슬픔")])
    assert run("cropImages.py", "--input", table, cwd=tmp_path).returncode == 0
    [only] = tree(tmp_path / "crop")
    assert unicodedata.normalize("NFC", only) == f"슬픔/{name}"


def test_one_name_in_both_forms_is_one_name(tmp_path):
    name = name_of("기쁨")
    store(tmp_path, name, jpeg())
    decomposed = unicodedata.normalize("NFD", name)
    rows = [row(name), row(decomposed, seen="슬픔 슬픔 슬픔")]
    done = run("cropImages.py", "--input", write_table(tmp_path / "t.tsv", rows), cwd=tmp_path)
    assert done.returncode == 1 and "earlier row" in done.stderr
    assert list(tree(tmp_path / "crop")) == [f"기쁨/{name}"]


def test_a_retry_keeps_to_its_log(tmp_path, server):
    names = [name_of("기쁨", i) for i in range(6)]
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    args = ("--shard", "2/2", "--log_dir", "logs", "--output", "photos")
    done = run("downloadImage.py", "--input", table, *args, cwd=tmp_path)
    log = tmp_path / "logs/download.error.2-of-2.log"
    again = done.stdout.split("to retry these rows: python ")[1].split()
    assert 0 < len(reasons(log)) < 6
    good = next(iter(reasons(log)))
    server.files = {f"/{good}": jpeg()}
    done = run(*again, cwd=tmp_path)
    assert good not in reasons(log) and list(tree(tmp_path / "photos")) == [f"기쁨/{good}"]
    server.files = {f"/{name}": jpeg() for name in names}
    assert run(*again, cwd=tmp_path).returncode == 0
    assert {p.name for p in tmp_path.iterdir()} == {"t.tsv", "logs", "photos"} and not log.exists()


def test_a_run_that_could_not_run_leaves_the_log(tmp_path, server):
    table = write_table(tmp_path / "t.tsv", [row(name_of("기쁨"), f"{server.url}/none")])
    run("downloadImage.py", "--input", table, cwd=tmp_path)
    before = tree(tmp_path)
    done = run("downloadImage.py", "--input", table, "--ray", "127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 2 and tree(tmp_path) == before


@pytest.mark.skipif(os.name == "nt", reason="signals, pipes")
@pytest.mark.parametrize("seconds", [0.35, 0.6, 1.2])
def test_ctrl_c_at_a_terminal_is_one_line(tmp_path, seconds):
    (tmp_path / "original/기쁨").mkdir(parents=True)
    for i in range(300):
        (tmp_path / "original/기쁨" / name_of("기쁨", i)).write_bytes(jpeg((1500, 1000)))
    rows = [row(name_of("기쁨", i)) for i in range(300)]
    words = command("cropImages.py", "--input", write_table(tmp_path / "t.tsv", rows))
    with subprocess.Popen(
        words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as stage:
        time.sleep(seconds)
        os.killpg(stage.pid, signal.SIGINT)  # as a terminal does
        _, errors = stage.communicate()
    if stage.returncode == 130:  # and not done before
        assert errors == b"cropImages.py: interrupted; run it again to finish\n"
    assert b"Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="pipes")
def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    one_line_error(run("cropImages.py", "--input", "pipe", cwd=tmp_path), "pipe", "several times")


# --- both, on several machines


def test_shards_are_parts_of_the_whole(tmp_path, server):
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
    logs = [reasons(tmp_path / f"download.error.{i}-of-3.log") for i in (1, 2, 3)]
    assert sum(map(len, logs)) == 10 and len({name for log in logs for name in log}) == 10
    assert sum(bool(log) for log in logs) > 1


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "1/", "a/b", "1/0", "-1/3", "1/3/5"])
def test_a_part_that_is_none_is_refused(tmp_path, part):
    one_line_error(run("cropImages.py", f"--shard={part}", cwd=tmp_path), "--shard", part)


# --- dataPreparation.py


def sets_of(data) -> dict[str, str]:
    """class/name → set; fails where a photo is in two."""
    found: dict[str, str] = {}
    for path in tree(data):
        if "/" in path:
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


@pytest.mark.parametrize("first", ["link", "copy", "symlink"])
@pytest.mark.parametrize("then", ["link", "copy", "symlink"])
def test_each_mode_after_each_other(tmp_path, first, then):
    make_faces(tmp_path / "crop", ["x", "y"], 12)
    for mode in (first, then):
        assert run("dataPreparation.py", "--mode", mode, cwd=tmp_path).returncode == 0
    assert len(sets_of(tmp_path / "data")) == 24
    for path, name in sets_of(tmp_path / "data").items():
        source, there = tmp_path / "crop" / path, tmp_path / "data" / name / path
        assert there.read_bytes() == source.read_bytes()
        assert there.is_symlink() == (then == "symlink")
        if then == "copy":
            assert not there.samefile(source)
    if then == "symlink":  # both folders can move together
        (tmp_path / "moved").mkdir()
        for name in ("crop", "data"):
            (tmp_path / name).rename(tmp_path / "moved" / name)
        assert len(sets_of(tmp_path / "moved/data")) == 24


def test_links_whose_photo_is_gone_are_taken_out(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 12)
    run("dataPreparation.py", "--mode", "symlink", cwd=tmp_path)
    (tmp_path / "crop/x/0000.png").unlink()
    assert run("dataPreparation.py", "--mode", "symlink", cwd=tmp_path).returncode == 0
    assert not [
        p for p in (tmp_path / "data").rglob("*.png") if p.name == "0000.png" and "x" in p.parts
    ]


def test_copies_of_a_photo_stay_in_one_set_and_contradictions_are_told(tmp_path):
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
    found = sets_of(tmp_path / "data")
    for i in range(10):
        names = [f"x/{i:04d}.png", f"x/{i}a.png", f"x/{i}b.png", *([f"y/other{i}.png"] * (i < 2))]
        assert len({found[name] for name in names}) == 1
    assert Counter(found.values()) == {"train": 82, "validation": 10, "test": 10}
    listed = (tmp_path / "data/copies.tsv").read_text().splitlines()
    assert listed[0] == "same\tclass\tfile\tset" and len(listed) == 33
    shutil.rmtree(crop / "y")
    for path in crop.rglob("*[ab].png"):
        path.unlink()
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "data/copies.tsv").exists()


def test_no_subject_is_in_two_sets_if_they_are_not_to_be(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 200)
    chance = random.Random(0)
    for path in (tmp_path / "crop").rglob("*.png"):
        path.rename(path.with_name(f"s{chance.randrange(40):02d}_{path.parent.name}_{path.name}"))
    done = run("dataPreparation.py", cwd=tmp_path)
    assert re.search(r"^\d+ of 40 subjects are in more than one set", done.stdout, re.M)

    done = run("dataPreparation.py", "--group", "subject", cwd=tmp_path)
    assert "none of 40 subjects is in more than one set" in done.stdout
    sets = {}
    for path, name in sets_of(tmp_path / "data").items():
        sets.setdefault(path.split("/")[1].split("_")[0], set()).add(name)
    assert len(sets) == 40 and all(len(names) == 1 for names in sets.values())
    rows = [line.split("\t") for line in (tmp_path / "data/split.tsv").read_text().splitlines()]
    assert rows[0] == ["file", "class", "subject", "set"] and len(rows) == 401
    assert all(row[2] == row[0].split("_")[0] for row in rows[1:])


@pytest.mark.parametrize(
    ("name", "word"), [("IMG_{}.png", "'IMG'"), ("{}.png", "no file name begins with <subject>_")]
)
def test_names_that_tell_no_subjects_cannot_be_grouped(tmp_path, name, word):
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    for path in (tmp_path / "crop").rglob("*.png"):
        path.rename(path.with_name(name.format(path.stem)))
    done = run("dataPreparation.py", "--group", "subject", cwd=tmp_path)
    one_line_error(done, "--group subject", word)
    assert "subjects" not in run("dataPreparation.py", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "line", ["../x.png\tx\t\ttrain", "x.png\t..\t\ttrain", "x.png\tx\t\t..", "x"]
)
def test_a_manifest_can_have_nothing_removed_elsewhere(tmp_path, line):
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/split.tsv").write_text(f"file\tclass\tsubject\tset\n{line}\n")
    before = tree(tmp_path)
    one_line_error(run("dataPreparation.py", cwd=tmp_path), "not a list that this script wrote")
    assert tree(tmp_path) == before


def test_names_that_no_terminal_should_show_are_refused_and_others_are_kept(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 10)
    (tmp_path / "crop/x/0001.png").rename(tmp_path / "crop/x/a\\1.png")
    for _ in range(2):
        assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    (tmp_path / "crop/y").rename(tmp_path / "crop/y\x1b[31m")
    one_line_error(run("dataPreparation.py", cwd=tmp_path), "a name with a control character")


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


def test_a_split_that_a_mac_has_decomposed_stays_one(tmp_path):
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


def test_two_splits_at_once_are_made_one_after_the_other(tmp_path):
    make_faces(tmp_path / "crop", ["x", "y"], 300, size=2)
    both = [
        subprocess.Popen(command("dataPreparation.py", "--seed", seed), cwd=tmp_path, stdout=-3)
        for seed in (1, 2)
    ]
    assert [stage.wait() for stage in both] == [0, 0]
    assert len(sets_of(tmp_path / "data")) == 600


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
