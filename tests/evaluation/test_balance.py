"""Logit adjustment: the figures by hand, and where the frequencies of the classes come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import make_faces
from utils.errors import StageError
from utils.evaluation.balance import Balance, find_priors, make_balance
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint

CLASSES = ["a", "b", "c"]


def make_checkpoint(priors: list[float] | None = None) -> Checkpoint:
    return Checkpoint("x", CLASSES, Preprocess().to_dict(), 1, 0.5, {}, class_priors=priors)


def test_a_balance_replaces_that_of_the_model_and_brings_its_priors():
    model = make_checkpoint([0.2, 0.5, 0.3]).info()
    balanced = Balance(0.5, [0.7, 0.2, 0.1]).of(model)
    assert (balanced.balance, balanced.class_priors) == (0.5, [0.7, 0.2, 0.1])
    assert make_balance(None, balanced, Path("m.pt"), Path()).of(balanced) == balanced
    plain = make_balance(0, balanced, Path("m.pt"), Path()).of(balanced)
    assert (plain.balance, plain.class_priors) == (0.0, [0.7, 0.2, 0.1])


def test_make_balance_without_strength_needs_no_priors(tmp_path):
    assert make_balance(0, make_checkpoint().info(), Path("m.pt"), tmp_path) == (0, None)
    with pytest.raises(StageError, match=r"--balance: m\.pt does not hold"):
        make_balance(0.5, make_checkpoint().info(), Path("m.pt"), tmp_path)


def test_find_priors_are_those_of_the_model(tmp_path, capsys):
    priors = find_priors(make_checkpoint([0.2, 0.5, 0.3]).info(), Path("m.pt"), tmp_path)
    assert priors == [0.2, 0.5, 0.3] and capsys.readouterr().err == ""


def test_find_priors_counts_the_training_images_of_a_model_without(tmp_path, capsys):
    for name, count in zip(CLASSES, (4, 1, 3), strict=True):
        make_faces(tmp_path / "train", [name], count)
    priors = find_priors(make_checkpoint().info(), Path("m.pt"), tmp_path)
    assert priors == [0.5, 0.125, 0.375]
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and f"counted in {tmp_path / 'train'}" in text


def test_find_priors_knows_classes_by_other_names_and_numbers(tmp_path):
    model = replace(make_checkpoint(), classes=["기쁨", "슬픔", "b"])
    for name, count in {"happy": 1, "B": 2, "sad": 5}.items():
        make_faces(tmp_path / "train", [name], count)
    assert find_priors(model, Path("m.pt"), tmp_path) == [0.125, 0.625, 0.25]
    for number, count in enumerate((3, 1, 4)):
        make_faces(tmp_path / "numbers/train", [str(number)], count)
    priors = find_priors(model, Path("m.pt"), tmp_path / "numbers", ["b", "sad", "happy"])
    assert priors == [0.5, 0.125, 0.375]


def test_find_priors_refuses_folders_that_are_not_the_models(tmp_path):
    with pytest.raises(StageError, match=r"--balance: m\.pt does not hold .* no .*train to count"):
        find_priors(make_checkpoint().info(), Path("m.pt"), tmp_path)
    make_faces(tmp_path / "train", ["a", "b", "z"], 1)
    with pytest.raises(StageError, match=r"train has other classes than the model: c z$"):
        find_priors(make_checkpoint().info(), Path("m.pt"), tmp_path)
