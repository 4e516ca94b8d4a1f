"""train.py after an interruption: a resumed run is one that was never disturbed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import ROOT, kill_at, make_faces, one_line_error, run, steps_of, tree
from tests.trainings import CLASSES, PLAIN_FLAGS, REMEMBERED_FLAGS, equal_bits, run_results
from utils.imaging.grids import TILE

pytestmark = pytest.mark.slow
RUN = Path("runs/001-emotionnet")
# What version 0.1.0 called the keys of `training["fixed"]` in last.pt.
OLD_FIXED_KEYS = {
    "data": "set of images",
    "optimizer": "optimizer",
    "ema": "use of --ema",
    "order": "order of images (--seed, --batch_size, --accumulate)",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with train and validation; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    for i, (name, count) in enumerate({"train": 23, "validation": 5}.items()):
        make_faces(folder / name, CLASSES, count, seed=i)
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A folder in which a training ran undisturbed to its end; and how many file operations it
    made.
    """
    folder = tmp_path_factory.mktemp("finished")
    args = (*REMEMBERED_FLAGS, "--data_path", data, "--save_every", 0)
    return folder, steps_of("train.py", *args, cwd=folder)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished training, to work in."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def use_old_keys(path: Path) -> None:
    """Make a last.pt one that version 0.1.0 wrote."""
    content = torch.load(path, weights_only=True)
    fixed = content["training"]["fixed"]
    content["training"]["fixed"] = {OLD_FIXED_KEYS[key]: fixed[key] for key in fixed}
    torch.save(content, path)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    ("sig", "version"),
    [(signal.SIGINT, "this"), (signal.SIGKILL, "this"), (signal.SIGKILL, "0.1.0")],
)
def test_train_resumed_is_undisturbed_to_the_bit(data, finished, tmp_path, sig, version):
    undisturbed, steps = finished
    args = (*REMEMBERED_FLAGS, "--data_path", data, "--save_every", 0)
    kill_at(steps // 2, "train.py", *args, cwd=tmp_path, sig=sig)
    page = (tmp_path / RUN / "index.html").read_text("utf-8")
    assert (">Interrupted<" if sig == signal.SIGINT else ">Training<") in page
    last = tmp_path / RUN / "last.pt"
    if version == "0.1.0":
        use_old_keys(last)
    state = torch.load(last, weights_only=True)["training"]
    assert (state["epoch"], bool(state["batch"])) == (2, True), "not in the middle of an epoch"
    done = run("train.py", "--resume", cwd=tmp_path)
    assert done.returncode == 0 and "resumes in epoch 2, batch " in done.stdout
    assert run_results(tmp_path) == run_results(undisturbed) and len(run_results(tmp_path)) == 3
    best = (undisturbed / RUN / "best.pt").read_bytes()
    assert (tmp_path / RUN / "best.pt").read_bytes() == best
    assert (tmp_path / "model.pt").read_bytes() == best
    states = [torch.load(f / RUN / "last.pt", weights_only=True) for f in (undisturbed, tmp_path)]
    assert equal_bits(*states)
    assert {p.name for p in (tmp_path / RUN).iterdir()} == {
        "options.json", "results.csv", "curves.png", "first_batch.png", "best.pt", "last.pt",
        "index.html",
    }  # fmt: skip
    page = (tmp_path / RUN / "index.html").read_text("utf-8")
    assert ">Finished<" in page and "3 of 3 epochs" in page and "data:image/jpeg" in page


def test_train_leaves_a_finished_run_alone_or_trains_it_for_longer(data, copy):
    last, best = copy / RUN / "last.pt", copy / RUN / "best.pt"
    before = best.read_bytes()
    done = run("train.py", "--resume", RUN, cwd=copy)
    assert done.returncode == 0 and "epoch 3/3" not in done.stdout
    assert best.read_bytes() == before
    args = (*REMEMBERED_FLAGS, "--data_path", data, "--save_every", 0)
    done = run("train.py", "--resume", "auto", *args, cwd=copy)
    assert done.returncode == 0 and "resumes in epoch 4" in done.stdout
    (copy / "model.pt").write_bytes(b"another run's")
    done = run("train.py", "--resume", last, "--epochs", 4, cwd=copy)
    assert done.returncode == 0 and "epoch 4/4" in done.stdout
    assert (copy / "model.pt").read_bytes() == best.read_bytes()
    assert [line["epoch"] for line in run_results(copy)] == ["1", "2", "3", "4"]
    assert len(list((copy / "runs").iterdir())) == 1
    # A run's newest state is a model like any other.
    done = run("test.py", "--model_path", last, "--data_path", data / "validation", cwd=copy)
    assert done.returncode == 0 and "epoch 4" in done.stdout


@pytest.mark.parametrize("version", ["this", "0.1.0"])
def test_train_refuses_to_resume_another_training(data, finished, copy, version):
    if version == "0.1.0":
        use_old_keys(copy / RUN / "last.pt")
    shutil.copytree(data, copy / "other")
    (copy / "other/train/기쁨/0000.png").unlink()
    options = (copy / RUN / "options.json").read_bytes()
    for flags, name in (
        (("--data_path", "other"), "set of images"),
        (("--optimizer", "adam", "--no-nesterov"), "optimizer"),
        (("--ema", 0), "use of --ema"),
        (("--seed", 7), "order of images (--seed, --batch_size, --accumulate, --sampling)"),
        (("--accumulate", 1), "order of images (--seed, --batch_size, --accumulate, --sampling)"),
        (
            ("--sampling", "sqrt"),
            "order of images (--seed, --batch_size, --accumulate, --sampling)",
        ),
        (("--image_channel", 3), "image size or channel"),
    ):
        done = run("train.py", "--resume", *flags, cwd=copy)
        one_line_error(done, f"the {name} is not that of {RUN}", f"--init {RUN / 'last.pt'}")
    assert (copy / RUN / "options.json").read_bytes() == options


def test_train_refuses_what_cannot_be_resumed(finished, tmp_path):
    one_line_error(run("train.py", "--resume", cwd=tmp_path), "runs holds no run")
    one_line_error(run("train.py", "--resume", "x", cwd=tmp_path), "x is not the folder of a run")
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    last = tmp_path / RUN / "last.pt"
    content = torch.load(last, weights_only=True)
    for part, key, word in (
        (content["training"], "history", f"{RUN / 'last.pt'} lacks history"),
        (content["training"]["fixed"], "data", "the set of images is not that of"),
        (content["training"], "fixed", "is not that of"),
        (content["training"], "amp", "is not that of"),
        (content, "training", "is not the state of a training"),
    ):
        del part[key]
        torch.save(content, last)
        one_line_error(run("train.py", "--resume", cwd=tmp_path), word)
    last.write_bytes(b"x")
    one_line_error(run("train.py", "--resume", cwd=tmp_path), "last.pt", "is not a model file")


def test_train_in_a_folder_in_which_another_process_trains_changes_nothing(copy):
    before = tree(copy)
    words = [sys.executable, "-m", "tests.hold_run", str(copy / RUN)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout.read(1) == b"1"
        one_line_error(run("train.py", "--resume", cwd=copy), "is being trained by another")
        other.kill()
    assert tree(copy) == before
    assert run("train.py", "--resume", cwd=copy).returncode == 0


def test_train_resumed_writes_what_a_killed_run_lacks(few_faces, tmp_path):
    args = (*PLAIN_FLAGS, "--data_path", few_faces, "--epochs", 1)
    assert run("train.py", *args, cwd=tmp_path).returncode == 0
    best, table = tmp_path / RUN / "best.pt", tmp_path / RUN / "results.csv"
    content, whole = best.read_bytes(), table.read_bytes()
    best.unlink()
    (tmp_path / "model.pt").unlink()
    for incomplete in (None, b"".join(whole.splitlines(keepends=True)[:-1])):
        table.unlink() if incomplete is None else table.write_bytes(incomplete)
        assert run("train.py", "--resume", cwd=tmp_path).returncode == 0
        assert best.read_bytes() == (tmp_path / "model.pt").read_bytes() == content
        assert table.read_bytes() == whole and len(run_results(tmp_path)) == 1


def test_train_takes_the_options_of_a_run_as_config_and_the_command_line_wins(finished, tmp_path):
    options = finished[0] / RUN / "options.json"
    before = json.loads(options.read_text(encoding="utf-8"))
    assert before["epochs"] == 3 and before["mixup"] == 0.2 and before["lr"] == 0.005
    done = run("train.py", "--config", options, "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0 and "epoch 1/1" in done.stdout
    after = json.loads((tmp_path / RUN / "options.json").read_text("utf-8"))
    assert after == before | {"epochs": 1}


def test_train_draws_the_first_batch_and_the_curves(finished):
    folder = finished[0] / RUN
    with Image.open(folder / "first_batch.png") as batch, Image.open(folder / "curves.png") as c:
        assert batch.width == 8 * TILE and batch.height > TILE and c.width > 800
        pixels = np.asarray(batch.convert("L"))[-TILE + 2 : -2]
    tiles = [pixels[:, i * TILE + 2 : (i + 1) * TILE - 4] for i in range(8)]
    assert all(tile.std() > 20 for tile in tiles) and tiles[0].tobytes() != tiles[1].tobytes()
