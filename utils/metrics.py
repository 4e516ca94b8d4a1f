"""Figures of how good predictions are. Counts are exact; every share is in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BINS = 15  # of confidence, as Guo et al. 2017 (arXiv 1706.04599) have them
Z95 = 1.959964  # of the normal distribution: 95 % lie within so many deviations


@dataclass(frozen=True)
class Scores:
    """What a table of true and predicted classes says. Arrays have one entry a class.

    A share of nothing (a class never predicted, or not there) is 0, and averages over classes leave
    out those of which there is no image.
    """

    confusion: np.ndarray  # int64 (classes, classes): row = true class, column = predicted class

    @classmethod
    def of(cls, truth: np.ndarray, answers: np.ndarray, classes: int) -> Scores:
        """From the classes' indices, int (N,) both."""
        counts = np.bincount(truth * classes + answers, minlength=classes * classes)
        return cls(counts.reshape(classes, classes))

    @property
    def total(self) -> int:
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        return self.right / self.total

    @property
    def support(self) -> np.ndarray:
        return self.confusion.sum(1)

    @property
    def recall(self) -> np.ndarray:
        return _share(np.diag(self.confusion), self.support)

    @property
    def precision(self) -> np.ndarray:
        return _share(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def f1(self) -> np.ndarray:
        return _share(2 * np.diag(self.confusion), self.support + self.confusion.sum(0))

    @property
    def macro_f1(self) -> float:
        return float(self.f1[self.support > 0].mean())

    @property
    def balanced_accuracy(self) -> float:
        return float(self.recall[self.support > 0].mean())


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's score (1927): holds for few images too."""
    share, z2 = right / total, Z95 * Z95
    middle = share + z2 / (2 * total)
    spread = Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    low, high = ((middle + sign * spread) / (1 + z2 / total) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


@dataclass(frozen=True)
class Reliability:
    """How often answers of a confidence are right. Arrays have one entry a bin of confidence."""

    count: np.ndarray
    confidence: np.ndarray  # mean of the bin's answers
    accuracy: np.ndarray

    @classmethod
    def of(cls, probs: np.ndarray, truth: np.ndarray) -> Reliability:
        """From probabilities (N, classes) and true classes (N,)."""
        sure, right = probs.max(1), probs.argmax(1) == truth
        bins = np.minimum((sure * BINS).astype(int), BINS - 1)
        count = np.bincount(bins, minlength=BINS)
        confidence = _share(np.bincount(bins, sure, BINS), count)
        return cls(count, confidence, _share(np.bincount(bins, right, BINS), count))

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float((gaps * self.count).sum() / self.count.sum())


def fit_temperature(log_probs: np.ndarray, truth: np.ndarray) -> float:
    """The T for which softmax(log_probs / T) has the least cross-entropy with the truth.

    T above 1 means that the model was too sure of itself (Guo et al. 2017, arXiv 1706.04599). The
    loss has one minimum in 1 / T; it is searched by golden section for T from 1/20 to 20.
    """
    log_probs = log_probs.astype(np.float64)

    def loss(log_t: float) -> float:
        scaled = scale(log_probs, math.exp(log_t))
        return -float(scaled[np.arange(len(truth)), truth].mean())

    golden = (math.sqrt(5) - 1) / 2
    low, high = -math.log(20), math.log(20)
    while high - low > 1e-5:
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return math.exp((low + high) / 2)


def scale(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """Log-probabilities (N, classes) at another temperature."""
    scaled = log_probs / temperature
    scaled = scaled - scaled.max(1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
