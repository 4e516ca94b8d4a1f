"""train.py, run as a user runs it: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import models
import train
from tests.helpers import command, make_faces, name_of, one_line_error, row, run, write_table
from tests.trainings import CLASSES, LEARNING_FLAGS, PLAIN_FLAGS, run_results, small_trainer
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.training.optim import LEARNING_RATES
from utils.training.run_folder import Run
from utils.training.trainer import Progress, Recipe

pytestmark = pytest.mark.slow
ONE_EPOCH = (*PLAIN_FLAGS, "--epochs", 1)


def test_train_prints_every_epoch_and_keeps_the_best(trained):
    lines = (trained / "train.out").read_text(encoding="utf-8").splitlines()
    assert "4,738,121 parameters" in lines[0] and "adam with lr 0.0003" in lines[0]
    assert "72 training images, 24 validation images" in lines[1]
    assert lines[1].endswith("기쁨 분노 중립")
    assert lines[2] == "to watch: runs/001-emotionnet/index.html"
    figures = [
        re.fullmatch(
            r"epoch (\d)/2  train loss [\d.]+  validation loss [\d.]+  accuracy ([\d.]+)%  "
            r"best ([\d.]+)% \(epoch (\d)\)  \d+ images/s",
            line,
        )
        for line in lines[3:5]
    ]
    assert [figure[1] for figure in figures] == ["1", "2"]
    best = max(figures, key=lambda figure: float(figure[2]))
    model = Checkpoint.load(trained / "model.pt")
    assert model.classes == CLASSES and model.network == "emotionnet"
    assert f"{model.val_accuracy:.2%}" == f"{best[2]}%" and model.epoch == int(best[1])
    assert "python test.py --model_path model.pt" in lines[-2]
    assert "python emotion.py --model_path model.pt" in lines[-1]


def test_train_again_gives_the_same_file(trained, tmp_path):
    args = ("--data_path", trained / "data", "--model_path", tmp_path / "a/b.pt", "--no-gpu")
    assert run("train.py", *LEARNING_FLAGS, *args, cwd=tmp_path).returncode == 0
    assert (tmp_path / "a/b.pt").read_bytes() == (trained / "model.pt").read_bytes()


def test_train_never_opens_the_test_set_and_logs_what_it_cannot_read(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/test")
    for path in (tmp_path / "data/train/기쁨/broken.png", tmp_path / "data/validation/기쁨/no.jpg"):
        path.write_bytes(b"<html>")
    done = run("train.py", *ONE_EPOCH, cwd=tmp_path)
    assert done.returncode == 1
    assert "2 images could not be read: train.error.log" in done.stdout
    log = (tmp_path / "train.error.log").read_text(encoding="utf-8").splitlines()
    assert log[0].split("\t") == ["file", "error", "time"] and len(log) == 3
    assert "broken.png\tan HTML page, not an image" in log[1]


def test_train_another_network_in_colour_with_a_class_missing_in_validation(few_faces, tmp_path):
    shutil.copytree(few_faces, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/validation/분노")
    shape = ("--model", "resnet", "--image_channel", 3, "--image_size", 16)
    done = run("train.py", *ONE_EPOCH, *shape, cwd=tmp_path)
    assert done.returncode == 0 and "no validation image of 분노" in done.stderr
    model = Checkpoint.load(tmp_path / "model.pt")
    assert model.network == "resnet18"
    assert (model.preprocess["image_channel"], model.preprocess["image_size"]) == (3, 16)
    done = run("test.py", cwd=tmp_path)
    assert done.returncode == 0 and "accuracy" in done.stdout


def test_train_in_bf16_learns(trained, tmp_path):
    args = (*LEARNING_FLAGS, "--amp", "bf16", "--data_path", trained / "data")
    done = run("train.py", *args, cwd=tmp_path)
    assert done.returncode == 0 and "on cpu in bf16" in done.stdout
    assert float(run_results(tmp_path)[-1]["val_accuracy"]) > 0.6
    assert re.search(r"best epoch \d", done.stdout)


def test_train_stops_early_and_gives_every_run_its_own_folder(few_faces, tmp_path):
    args = (*PLAIN_FLAGS, "--data_path", few_faces, "--optimizer", "sgd", "--lr", 1e-9)
    for number in (1, 2):
        done = run("train.py", *args, "--patience", 2, "--epochs", 9, cwd=tmp_path)
        assert done.returncode == 0 and f"runs/{number:03d}-emotionnet" in done.stdout
        assert len(run_results(tmp_path, f"{number:03d}-emotionnet")) == 3
    assert run_results(tmp_path) == run_results(tmp_path, "002-emotionnet")


def test_train_keeps_a_model_of_no_run_and_a_calibrated_one(few_faces, tmp_path):
    args = (*ONE_EPOCH, "--data_path", few_faces)
    (tmp_path / "model.pt").write_bytes(b"somebody's")
    done = run("train.py", *args, cwd=tmp_path)
    assert "the old model is kept as runs/001-emotionnet/replaced.pt" in done.stderr
    assert (tmp_path / "runs/001-emotionnet/replaced.pt").read_bytes() == b"somebody's"
    assert run("train.py", *args, "--seed", 1, cwd=tmp_path).returncode == 0
    assert not (tmp_path / "runs/002-emotionnet/replaced.pt").exists()  # the first run has it
    # One that has been calibrated is the run's, and stays as it is.
    calibrated = replace(Checkpoint.load(tmp_path / "model.pt"), temperature=1.5)
    calibrated.save(tmp_path / "model.pt")
    assert run("train.py", "--resume", cwd=tmp_path).returncode == 0
    assert Checkpoint.load(tmp_path / "model.pt").temperature == 1.5


def test_train_takes_paths_that_are_not_utf8(few_faces, tmp_path):
    model = os.fsdecode("모델.pt".encode("cp949"))
    args = (*ONE_EPOCH, "--data_path", few_faces, "--model_path", model)
    assert run("train.py", *args, cwd=tmp_path).returncode == 0
    (tmp_path / model).unlink()
    options = tmp_path / "runs/001-emotionnet/options.json"
    assert run("train.py", "--config", options, cwd=tmp_path).returncode == 0
    assert (tmp_path / model).exists()


def test_train_on_votes(few_faces, tmp_path):
    shutil.copytree(few_faces, tmp_path / "data")
    face = tmp_path / "data/train/기쁨/0000.png"
    face.rename(face.with_name(name_of("기쁨")))
    write_table(tmp_path / "t.tsv", [row(name_of("기쁨"), seen="기쁨 기쁨 분노")])
    done = run("train.py", *ONE_EPOCH, "--annotations", "t.tsv", cwd=tmp_path)
    assert done.returncode == 0 and "1 of 8 images are learnt by their votes" in done.stdout
    write_table(tmp_path / "t.tsv", [row(name_of("분노"))])
    done = run("train.py", *ONE_EPOCH, "--annotations", "t.tsv", cwd=tmp_path)
    assert done.returncode == 2 and "t.tsv has no row for any of them" in done.stderr


def test_train_on_a_table_of_votes_for_classes_by_other_names(few_faces, tmp_path):
    shutil.copytree(few_faces, tmp_path / "data")
    (tmp_path / "data/validation").rename(tmp_path / "data/val")
    first, second, *_ = sorted((tmp_path / "data/train/기쁨").iterdir())
    (tmp_path / "data/train/UNKNOWN").mkdir()
    shutil.copy(first, tmp_path / "data/train/UNKNOWN/u.png")
    votes = [(first, "7,2,1,0"), (second, "1,1,1,7"), ("UNKNOWN/u.png", "5,5,0,0")]
    lines = ["path,happy,angry,surprise,NF", *(f"{path},{counts}" for path, counts in votes)]
    (tmp_path / "v.csv").write_text("\n".join(lines), encoding="cp949")
    flags = ("--annotations", "v.csv", "--votes_min", 2, "--unknown", "soft")
    done = run("train.py", *ONE_EPOCH, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data/val is the validation set\n" in done.stderr
    assert "v.csv has the classes by other names: happy = 기쁨, angry = 분노\n" in done.stderr
    assert "UNKNOWN" not in done.stderr
    assert done.stdout.startswith(
        "v.csv: 2 of 9 images are learnt by their votes (10.0 votes an image, Fleiss' kappa "
    )
    assert "; left out: 1 whose majority is NF; with their label: 6 without votes\n" in done.stdout
    assert "8 training images, " in done.stdout

    for split in ("train", "val"):
        (tmp_path / "data" / split / "기쁨").rename(tmp_path / "data" / split / "0_Happy")
        (tmp_path / "data" / split / "분노").rename(tmp_path / "data" / split / "anger")
    other_names = "0_Happy = 기쁨, anger = 분노\n"
    done = run("test.py", "--split", "validation", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"note: data/val has the model's classes by other names: {other_names}" in done.stderr
    assert "| 0 기쁨 |" in done.stdout
    flags = ("--init", "model.pt", "--teacher", "model.pt", "--model_path", "b.pt")
    done = run("train.py", *ONE_EPOCH, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"note: model.pt knows the classes by other names: {other_names}") == 2
    assert Checkpoint.load(tmp_path / "b.pt").classes == ["0_Happy", "anger"]


def test_train_learns_the_teachers_predictions_alone_if_labels_do_not_count(trained, tmp_path):
    model = models.create("emotionnet", 3, 1, 48)
    model.fc3.bias.data[1] += 99  # 분노 for every image
    preprocess = Preprocess(48, 1).to_dict()
    teacher = Checkpoint("emotionnet", CLASSES[::-1], preprocess, 1, 0.5, model.state_dict(), 2.0)
    teacher.save(tmp_path / "teacher.pt")
    args = (*ONE_EPOCH, "--data_path", trained / "data", "--teacher", "teacher.pt", "teacher.pt")
    args = (*args, "--teacher_share", 1, "--optimizer", "adam")
    done = run("train.py", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    student = Checkpoint.load(tmp_path / "runs/001-emotionnet/last.pt").build()
    with torch.no_grad():
        assert (student(torch.rand(20, 1, 48, 48)).argmax(1) == 1).all()
    assert "accuracy 33.33%" in done.stdout
    # And a teacher that does not fit is refused.
    args = ("--epochs", 1, "--teacher", "teacher.pt", "--data_path")
    done = run("train.py", *args, trained / "data", "--model_path", "teacher.pt", cwd=tmp_path)
    one_line_error(done, "teacher.pt would be overwritten by the new model")
    done = run("train.py", *args, trained / "data", "--image_channel", 3, cwd=tmp_path)
    one_line_error(done, "--image_channel 3 contradicts teacher.pt", "give --image_channel 1")
    shutil.copytree(trained / "data", tmp_path / "two")
    for name in ("train", "validation"):
        shutil.rmtree(tmp_path / "two" / name / "중립")
    done = run("train.py", *args, "two", cwd=tmp_path)
    one_line_error(done, "has the classes 중립 분노 기쁨")


def test_train_starts_from_the_weights_of_init(trained, few_faces, tmp_path):
    model = trained / "model.pt"
    args = (*ONE_EPOCH, "--init", model, "--optimizer", "sgd", "--lr", 1e-9, "--data_path")
    done = run("train.py", *args, trained / "data", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    accuracy = Checkpoint.load(model).val_accuracy
    assert Checkpoint.load(tmp_path / "model.pt").val_accuracy == pytest.approx(accuracy, abs=1e-6)
    shutil.copytree(few_faces, tmp_path / "few")
    for name in ("train", "validation"):
        (tmp_path / "few" / name / "분노").rename(tmp_path / "few" / name / "놀람")
    done = run("train.py", *args, "few", cwd=tmp_path)
    assert done.returncode == 0 and "does not know the classes 놀람" in done.stderr
    done = run("train.py", *args, "few", "--model", "vgg19", cwd=tmp_path)
    one_line_error(done, "is a emotionnet of 1 channel")


def test_train_refuses_a_loss_that_is_not_finite(few_faces, tmp_path):
    args = (*PLAIN_FLAGS, "--data_path", few_faces, "--optimizer", "sgd", "--lr", 1e9)
    done = run("train.py", *args, "--epochs", 9, cwd=tmp_path)
    assert done.returncode == 2 and "try a lower --lr" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="ulimit")
def test_train_on_a_full_disk_leaves_no_incomplete_file(few_faces, tmp_path):
    words = " ".join(command("train.py", *PLAIN_FLAGS, "--data_path", few_faces, "--store", "s"))
    limited = f"ulimit -f 20000; exec {words}"  # in 1024 bytes: less than last.pt
    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert "last.pt: File too large; free some space" in line
    assert "train.py --resume runs/001" in line
    assert not list(tmp_path.rglob(".part-*"))
    done = run("train.py", "--resume", "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0 and Checkpoint.load(tmp_path / "model.pt").epoch == 1


def test_train_help_names_every_flag_and_default_of_the_reference(tmp_path):
    text = " ".join(run("train.py", "--help", cwd=tmp_path).stdout.split())
    for flag, default in {
        "data_path": "data", "model_path": "model.pt", "model": "emotionnet",
        "optimizer": "adadelta", "image_size": "48", "image_channel": "1", "gpu": "True",
        "cuda_idx": "0", "epochs": "50", "batch_size": "128",
    }.items():  # fmt: skip
        assert re.search(rf"--{flag}[ ,][^(]*(\(or \w+\)[^(]*)*\({default}\)", text), flag
    assert "0.1 for adadelta, 0.001 for adam and adamw, 0.01 for sgd" in text


@pytest.mark.parametrize(
    ("classes", "word"), [([], "no class folder"), (["기쁨"], "only the class 기쁨")]
)
def test_train_refuses_one_class_or_none(tmp_path, classes, word):
    for name in ("train", "validation"):
        (tmp_path / "data" / name).mkdir(parents=True)
        make_faces(tmp_path / "data" / name, classes, 2)
    one_line_error(run("train.py", cwd=tmp_path), "data/train", word)
    assert {p.name for p in tmp_path.iterdir()} == {"data"}


def test_train_of_crops_names_the_stage_that_is_missing(few_faces, tmp_path):
    shutil.copytree(few_faces / "train", tmp_path / "crop")
    done = run("train.py", "--data_path", "crop", cwd=tmp_path)
    one_line_error(done, "stage 3 is missing: python dataPreparation.py --input crop")


def test_train_refuses_a_class_of_validation_alone(few_faces, tmp_path):
    shutil.copytree(few_faces, tmp_path / "data")
    make_faces(tmp_path / "data/validation", ["중립"], 1)
    done = run("train.py", cwd=tmp_path)
    one_line_error(done, "classes that train does not: 중립", "add images of them to train")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["data: no such folder", "python dataPreparation.py"]),
        (["--model", "alexnet"], ["alexnet", "emotionnet"]),
        (["--gpu", "maybe"], ["--gpu"]),
        (["--lr", "-1"], ["--lr"]),
        (["--image_channel", "2"], ["--image_channel"]),
        (["--sam", "0.05", "--accumulate", "2"], ["--sam", "--accumulate"]),
    ],
)
def test_train_reports_bad_flags_in_one_line(tmp_path, args, words):
    one_line_error(run("train.py", *args, cwd=tmp_path), *words)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "resemotionnet", "--dropout", 0.5], ["resemotionnet has no dropout layer"]),
        (["--pretrained"], ["--pretrained needs --model efficientnet"]),
    ],
)
def test_train_reports_flags_that_do_not_fit_the_network(few_faces, tmp_path, args, words):
    done = run("train.py", "--data_path", few_faces, *args, cwd=tmp_path)
    one_line_error(done, *words)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[1]", "is not JSON like"),
        ('{"epoch": 1}', "--epoch"),
        (json.dumps({"epochs": 1, "log_dir": "a\0b"}), "c.json: log_dir has a character"),
        (json.dumps({"epochs": 1, "log_dir": "a\ud800b"}), "c.json: log_dir has a character"),
    ],
)
def test_train_refuses_a_bad_config(tmp_path, text, word):
    (tmp_path / "c.json").write_text(text)
    one_line_error(run("train.py", "--config", "c.json", cwd=tmp_path), word)
    assert {p.name for p in tmp_path.iterdir()} == {"c.json"}


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
def test_print_header_names_the_optimizer_and_its_rate(optimizer, capsys):
    rate = LEARNING_RATES[optimizer]
    trainer = small_trainer(Recipe(3, 4, rate, optimizer, amp="bf16", seed=5))
    trainer.progress = Progress(2, 3)
    args = train.make_parser().parse_args(["--model", "cnn"])
    train.print_header(args, trainer, CLASSES, 7, Run(Path("runs/001-a")))
    lines = capsys.readouterr().out.splitlines()
    parameters = sum(p.numel() for p in trainer.model.parameters())
    assert lines == [
        f"emotionnet with {parameters} parameters on cpu in bf16, {optimizer} with lr {rate:g}, "
        f"batches of 4, seed 5",
        "23 training images, 7 validation images, 3 classes: 기쁨 분노 중립",
        f"{Path('runs/001-a')} resumes in epoch 2, batch 4",
    ]
