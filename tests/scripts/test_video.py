"""video.py, run as a user runs it: files, streams and cameras, marked videos and logs."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.films import cut, grey_frames, noise_frames, read_beep, read_film, turn, write_film
from tests.helpers import command, one_line_error, run
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
    done.stderr = without_model_line(done.stderr)
    one_line_error(done, "stream", "sends no more frames")
    assert len((here / "x.csv").read_text("utf-8").splitlines()) > 1
    assert cv2.VideoCapture(str(here / "x.mp4")).read()[0]
    assert not [p for p in here.iterdir() if p.name.startswith(".part")]


def test_video_never_writes_over_its_source(here):
    (here / "in.mp4").write_bytes(b"a video")
    (here / "link.mp4").symlink_to("in.mp4")
    for source, output in (
        ("in.mp4", "./in.mp4"),
        ("link.mp4", "in.mp4"),
        ((here / "in.mp4").as_uri(), "in.mp4"),
    ):
        done = run("video.py", "--source", source, "--output", output, cwd=here)
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


@pytest.mark.parametrize("env", [NO_SCREEN, {"DISPLAY": ":0"}])
def test_video_without_a_window_needs_an_output(here, env):
    done = run("video.py", "--no_display", "--source", "in.mp4", cwd=here, env=env)
    one_line_error(done, "with --no_display nothing would show: name --output or --log")


@pytest.mark.parametrize("name", ["out.avi", "out", "out.jpg", "out.mp4.txt"])
def test_video_refuses_an_output_that_is_not_a_video(here, name):
    done = run("video.py", "--source", "in.mp4", "--output", name, cwd=here)
    one_line_error(done, f"--output {name}: its name must end in .mp4 or .mov or .mkv")


def test_video_keeps_times_and_sound_and_turns_what_was_filmed_sideways(here):
    times = [0, 0.04, 0.5, 1.0, 1.1, 1.5]
    photo = np.rot90(ASTRONAUT[:256, 60:380, ::-1])
    write_film(here / "in.mp4", [photo] * len(times), times, sound="aac", beep=(0.5, 1.1))
    turn(here / "in.mp4", 6)
    args = ("--source", "in.mp4", "--output", "out.mp4", "--log", "faces.csv")
    assert run("video.py", *args, cwd=here).returncode == 0
    assert read_film(here / "out.mp4")[0] == pytest.approx(times, abs=0.001)
    assert read_beep(here / "out.mp4") == pytest.approx((0.5, 1.1), abs=0.03)
    with (here / "faces.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["timestamp"]) for r in rows] == times and {r["track"] for r in rows} == {"1"}


def test_video_takes_any_name_for_a_file(here):
    for name in ("2021-03-04T10:22:11.mp4", "100%_smile %03d.mp4", "찍은 것 [1].mp4"):
        try:
            write_film(here / "x.mp4", grey_frames(4)).rename(here / name)
        except OSError:
            continue  # this system has no such names
        done = run("video.py", "--source", name, "--output", f"marked {name}", cwd=here)
        assert done.returncode == 0 and "4 frames" in done.stdout, done.stderr
        assert len(read_film(here / f"marked {name}")[0]) == 4


def test_video_keeps_what_it_reads_of_a_film_that_is_cut(here):
    cut(write_film(here / "in.avi", noise_frames(100), codec="mjpeg"), 0.6)
    args = ("--source", "in.avi", "--output", "out.mp4", "--log", "x.csv")
    done = run("video.py", *args, cwd=here)
    count = len(read_film(here / "out.mp4")[0])
    assert done.returncode == 1 and 55 < count < 65 and f"{count} frames" in done.stdout
    assert without_model_line(done.stderr) == (
        f"in.avi: only {count} of 100 frames can be read; is it a partial copy, or damaged?\n"
    )
    assert len((here / "x.csv").read_text("utf-8").splitlines()) == count + 1


def test_video_says_when_the_size_of_the_picture_changes(here):
    with (here / "in.mjpeg").open("wb") as file:
        for size in [(320, 240)] * 3 + [(240, 320)] * 3:
            Image.new("RGB", size, "white").save(file, "JPEG")
    done = run("video.py", "--source", "in.mjpeg", "--output", "out.mp4", cwd=here)
    assert done.returncode == 0 and without_model_line(done.stderr).count("\n") == 1
    assert "from 320x240 to 240x320 pixels at frame 3; it is fitted into 320x240" in done.stderr
    _, brightness = read_film(here / "out.mp4")
    assert len(brightness) == 6 and min(brightness[:3]) > 230 and max(brightness[3:]) < 160


def test_video_tells_streams_that_do_not_come_apart(here):
    """Refused, not found, and silent: each in a line, and within --timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        quiet = f"127.0.0.1:{silent.getsockname()[1]}"
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        for address, message in (
            (f"rtsp://127.0.0.1:{port}/x", "the connection was refused"),
            (f"http://127.0.0.1:{port}/x", "the connection was refused"),
            (f"rtsp://me:secret@{quiet}/x", "no picture in 1 second; a longer --timeout"),
            (f"http://{quiet}/x", "no picture in 1 second; a longer --timeout"),
        ):
            args = ("--source", address, "--timeout", 1, "--log", "x.csv")
            done = run("video.py", *args, cwd=here)
            one_line_error(done, message)
            assert "secret" not in done.stderr
    assert not (here / "x.csv").exists()


def without_model_line(text: str) -> str:
    """Return what a run says on stderr after the line of the model that answers."""
    first, rest = text.split("\n", 1)
    assert first == "model.pt: emotionnet, epoch 1, validation accuracy 100.000%; 기쁨 분노 중립"
    return rest


def start(*args: object, cwd: Path) -> subprocess.Popen:
    words = command("video.py", *args)
    return subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_video_hears_ctrl_c_while_a_stream_is_silent(here, scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x"
        process = start("--source", address, "--log", "x.csv", "--timeout", 600, cwd=here)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)  # so it waits for the answer now
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.decode() == "video.py: interrupted; nothing is recorded yet\n"


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_video_keeps_what_a_live_stream_sent_until_ctrl_c(here, server):
    picture, sent = io.BytesIO(), threading.Event()
    Image.fromarray(ASTRONAUT[:300, 80:380]).save(picture, "JPEG")

    def stream(request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        for number in range(1000):
            head = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"
            request.wfile.write(head + picture.getvalue() + b"\r\n")
            request.wfile.flush()
            time.sleep(0.02)
            if number == 100:
                sent.set()

    server.files = {"/live.mjpg": stream}
    args = ("--source", f"{server.url}/live.mjpg", "--log", "x.csv", "--output", "x.mp4")
    process = start(*args, cwd=here)
    assert sent.wait(60)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    message = without_model_line(error.decode())
    assert message == "video.py: interrupted; what was recorded so far is kept\n"
    with (here / "x.csv").open(encoding="utf-8-sig", newline="") as file:
        logged = {float(r["timestamp"]) for r in csv.DictReader(file)}
    times = read_film(here / "x.mp4")[0]
    assert len(times) > 10 and len(times) == pytest.approx(len(logged), abs=2)
    assert all(min(abs(time - other) for other in logged) < 0.002 for time in times)


def test_video_reports_a_missing_model_in_one_line(tmp_path):
    done = run("video.py", "--output", "o.mp4", "--model_path", "m.pt", cwd=tmp_path)
    one_line_error(done, "m.pt")
    assert not any(tmp_path.iterdir())
