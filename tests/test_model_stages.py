"""train.py, test.py, emotion.py and video.py, run as a user runs them, on images a network can
tell apart at once."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import jpeg, make_faces, one_line_error, run, write_no_model
from utils.inference.checkpoint import Checkpoint

CLASSES = ["기쁨", "분노", "중립"]
TRAIN = ("--amp", "off", "--optimizer", "adam", "--lr", 0.0003, "--batch_size", 8, "--epochs", 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data/ and the model.pt that train.py has made of it; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    for i, (name, count) in enumerate({"train": 24, "validation": 6, "test": 6}.items()):
        make_faces(folder / "data" / name, CLASSES, count, seed=i)
    done = run("train.py", *TRAIN, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "train.out").write_text(done.stdout, encoding="utf-8")
    return folder


def test_train_tells_of_every_epoch_and_keeps_the_best(trained):
    lines = (trained / "train.out").read_text(encoding="utf-8").splitlines()
    assert "4,738,121 parameters" in lines[0] and "adam with lr 0.0003" in lines[0]
    assert "72 training images, 18 validation images" in lines[1]
    assert lines[1].endswith("기쁨 분노 중립")
    figures = [
        re.fullmatch(
            r"epoch (\d)/2  train loss [\d.]+  validation loss [\d.]+  accuracy ([\d.]+)%  "
            r"best ([\d.]+)% \(epoch (\d)\)  \d+ images/s",
            line,
        )
        for line in lines[2:4]
    ]
    assert [figure[1] for figure in figures] == ["1", "2"]
    best = max(figures, key=lambda figure: float(figure[2]))
    model = Checkpoint.load(trained / "model.pt")
    assert model.classes == CLASSES and model.network == "emotionnet"
    assert f"{model.val_accuracy:.2%}" == f"{best[2]}%" and model.epoch == int(best[1])
    assert "python test.py --model_path model.pt" in lines[-2]
    assert "python emotion.py --model_path model.pt" in lines[-1]


def test_training_again_gives_the_same_file(trained, tmp_path):
    args = ("--data_path", trained / "data", "--model_path", tmp_path / "a/b.pt", "--no-gpu")
    assert run("train.py", *TRAIN, *args, cwd=tmp_path).returncode == 0
    assert (tmp_path / "a/b.pt").read_bytes() == (trained / "model.pt").read_bytes()


def test_a_run_killed_before_its_last_line_gets_it_when_resumed(trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    table = tmp_path / "runs/001-emotionnet/results.csv"
    whole = table.read_bytes()
    table.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert run("train.py", "--resume", cwd=tmp_path).returncode == 0
    assert table.read_bytes() == whole


def test_the_test_set_is_never_opened(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/test")
    for path in (tmp_path / "data/train/기쁨/broken.png", tmp_path / "data/validation/기쁨/no.jpg"):
        path.write_bytes(b"<html>")
    done = run("train.py", *TRAIN[:-2], "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 1
    assert "2 images could not be read: train.error.log" in done.stdout
    log = (tmp_path / "train.error.log").read_text(encoding="utf-8").splitlines()
    assert log[0].split("\t") == ["file", "error", "time"] and len(log) == 3
    assert "broken.png\tan HTML page, not an image" in log[1]


def test_help_names_every_flag_and_default_of_the_seed(tmp_path):
    text = " ".join(run("train.py", "--help", cwd=tmp_path).stdout.split())
    for flag, default in {
        "data_path": "data", "model_path": "model.pt", "model": "emotionnet",
        "optimizer": "adadelta", "image_size": "48", "image_channel": "1", "gpu": "True",
        "cuda_idx": "0", "epochs": "50", "batch_size": "128",
    }.items():  # fmt: skip
        assert re.search(rf"--{flag} [^(]*(\(or \w+\)[^(]*)*\({default}\)", text), flag
    assert "0.1 for adadelta, 0.001 for adam and adamw, 0.01 for sgd" in text


@pytest.mark.parametrize(
    ("optimizer", "lr"), [("adadelta", "0.1"), ("adam", "0.001"), ("sgd", "0.01")]
)
def test_unset_lr_is_the_optimizers_own(trained, tmp_path, optimizer, lr):
    done = run(
        "train.py", "--data_path", trained / "data", "--optimizer", optimizer, "--epochs", 1,
        "--model", "cnn", "--gpu", "False", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and f"{optimizer} with lr {lr}," in done.stdout


def test_another_network_in_colour_and_a_class_missing_in_validation(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/validation/중립")
    shape = ("--model", "resnet", "--image_channel", 3, "--image_size", 16)
    done = run("train.py", *TRAIN, *shape, cwd=tmp_path)
    assert done.returncode == 0 and "no validation image of 중립" in done.stderr
    model = Checkpoint.load(tmp_path / "model.pt")
    assert model.network == "resnet18"
    assert (model.preprocess["image_channel"], model.preprocess["image_size"]) == (3, 16)
    done = run("test.py", cwd=tmp_path)
    assert done.returncode == 0 and "accuracy" in done.stdout


def test_a_loss_that_is_no_number_is_told(trained, tmp_path):
    args = ("--data_path", trained / "data", "--optimizer", "sgd", "--lr", 1e9, "--epochs", 3)
    done = run("train.py", *args, cwd=tmp_path)
    assert done.returncode == 2 and "try a lower --lr" in done.stderr


def test_accuracy_and_table_are_of_the_same_answers(trained, tmp_path):
    args = ("--model_path", trained / "model.pt", "--data_path")
    done = run("test.py", *args, trained / "data", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    table = re.findall(r"^\|(\d)\|([\d|]+)\|$", done.stdout, re.M)
    counts = np.array([list(map(int, cells.split("|"))) for _, cells in table])
    right = int(np.trace(counts))
    assert counts.shape == (3, 3) and counts.sum() == 18 and list(counts.sum(1)) == [6, 6, 6]
    assert f"accuracy {right / 18:.3%} ({right} of 18 images)" in done.stdout
    assert "| Truth\\Prediction  |0|1|2|" in done.stdout
    assert "0 기쁨  1 분노  2 중립" in done.stdout
    assert right > 12  # three bands of light are easily told apart
    direct = run("test.py", *args, trained / "data/test", "--batch_size", 5, cwd=tmp_path)
    said = [re.sub(r"\d+ images/s", "", run.stdout).splitlines()[1:] for run in (direct, done)]
    assert said[0] == said[1]
    assert not any(tmp_path.iterdir())


def test_contradictions_are_told(trained, tmp_path):
    model = ("--model_path", trained / "model.pt")
    done = run("test.py", *model, "--image_size", 96, cwd=tmp_path)
    one_line_error(done, "--image_size 96 contradicts", "trained with 48")
    done = run("test.py", *model, "--image_channel", 3, cwd=tmp_path)
    one_line_error(done, "--image_channel 3 contradicts", "trained with 1")
    make_faces(tmp_path / "other", ["기쁨", "놀람"], 2)
    done = run("test.py", *model, "--data_path", "other", cwd=tmp_path)
    one_line_error(done, "놀람", "it knows 기쁨 분노 중립")
    shutil.rmtree(tmp_path / "other/놀람")
    done = run("test.py", *model, "--data_path", "other", "--image_size", 48, cwd=tmp_path)
    assert done.returncode == 0 and "no image of 분노 중립" in done.stderr


@pytest.mark.parametrize(
    ("classes", "word"), [([], "no class folder"), (["기쁨"], "only the class 기쁨")]
)
def test_a_data_folder_with_one_class_or_none(tmp_path, classes, word):
    for name in ("train", "validation"):
        (tmp_path / "data" / name).mkdir(parents=True)
        make_faces(tmp_path / "data" / name, classes, 2)
    one_line_error(run("train.py", cwd=tmp_path), "data/train", word)
    assert {p.name for p in tmp_path.iterdir()} == {"data"}


@pytest.mark.parametrize(
    ("script", "args", "words"),
    [
        ("train.py", [], ["data/train", "no such folder"]),
        ("train.py", ["--model", "alexnet"], ["alexnet", "emotionnet"]),
        ("train.py", ["--gpu", "maybe"], ["--gpu"]),
        ("train.py", ["--lr", "-1"], ["--lr"]),
        ("train.py", ["--image_channel", "2"], ["--image_channel"]),
        ("test.py", [], ["model.pt", "no such file"]),
        ("emotion.py", [], ["기쁨.jpg", "No such file"]),
        ("emotion.py", ["--img", "."], ["no image in this folder"]),
        ("video.py", ["--output", "o.mp4", "--model_path", "m.pt"], ["m.pt"]),
    ],
)
def test_bad_arguments_are_one_clear_line(tmp_path, script, args, words):
    one_line_error(run(script, *args, cwd=tmp_path), *words)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_a_config_with_what_no_path_can_hold(tmp_path, character):
    (tmp_path / "c.json").write_text(json.dumps({"epochs": 1, "log_dir": f"a{character}b"}))
    one_line_error(
        run("train.py", "--config", "c.json", cwd=tmp_path), "c.json: log_dir has a character"
    )
    assert {p.name for p in tmp_path.iterdir()} == {"c.json"}


@pytest.mark.parametrize(("script", "kind"), [("test.py", "random"), ("emotion.py", "evil")])
def test_a_model_file_that_is_none(trained, tmp_path, script, kind):
    write_no_model(tmp_path / "m.pt", kind)
    (tmp_path / "x.jpg").write_bytes(jpeg())
    args = ["--img", "x.jpg"] if script == "emotion.py" else ["--data_path", trained / "data"]
    one_line_error(run(script, "--model_path", "m.pt", *args, cwd=tmp_path), "m.pt", "refused")
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt", "x.jpg"}


# --- emotion.py


def test_one_image_is_one_line_of_json(trained, tmp_path):
    face = trained / "data/test/분노/0000.png"
    for env in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = run(
            "emotion.py", "--img", face, "--model_path", trained / "model.pt", cwd=tmp_path, env=env
        )
        assert done.returncode == 0 and done.stdout.count("\n") == 1 and done.stderr == ""
        [answer] = json.loads(done.stdout)
        assert list(answer) == ["label", "probs"] and f'"label": "{answer["label"]}"' in done.stdout
        assert answer["label"] == CLASSES[int(np.argmax(answer["probs"]))]
        assert len(answer["probs"]) == 3 and abs(sum(answer["probs"]) - 100) < 0.1
        assert all(p == round(p, 2) for p in answer["probs"])


def test_prediction_sees_what_training_saw(trained, tmp_path):
    """The answers of emotion.py for the test set's files are those that test.py counts."""
    model = Checkpoint.load(trained / "model.pt")
    network, how = model.build(), model.preprocessing()
    face = trained / "data/test/중립/0003.png"
    with torch.inference_mode():
        pixels = torch.from_numpy(np.array(how(Image.open(face))))[None]
        probs = network(how.to_float(pixels)).softmax(1)[0] * 100
    done = run("emotion.py", "--img", face, "--model_path", trained / "model.pt", cwd=tmp_path)
    assert json.loads(done.stdout)[0]["probs"] == pytest.approx(probs.tolist(), abs=0.006)


def test_detect_face_finds_a_real_one_turned_by_exif(trained, tmp_path):
    import skimage.data

    photo = Image.fromarray(skimage.data.astronaut())
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.rotate(90, expand=True).save(tmp_path / "얼굴.jpg", quality=95, exif=exif)
    args = ("--img", "얼굴.jpg", "--model_path", trained / "model.pt", "--detect_face")
    [answer] = json.loads(run("emotion.py", *args, cwd=tmp_path).stdout)
    assert list(answer) == ["rect", "label", "probs"]
    x, y, w, h = map(int, re.fullmatch(r"\((\d+), (\d+), (\d+), (\d+)\)", answer["rect"]).groups())
    assert x < 205 < 245 < x + w and y < 105 < 150 < y + h and 60 < w < 220 and w == h
    # It is the face's own region that is classified.
    photo.crop((x, y, x + w, y + h)).save(tmp_path / "face.png")
    args = ("--img", "face.png", "--model_path", trained / "model.pt")
    [alone] = json.loads(run("emotion.py", *args, cwd=tmp_path).stdout)
    assert alone["probs"] == pytest.approx(answer["probs"], abs=2.0)  # JPEG, seen twice


def test_no_face_means_the_whole_image(trained, tmp_path):
    (tmp_path / "x.jpg").write_bytes(jpeg((123, 77)))
    args = ("--img", "x.jpg", "--model_path", trained / "model.pt")
    [found] = json.loads(run("emotion.py", *args, "--detect_face", "True", cwd=tmp_path).stdout)
    [plain] = json.loads(run("emotion.py", *args, "--detect_face", "false", cwd=tmp_path).stdout)
    assert found == {"rect": "(0, 0, 123, 77)", **plain}


@pytest.mark.parametrize("content", [b"just text", b"", b"<html>", jpeg()[:400]])
def test_an_image_that_is_none(trained, tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    done = run("emotion.py", "--img", "x.jpg", "--model_path", trained / "model.pt", cwd=tmp_path)
    one_line_error(done, "x.jpg")


# --- video.py


def test_video_file_is_labelled_frame_by_frame(trained, tmp_path):
    import cv2
    import skimage.data

    photo = skimage.data.astronaut()[:256, 60:380, ::-1]
    writer = cv2.VideoWriter(
        str(tmp_path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 256)
    )
    for _ in range(6):
        writer.write(photo)
    writer.release()
    args = ("--source", "in.mp4", "--model_path", trained / "model.pt", "--output", "out.mp4")
    done = run("video.py", *args, cwd=tmp_path)
    assert done.returncode == 0 and "6 frames -> out.mp4" in done.stdout
    video, changed = cv2.VideoCapture(str(tmp_path / "out.mp4")), []
    while (step := video.read())[0]:
        changed.append(np.abs(step[1].astype(int) - photo).max(axis=2) > 90)
    assert len(changed) == 6 and all(200 < frame.sum() < 20_000 for frame in changed)
    assert {p.name for p in tmp_path.iterdir()} == {"in.mp4", "out.mp4"}


def test_video_that_cannot_be_opened_or_shown(trained, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video")
    model = ("--model_path", trained / "model.pt")
    for source, word in (("x.mp4", "not a video"), ("none.mp4", "no such file"), ("99", "camera")):
        done = run("video.py", "--source", source, *model, "--output", "o.mp4", cwd=tmp_path)
        one_line_error(done, source, word)
    env = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    if os.name == "posix":
        one_line_error(run("video.py", *model, cwd=tmp_path, env=env), "no screen")
