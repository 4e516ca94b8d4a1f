"""Model files that other programs wrote: one answer, whatever the form, or one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import models
from tests.helpers import one_line_error, run
from tests.trainings import CLASSES, PLAIN_FLAGS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    return models.create("emotionnet", 7, 1, 48).state_dict()


def named(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def answer(path: str, face: Path, folder: Path) -> list[float]:
    done = run("emotion.py", "--img", face, "--model_path", path, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"note: {path} names no network; by its tensors it is emotionnet")
    return json.loads(done.stdout)[0]["probs"]


def test_every_form_of_the_same_weights_gives_the_same_answer(state, few_faces, tmp_path):
    contents = {
        "plain": {"model": state, "optimizer": {}},
        "bare": state,
        "under": {"state_dict": state, "epoch": 3},
        "compiled": {"model_state_dict": named(state, "_orig_mod.module."), "epoch": 3},
        "wrapped": {"model": named(state, "module._orig_mod.module.")},
        "half": {"model": {key: tensor.half() for key, tensor in state.items()}},
        "bf16": {key: tensor.bfloat16() for key, tensor in state.items()},
    }
    face = few_faces / "test/분노/0000.png"
    answers = {}
    for name, content in contents.items():
        torch.save(content, tmp_path / f"{name}.pt")
        answers[name] = answer(f"{name}.pt", face, tmp_path)
    for name, probs in answers.items():
        assert probs == pytest.approx(answers["plain"], abs=0.05 if name == "bf16" else 0.011)


def test_weights_of_another_program_start_a_training_and_teach(state, few_faces, tmp_path):
    content = {"state_dict": named(state, "_orig_mod.module."), "classes": [*CLASSES[:2], *"abcde"]}
    torch.save(content, tmp_path / "other.pt")
    args = ("--data_path", few_faces, *PLAIN_FLAGS, "--epochs", 1)
    done = run("train.py", "--init", "other.pt", *args, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("emotionnet with "), done.stderr
    assert "the last layer" not in done.stderr  # its rows are matched by the classes' names
    two = {key: tensor[:2] if key.startswith("fc3") else tensor for key, tensor in state.items()}
    torch.save({"net": two, "class_to_idx": {"분노": 1, "기쁨": 0}}, tmp_path / "teacher.pt")
    done = run("train.py", "--teacher", "teacher.pt", "--model", "resnet18", *args, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("resnet18 with "), done.stderr


@pytest.mark.parametrize("script", ["emotion.py", "test.py", "train.py"])
def test_a_file_that_cannot_be_used_is_refused_in_one_line(state, few_faces, tmp_path, script):
    flag = "--init" if script == "train.py" else "--model_path"
    more = ("--img", few_faces) if script == "emotion.py" else ("--data_path", few_faces)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "lfs.pt").write_text(pointer, encoding="utf-8")
    torch.save(models.create("emotionnet", 7, 1, 48), tmp_path / "whole.pt")
    torch.save(state, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:5_000_000])
    for name, words in (
        ("lfs.pt", ["run git lfs pull"]),
        ("whole.pt", ["models.emotionnet.EmotionNet", "save its state_dict() alone"]),
        ("cut.pt", ["truncated", "5,000,000 bytes", "download or copy it again"]),
    ):
        one_line_error(run(script, flag, name, *more, cwd=tmp_path), name, *words)
