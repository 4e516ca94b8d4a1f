"""Confident learning, against its definition in plain loops and what cleanlab 2.9.0 says."""

from __future__ import annotations

import numpy as np
import pytest

from utils.evaluation.suspects import ConfidentLearning


def noisy(seed: int, classes: int, images: int, sure: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of which some are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, images)
    labels = truth.copy()
    flipped = rng.random(images) < 0.15
    labels[flipped] = rng.integers(0, classes, flipped.sum())
    probs = rng.random((images, classes)) + 0.1
    probs[np.arange(images), truth] += sure
    return probs / probs.sum(1, keepdims=True), labels


def joint_by_loops(probs: np.ndarray, labels: np.ndarray) -> list[list[int]]:
    """The confident joint of the paper, equation 1."""
    size = probs.shape[1]
    thresholds = []
    for j in range(size):
        own = [row[j] for row, label in zip(probs, labels, strict=True) if label == j]
        thresholds.append(sum(own) / len(own) if own else float("inf"))
    joint = [[0] * size for _ in range(size)]
    for row, label in zip(probs, labels, strict=True):
        above = [j for j in range(size) if row[j] >= thresholds[j]]
        if above:
            joint[label][max(above, key=lambda j: row[j])] += 1
    return joint


def errors_by_loops(learning: ConfidentLearning) -> tuple[set[int], set[int]]:
    """Prune by class, and by noise rate, from the numbers of `noise`: the paper, section 3.2."""
    by_class, by_pair = set(), set()
    for i, row in enumerate(learning.noise.tolist()):
        of_label = [n for n, label in enumerate(learning.labels) if label == i]
        own = {n: learning.probs[n, i] for n in of_label}
        by_class |= set(sorted(of_label, key=own.get)[: sum(row) - row[i]])
        for j, count in enumerate(row):
            if i != j:
                margin = {n: learning.probs[n, j] - learning.probs[n, i] for n in of_label}
                by_pair |= set(sorted(of_label, key=lambda n: -margin[n])[:count])
    wrong = {n for n, p in enumerate(learning.probs) if p.argmax() != learning.labels[n]}
    return by_class & wrong, by_pair & wrong


@pytest.mark.parametrize("seed", range(6))
def test_the_definition_of_the_paper(seed):
    probs, labels = noisy(seed, 2 + seed, 60 * (1 + seed))
    learning = ConfidentLearning(probs, labels)
    joint = np.array(joint_by_loops(probs, labels))
    assert (joint.diagonal() > 0).all()
    assert learning.confident_joint.tolist() == joint.tolist()
    exact = joint / joint.sum(1, keepdims=True) * np.bincount(labels)[:, None]
    assert np.abs(learning.noise - exact).max() < 1
    assert (learning.noise.sum(1) == np.bincount(labels)).all()
    assert learning.errors == len(labels) - np.trace(learning.noise)
    by_class, by_pair = errors_by_loops(learning)
    assert set(np.flatnonzero(learning.is_error)) == by_class & by_pair
    assert by_class != by_pair or len(by_class) < 5
    assert sum(count for _, _, count in learning.pairs()) == learning.errors
    assert [count for _, _, count in learning.pairs()] == sorted(
        (int(n) for n in (learning.noise - np.diag(learning.noise.diagonal())).flat if n),
        reverse=True,
    )


def test_cleanlab_says_the_same():
    learning = ConfidentLearning(*noisy(4, 4, 120))
    # count.compute_confident_joint(labels, probs, calibrate=False)
    assert learning.confident_joint.tolist() == [
        [18, 3, 0, 1], [1, 18, 1, 0], [0, 0, 15, 0], [0, 2, 0, 16],
    ]  # fmt: skip
    # count.calibrate_confident_joint; where two rests are equal, it rounds up the last one
    assert learning.noise.tolist() in (
        [[25, 4, 0, 1], [1, 27, 2, 0], [0, 0, 26, 0], [0, 4, 0, 30]],
        [[25, 4, 0, 1], [2, 27, 1, 0], [0, 0, 26, 0], [0, 4, 0, 30]],
    )
    # filter.find_label_issues(…, filter_by="both")
    assert np.flatnonzero(learning.is_error).tolist() == [11, 20, 33, 40, 41, 76, 78, 114]


def test_flipped_labels_come_first():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 1000)
    probs = np.full((1000, 5), 0.02)
    probs[np.arange(1000), truth] = rng.uniform(0.5, 0.9, 1000)
    probs /= probs.sum(1, keepdims=True)
    labels = truth.copy()
    flipped = rng.choice(1000, 50, replace=False)
    labels[flipped] = (truth[flipped] + rng.integers(1, 5, 50)) % 5
    learning = ConfidentLearning(probs, labels)
    assert abs(learning.errors - 50) <= 5
    assert set(learning.ranking()[:50]) == set(flipped)
    assert (learning.suggestions[flipped] == truth[flipped]).all()
    assert set(np.flatnonzero(learning.is_error)) <= set(flipped)


def test_the_ranking_is_by_the_odds_of_label_and_suggestion():
    probs, labels = noisy(1, 3, 90)
    learning = ConfidentLearning(probs, labels)
    order = learning.ranking()
    assert sorted(order) == list(range(90)) and (learning.suggestions != labels).all()
    odds = [
        row[label] / max(p for j, p in enumerate(row) if j != label)
        for row, label in zip(probs, labels, strict=True)
    ]
    assert np.allclose(np.log(odds), learning.scores)
    assert order.tolist() == sorted(range(90), key=odds.__getitem__)
    # A label with the probability 0 is the most suspicious one, and no error.
    assert ConfidentLearning(np.eye(2)[[0, 0]], np.array([0, 1])).ranking().tolist() == [1, 0]


def test_classes_without_images_and_sure_models():
    probs, labels = noisy(2, 4, 50)
    labels[labels == 3] = 0  # no image has this label any more
    learning = ConfidentLearning(probs, labels)
    assert np.isinf(learning.thresholds[3]) and learning.noise[3].sum() == 0
    assert learning.noise[:, 3].sum() == 0  # nothing is above a threshold that is not known
    assert len(learning.ranking()) == 50

    sure = np.eye(3)[[0, 1, 2, 0]]
    learning = ConfidentLearning(sure, np.array([0, 1, 2, 0]))
    assert learning.errors == 0 and learning.pairs() == [] and not learning.is_error.any()
    # No label of class 1 is right by the model. One is counted all the same, as cleanlab does.
    learning = ConfidentLearning(sure, np.array([1, 2, 2, 0]))
    assert learning.confident_joint.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert learning.noise.sum(1).tolist() == [1, 1, 2]


def test_no_class_without_images_is_suggested():
    probs = np.array([[0.3, 0.1, 0.6], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
    learning = ConfidentLearning(probs, np.array([0, 0, 1]))
    assert learning.suggestions.tolist() == [1, 1, 0]
