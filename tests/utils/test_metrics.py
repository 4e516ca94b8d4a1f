"""Accuracy, F1, intervals and calibration."""

from __future__ import annotations

import numpy as np
import pytest

from utils.metrics import BINS, Reliability, Scores, fit_temperature, scale, wilson


def test_scores_are_what_they_are_defined_as():
    truth = np.array([0, 0, 0, 1, 1, 2])
    scores = Scores.of(truth, np.array([0, 0, 1, 1, 0, 0]), 4)
    assert scores.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0] * 4]
    assert (scores.right, scores.total, scores.accuracy) == (3, 6, 0.5)
    assert scores.support.tolist() == [3, 2, 1, 0]
    assert scores.precision.tolist() == [0.5, 0.5, 0, 0]
    assert scores.recall.tolist() == pytest.approx([2 / 3, 0.5, 0, 0])
    assert scores.f1.tolist() == pytest.approx([4 / 7, 0.5, 0, 0])
    assert scores.macro_f1 == pytest.approx((4 / 7 + 0.5) / 3)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 0.5) / 3)


@pytest.mark.parametrize(
    ("right", "total", "interval"),
    [
        (8, 10, (0.4902, 0.9433)),
        (0, 10, (0, 0.2775)),
        (10, 10, (0.7225, 1)),
        (500, 1000, (0.4691, 0.5309)),
    ],
)
def test_wilson_interval(right, total, interval):
    assert wilson(right, total) == pytest.approx(interval, abs=1e-4)


def test_reliability_sorts_predictions_into_bins():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [1, 0]])
    reliability = Reliability.of(probs, np.array([0, 1, 1, 0]))
    filled = np.flatnonzero(reliability.count)
    assert filled.tolist() == [int(0.7 * BINS), int(0.9 * BINS), BINS - 1]  # 1 is in the last bin
    assert reliability.count[filled].tolist() == [1, 2, 1]
    assert reliability.confidence[filled] == pytest.approx([0.7, 0.9, 1])
    assert reliability.accuracy[filled] == pytest.approx([1, 0.5, 1])
    assert reliability.ece == pytest.approx((0.3 + 2 * 0.4 + 0) / 4)


def test_fit_temperature_finds_how_overconfident_a_model_is():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 5)) * 2
    probs = np.exp(scale(logits, 1))
    truth = (probs.cumsum(1) > generator.random((20_000, 1))).argmax(1)
    assert Reliability.of(probs, truth).ece < 0.02
    overconfident = scale(logits, 1 / 3)
    assert Reliability.of(np.exp(overconfident), truth).ece > 0.15
    temperature = fit_temperature(overconfident, truth)
    assert temperature == pytest.approx(3, rel=0.05)
    calibrated = np.exp(scale(overconfident, temperature))
    assert Reliability.of(calibrated, truth).ece < 0.02


def test_fit_temperature_ends_at_its_limits():
    log_probs = scale(np.array([[0.5, 0], [0.5, 0]]), 1)
    assert fit_temperature(log_probs, np.array([0, 0])) == pytest.approx(1 / 20, rel=1e-3)
    assert fit_temperature(log_probs, np.array([1, 1])) == pytest.approx(20, rel=1e-3)


def test_scale_keeps_probabilities_that_add_up_to_one():
    log_probs = np.log(np.array([[0.7, 0.2, 0.1]]))
    assert scale(log_probs, 1) == pytest.approx(log_probs)
    softer = np.exp(scale(log_probs, 2))
    assert softer == pytest.approx(np.sqrt(np.exp(log_probs)) / np.sqrt(np.exp(log_probs)).sum())
    assert np.exp(scale(np.array([[-1e4, 0.0]]), 0.05)).tolist() == [[0, 1]]
