"""Labels from the votes of annotators who differ in skill: the model of Dawid and Skene 1979.

"Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Applied Statistics
28(1). Every image has one true class k, with the probability p_k. An annotator a who sees an image
of class k answers j with the probability π_a[k, j]: the annotator's confusion matrix. Given the
true class, the annotators answer independently of each other. Neither the true classes nor the
matrices are known. The EM algorithm finds both: from each image's probabilities of the classes it
estimates p and π, and from p and π, by Bayes' rule, the probabilities of the classes.

The probabilities depend on nothing but an image's votes. So images with equal votes are counted and
treated as one: three annotators of seven classes can vote in 8³ - 1 ways, however many images there
are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

NO_VOTE = -1  # in a table of votes, whose other entries are classes, from 0

# The prior: as if each annotator had been seen to answer so many times more for each class, rightly
# in RIGHT of the cases and each wrong class equally often in the others. A class of a dozen images
# gets no probabilities of 0 and 1 by it, cannot grow into the class of all that is doubtful, and
# cannot change places with another. With 20,000 images the prior hardly matters.
PRIOR_VOTES = 20.0
RIGHT = 0.7

TOLERANCE = 1e-9  # increase of the objective, per vote, at which the estimate is final
MAX_STEPS = 5000


@dataclass(frozen=True)
class DawidSkene:
    """What is estimated of the classes and of the annotators."""

    shares: np.ndarray  # (classes,), sum 1: how frequent each true class is
    confusion: np.ndarray  # (annotators, true classes, answered classes); each row's sum is 1
    objective: float = float("nan")  # logarithm of likelihood × prior, nats
    steps: int = 0  # of the EM algorithm

    @property
    def accuracies(self) -> np.ndarray:
        """(annotators,): the probability that an annotator's answer is the true class."""
        return np.einsum("k,akk->a", self.shares, self.confusion)

    def probabilities(self, votes: ArrayLike) -> np.ndarray:
        """Return (images, classes): the probability of each true class, given an image's votes.

        `votes`: (images, annotators), whole numbers; NO_VOTE where an annotator has not voted.
        """
        joint = _log_joint(self.shares, self.confusion, np.asarray(votes))
        return np.exp(joint - _log_sum(joint)[:, None])


def fit(votes: ArrayLike, classes: int, images: ArrayLike | None = None) -> DawidSkene:
    """Estimate the classes' shares and the annotators' confusion matrices from their votes.

    `votes`: as for `DawidSkene.probabilities`; `images`: how many images have the votes of each
    row, 1 if it is not given. An image without votes says nothing, and the order of the rows
    changes nothing.

    The algorithm starts with each image's share of votes per class, as in the paper. It ends when a
    step increases the posterior probability of the parameters by less than TOLERANCE per vote.
    """
    votes, weights = _merge(np.asarray(votes), images)
    objective, steps = -np.inf, 0
    probabilities = _vote_shares(votes, classes)
    enough = TOLERANCE * max(1.0, float(weights @ (votes != NO_VOTE).sum(axis=1)))
    while True:
        shares, confusion = _estimate(votes, weights, probabilities)
        joint = _log_joint(shares, confusion, votes)
        total = _log_sum(joint)
        before, objective = objective, float(weights @ total) + _log_prior(shares, confusion)
        if objective - before < enough or steps == MAX_STEPS:
            return DawidSkene(shares, confusion, objective, steps)
        probabilities = np.exp(joint - total[:, None])
        steps += 1


def _merge(votes: np.ndarray, images: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows of votes, in sorted order, and how many images have each.

    Leave out rows without votes.
    """
    counts = np.ones(len(votes)) if images is None else np.asarray(images, float)
    voted = (votes != NO_VOTE).any(axis=1)
    if not voted.any():
        return votes[:0], counts[:0]
    different, position = np.unique(votes[voted], axis=0, return_inverse=True)
    return different, np.bincount(position.ravel(), counts[voted], len(different))


def _vote_shares(votes: np.ndarray, classes: int) -> np.ndarray:
    """Return (rows, classes): each class's share of a row's votes."""
    counts = np.stack([(votes == k).sum(axis=1) for k in range(classes)], axis=1)
    return counts / counts.sum(axis=1, keepdims=True)


def _prior_votes(classes: int) -> np.ndarray:
    """Return (true classes, answered classes): the votes of the prior."""
    wrong = PRIOR_VOTES * (1 - RIGHT) / max(1, classes - 1)
    prior = np.full((classes, classes), wrong)
    np.fill_diagonal(prior, PRIOR_VOTES * RIGHT)
    return prior


def _estimate(
    votes: np.ndarray, weights: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the most probable shares and confusion matrices, given each row's probabilities."""
    weighted = probabilities * weights[:, None]
    classes = weighted.shape[1]
    shares = weighted.sum(axis=0) + 1
    confusion = np.empty((votes.shape[1], classes, classes))
    for annotator, column in enumerate(votes.T):
        for answer in range(classes):
            confusion[annotator, :, answer] = weighted[column == answer].sum(axis=0)
    confusion += _prior_votes(classes)
    return shares / shares.sum(), confusion / confusion.sum(axis=2, keepdims=True)


def _log_joint(shares: np.ndarray, confusion: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Return (rows, classes): the logarithm of p(true class, votes)."""
    joint = np.tile(np.log(shares), (len(votes), 1))
    for annotator, column in enumerate(votes.T):
        by_answer = np.zeros((len(shares) + 1, len(shares)))  # the last row is that of NO_VOTE, -1
        by_answer[:-1] = np.log(confusion[annotator]).T
        joint += by_answer[column]
    return joint


def _log_sum(joint: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum over classes of exp(joint)."""
    largest = joint.max(axis=1, keepdims=True)
    return np.log(np.exp(joint - largest).sum(axis=1)) + largest[:, 0]


def _log_prior(shares: np.ndarray, confusion: np.ndarray) -> float:
    """Return the logarithm of the prior probability, but for a constant."""
    return float(np.log(shares).sum() + (_prior_votes(len(shares)) * np.log(confusion)).sum())
