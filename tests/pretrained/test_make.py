"""python -m pretrained.make: half precision and other names, the same answers."""

from __future__ import annotations

import sys

import pytest
import torch

from pretrained import make
from tests.helpers import run_module
from utils.errors import StageError
from utils.inference.checkpoint import Checkpoint
from utils.inference.model_path import BUNDLED_MODEL


def run_main(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make.py", *map(str, words)])
    assert make.main() == 0


def test_make_keeps_the_answers_and_renames_the_classes(tmp_path, monkeypatch, capsys):
    model = Checkpoint.load(BUNDLED_MODEL)
    whole, half = tmp_path / "whole.pt", tmp_path / "half.pt"
    model.save(whole)
    names = [f"{name}!" for name in model.classes]
    run_main(monkeypatch, whole, "--output", half, "--classes", *names)
    made = Checkpoint.load(half)
    assert made.classes == names and half.stat().st_size < 0.6 * whole.stat().st_size
    assert all(torch.equal(made.weights[key], model.weights[key]) for key in model.weights)
    assert "sha256" in capsys.readouterr().out
    for wrong in (["one"], [*"abcdefgh", "h"]):
        with pytest.raises(StageError, match="8 different names"):
            run_main(monkeypatch, whole, "--output", half, "--classes", *wrong)
    assert Checkpoint.load(half).classes == names


@pytest.mark.slow
def test_make_runs_as_a_module(tmp_path):
    half = tmp_path / "half.pt"
    done = run_module("pretrained.make", BUNDLED_MODEL, "--output", half, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Checkpoint.load(half).classes == Checkpoint.load(BUNDLED_MODEL).classes
