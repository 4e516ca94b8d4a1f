"""Labels that are probably wrong, by confident learning (Northcutt et al. 2021, arXiv 1911.00068).

It needs out-of-sample probabilities: of models that have not learnt the labels in question. A
class's threshold is the mean probability that the images labelled so have for it. An image whose
probability for another class is above the threshold of that class is counted as a confusion of the
two; from these counts follows how many labels of each pair of classes are wrong, and the most
probable ones are named.

The ranking is by the odds of label and suggestion. If 5 % of FER+'s validation labels are flipped
at random, 84 % of the flipped ones are among the first 5 %; by the normalized margin, 72 % (python
-m benchmarks.suspects --predictions …, an EmotionNet of 86.5 % accuracy).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

TINY = 1e-12  # the lowest probability that the scores tell from others


@dataclass(frozen=True)
class ConfidentLearning:
    """What out-of-sample probabilities say about the labels of N images in K classes."""

    probs: np.ndarray  # float64 (N, K)
    labels: np.ndarray  # int64 (N,)

    @cached_property
    def counts(self) -> np.ndarray:
        """The images of each label, int64 (K,)."""
        return np.bincount(self.labels, minlength=self.probs.shape[1])

    @cached_property
    def own(self) -> np.ndarray:
        """The probability of each image's label, its self-confidence, float64 (N,)."""
        return self.probs[np.arange(len(self.labels)), self.labels]

    @cached_property
    def suggestions(self) -> np.ndarray:
        """The most probable class besides the label that is a label of images, int64 (N,)."""
        others = self.probs.copy()
        if (self.counts > 0).sum() > 1:
            others[:, self.counts == 0] = -1
        others[np.arange(len(self.labels)), self.labels] = -1
        return others.argmax(1)

    @cached_property
    def scores(self) -> np.ndarray:
        """The log odds of label and suggestion, float64 (N,): the lower, the more suspicious."""
        others = self.probs[np.arange(len(self.labels)), self.suggestions]
        return np.log(np.maximum(self.own, TINY)) - np.log(np.maximum(others, TINY))

    @cached_property
    def thresholds(self) -> np.ndarray:
        """The mean self-confidence of each class, float64 (K,); infinite without an image of it."""
        sums = np.bincount(self.labels, self.own, len(self.counts))
        return np.divide(sums, self.counts, out=np.full(len(sums), np.inf), where=self.counts > 0)

    @cached_property
    def confident_joint(self) -> np.ndarray:
        """How many images with label i (row) are confidently of class j (column), int64 (K, K).

        Of several classes above their thresholds the most probable one counts.
        """
        above = np.where(self.probs >= self.thresholds, self.probs, -1)
        chosen, is_counted = above.argmax(1), above.max(1) >= 0
        size = len(self.counts)
        pairs = self.labels[is_counted] * size + chosen[is_counted]
        joint = np.bincount(pairs, minlength=size * size).reshape(size, size)
        # Every class has at least one right label: otherwise nothing would be left of it.
        return joint + np.diag((joint.diagonal() == 0) & (self.counts > 0)).astype(np.int64)

    @cached_property
    def noise(self) -> np.ndarray:
        """The estimated number of images with label i (row) and true class j, int64 (K, K).

        The confident joint, calibrated so that each row sums to the number of images of its label.
        """
        sums = self.confident_joint.sum(1, keepdims=True)
        return _round_rows(self.confident_joint / np.maximum(sums, 1) * self.counts[:, None])

    @property
    def errors(self) -> int:
        """The estimated number of wrong labels."""
        return int(self.noise.sum() - np.trace(self.noise))

    def pairs(self) -> list[tuple[int, int, int]]:
        """Return label, true class and estimated number for each pair, the largest number first."""
        noise = self.noise - np.diag(self.noise.diagonal())
        order = np.argsort(-noise, axis=None, kind="stable")[: np.count_nonzero(noise)]
        size = len(noise)
        return [(int(k) // size, int(k) % size, int(noise.flat[k])) for k in order]

    @cached_property
    def is_error(self) -> np.ndarray:
        """The images whose labels are called wrong, bool (N,): the paper's method C+NR.

        They are chosen twice, with the estimated numbers, and have to be chosen both times: of each
        label those with the lowest self-confidence, and of each pair of classes those with the
        largest margin between the other class and the label. Where the label is the most probable
        class, it is not wrong.
        """
        by_class = np.zeros(len(self.labels), bool)
        by_pair = by_class.copy()
        for i, row in enumerate(self.noise):
            members = np.flatnonzero(self.labels == i)
            by_class[_lowest(members, self.own[members], row.sum() - row[i])] = True
            for j, count in enumerate(row):
                if i != j:
                    margins = self.probs[members, i] - self.probs[members, j]
                    by_pair[_lowest(members, margins, count)] = True
        return by_class & by_pair & (self.scores < 0)

    def ranking(self) -> np.ndarray:
        """Return the positions of the images, the most suspicious first, int64 (N,)."""
        return np.argsort(self.scores, kind="stable")


def _lowest(members: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` members with the lowest values."""
    return members[np.argsort(values, kind="stable")[:count]]


def _round_rows(numbers: np.ndarray) -> np.ndarray:
    """Return rows of numbers as whole ones with the same sums: the largest rests are rounded up."""
    whole = np.floor(numbers + 1e-9).astype(np.int64)
    missing = np.rint(numbers.sum(1)).astype(np.int64) - whole.sum(1)
    ranks = np.argsort(np.argsort(whole - numbers, axis=1, kind="stable"), axis=1)
    return whole + (ranks < missing[:, None])
