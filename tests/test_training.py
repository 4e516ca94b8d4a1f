"""The training engine: what it promises of resuming, of many processes, of its options."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import models
from tests.helpers import (
    ROOT,
    command,
    kill_at,
    make_faces,
    name_of,
    one_line_error,
    row,
    run,
    steps_of,
    tree,
    write_table,
)
from tests.reference_networks import REFERENCE_NETWORKS as ORIGINALS
from utils.emotions import EMOTIONS
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint

CLASSES = ["기쁨", "분노", "중립"]
BASE = ("--amp", "off", "--batch_size", 8)
# Every option that has something to remember, at once.
ALL = (
    *BASE, "--optimizer", "sgd", "--lr", 0.005, "--schedule", "cosine", "--warmup", 1,
    "--accumulate", 2, "--clip", 1, "--ema", 0.9, "--patience", 9, "--label_smoothing", 0.1,
    "--class_weights", "effective", "--mixup", 0.2, "--rotation", 10, "--crop", 3, "--erase", 0.3,
    "--brightness", 0.2, "--zoom", 0.1, "--dropout", 0.3, "--epochs", 3,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with train and validation; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    for i, (name, count) in enumerate({"train": 23, "validation": 5}.items()):
        make_faces(folder / name, CLASSES, count, seed=i)
    return folder


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The folder in which a training with all options has run from its start to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run("train.py", *ALL, "--data_path", data, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def results(folder: Path, run_name: str = "001-emotionnet") -> list[dict[str, str]]:
    """The lines of a run's results.csv, but for how fast it was."""
    table = folder / "runs" / run_name / "results.csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for line in rows:
        del line["images_per_second"]
    return rows


def same(a: object, b: object) -> bool:
    """Equal to the last bit, in all that is kept; but for how fast it was."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        keys = a.keys() - {"images_per_second"}
        return keys == b.keys() - {"images_per_second"} and all(same(a[k], b[k]) for k in keys)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# --- resuming


@pytest.fixture(scope="module")
def half_way(data, tmp_path_factory):
    """The number of the file operation in the middle of a training of three epochs."""
    folder = tmp_path_factory.mktemp("half_way")
    return steps_of("train.py", *ALL, "--data_path", data, "--save_every", 0, cwd=folder) // 2


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_resumed_is_undisturbed_to_the_bit(data, undisturbed, half_way, tmp_path, sig):
    folder = tmp_path / "runs/001-emotionnet"
    args = (*ALL, "--data_path", data, "--save_every", 0)
    kill_at(half_way, "train.py", *args, cwd=tmp_path, sig=sig)
    state = torch.load(folder / "last.pt", weights_only=True)["training"]
    assert (state["epoch"], bool(state["batch"])) == (2, True), "not amid the epoch"
    done = run("train.py", "--resume", cwd=tmp_path)
    assert done.returncode == 0 and "resumes in epoch 2, batch " in done.stdout
    assert results(tmp_path) == results(undisturbed) and len(results(tmp_path)) == 3
    expected = undisturbed / "runs/001-emotionnet"
    assert (folder / "best.pt").read_bytes() == (expected / "best.pt").read_bytes()
    assert (tmp_path / "model.pt").read_bytes() == (expected / "best.pt").read_bytes()
    before, after = (torch.load(f / "last.pt", weights_only=True) for f in (expected, folder))
    assert same(before, after)
    assert {p.name for p in folder.iterdir()} == {
        "options.json", "results.csv", "curves.png", "first_batch.png", "best.pt", "last.pt",
    }  # fmt: skip


def test_a_finished_run_is_left_alone_or_goes_on_for_longer(data, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "runs/001-emotionnet/best.pt").read_bytes()
    done = run("train.py", "--resume", "runs/001-emotionnet", cwd=tmp_path)
    assert done.returncode == 0 and "epoch 3/3" not in done.stdout
    assert (tmp_path / "runs/001-emotionnet/best.pt").read_bytes() == before
    done = run("train.py", "--resume", "auto", *ALL, "--data_path", data, cwd=tmp_path)
    assert done.returncode == 0 and "resumes in epoch 4" in done.stdout
    last = tmp_path / "runs/001-emotionnet/last.pt"
    (tmp_path / "model.pt").write_bytes(b"another run's")
    done = run("train.py", "--resume", last, "--epochs", 4, cwd=tmp_path)
    assert done.returncode == 0 and "epoch 4/4" in done.stdout
    best = (tmp_path / "runs/001-emotionnet/best.pt").read_bytes()
    assert (tmp_path / "model.pt").read_bytes() == best
    assert [line["epoch"] for line in results(tmp_path)] == ["1", "2", "3", "4"]
    assert len(list((tmp_path / "runs").iterdir())) == 1
    # A run's newest state is a model like any other.
    done = run("test.py", "--model_path", last, "--data_path", data / "validation", cwd=tmp_path)
    assert done.returncode == 0 and "epoch 4" in done.stdout


def test_what_cannot_be_resumed_is_told(data, undisturbed, tmp_path):
    one_line_error(run("train.py", "--resume", cwd=tmp_path), "runs holds no run")
    one_line_error(run("train.py", "--resume", "x", cwd=tmp_path), "x is not the folder of a run")
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    shutil.copytree(data, tmp_path / "other")
    (tmp_path / "other/train/기쁨/0000.png").unlink()
    done = run("train.py", "--resume", "--data_path", "other", cwd=tmp_path)
    assert done.returncode == 2 and "the set of images is not that of" in done.stderr
    options = tmp_path / "runs/001-emotionnet/options.json"
    assert options.read_text("utf-8") == (undisturbed / options.relative_to(tmp_path)).read_text(
        "utf-8"
    )
    done = run("train.py", "--resume", "--image_channel", 3, cwd=tmp_path)
    assert done.returncode == 2 and "the image size or channel is not that" in done.stderr
    (tmp_path / "runs/001-emotionnet/last.pt").write_bytes(b"x")
    one_line_error(run("train.py", "--resume", cwd=tmp_path), "last.pt", "is not a model file")


def test_two_processes_never_train_in_one_folder(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    before = tree(tmp_path)
    hold = "import sys, time; from utils.training.run_folder import Run; from pathlib import Path;"
    hold += "Run(Path(sys.argv[1])).lock(); print(1, flush=True); time.sleep(99)"
    words = [sys.executable, "-c", hold, str(tmp_path / "runs/001-emotionnet")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout.read(1) == b"1"
        one_line_error(run("train.py", "--resume", cwd=tmp_path), "is being trained by another")
        other.kill()
    assert tree(tmp_path) == before
    assert run("train.py", "--resume", cwd=tmp_path).returncode == 0


def test_a_model_of_no_run_is_not_lost(few, tmp_path):
    args = ("--data_path", few, "--epochs", 1)
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


def test_paths_that_are_not_utf8(few, tmp_path):
    model = os.fsdecode("모델.pt".encode("cp949"))
    args = ("--data_path", few, "--epochs", 1, "--model_path", model)
    assert run("train.py", *args, cwd=tmp_path).returncode == 0
    (tmp_path / model).unlink()
    options = tmp_path / "runs/001-emotionnet/options.json"
    assert run("train.py", "--config", options, cwd=tmp_path).returncode == 0
    assert (tmp_path / model).exists()


def test_config_is_what_a_run_was_told_and_the_command_line_wins(data, undisturbed, tmp_path):
    options = undisturbed / "runs/001-emotionnet/options.json"
    told = json.loads(options.read_text(encoding="utf-8"))
    assert told["epochs"] == 3 and told["mixup"] == 0.2 and told["lr"] == 0.005
    done = run("train.py", "--config", options, "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0 and "epoch 1/1" in done.stdout
    again = json.loads((tmp_path / "runs/001-emotionnet/options.json").read_text("utf-8"))
    assert again == told | {"epochs": 1}
    for text, word in (("[1]", "is not JSON like"), ('{"epoch": 1}', "--epoch=1")):
        (tmp_path / "c.json").write_text(text)
        one_line_error(run("train.py", "--config", "c.json", cwd=tmp_path), word)


def test_pictures_and_options_of_a_run(undisturbed):
    folder = undisturbed / "runs/001-emotionnet"
    with Image.open(folder / "first_batch.png") as mosaic, Image.open(folder / "curves.png") as c:
        assert mosaic.width == 8 * 112 and mosaic.height > 128 and c.width > 800
        pixels = np.asarray(mosaic.convert("L"))
    tiles = [pixels[20:128, i * 112 + 2 : i * 112 + 108] for i in range(8)]
    assert all(tile.std() > 20 for tile in tiles) and tiles[0].tobytes() != tiles[1].tobytes()


def test_early_stop_and_another_folder_for_every_run(data, tmp_path):
    args = (*BASE, "--data_path", data, "--optimizer", "sgd", "--lr", 1e-9, "--patience", 2)
    for number in (1, 2):
        done = run("train.py", *args, "--epochs", 9, cwd=tmp_path)
        assert done.returncode == 0 and f"runs/{number:03d}-emotionnet" in done.stdout
        assert len(results(tmp_path, f"{number:03d}-emotionnet")) == 3
    assert results(tmp_path) == results(tmp_path, "002-emotionnet")


# --- many processes


def torchrun(*args: object, cwd: Path, **more: object) -> subprocess.Popen:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", *map(str, args)]
    return subprocess.Popen(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, **more,
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="gloo, /proc")
def test_two_processes_do_what_one_does_and_one_may_be_killed(data, tmp_path):
    args = [*BASE, "--data_path", data, "--epochs", 2, "--mixup", 0.2, "--accumulate", 2]
    done = run("train.py", *args, cwd=tmp_path)
    assert done.returncode == 0
    both = torchrun("--nproc_per_node=2", ROOT / "train.py", *args, cwd=tmp_path)
    out, err = both.communicate(timeout=120)
    assert both.returncode == 0, err
    assert "2 processes, cpu" in out and "batches of 8 over all processes" in out
    assert out.count("epoch 1/2") == 1

    # Again, and one of the two is killed after an epoch.
    both = torchrun(
        "--nproc_per_node=2", "--max-restarts=1", ROOT / "train.py", *args, "--save_every", 0,
        "--epochs", 3, cwd=tmp_path,
    )  # fmt: skip
    while not (tmp_path / "runs/003-emotionnet/results.csv").exists():
        assert both.poll() is None, both.stderr.read()
        time.sleep(0.01)
    os.kill(rank_one(both.pid), signal.SIGKILL)
    out, err = both.communicate(timeout=120)
    assert both.returncode == 0, err
    assert "runs/003-emotionnet resumes in epoch 2" in out
    assert len(list((tmp_path / "runs").iterdir())) == 3

    one = results(tmp_path)
    for other in (results(tmp_path, f"00{i}-emotionnet")[:2] for i in (2, 3)):
        for ours, theirs in zip(one, other, strict=True):
            for key, value in ours.items():
                assert float(value) == pytest.approx(float(theirs[key]), abs=1e-4), key


def test_a_launcher_that_tells_half_is_told_so(data, tmp_path):
    done = run("train.py", "--data_path", data, cwd=tmp_path, env={"WORLD_SIZE": "2", "RANK": "0"})
    one_line_error(done, "LOCAL_RANK is not set: start train.py with torchrun")


def rank_one(parent: int) -> int:
    """The process of rank 1 that torchrun has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, environment = (folder / "status").read_text(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"PPid:\t{parent}\n" in status and b"\0RANK=1\0" in environment:
            return int(folder.name)
    raise AssertionError("no process of rank 1")


# --- all networks through all scripts

NINE = {
    "emotionnet": 48, "resemotionnet": 16, "resnet18": 16, "vgg19": 32, "vgg22": 32, "vgg24": 64,
    "efficientnet-b4": 32, "efficientnet-b5": 32, "efficientnet-b5 large": 64,
}  # fmt: skip
KINDS = ("emotionnet", "resemotionnet", "resnet18", "vgg19", "efficientnet-b4")  # one of each


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Eight images to learn from, and a few for the other sets."""
    folder = tmp_path_factory.mktemp("few")
    for name, count in {"train": 4, "validation": 1, "test": 2}.items():
        make_faces(folder / name, ["기쁨", "분노"], count)
    return folder


@pytest.mark.parametrize(
    ("name", "channels"), [*((name, 1) for name in NINE), *((name, 3) for name in KINDS)]
)
def test_every_network_trains_and_is_tested_and_predicts(few, tmp_path, name, channels):
    args = ("--model", name.split()[0], "--image_size", NINE[name], "--image_channel", channels)
    done = run(
        "train.py", *args, "--data_path", few, "--epochs", 1, "--batch_size", 4, "--amp", "off",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Checkpoint.load(tmp_path / "model.pt").preprocess["image_channel"] == channels
    done = run("test.py", "--data_path", few, cwd=tmp_path)
    assert done.returncode == 0 and "of 4 images" in done.stdout
    done = run("emotion.py", "--img", few / "test/분노/0000.png", cwd=tmp_path)
    [answer] = json.loads(done.stdout)
    assert sum(answer["probs"]) == pytest.approx(100, abs=0.1)


# --- the original's checkpoints


@pytest.mark.parametrize("name", ORIGINALS)
def test_an_original_checkpoint_gives_the_originals_probabilities(few, tmp_path, name):
    make, size, channels = ORIGINALS[name]
    torch.manual_seed(0)
    original = make().eval()
    face = few / "test/분노/0000.png"
    picture = Image.open(face).convert("L" if channels == 1 else "RGB").resize((size, size), 2)
    pixels = torch.from_numpy(np.array(picture)).float().div(255).view(1, size, size, channels)
    with torch.no_grad():
        while True:  # until it is as sure of its answers as a trained one
            expected = original(pixels.permute(0, 3, 1, 2))[:, :7].softmax(1)[0] * 100
            if expected.max() > 40:
                break
            list(original.parameters())[-2].mul_(2)
    weights = {"model": original.state_dict(), "optimizer": {"state": {}, "param_groups": []}}
    torch.save(weights, tmp_path / "model.pt")
    done = run("emotion.py", "--img", face, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout)
    assert answer["probs"] == pytest.approx(expected.tolist(), abs=0.01)
    assert answer["label"] == EMOTIONS[int(expected.argmax())]


def test_an_original_checkpoint_is_tested_and_trained_on(few, tmp_path):
    make, _, _ = ORIGINALS["resnet18"]
    weights = {f"module.{key}": value for key, value in make().state_dict().items()}
    torch.save({"model": weights, "optimizer": {}}, tmp_path / "old.pt")
    old = ("--model_path", "old.pt")
    done = run("test.py", *old, "--data_path", few, "--image_size", 40, cwd=tmp_path)
    assert done.returncode == 0 and "resnet18-original, a reference checkpoint" in done.stdout
    done = run("test.py", *old, "--data_path", few, "--image_channel", 3, cwd=tmp_path)
    one_line_error(done, "--image_channel 3 contradicts")
    args = ("--data_path", few, "--epochs", 1, "--batch_size", 4, "--amp", "off")
    done = run("train.py", "--init", "old.pt", *args, cwd=tmp_path)
    assert done.returncode == 0 and "resnet18 with" in done.stdout
    weights.pop("module.conv1.weight")
    torch.save({"model": weights}, tmp_path / "old.pt")
    one_line_error(run("test.py", *old, "--data_path", few, cwd=tmp_path), "old.pt is not a model")


# --- starting from weights


def test_init_starts_from_a_model_and_makes_its_last_layer_anew(data, few, undisturbed, tmp_path):
    best = undisturbed / "runs/001-emotionnet/best.pt"
    args = (*BASE, "--optimizer", "sgd", "--lr", 1e-9, "--epochs", 1, "--data_path")
    done = run("train.py", "--init", best, *args, data, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    accuracy = Checkpoint.load(best).val_accuracy
    assert Checkpoint.load(tmp_path / "model.pt").val_accuracy == pytest.approx(accuracy, abs=1e-6)
    shutil.copytree(few, tmp_path / "few")
    for name in ("train", "validation"):
        (tmp_path / "few" / name / "분노").rename(tmp_path / "few" / name / "놀람")
    done = run("train.py", "--init", best, *args, "few", cwd=tmp_path)
    assert done.returncode == 0 and "does not know the classes 놀람" in done.stderr
    done = run("train.py", "--init", best, "--model", "vgg19", *args, "few", cwd=tmp_path)
    one_line_error(done, "is a emotionnet of 1 channel")


def test_pretrained_is_for_the_efficientnets(few, tmp_path):
    done = run("train.py", "--pretrained", "--data_path", few, cwd=tmp_path)
    one_line_error(done, "--pretrained needs --model efficientnet")


# --- what goes wrong


@pytest.mark.skipif(os.name == "nt", reason="ulimit")
def test_a_disk_that_fills_is_told_and_leaves_no_half_file(data, tmp_path):
    words = " ".join(command("train.py", *BASE, "--data_path", data, "--store", "store"))
    limited = f"ulimit -f 20000; exec {words}"  # in 1024 bytes: less than last.pt
    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert (
        "last.pt: File too large; free some space" in line and "train.py --resume runs/001" in line
    )
    assert not list(tmp_path.rglob(".part-*"))
    done = run("train.py", "--resume", "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0 and Checkpoint.load(tmp_path / "model.pt").epoch == 1


def test_a_label_only_in_validation(data, tmp_path):
    shutil.copytree(data / "validation", tmp_path / "data/validation")
    shutil.copytree(data / "train/기쁨", tmp_path / "data/train/기쁨")
    shutil.copytree(data / "train/분노", tmp_path / "data/train/분노")
    done = run("train.py", cwd=tmp_path)
    one_line_error(done, "classes that train does not: 중립", "add images of them to train")


# --- the rules


def test_training_on_votes(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    face = tmp_path / "data/train/기쁨/0000.png"
    face.rename(face.with_name(name_of("기쁨")))
    write_table(tmp_path / "t.tsv", [row(name_of("기쁨"), seen="기쁨 기쁨 중립")])
    done = run("train.py", *BASE, "--epochs", 1, "--annotations", "t.tsv", cwd=tmp_path)
    assert done.returncode == 0 and "1 of 69 images have three annotators' votes" in done.stdout
    write_table(tmp_path / "t.tsv", [row(name_of("분노"))])
    done = run("train.py", *BASE, "--annotations", "t.tsv", cwd=tmp_path)
    assert done.returncode == 2 and "t.tsv has no row for any image" in done.stderr


def test_dropout_of_a_network_that_has_none_is_refused(few, tmp_path):
    args = ("--data_path", few, "--model", "resemotionnet", "--dropout", 0.5)
    one_line_error(run("train.py", *args, cwd=tmp_path), "resemotionnet has no dropout layer")


def teacher_of_three(path: Path) -> Checkpoint:
    torch.manual_seed(1)
    model = models.create("emotionnet", 3, 1, 48)
    model.fc3.weight.data *= 9
    how = Preprocess(48, 1).to_dict()
    checkpoint = Checkpoint("emotionnet", CLASSES[::-1], how, 1, 0.5, model.state_dict(), 2.0)
    checkpoint.save(path)
    return checkpoint


def test_where_labels_count_nothing_the_teachers_answers_alone_are_learnt(data, tmp_path):
    checkpoint = teacher_of_three(tmp_path / "teacher.pt")
    checkpoint.weights["fc3.bias"][1] += 99  # 분노, whatever it sees
    checkpoint.save(tmp_path / "teacher.pt")
    args = (*BASE, "--data_path", data, "--teacher", "teacher.pt", "--teacher_share", 1)
    done = run("train.py", *args, "--optimizer", "adam", "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pupil = Checkpoint.load(tmp_path / "runs/001-emotionnet/last.pt").build()
    with torch.no_grad():
        assert (pupil(torch.rand(20, 1, 48, 48)).argmax(1) == 1).all()
    assert "accuracy 33.33%" in done.stdout


def test_a_teacher_of_another_task_is_refused(data, few, tmp_path):
    teacher_of_three(tmp_path / "model.pt")
    args = ("--epochs", 1, "--teacher", "model.pt", "--data_path")
    done = run("train.py", *args, data, cwd=tmp_path)
    one_line_error(done, "would be overwritten by the new model")
    args = ("--model_path", "new.pt", *args)
    one_line_error(run("train.py", *args, few, cwd=tmp_path), "has the classes 중립 분노 기쁨")
    done = run("train.py", *args, data, "--image_channel", 3, cwd=tmp_path)
    one_line_error(done, "--image_channel 3 contradicts model.pt", "give --image_channel 1")


def test_a_run_killed_before_it_kept_its_best_epoch_keeps_it(few, tmp_path):
    args = ("--data_path", few, "--epochs", 1)
    assert run("train.py", *args, cwd=tmp_path).returncode == 0
    best = tmp_path / "runs/001-emotionnet/best.pt"
    content = best.read_bytes()
    for path in (best, tmp_path / "model.pt", best.with_name("results.csv")):
        path.unlink()
    assert run("train.py", "--resume", cwd=tmp_path).returncode == 0
    assert best.read_bytes() == (tmp_path / "model.pt").read_bytes() == content
    assert len(results(tmp_path)) == 1


def test_bf16_trains(data, tmp_path):
    args = ("--amp", "bf16", "--optimizer", "adam", "--lr", 0.0003, "--batch_size", 8)
    done = run("train.py", *args, "--epochs", 2, "--data_path", data, cwd=tmp_path)
    assert done.returncode == 0 and "on cpu in bf16" in done.stdout
    assert float(results(tmp_path)[-1]["val_accuracy"]) > 0.6
    assert re.search(r"best epoch \d", done.stdout)
