"""emotion.py, run as a user runs it: one image, many images, faces in photos."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import command, jpeg, one_line_error, run, write_no_model
from tests.photos import ASTRONAUT, rect_numbers, two_faces
from tests.trainings import CLASSES
from utils.imaging.geometry import Box, iou
from utils.inference.checkpoint import Checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def here(trained, tmp_path):
    """A folder with a copy of the model, to work in."""
    shutil.copy(trained / "model.pt", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "env", [None, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_emotion_prints_one_line_of_json_for_one_image(trained, here, env):
    face = trained / "data/test/분노/0000.png"
    done = run("emotion.py", "--img", face, cwd=here, env=env)
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    model = "model.pt: emotionnet, epoch 1, validation accuracy 100.000%; 기쁨 분노 중립\n"
    assert done.stderr == model
    [answer] = json.loads(done.stdout)
    assert list(answer) == ["label", "probs"] and f'"label": "{answer["label"]}"' in done.stdout
    assert answer["label"] == CLASSES[int(np.argmax(answer["probs"]))]
    assert len(answer["probs"]) == 3 and abs(sum(answer["probs"]) - 100) < 0.1
    assert all(p == round(p, 2) for p in answer["probs"])


def test_emotion_sees_what_training_saw(trained, here):
    """The answers for a file of the test set are those that test.py counts."""
    model = Checkpoint.load(here / "model.pt")
    network, preprocess = model.build(), model.preprocessing()
    face = trained / "data/test/중립/0003.png"
    with torch.inference_mode():
        pixels = torch.from_numpy(np.array(preprocess(Image.open(face))))[None]
        probs = network(preprocess.to_float(pixels)).softmax(1)[0] * 100
    done = run("emotion.py", "--img", face, cwd=here)
    assert json.loads(done.stdout)[0]["probs"] == pytest.approx(probs.tolist(), abs=0.006)


def test_emotion_detects_a_real_face_turned_by_exif(here):
    photo = Image.fromarray(ASTRONAUT)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.rotate(90, expand=True).save(here / "얼굴.jpg", quality=95, exif=exif)
    [answer] = json.loads(run("emotion.py", "--img", "얼굴.jpg", "--detect_face", cwd=here).stdout)
    assert list(answer) == ["rect", "label", "probs"]
    x, y, w, h = map(int, re.fullmatch(r"\((\d+), (\d+), (\d+), (\d+)\)", answer["rect"]).groups())
    assert x < 205 < 245 < x + w and y < 105 < 150 < y + h and 60 < w < 220 and 60 < h < 220
    # It is the face's own region that is classified.
    photo.crop((x, y, x + w, y + h)).save(here / "face.png")
    [alone] = json.loads(run("emotion.py", "--img", "face.png", cwd=here).stdout)
    assert alone["probs"] == pytest.approx(answer["probs"], abs=2.0)  # JPEG, decoded once more


def test_emotion_classifies_the_whole_image_if_no_face_is_found(here):
    (here / "x.jpg").write_bytes(jpeg((123, 77)))
    args = ("--img", "x.jpg", "--detect_face")
    [found] = json.loads(run("emotion.py", *args, "True", cwd=here).stdout)
    [plain] = json.loads(run("emotion.py", *args, "false", cwd=here).stdout)
    assert found == {"rect": "(0, 0, 123, 77)", **plain, "detected": False}


def test_emotion_takes_the_smallest_face_and_the_margin_from_flags(here):
    two_faces().save(here / "x.png")
    args = ("--img", "x.png", "--detect_face", "--min_face", 0.25)
    [plain] = json.loads(run("emotion.py", *args, cwd=here).stdout)
    [wide] = json.loads(run("emotion.py", *args, "--margin", 0.2, cwd=here).stdout)
    x, y, w, h = rect_numbers(plain["rect"])
    assert rect_numbers(wide["rect"]) == pytest.approx(
        (x - 0.2 * w, y - 0.2 * h, 1.4 * w, 1.4 * h), abs=2
    )


@pytest.mark.parametrize("content", [b"just text", b"", b"<html>", jpeg()[:400]])
def test_emotion_refuses_what_is_no_image(here, content):
    (here / "x.jpg").write_bytes(content)
    one_line_error(run("emotion.py", "--img", "x.jpg", cwd=here), "x.jpg")


def test_emotion_prints_a_line_for_each_of_many_images_in_their_order(trained, here, server):
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
def test_emotion_refuses_words_that_name_no_image(tmp_path, word, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n \n")
    one_line_error(run("emotion.py", "--img", word, cwd=tmp_path), word.lstrip("@"), message)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--img", "기쁨.jpg"], ["기쁨.jpg", "No such file"]),
        (["--img", "."], ["no image in this folder"]),
    ],
)
def test_emotion_reports_bad_flags_in_one_line(tmp_path, args, words):
    one_line_error(run("emotion.py", *args, cwd=tmp_path), *words)
    assert not any(tmp_path.iterdir())


def test_emotion_refuses_a_model_file_that_would_run_code(tmp_path):
    write_no_model(tmp_path / "m.pt", "evil")
    (tmp_path / "x.jpg").write_bytes(jpeg())
    done = run("emotion.py", "--model_path", "m.pt", "--img", "x.jpg", cwd=tmp_path)
    one_line_error(done, "m.pt", "refused")
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt", "x.jpg"}


def test_emotion_reads_bytes_on_stdin(trained, here):
    face = trained / "data/test/분노/0000.png"
    words = command("emotion.py", "--img", "-")
    done = subprocess.run(words, cwd=here, input=face.read_bytes(), capture_output=True)
    assert done.returncode == 0
    expected = run("emotion.py", "--img", face, cwd=here)
    assert done.stdout.decode() == expected.stdout
    done = subprocess.run(words, cwd=here, input=b"text", capture_output=True)
    assert done.returncode == 2 and b"a text, not an image" in done.stderr


def test_emotion_marks_the_faces_of_a_large_photo_in_its_own_pixels(here):
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
    small_rects, large_rects = ([rect_numbers(face["rect"]) for face in faces] for faces in (a, b))
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
    for face, full in zip(json.loads(done.stdout), b, strict=True):  # --save changes no answer
        assert face == {name: full[name] for name in ("rect", "label", "probs")}
        assert full["box"] == [*rect_numbers(full["rect"])] and full["detected"] is True
        assert 0.5 < full["score"] <= 1


def test_emotion_overwrites_neither_a_photo_nor_another_result(here):
    for name in ("a/x.png", "b/x.png", "c/x-2.png"):
        (here / name).parent.mkdir()
        Image.new("RGB", (40, 40), (len(name), 90, 90)).save(here / name)
    before = (here / "a/x.png").read_bytes()
    done = run("emotion.py", "--img", "b/x.png", "a/x.png", "--save", "a", cwd=here)
    one_line_error(done, "would overwrite the photo")
    assert (here / "a/x.png").read_bytes() == before
    done = run("emotion.py", "--img", "a/x.png", "b/x.png", "c/x-2.png", "--save", "s", cwd=here)
    assert done.returncode == 0 and len(list((here / "s").iterdir())) == 3


def test_emotion_counts_a_photo_that_cannot_be_saved_as_a_failure(here):
    (here / "p").mkdir()
    Image.new("RGB", (17000, 200)).save(here / "p/a.png")
    (here / "p/a.png").rename(here / "p/a.webp")  # too wide for that format
    Image.new("RGB", (200, 200)).save(here / "p/b.png")
    done = run("emotion.py", "--img", "p", "--save", "s", cwd=here)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 2
    assert "a.webp cannot be written" in done.stderr and (here / "s/b.png").exists()
