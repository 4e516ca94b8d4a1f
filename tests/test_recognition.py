"""test.py, emotion.py and video.py beyond their first use: figures, many images, video."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from tests.helpers import command, jpeg, make_faces, one_line_error, run
from utils import metrics
from utils.data.dataset import load_dataset
from utils.data.image_folder import make_samples, scan_class_folders
from utils.errors import StageError
from utils.imaging.geometry import Box, add_margin, iou
from utils.inference.checkpoint import Checkpoint
from utils.inference.predict import predict_log_probs
from utils.recognition.face_detection import detect_faces
from utils.recognition.inputs import expand_inputs
from utils.recognition.recognizer import Recognizer
from utils.recognition.tracking import Track, Tracker
from utils.recognition.video import classify_tracks
from utils.recognition.video_io import Frame, VideoReader, VideoWriter

CLASSES = ["기쁨", "분노", "중립"]
ASTRONAUT = skimage.data.astronaut()
FACE = (170, 60, 110, 130)  # x, y, width, height of the astronaut's, about


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data/ and the model.pt that train.py has made of it; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    for i, (name, count) in enumerate({"train": 24, "validation": 8, "test": 6}.items()):
        make_faces(folder / "data" / name, CLASSES, count, seed=i)
    args = ("--amp", "off", "--optimizer", "adam", "--lr", 0.0003, "--batch_size", 8)
    assert run("train.py", *args, "--epochs", 2, cwd=folder).returncode == 0
    return folder


@pytest.fixture
def here(trained, tmp_path):
    """A folder with a copy of the model, to work in."""
    shutil.copy(trained / "model.pt", tmp_path)
    return tmp_path


# --- figures


def test_scores_are_what_they_are_defined_as():
    truth = np.array([0, 0, 0, 1, 1, 2])
    scores = metrics.Scores.of(truth, np.array([0, 0, 1, 1, 0, 0]), 4)
    assert scores.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0] * 4]
    assert (scores.right, scores.total, scores.accuracy) == (3, 6, 0.5)
    assert scores.support.tolist() == [3, 2, 1, 0]
    assert scores.precision.tolist() == [0.5, 0.5, 0, 0]
    assert scores.recall.tolist() == pytest.approx([2 / 3, 0.5, 0, 0])
    assert scores.f1.tolist() == pytest.approx([4 / 7, 0.5, 0, 0])
    assert scores.macro_f1 == pytest.approx((4 / 7 + 0.5) / 3)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 0.5) / 3)


@pytest.mark.parametrize(
    ("right", "total", "interval"),
    [(8, 10, (0.4902, 0.9433)), (0, 10, (0, 0.2775)), (10, 10, (0.7225, 1)),
     (500, 1000, (0.4691, 0.5309))],
)  # fmt: skip
def test_wilsons_interval(right, total, interval):
    assert metrics.wilson(right, total) == pytest.approx(interval, abs=1e-4)


def test_calibration_finds_how_much_too_sure_a_model_is():
    chance = np.random.default_rng(0)
    logits = chance.normal(size=(20_000, 5)) * 2
    probs = np.exp(metrics.scale(logits, 1))
    truth = (probs.cumsum(1) > chance.random((20_000, 1))).argmax(1)
    assert metrics.Reliability.of(probs, truth).ece < 0.02
    boasting = metrics.scale(logits, 1 / 3)
    assert metrics.Reliability.of(np.exp(boasting), truth).ece > 0.15
    temperature = metrics.fit_temperature(boasting, truth)
    assert temperature == pytest.approx(3, rel=0.05)
    honest = np.exp(metrics.scale(boasting, temperature))
    assert metrics.Reliability.of(honest, truth).ece < 0.02


# --- test.py


def test_the_report_says_in_files_what_is_printed(trained, here):
    done = run("test.py", "--data_path", trained / "data", cwd=here)
    assert done.returncode == 0 and "every prediction, and pictures: model-report" in done.stdout
    folder = here / "model-report"
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert f"accuracy {report['accuracy']:.3%} ({report['right']} of 18 images)" in done.stdout
    low, high = report["accuracy_95"]
    assert low < report["accuracy"] <= high and f"{low:.1%} to {high:.1%}" in done.stdout
    with (folder / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "truth", "prediction", *CLASSES] and len(rows) == 18
    assert sum(r["truth"] == r["prediction"] for r in rows) == report["right"]
    for r in rows:
        assert r["file"].startswith(r["truth"]) and (trained / "data/test" / r["file"]).exists()
        probs = [float(r[name]) for name in CLASSES]
        assert CLASSES[int(np.argmax(probs))] == r["prediction"] and abs(sum(probs) - 1) < 1e-5
    with (folder / "confusion.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.reader(file))
    assert [list(map(int, line[1:])) for line in table[1:]] == report["confusion"]
    for name in ("confusion", "reliability", "mistakes"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 100
    assert {p.name for p in here.iterdir()} == {"model.pt", "model-report"}


def test_json_alone_and_another_split_and_output(trained, here):
    args = ("--data_path", trained / "data", "--json", "--split", "validation", "--tta", "tencrop")
    done = run("test.py", *args, "--output", "a/b", cwd=here)
    report = json.loads(done.stdout)
    assert report["images"] == 24 and report["data"].endswith("validation")
    assert report["classes"]["분노"]["support"] == 8 and (here / "a/b/report.json").exists()


def test_several_models_side_by_side(trained, here):
    shutil.copy(here / "model.pt", here / "other.pt")
    args = ("--data_path", trained / "data", "--model_path", "model.pt", "other.pt")
    done = run("test.py", *args, cwd=here)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[0].startswith("| Network | Validation (%) | test (%) |")
    assert len(lines) == 4 and lines[2].count("|") == 10
    assert lines[2].split("|")[1:6] == lines[3].split("|")[1:6] and "4,738,121" in lines[2]
    assert (here / "other-report/report.json").exists()
    done = run("test.py", *args, "--json", cwd=here)
    assert [report["model"] for report in json.loads(done.stdout)] == ["model.pt", "other.pt"]
    one_line_error(run("test.py", *args[:3], "model.pt", "./model.pt", cwd=here), "have the same name")


def test_calibration_is_kept_in_the_model_and_used(trained, here):
    face = trained / "data/test/분노/0000.png"
    [before] = json.loads(run("emotion.py", "--img", face, cwd=here).stdout)
    done = run("test.py", "--calibrate", "--data_path", trained / "data", cwd=here)
    assert done.returncode == 0 and "temperature" in done.stderr
    temperature = Checkpoint.load(here / "model.pt").temperature
    assert temperature != 1 and f"{temperature:.3f}" in done.stderr
    [after] = json.loads(run("emotion.py", "--img", face, cwd=here).stdout)
    expected = metrics.scale(np.log(np.maximum([before["probs"]], 1e-4) / 100), temperature)
    assert after["probs"] == pytest.approx(100 * np.exp(expected[0]), abs=0.2)
    # Not on the views of --tta, which emotion.py does not see.
    args = ("--calibrate", "--tta", "tencrop", "--data_path", trained / "data")
    again = run("test.py", *args, cwd=here)
    assert Checkpoint.load(here / "model.pt").temperature == pytest.approx(temperature, abs=1e-4)
    assert again.returncode == 0


# --- one preprocessing


def test_the_same_face_is_the_same_everywhere(trained, here):
    """Training's store, test.py, emotion.py with and without detection, and video.py's frames."""
    from utils.recognition.photo import read_photo
    from utils.recognition.tracking import Track

    recognize = Recognizer(here / "model.pt", False, 0)
    how = recognize.preprocess
    picture = Image.fromarray(ASTRONAUT[60:190, 170:280])
    for suffix in ("png", "jpg"):
        folder = here / suffix / "기쁨"
        folder.mkdir(parents=True)
        picture.save(folder / f"x.{suffix}", quality=95)
        samples = make_samples(scan_class_folders(here / suffix), CLASSES)
        stored = load_dataset(samples, how, "train", here / "store")
        seen = {"store": stored.images, "test": load_dataset(samples, how, "test", None).images}
        [source], _ = expand_inputs([str(folder / f"x.{suffix}")])
        photo = read_photo(source, how, None, False)
        seen["emotion"] = torch.from_numpy(photo.faces[0].copy())[None]
        model = Checkpoint.load(here / "model.pt").build()
        probs = {name: predict_log_probs(model, [images]).exp() for name, images in seen.items()}
        for name, found in probs.items():
            torch.testing.assert_close(found, probs["store"], rtol=0, atol=1e-5, msg=name)
    # Of a photo: cut out by emotion.py, and by video.py, which has the pixels blue first.
    frame = np.ascontiguousarray(ASTRONAUT[:, :, ::-1])
    track = Track(1, Box.from_xywh(*FACE))
    classify_tracks(frame, [track], recognize, 0.5)
    face = how(Image.fromarray(ASTRONAUT).crop((170, 60, 280, 190)))
    assert track.probs == pytest.approx(recognize.probabilities([face])[0], abs=1e-5)
    assert track.probs == pytest.approx(probs["store"][0].numpy(), abs=0.2)


# --- emotion.py on many images


def test_many_images_are_a_line_each_in_their_order(trained, here, server):
    shutil.copytree(trained / "data/test", here / "faces")
    (here / "faces/기쁨/broken.png").write_bytes(b"<html>")
    server.files = {"/a.png": (here / "faces/분노/0001.png").read_bytes()}
    (here / "list.txt").write_text(f"faces/중립/0001.png\n\n{server.url}/a.png\n", encoding="utf-8")
    words = ["faces", "faces/분노/*.png", "@list.txt", f"{server.url}/gone.png", "none.png"]
    done = run("emotion.py", "--img", *words, "--batch_size", 4, cwd=here)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(lines) == 19 + 6 + 2 + 2
    names = [line["file"] for line in lines]
    assert names[:19] == sorted(names[:19]) and names[19] == "faces/분노/0000.png"
    assert names[25:] == [
        "faces/중립/0001.png",
        f"{server.url}/a.png",
        f"{server.url}/gone.png",
        "none.png",
    ]
    errors = {line["file"]: line["error"] for line in lines if "error" in line}
    assert errors == {
        "faces/기쁨/broken.png": "an HTML page, not an image",
        f"{server.url}/gone.png": "HTTP status 404 Not Found",
        "none.png": "No such file or directory",
    }
    answers = {line["file"]: line["faces"] for line in lines if "faces" in line}
    assert answers["faces/분노/0001.png"] == answers[f"{server.url}/a.png"]
    [alone] = json.loads(run("emotion.py", "--img", "faces/분노/0001.png", cwd=here).stdout)
    assert alone["probs"] == pytest.approx(answers["faces/분노/0001.png"][0]["probs"], abs=0.02)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("empty", "no image in this folder"),
        ("*.jpg", "nothing matches"),
        ("@no.txt", "No such file"),
        ("@blank.txt", "is empty"),
    ],
)
def test_words_that_name_no_image(here, word, message):
    (here / "empty").mkdir()
    (here / "blank.txt").write_text("\n \n")
    one_line_error(run("emotion.py", "--img", word, cwd=here), word.lstrip("@"), message)


def test_bytes_on_stdin(trained, here):
    face = trained / "data/test/분노/0000.png"
    words = command("emotion.py", "--img", "-")
    done = subprocess.run(words, cwd=here, input=face.read_bytes(), capture_output=True)
    assert done.returncode == 0
    expected = run("emotion.py", "--img", face, cwd=here)
    assert done.stdout.decode() == expected.stdout
    done = subprocess.run(words, cwd=here, input=b"text", capture_output=True, text=False)
    assert done.returncode == 2 and b"a text, not an image" in done.stderr


def two_faces() -> Image.Image:
    """A wide photo with the astronaut twice, large on the left and small on the right."""
    photo = Image.new("RGB", (1500, 900), (90, 100, 110))
    head = Image.fromarray(ASTRONAUT[:300, 80:380])
    photo.paste(head.resize((750, 750)), (40, 100))
    photo.paste(head.resize((420, 420)), (960, 300))
    return photo


def test_faces_of_a_large_photo_in_its_own_pixels_and_marked(here):
    small = two_faces()
    large = small.resize((6000, 3600))
    exif = Image.Exif()
    exif[0x0112] = 8
    (here / "p").mkdir()
    large.rotate(-90, expand=True).save(here / "p/큰.jpg", quality=90, exif=exif)
    small.save(here / "p/small.png")
    args = ("--img", "p", "--detect_face", "--save", "marked")
    done = run("emotion.py", *args, cwd=here)
    assert done.returncode == 0, done.stderr
    a, b = (json.loads(line)["faces"] for line in done.stdout.splitlines())
    small_rects, large_rects = ([numbers(face["rect"]) for face in faces] for faces in (a, b))
    assert len(small_rects) == len(large_rects) == 2
    for s, big in zip(small_rects, large_rects, strict=True):
        assert iou(Box.from_xywh(*(4 * v for v in s)), Box.from_xywh(*big)) > 0.7
    assert small_rects[0][2] > small_rects[1][2]
    with Image.open(here / "marked/큰.jpg") as marked:
        assert marked.size == (6000, 3600)
        x, y, w, _ = large_rects[0]
        green = np.asarray(marked)[y : y + 6, x + w // 2].mean(0)
    assert green[1] > 150 > green[0]
    done = run("emotion.py", "--img", "p", "--save", "p", cwd=here)
    assert done.returncode == 2 and "would overwrite the photo" in done.stderr
    done = run("emotion.py", "--img", "p/큰.jpg", "--detect_face", cwd=here)
    assert json.loads(done.stdout) == b  # --save changes no answer


def test_photos_searched_at_once_do_not_mix():
    grey = np.asarray(two_faces().convert("L"))
    photos = [np.ascontiguousarray(np.roll(grey, 40 * i, 1)[:, : 1500 - 60 * i]) for i in range(12)]
    alone = [detect_faces(photo) for photo in photos]
    assert len({str(found) for found in alone}) > 6
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(detect_faces, photos)) == alone


def numbers(rect: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", rect)))


def test_smallest_face_and_margin(here):
    photo = two_faces()
    photo.save(here / "x.png")
    found = detect_faces(np.asarray(photo.convert("L")), 0.2)
    assert len(found) == 1 and len(detect_faces(np.asarray(photo.convert("L")), 0.1)) == 2
    args = ("--img", "x.png", "--detect_face", "--min_face", 0.2)
    [plain] = json.loads(run("emotion.py", *args, cwd=here).stdout)
    [wide] = json.loads(run("emotion.py", *args, "--margin", 0.2, cwd=here).stdout)
    x, y, w, h = numbers(plain["rect"])
    assert numbers(wide["rect"]) == pytest.approx(
        (x - 0.2 * w, y - 0.2 * h, 1.4 * w, 1.4 * h), abs=2
    )
    assert add_margin(Box(0, 0, 10, 10), 0.5, 12, 100) == Box(0, 0, 12, 15)


@pytest.mark.parametrize("script", ["train.py", "test.py", "emotion.py", "video.py"])
def test_help_imports_nothing_heavy(script):
    words = [sys.executable, "-X", "importtime", *command(script, "--help")[1:]]
    done = subprocess.run(words, capture_output=True, text=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert not loaded & {"torch", "cv2", "torchvision", "matplotlib", "requests"}


def test_saving_never_writes_over_a_photo_or_another_result(here):
    for name in ("a/x.png", "b/x.png", "c/x-2.png"):
        (here / name).parent.mkdir()
        Image.new("RGB", (40, 40), (len(name), 90, 90)).save(here / name)
    before = (here / "a/x.png").read_bytes()
    done = run("emotion.py", "--img", "b/x.png", "a/x.png", "--save", "a", cwd=here)
    one_line_error(done, "would overwrite the photo")
    assert (here / "a/x.png").read_bytes() == before
    done = run("emotion.py", "--img", "a/x.png", "b/x.png", "c/x-2.png", "--save", "s", cwd=here)
    assert done.returncode == 0 and len(list((here / "s").iterdir())) == 3


def test_a_photo_that_cannot_be_saved_is_one_failure(here):
    (here / "p").mkdir()
    Image.new("RGB", (17000, 200)).save(here / "p/a.png")
    (here / "p/a.png").rename(here / "p/a.webp")  # too wide for that format
    Image.new("RGB", (200, 200)).save(here / "p/b.png")
    done = run("emotion.py", "--img", "p", "--save", "s", cwd=here)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 2
    assert "a.webp cannot be written" in done.stderr and (here / "s/b.png").exists()


# --- video.py


def test_the_source_is_never_written_over(here):
    (here / "in.mp4").write_bytes(b"a video")
    done = run("video.py", "--source", "in.mp4", "--output", "./in.mp4", cwd=here)
    one_line_error(done, "is the source itself")
    assert (here / "in.mp4").read_bytes() == b"a video"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two faces that pass each other at different heights, 40 frames, the last 8 without any."""
    import cv2

    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    head = ASTRONAUT[20:220, 120:330, ::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (960, 540))
    for i in range(40):
        frame = np.full((540, 960, 3), 100, np.uint8)
        if i < 32:
            frame[20:220, 40 + 6 * i : 250 + 6 * i] = head
            frame[320:520, 700 - 5 * i : 910 - 5 * i] = head
        writer.write(frame)
    writer.release()
    return path


def test_faces_keep_their_numbers_and_every_frame_has_its_lines(here, clip):
    args = ("--source", clip, "--output", "out.mp4", "--log")
    done = run("video.py", *args, "faces.csv", cwd=here)
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
        xs, heights = [int(r["x"]) for r in track], {int(r["y"]) > 270 for r in track}
        moved = xs[-1] - xs[0]
        assert len(heights) == 1 and (
            130 < moved < 230 if heights == {False} else -190 < moved < -110
        )
        assert abs(sum(float(track[5][name]) for name in CLASSES) - 100) < 0.1
    assert rows[-1]["track"] == rows[-1]["label"] == "" and rows[-1]["frame"] == "39"

    import cv2

    before, after = (cv2.VideoCapture(str(path)) for path in (clip, here / "out.mp4"))
    assert after.get(cv2.CAP_PROP_FPS) == 20
    by_frame: dict[int, list] = {}
    for r in rows:
        by_frame.setdefault(int(r["frame"]), []).append(r)
    for number in range(40):
        (there, _), (too, marked) = before.read(), after.read()
        assert there and too
        green = (marked[:, :, 1].astype(int) - marked[:, :, 0] > 60) & (marked[:, :, 1] > 140)
        for r in by_frame[number]:
            if r["track"] and number < 32:
                x, y, h = (int(r[key]) for key in "xyh")
                assert green[max(0, y + h // 2 - 5) : y + h // 2 + 5, max(0, x - 2) : x + 4].any()
    assert not before.read()[0] and not after.read()[0]


@pytest.mark.parametrize(("width", "height"), [(65, 49), (64, 49), (65, 48), (64, 48)])
def test_an_odd_size_loses_nothing(tmp_path, width, height):
    import cv2

    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, -5:] = frame[-5:] = 255
    with VideoWriter(tmp_path / "a/x.mp4", (width, height), 25) as writer:
        for number in range(3):
            writer.write(Frame(number, number / 25, frame))
    seen = cv2.VideoCapture(str(tmp_path / "a/x.mp4")).read()[1]
    assert seen.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(seen[:height, :width].astype(int) - frame).max() < 60
    assert seen[-1].min() > 200 and seen[:, -1].min() > 200


def frames_of(path: Path) -> int:
    import cv2

    video = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: video.read()[0], False))


@pytest.mark.parametrize(
    ("live", "seconds", "written_as"),
    [
        (True, (0, 0.4, 0.5, 1.0), 11),  # four frames in a second, at ten a second
        (True, (0, 0.01, 0.02, 0.1), 2),  # more than ten a second
        (False, (0, 0.4, 0.5, 1.0), 4),  # of a file each once
    ],
)
def test_a_recording_lasts_as_long_as_what_was_filmed(tmp_path, live, seconds, written_as):
    with VideoWriter(tmp_path / "x.mp4", (64, 48), 10, live) as writer:
        for number, second in enumerate(seconds):
            writer.write(Frame(number, second, np.zeros((48, 64, 3), np.uint8)))
    assert frames_of(tmp_path / "x.mp4") == written_as


def test_the_time_of_a_frame_is_the_files_own(tmp_path):
    """A GIF whose frames last differently long, as those of phones' videos do."""
    frames = [Image.new("L", (64, 48), 40 * i) for i in range(4)]
    frames[0].save(
        tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=[100, 100, 500, 100]
    )
    video = VideoReader(str(tmp_path / "x.gif"))
    assert [round(frame.seconds, 3) for frame in video] == [0, 0.1, 0.2, 0.7]
    video.close()


def test_log_as_json_lines_without_a_screen(here, clip):
    env = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    args = ("--source", clip, "--log", "faces.jsonl")
    done = run("video.py", *args, cwd=here, env=env)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (here / "faces.jsonl").read_text("utf-8").splitlines()]
    assert lines[0]["rect"].startswith("(") and lines[0]["label"] in CLASSES
    assert lines[-1] == {"frame": 39, "timestamp": 1.95, "track": None}
    one_line_error(run("video.py", *args[:2], "--log", "x.txt", cwd=here), "a .csv or a .jsonl")


def test_faces_are_followed_and_lost_and_found():
    frame = np.full((540, 960, 3), 100, np.uint8)
    frame[20:220, 40:250] = ASTRONAUT[20:220, 120:330, ::-1]
    empty = np.full((540, 960, 3), 100, np.uint8)
    tracker = Tracker(detect_every=1, min_face=0.1)
    assert [track.number for track in tracker.update(frame)] == [1]
    assert tracker.update(empty) == []
    assert [track.number for track in tracker.update(frame)] == [1]  # back soon enough
    assert [tracker.update(empty) for _ in range(3)] == [[], [], []]
    assert [track.number for track in tracker.update(frame)] == [2]
    # Between two searches a face is followed.
    tracker = Tracker(detect_every=100, min_face=0.1)
    [x, y, *_], *_ = (track.box.xywh for track in tracker.update(frame))
    [track] = tracker.update(np.roll(frame, (14, 22), (0, 1)))
    assert track.box.xywh[:2] == pytest.approx((x + 22, y + 14), abs=2)


def test_probabilities_are_smoothed_over_time():
    answers = iter(([[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]))
    recognize = SimpleNamespace(
        preprocess=np.asarray, probabilities=lambda faces: np.array(next(answers))
    )
    track, frame = Track(1, Box.from_xywh(5, 5, 20, 20)), np.zeros((48, 64, 3), np.uint8)
    seen = []
    for _ in range(3):
        classify_tracks(frame, [track], recognize, 0.7)
        seen.append(track.probs[0])
    assert seen == pytest.approx([1, 0.7, 0.49])


def test_a_frames_time_never_goes_back(tmp_path, monkeypatch):
    """Where a file says the same time twice, or none."""
    import cv2

    class Film:
        def __init__(self, source: str) -> None:
            self.times = [0, 100, 700, 700, 0, 900]
            self.read_so_far = 0

        def isOpened(self) -> bool:  # noqa: N802 - as OpenCV calls it
            return True

        def read(self) -> tuple[bool, np.ndarray]:
            self.read_so_far += 1
            return self.read_so_far <= len(self.times), np.zeros((48, 64, 3), np.uint8)

        def get(self, what: int) -> float:
            if what == cv2.CAP_PROP_POS_MSEC:
                return self.times[min(self.read_so_far, len(self.times)) - 1]
            return {cv2.CAP_PROP_FPS: 10, cv2.CAP_PROP_FRAME_COUNT: 6}[what]

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Film)
    (tmp_path / "x.mp4").touch()
    film = VideoReader(str(tmp_path / "x.mp4"))
    assert [round(frame.seconds, 3) for frame in film] == [0, 0.1, 0.7, 0.7, 0.7, 0.9]
    film.close()


def test_overlap_of_rectangles():
    box = Box(0, 0, 10, 10)
    assert iou(box, box) == 1
    assert iou(box, Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou(box, Box(10, 0, 20, 10)) == 0


def test_a_stream_that_dies_is_told_and_what_was_recorded_stays(here, server):
    """A live stream: JPEGs without an end, until the server hangs up."""
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
    import cv2

    assert cv2.VideoCapture(str(here / "x.mp4")).read()[0]
    assert not [p for p in here.iterdir() if p.name.startswith(".part")]


def test_words_are_expanded_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.JPG", "c.txt", "d/e.png", ".hidden.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(jpeg())
    sources, plain = expand_inputs(["."])
    expected = [str(Path(name)) for name in ("a.JPG", "b.jpg", "d/e.png")]
    assert [os.path.normpath(source.name) for source in sources] == expected
    assert [source.output_name for source in sources] == expected and not plain
    assert expand_inputs(["b.jpg"])[1] and not expand_inputs(["b.jpg", "b.jpg"])[1]
    [source], plain = expand_inputs(["http://x.org/a/../photo.jpg?size=3"])
    assert source.output_name == "photo.jpg" and plain
    assert [source.output_name for source in expand_inputs(["b.jpg", ".", "b.jpg"])[0]] == [
        "b.jpg", "a.JPG", "b-2.jpg", str(Path("d/e.png")), "b-3.jpg",
    ]  # fmt: skip
    with pytest.raises(StageError):
        expand_inputs(["@c.txt2"])
