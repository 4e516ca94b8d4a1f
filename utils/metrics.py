"""How good predictions are: accuracy, F1, intervals and calibration. Fractions are in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BINS = 15  # of confidence, as in Guo et al. 2017 (arXiv 1706.04599)
Z95 = 1.959964  # standard deviations that hold 95 % of a normal distribution
MIN_PROBABILITY = 1e-300  # a probability of 0 has no logarithm
MAX_TEMPERATURE = 20  # fit_temperature searches from 1/20 to 20


@dataclass(frozen=True)
class Scores:
    """The scores of predicted classes. Arrays have one entry per class.

    A ratio whose denominator is 0 (the precision of a class that was never predicted) is 0.
    Averages over classes leave out the classes without images.
    """

    confusion: np.ndarray  # int64 (classes, classes): row = true class, column = predicted class

    @classmethod
    def of(cls, truth: np.ndarray, answers: np.ndarray, classes: int) -> Scores:
        """Count the true and the predicted class indices, int (N,) each."""
        counts = np.bincount(truth * classes + answers, minlength=classes * classes)
        return cls(counts.reshape(classes, classes))

    @property
    def total(self) -> int:
        """The number of images."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """The number of correct predictions."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The fraction of correct predictions."""
        return self.right / self.total

    @property
    def support(self) -> np.ndarray:
        """The images of each class, int64 (classes,)."""
        return self.confusion.sum(1)

    @property
    def recall(self) -> np.ndarray:
        """The fraction of each class's images that were recognized."""
        return _ratio(np.diag(self.confusion), self.support)

    @property
    def precision(self) -> np.ndarray:
        """The fraction of each class's predictions that are correct."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall of each class."""
        return _ratio(2 * np.diag(self.confusion), self.support + self.confusion.sum(0))

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that have images."""
        return float(self.f1[self.support > 0].mean())

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have images."""
        return float(self.recall[self.support > 0].mean())


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a fraction, by Wilson's score (1927).

    It holds for few images too, where the normal approximation does not.
    """
    fraction, z2 = right / total, Z95 * Z95
    middle = fraction + z2 / (2 * total)
    spread = Z95 * math.sqrt(fraction * (1 - fraction) / total + z2 / (4 * total * total))
    low, high = ((middle + sign * spread) / (1 + z2 / total) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


@dataclass(frozen=True)
class Reliability:
    """How often predictions of a given confidence are correct. Arrays have one entry per bin."""

    count: np.ndarray  # predictions in the bin
    confidence: np.ndarray  # their mean
    accuracy: np.ndarray

    @classmethod
    def of(cls, probs: np.ndarray, truth: np.ndarray) -> Reliability:
        """Sort predictions into bins, from probabilities (N, classes) and true classes (N,)."""
        confidence, is_right = probs.max(1), probs.argmax(1) == truth
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        count = np.bincount(bins, minlength=BINS)
        return cls(
            count,
            _ratio(np.bincount(bins, confidence, BINS), count),
            _ratio(np.bincount(bins, is_right, BINS), count),
        )

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float((gaps * self.count).sum() / self.count.sum())


def fit_temperature(log_probs: np.ndarray, truth: np.ndarray) -> float:
    """Return the T for which softmax(log_probs / T) has the lowest cross-entropy with the truth.

    `log_probs`: (N, classes), `truth`: int (N,). T above 1 means that the model was overconfident
    (Guo et al. 2017, arXiv 1706.04599). The loss has one minimum in 1 / T; it is found by golden
    section search from 1 / MAX_TEMPERATURE to MAX_TEMPERATURE.
    """
    log_probs = log_probs.astype(np.float64)

    def loss(log_t: float) -> float:
        scaled = scale(log_probs, math.exp(log_t))
        return -float(scaled[np.arange(len(truth)), truth].mean())

    golden = (math.sqrt(5) - 1) / 2
    low, high = -math.log(MAX_TEMPERATURE), math.log(MAX_TEMPERATURE)
    while high - low > 1e-5:
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return math.exp((low + high) / 2)


def scale(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """Return log-probabilities (N, classes) at another temperature."""
    scaled = log_probs / temperature
    scaled = scaled - scaled.max(1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, and 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
