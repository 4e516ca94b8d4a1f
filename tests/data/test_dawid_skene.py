"""Dawid and Skene's model beside a plain EM algorithm, and on annotators whose errors are known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from utils.data import dawid_skene
from utils.data.dawid_skene import NO_VOTE, fit

CLASSES = 4


def matrix_of(accuracy: float, classes: int = CLASSES) -> np.ndarray:
    matrix = np.full((classes, classes), (1 - accuracy) / (classes - 1))
    np.fill_diagonal(matrix, accuracy)
    return matrix


def draw(matrices: list[np.ndarray], images: int, shares=None, seed: int = 0):
    """True classes, and the votes of annotators with these confusion matrices."""
    generator = np.random.default_rng(seed)
    classes = len(matrices[0])
    truth = generator.choice(classes, images, p=shares)
    columns = []
    for matrix in matrices:
        chances = matrix[truth].cumsum(axis=1)
        columns.append((chances < generator.random((images, 1))).sum(axis=1).clip(max=classes - 1))
    return truth, np.stack(columns, axis=1)


def plain_em(votes: list[list[int]], classes: int, steps: int):
    """The algorithm of the paper in loops, image by image, with the prior's votes."""
    prior = [
        [
            dawid_skene.PRIOR_VOTES
            * (dawid_skene.RIGHT if k == j else (1 - dawid_skene.RIGHT) / (classes - 1))
            for j in range(classes)
        ]
        for k in range(classes)
    ]
    voted = [[vote for vote in row if vote >= 0] for row in votes]
    posterior = [[row.count(k) / len(row) for k in range(classes)] for row in voted]
    for _ in range(steps + 1):
        shares = [1 + sum(image[k] for image in posterior) for k in range(classes)]
        shares = [share / sum(shares) for share in shares]
        confusion = []
        for annotator in range(len(votes[0])):
            counts = [row.copy() for row in prior]
            for row, image in zip(votes, posterior, strict=True):
                for k in range(classes):
                    if row[annotator] >= 0:
                        counts[k][row[annotator]] += image[k]
            confusion.append([[n / sum(row) for n in row] for row in counts])
        posterior = []
        for row in votes:
            joint = [
                shares[k]
                * math.prod(confusion[a][k][vote] for a, vote in enumerate(row) if vote >= 0)
                for k in range(classes)
            ]
            posterior.append([value / sum(joint) for value in joint])
    return shares, confusion, posterior


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_algorithm_of_the_paper(seed):
    generator = np.random.default_rng(seed)
    annotators = int(generator.integers(2, 6))
    _, votes = draw([matrix_of(0.7)] * annotators, 60, seed=seed)
    votes[generator.random(votes.shape) < 0.2] = NO_VOTE
    votes = votes[(votes != NO_VOTE).any(axis=1)]
    model = fit(votes, CLASSES)
    assert model.steps > 3
    shares, confusion, posterior = plain_em(votes.tolist(), CLASSES, model.steps)
    assert model.shares == pytest.approx(shares)
    assert model.confusion == pytest.approx(np.array(confusion))
    assert model.probabilities(votes) == pytest.approx(np.array(posterior), abs=1e-9)


def test_each_step_increases_the_objective(monkeypatch):
    _, votes = draw([matrix_of(0.5), matrix_of(0.6), matrix_of(0.9)], 300)
    objectives = []
    for steps in range(12):
        monkeypatch.setattr(dawid_skene, "MAX_STEPS", steps)
        objectives.append(fit(votes, CLASSES).objective)
    assert all(a < b for a, b in pairwise(objectives))
    monkeypatch.undo()
    assert fit(votes, CLASSES).objective >= objectives[-1]


def right(labels: np.ndarray, truth: np.ndarray) -> float:
    return float((labels == truth).mean())


def majority(votes: np.ndarray, classes: int) -> np.ndarray:
    """The class with most votes; of equals the first."""
    return np.stack([(votes == k).sum(axis=1) for k in range(classes)], axis=1).argmax(axis=1)


def test_it_recovers_the_annotators():
    confused = matrix_of(0.85)
    confused[2] = [0.05, 0.05, 0.3, 0.6]  # calls class 2 mostly class 3
    matrices = [matrix_of(0.9), matrix_of(0.6), confused]
    shares = [0.1, 0.2, 0.3, 0.4]
    truth, votes = draw(matrices, 20_000, shares)
    model = fit(votes, CLASSES)
    assert np.abs(model.confusion - matrices).max() < 0.04
    assert np.abs(model.shares - shares).max() < 0.02
    true_accuracies = (votes == truth[:, None]).mean(axis=0)
    assert model.accuracies == pytest.approx(true_accuracies, abs=0.02)


def test_it_beats_the_majority_if_one_is_better():
    truth, votes = draw([matrix_of(0.95), matrix_of(0.5), matrix_of(0.5)], 5000)
    by_model = fit(votes, CLASSES).probabilities(votes).argmax(axis=1)
    assert right(by_model, truth) > right(majority(votes, CLASSES), truth) + 0.1


def test_equal_annotators_get_the_labels_of_the_majority():
    _, votes = draw([matrix_of(0.75)] * 3, 20_000)
    agree = np.array([len(set(row)) < 3 for row in votes.tolist()])
    probabilities = fit(votes, CLASSES).probabilities(votes)
    assert (probabilities.argmax(axis=1) == majority(votes, CLASSES))[agree].all()
    assert probabilities.max(axis=1)[agree].min() > 0.7 > probabilities.max(axis=1)[~agree].max()


def test_an_annotator_who_guesses_is_ignored():
    _, votes = draw([matrix_of(0.8), matrix_of(0.8), matrix_of(1 / CLASSES)], 20_000)
    model = fit(votes, CLASSES)
    assert model.accuracies[2] == pytest.approx(0.25, abs=0.03)
    two_against_one = (votes[:, 1] == votes[:, 2]) & (votes[:, 0] != votes[:, 1])
    probabilities = model.probabilities(votes)[two_against_one]
    assert probabilities.max(axis=1).max() < 0.75  # either of the two may be right


def test_a_rare_class_stays_rare_and_keeps_its_name():
    shares = [0.399, 0.399, 0.2, 0.002]
    truth, votes = draw([matrix_of(0.8)] * 3, 6000, shares)
    model = fit(votes, CLASSES)
    assert 6 < (truth == 3).sum() < 18
    assert model.shares[3] < 0.01
    assert (model.confusion.argmax(axis=2) == np.arange(CLASSES)).all()
    unanimous = model.probabilities([[3, 3, 3]])[0]
    assert unanimous.argmax() == 3 and unanimous[3] > 0.7


@pytest.mark.parametrize("seen", [[0, 1, 2, 3], [1]], ids=["all classes", "one class"])
def test_perfect_annotators_make_no_zeros(seen):
    votes = np.repeat(np.array(seen)[:, None], 3, axis=1).repeat(50, axis=0)
    model = fit(votes, CLASSES)
    assert (model.confusion > 0).all() and (model.shares > 0).all()
    assert np.isfinite(model.objective)
    probabilities = model.probabilities(votes)
    assert (probabilities.argmax(axis=1) == votes[:, 0]).all() and probabilities.max() < 1


def test_missing_votes_say_nothing():
    _, votes = draw([matrix_of(0.9)] * 4, 3000)
    votes[np.random.default_rng(1).random(votes.shape) < 0.5] = NO_VOTE
    model = fit(votes, CLASSES)
    assert np.abs(model.confusion - matrix_of(0.9)).max() < 0.06
    empty = np.full((500, 4), NO_VOTE)
    with_empty = fit(np.concatenate([empty, votes]), CLASSES)
    assert (with_empty.confusion == model.confusion).all()
    assert model.probabilities(empty[:1])[0] == pytest.approx(model.shares)


def test_order_and_counts_change_nothing():
    _, votes = draw([matrix_of(0.7)] * 3, 1000)
    model = fit(votes, CLASSES)
    shuffled = fit(votes[::-1].astype(np.int8), CLASSES)
    different, images = np.unique(votes, axis=0, return_counts=True)
    counted = fit(different, CLASSES, images)
    for other in (shuffled, counted):
        assert (other.confusion == model.confusion).all() and (other.shares == model.shares).all()


def test_without_votes_nothing_but_the_prior_is_known():
    model = fit([[NO_VOTE] * 3], CLASSES)
    assert model.shares == pytest.approx([1 / CLASSES] * CLASSES)
    assert model.confusion == pytest.approx(np.array([matrix_of(0.7)] * 3))
    assert model.probabilities([[2, 2, 1]])[0].argmax() == 2


def test_equal_evidence_is_a_tie():
    votes = [[0, 1], [1, 0], [0, 0], [1, 1]]
    probabilities = fit(votes, 2).probabilities(votes)
    assert probabilities[0] == pytest.approx([0.5, 0.5])
    assert probabilities[1] == pytest.approx([0.5, 0.5])
