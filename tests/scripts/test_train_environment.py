"""The environment that a training writes into options.json, which is no flag."""

from __future__ import annotations

import json

import pytest
import torch

from tests.helpers import run
from tests.trainings import equal_bits
from utils import __version__
from utils.inference.checkpoint import Checkpoint
from utils.inference.device import choose_device
from utils.training.amp import resolve_amp

pytestmark = pytest.mark.slow


def test_a_training_names_its_environment_and_is_found_and_repeated_without_it(few_faces, tmp_path):
    args = ("--data_path", few_faces, "--batch_size", 8, "--epochs", 1, "--resume", "auto")
    done = run("train.py", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "runs/001-emotionnet/options.json"
    options = json.loads(path.read_text("utf-8"))
    environment = options["environment"]
    expected = resolve_amp("auto", "emotionnet", choose_device(True, 0))
    assert (environment["amp"], environment["toolkit"]) == (expected, __version__)
    assert environment["torch"] == str(torch.__version__) and environment["device"]
    state = Checkpoint.load(tmp_path / "runs/001-emotionnet/last.pt")
    assert state.training["amp"] == expected

    # The same flags find the run, whatever was installed when it began, or without any environment.
    for other in (environment | {"torch": "1.0", "amp": "off"}, None):
        content = options | {"environment": other}
        if not other:
            del content["environment"]
        path.write_text(json.dumps(content), encoding="utf-8")
        done = run("train.py", *args, cwd=tmp_path)
        assert done.returncode == 0 and len(list((tmp_path / "runs").iterdir())) == 1
        assert json.loads(path.read_text("utf-8")) == options

    # --config repeats it, to the bit: nothing depends on a measurement.
    done = run("train.py", "--config", path, "--model_path", "again.pt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = Checkpoint.load(tmp_path / "runs/002-emotionnet/last.pt")
    assert equal_bits(dict(again.weights), dict(state.weights))
    assert again.training["amp"] == expected


@pytest.mark.parametrize("words", [(), ("--deterministic",)])
def test_an_efficientnet_trains_in_float32_on_a_cpu(few_faces, tmp_path, words):
    args = ("--data_path", few_faces, "--model", "efficientnet-b4", "--no-gpu", *words)
    done = run("train.py", *args, "--epochs", 1, "--batch_size", 8, cwd=tmp_path)
    assert done.returncode == 0 and "on cpu, adadelta" in done.stdout, done.stdout
    options = json.loads((tmp_path / "runs/001-efficientnet-b4/options.json").read_text("utf-8"))
    assert options["environment"]["amp"] == "off"


def test_deterministic_keeps_the_choice(few_faces, tmp_path):
    args = ("--data_path", few_faces, "--no-gpu", "--deterministic", "--epochs", 1)
    done = run("train.py", *args, "--batch_size", 8, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    options = json.loads((tmp_path / "runs/001-emotionnet/options.json").read_text("utf-8"))
    assert options["environment"]["amp"] == resolve_amp("auto", "emotionnet", torch.device("cpu"))
