"""video.py, run as a user runs it: files, streams and cameras, marked videos and logs."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers import one_line_error, run
from tests.photos import ASTRONAUT, write_video
from tests.trainings import CLASSES

pytestmark = pytest.mark.slow
NO_SCREEN = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}


@pytest.fixture
def here(trained, tmp_path):
    """A folder with a copy of the model, to work in."""
    shutil.copy(trained / "model.pt", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two faces that pass each other at different heights, 40 frames, the last 8 without any."""
    head, frames = ASTRONAUT[20:220, 120:330, ::-1], []
    for i in range(40):
        frame = np.full((540, 960, 3), 100, np.uint8)
        if i < 32:
            frame[20:220, 40 + 6 * i : 250 + 6 * i] = head
            frame[320:520, 700 - 5 * i : 910 - 5 * i] = head
        frames.append(frame)
    return write_video(tmp_path_factory.mktemp("clip") / "in.mp4", frames, 20)


def test_video_marks_every_frame_of_a_file(here):
    import cv2

    photo = ASTRONAUT[:256, 60:380, ::-1]
    write_video(here / "in.mp4", [photo] * 6, 25)
    done = run("video.py", "--source", "in.mp4", "--output", "out.mp4", cwd=here)
    assert done.returncode == 0 and "6 frames -> out.mp4" in done.stdout
    video, changed = cv2.VideoCapture(str(here / "out.mp4")), []
    while (step := video.read())[0]:
        changed.append(np.abs(step[1].astype(int) - photo).max(axis=2) > 90)
    assert len(changed) == 6 and all(200 < frame.sum() < 20_000 for frame in changed)
    assert {p.name for p in here.iterdir()} == {"in.mp4", "out.mp4", "model.pt"}


def test_video_follows_faces_and_logs_every_frame(here, clip):
    import cv2

    args = ("--source", clip, "--output", "out.mp4", "--log", "faces.csv")
    done = run("video.py", *args, cwd=here)
    assert done.returncode == 0 and "40 frames -> out.mp4 -> faces.csv" in done.stdout
    with (here / "faces.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["frame"]) for r in rows] == sorted(int(r["frame"]) for r in rows)
    assert {int(r["frame"]) for r in rows} == set(range(40))
    assert all(float(r["timestamp"]) == pytest.approx(int(r["frame"]) / 20, abs=1e-3) for r in rows)
    assert {r["track"] for r in rows if int(r["frame"]) < 32} == {"1", "2"}
    for number in ("1", "2"):
        track = [r for r in rows if r["track"] == number and int(r["frame"]) < 32]
        assert len(track) == 32
        xs, is_low = [int(r["x"]) for r in track], {int(r["y"]) > 270 for r in track}
        moved = xs[-1] - xs[0]
        assert len(is_low) == 1 and (
            130 < moved < 230 if is_low == {False} else -190 < moved < -110
        )
        assert abs(sum(float(track[5][name]) for name in CLASSES) - 100) < 0.1
    assert rows[-1]["track"] == rows[-1]["label"] == "" and rows[-1]["frame"] == "39"

    before, after = (cv2.VideoCapture(str(path)) for path in (clip, here / "out.mp4"))
    assert after.get(cv2.CAP_PROP_FPS) == 20
    by_frame: dict[int, list] = {}
    for r in rows:
        by_frame.setdefault(int(r["frame"]), []).append(r)
    for number in range(40):
        (read_before, _), (read_after, marked) = before.read(), after.read()
        assert read_before and read_after
        green = (marked[:, :, 1].astype(int) - marked[:, :, 0] > 60) & (marked[:, :, 1] > 140)
        for r in by_frame[number]:
            if r["track"] and number < 32:
                x, y, h = (int(r[key]) for key in "xyh")
                assert green[max(0, y + h // 2 - 5) : y + h // 2 + 5, max(0, x - 2) : x + 4].any()
    assert not before.read()[0] and not after.read()[0]


def test_video_logs_json_lines_without_a_screen(here, clip):
    args = ("--source", clip, "--log", "faces.jsonl")
    done = run("video.py", *args, cwd=here, env=NO_SCREEN)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (here / "faces.jsonl").read_text("utf-8").splitlines()]
    assert lines[0]["rect"].startswith("(") and lines[0]["label"] in CLASSES
    assert lines[-1] == {"frame": 39, "timestamp": 1.95, "track": None}
    one_line_error(run("video.py", *args[:2], "--log", "x.txt", cwd=here), ".csv", ".jsonl")


def test_video_reports_a_stream_that_stops_and_keeps_what_was_recorded(here, server):
    """A live stream: JPEGs without an end, until the server hangs up."""
    import cv2

    picture = io.BytesIO()
    Image.fromarray(ASTRONAUT[:300, 80:380]).save(picture, "JPEG")

    def stream(request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        for _ in range(60):
            head = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"
            request.wfile.write(head + picture.getvalue() + b"\r\n")
            request.wfile.flush()
        request.close_connection = True

    server.files = {"/live.mjpg": stream}
    args = ("--source", f"{server.url}/live.mjpg", "--log", "x.csv", "--output", "x.mp4")
    done = run("video.py", *args, cwd=here)
    one_line_error(done, "stream", "sends no more frames")
    assert len((here / "x.csv").read_text("utf-8").splitlines()) > 1
    assert cv2.VideoCapture(str(here / "x.mp4")).read()[0]
    assert not [p for p in here.iterdir() if p.name.startswith(".part")]


def test_video_never_writes_over_its_source(here):
    (here / "in.mp4").write_bytes(b"a video")
    done = run("video.py", "--source", "in.mp4", "--output", "./in.mp4", cwd=here)
    one_line_error(done, "is the source itself")
    assert (here / "in.mp4").read_bytes() == b"a video"


@pytest.mark.parametrize(
    ("source", "word"), [("x.mp4", "not a video"), ("none.mp4", "no such file"), ("99", "camera")]
)
def test_video_reports_a_source_that_cannot_be_opened(here, source, word):
    (here / "x.mp4").write_bytes(b"no video")
    done = run("video.py", "--source", source, "--output", "o.mp4", cwd=here)
    one_line_error(done, source, word)


@pytest.mark.skipif(os.name == "nt", reason="a screen is always there")
def test_video_without_a_screen_needs_an_output(here):
    one_line_error(run("video.py", cwd=here, env=NO_SCREEN), "no screen")


def test_video_reports_a_missing_model_in_one_line(tmp_path):
    done = run("video.py", "--output", "o.mp4", "--model_path", "m.pt", cwd=tmp_path)
    one_line_error(done, "m.pt")
    assert not any(tmp_path.iterdir())
