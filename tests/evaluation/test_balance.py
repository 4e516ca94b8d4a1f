"""Logit adjustment: the figures by hand, and where the frequencies of the classes come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import make_faces
from utils.errors import StageError
from utils.evaluation.balance import find_priors, rebalance
from utils.evaluation.evaluator import Evaluation
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint

CLASSES = ["a", "b", "c"]


def make_checkpoint(priors: list[float] | None = None) -> Checkpoint:
    return Checkpoint("x", CLASSES, Preprocess().to_dict(), 1, 0.5, {}, class_priors=priors)


@pytest.fixture
def evaluation():
    probs = np.array([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]])
    truth = np.array([1, 0, 2])
    return Evaluation(Path("m.pt"), make_checkpoint().info(), Path(), [], truth, probs, 1.0, 1)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_rebalance_divides_by_the_priors_to_the_power_of_tau(evaluation, tau):
    priors = np.array([0.7, 0.2, 0.1])
    balanced = rebalance(evaluation, priors, tau)
    expected = evaluation.probs / priors**tau
    expected /= expected.sum(1, keepdims=True)
    assert balanced.probs == pytest.approx(expected)
    assert (balanced.balance, balanced.unbalanced.right) == (tau, 2)
    assert balanced.predictions.tolist() == expected.argmax(1).tolist() != [0, 0, 2]


def test_rebalance_with_equal_priors_changes_nothing(evaluation):
    assert rebalance(evaluation, np.full(3, 1 / 3), 1).probs == pytest.approx(evaluation.probs)


def test_rebalance_keeps_a_class_that_was_never_trained_and_a_probability_of_zero(evaluation):
    evaluation.probs[0] = [0.6, 0.4, 0]
    probs = rebalance(evaluation, np.array([0.5, 0, 0.5]), 1).probs
    assert probs[0] == pytest.approx(np.array([1.2, 0.4, 0]) / 1.6) and np.isfinite(probs).all()


def test_find_priors_are_those_of_the_model(tmp_path, capsys):
    priors = find_priors(make_checkpoint([0.2, 0.5, 0.3]).info(), Path("m.pt"), tmp_path)
    assert priors.tolist() == [0.2, 0.5, 0.3] and capsys.readouterr().err == ""


def test_find_priors_counts_the_training_images_of_a_model_without(tmp_path, capsys):
    for name, count in zip(CLASSES, (4, 1, 3), strict=True):
        make_faces(tmp_path / "train", [name], count)
    priors = find_priors(make_checkpoint().info(), Path("m.pt"), tmp_path)
    assert priors.tolist() == [0.5, 0.125, 0.375]
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and f"counted in {tmp_path / 'train'}" in text


def test_find_priors_knows_classes_by_other_names_and_numbers(tmp_path):
    model = replace(make_checkpoint(), classes=["기쁨", "슬픔", "b"])
    for name, count in {"happy": 1, "B": 2, "sad": 5}.items():
        make_faces(tmp_path / "train", [name], count)
    assert find_priors(model, Path("m.pt"), tmp_path).tolist() == [0.125, 0.625, 0.25]
    for number, count in enumerate((3, 1, 4)):
        make_faces(tmp_path / "numbers/train", [str(number)], count)
    priors = find_priors(model, Path("m.pt"), tmp_path / "numbers", ["b", "sad", "happy"])
    assert priors.tolist() == [0.5, 0.125, 0.375]


def test_find_priors_refuses_folders_that_are_not_the_models(tmp_path):
    with pytest.raises(StageError, match=r"--balance: m\.pt does not hold .* no .*train to count"):
        find_priors(make_checkpoint().info(), Path("m.pt"), tmp_path)
    make_faces(tmp_path / "train", ["a", "b", "z"], 1)
    with pytest.raises(StageError, match=r"train has other classes than the model: c z$"):
        find_priors(make_checkpoint().info(), Path("m.pt"), tmp_path)
