"""Targets from labels, and class weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainings import CLASSES
from utils.data.image_folder import Sample
from utils.training import targets


def test_one_hot_is_one_at_the_label():
    samples = [Sample(Path(), 2), Sample(Path(), 0)]
    assert targets.one_hot(samples, CLASSES).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(("scheme", "power"), [("sqrt", 0.5), ("balanced", 1)])
def test_sample_weights_fall_with_the_size_of_the_class(scheme, power):
    answers = targets.one_hot([Sample(Path(), 0)] * 30 + [Sample(Path(), 1)] * 10, ["a", "b", "c"])
    assert targets.sample_weights(answers, "uniform") is None
    weights = targets.sample_weights(answers, scheme)
    assert weights.tolist() == pytest.approx([30**-power] * 30 + [10**-power] * 10)
    shared = torch.tensor([[0.5, 0.5], [1, 0], [1, 0], [0.5, 0.5]])  # 3 and 1 in all
    mean = (3**-power + 1) / 2
    weights = targets.sample_weights(shared, scheme)
    assert weights.tolist() == pytest.approx([mean, 3**-power, 3**-power, mean])


def test_class_weights_have_a_mean_of_one_over_the_images():
    answers = targets.one_hot([Sample(Path(), 0)] * 30 + [Sample(Path(), 1)] * 10, ["a", "b", "c"])
    assert targets.class_weights(answers, "none") is None
    inverse = targets.class_weights(answers, "inverse")
    assert inverse.tolist() == pytest.approx([40 / 60, 40 / 20, 0])
    effective = targets.class_weights(answers, "effective")
    assert 1 < effective[1] / effective[0] < 3
    assert (30 * effective[0] + 10 * effective[1]) / 40 == pytest.approx(1)
