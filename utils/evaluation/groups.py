"""How well a model recognizes each group of images, and whether the groups differ beyond chance.

Accuracy and shares have Wilson's interval, macro F1 that of a bootstrap. The accuracies of the
groups of an attribute are compared two by two, and what is tested is the largest of all those
differences, so that many groups do not find a difference by their number:

- Images that are independent: if there is no difference, the right answers may lie on any images.
  They are dealt out again at random (a permutation test).
- Images of people, of whom some have several: those of one person are no independent draws. If
  there is no difference, what a person adds to a difference may as well have the other sign. Signs
  are drawn for people, not for images (Hemerik, Goeman and Finos 2020, "Robust testing in
  generalized linear models by sign flipping score contributions", JRSS B 82).

The differences are divided by their standard errors before the largest is taken (max-T; Westfall
and Young 1993, "Resampling-based multiple testing"), so that small groups do not hide a difference
between large ones. The probability p is multiplied by the number of attributes (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from utils.data.image_groups import Attribute, ImageGroups
from utils.filenames import natural_key
from utils.metrics import Scores, wilson

MIN_IMAGES = 30  # of a group that is compared
DRAWS = 9999  # random draws of a test: its smallest p is 1 / 10,000
RESAMPLES = 1000  # of a bootstrap
PERCENTILES = (0.025, 0.975)
CHANCE = 0.05  # a difference whose p is not above this is larger than chance
SEED = 0  # of every draw, so that figures repeat

_CHUNK = 1 << 22  # random numbers at once
_TOLERANCE = 1e-9  # within which two statistics are equal


@dataclass(frozen=True)
class Group:
    """A group of images and the scores on them."""

    name: str
    scores: Scores
    people: int | None  # on its images; None: it is not known
    macro_f1_95: tuple[float, float]

    @property
    def images(self) -> int:
        """The number of images."""
        return self.scores.total

    @property
    def is_compared(self) -> bool:
        """Whether it has enough images to be compared."""
        return self.images >= MIN_IMAGES

    @property
    def accuracy_95(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(self.scores.right, self.images)

    @property
    def predicted(self) -> np.ndarray:
        """How many images were given each class, int64 (classes,)."""
        return self.scores.confusion.sum(0)

    @property
    def shares(self) -> list[tuple[float, tuple[float, float]]]:
        """The share of the images that were given each class, with its 95 % interval."""
        counts = self.predicted.tolist()
        return [(count / self.images, wilson(count, self.images)) for count in counts]


@dataclass(frozen=True)
class Gap:
    """The difference between the accuracies of two groups."""

    lower: Group
    higher: Group
    p: float  # that one of the attribute's pairs differs so much by chance, not above 1
    p_corrected: float  # the same for all attributes together

    @property
    def difference(self) -> float:
        """The difference, in [0, 1]."""
        return self.higher.scores.accuracy - self.lower.scores.accuracy

    @property
    def p_text(self) -> str:
        """The corrected p as text: `p = 0.012`, or `p < 0.001`."""
        return "p < 0.001" if self.p_corrected < 0.001 else f"p = {self.p_corrected:.3f}"

    @property
    def is_beyond_chance(self) -> bool:
        """Whether it is larger than chance."""
        return self.p_corrected <= CHANCE


@dataclass(frozen=True)
class GroupedAttribute:
    """The groups of one attribute."""

    name: str
    source: str
    groups: list[Group]
    without: int  # images of which the group is not known
    gaps: list[Gap]  # of every pair of groups that are compared, the largest first

    @property
    def largest(self) -> Gap | None:
        """The largest difference, whether beyond chance or not."""
        return self.gaps[0] if self.gaps else None

    @property
    def largest_beyond_chance(self) -> Gap | None:
        """The largest of the differences that are larger than chance."""
        return next((gap for gap in self.gaps if gap.is_beyond_chance), None)


@dataclass(frozen=True)
class GroupedEvaluation:
    """An evaluation by groups."""

    attributes: list[GroupedAttribute]
    people: int | None  # on all images; None: who is on an image is not known
    images_without_person: int = 0  # the test treats each as a separate person

    @property
    def compared(self) -> int:
        """The number of attributes whose groups are compared: the factor of `p_corrected`."""
        return sum(bool(attribute.gaps) for attribute in self.attributes)


@dataclass(frozen=True)
class Predictions:
    """Images with their true and their predicted classes, int64 (N,) each."""

    paths: Sequence[Path]
    truth: np.ndarray
    answers: np.ndarray
    classes: int


def evaluate_groups(predictions: Predictions, groups: ImageGroups) -> GroupedEvaluation:
    """Return the scores of each group, and the differences between those of each attribute."""
    people = _number_people(predictions.paths, groups.people)
    attributes = [_evaluate(predictions, attribute, people) for attribute in groups.attributes]
    attributes = [attribute for attribute in attributes if attribute.groups]
    tests = sum(bool(attribute.gaps) for attribute in attributes)
    corrected = [
        replace(a, gaps=[replace(gap, p_corrected=min(1.0, tests * gap.p)) for gap in a.gaps])
        for a in attributes
    ]
    if people is None:
        return GroupedEvaluation(corrected, None)
    return GroupedEvaluation(corrected, _count_people(people), int((people < 0).sum()))


def _number_people(paths: Sequence[Path], known: dict[Path, str]) -> np.ndarray | None:
    """Return the number of the person on each image, int64 (N,), or None if none has two images.

    An image of an unknown person is taken for that of another one, with a number below 0.
    """
    numbers: dict[str, int] = {}
    people = np.array(
        [
            numbers.setdefault(known[path], len(numbers)) if path in known else -1 - i
            for i, path in enumerate(paths)
        ],
        np.int64,
    )
    return people if len(np.unique(people)) < len(paths) else None


def _count_people(people: np.ndarray) -> int:
    """Return how many known people there are."""
    return len(np.unique(people[people >= 0]))


def _evaluate(
    predictions: Predictions, attribute: Attribute, people: np.ndarray | None
) -> GroupedAttribute:
    names = [attribute.groups.get(path, "") for path in predictions.paths]
    ordered = sorted({*names} - {""}, key=natural_key)
    position = {name: i for i, name in enumerate(ordered)}
    members = np.array([position.get(name, -1) for name in names], np.int64)
    truth, answers, classes = predictions.truth, predictions.answers, predictions.classes
    groups = []
    for i, name in enumerate(ordered):
        own = members == i
        own_people = None if people is None else people[own]
        groups.append(_score(name, truth[own], answers[own], classes, own_people))
    gaps = compare(groups, members, truth == answers, people)
    return GroupedAttribute(attribute.name, attribute.source, groups, names.count(""), gaps)


def _score(
    name: str, truth: np.ndarray, answers: np.ndarray, classes: int, people: np.ndarray | None
) -> Group:
    scores = Scores.of(truth, answers, classes)
    interval = macro_f1_interval(truth, answers, classes, people)
    return Group(name, scores, None if people is None else _count_people(people), interval)


# --- intervals


def macro_f1_interval(
    truth: np.ndarray, answers: np.ndarray, classes: int, people: np.ndarray | None = None
) -> tuple[float, float]:
    """Return a 95 % interval of macro F1: percentiles of a bootstrap of images.

    Where the people are known, it holds the interval of a bootstrap of people as well: with a few
    people, that alone may be too narrow.

    If all answers are right, or none, resamples do not vary. The other end is then that of Wilson's
    interval of the accuracy.
    """
    cells = truth * classes + answers
    counts = np.bincount(cells, minlength=classes * classes)
    generator = np.random.default_rng(SEED)
    drawn = generator.multinomial(len(cells), counts / len(cells), RESAMPLES)
    low, high = np.quantile(_macro_f1(drawn, classes), PERCENTILES)
    if people is not None:
        values = _resample_people(cells, people, classes)
        ends = np.quantile(values, PERCENTILES)
        low, high = min(low, ends[0]), max(high, ends[1])
    right, total = int((truth == answers).sum()), len(truth)
    if right == total:
        low = min(low, wilson(right, total)[0])
    if not right:
        high = max(high, wilson(right, total)[1])
    return float(low), float(high)


def _resample_people(cells: np.ndarray, people: np.ndarray, classes: int) -> np.ndarray:
    """Return the macro F1 of RESAMPLES draws of people, each with all of his images.

    `cells`: of the confusion matrix, for each image.
    """
    _, rows = np.unique(people, return_inverse=True)
    count = rows.max() + 1
    of_person = np.zeros((count, classes * classes))
    np.add.at(of_person, (rows, cells), 1)
    generator = np.random.default_rng(SEED)
    equal = np.full(count, 1 / count)
    return np.concatenate(
        [
            _macro_f1(generator.multinomial(count, equal, size) @ of_person, classes)
            for size in _chunks(RESAMPLES, count)
        ]
    )


def _macro_f1(counts: np.ndarray, classes: int) -> np.ndarray:
    """Return the macro F1 of each of many confusion matrices (n, classes · classes)."""
    confusions = counts.reshape(-1, classes, classes)
    support = confusions.sum(2)
    both = support + confusions.sum(1)
    right = np.diagonal(confusions, axis1=1, axis2=2)
    f1 = np.divide(2 * right, both, out=np.zeros(both.shape), where=both > 0)
    return (f1 * (support > 0)).sum(1) / (support > 0).sum(1)


def _chunks(draws: int, width: int) -> list[int]:
    """Return numbers of draws with the sum `draws`, each of which fits into memory."""
    size = max(1, _CHUNK // max(1, width))
    return [min(size, draws - start) for start in range(0, draws, size)]


# --- differences


def compare(
    groups: Sequence[Group], members: np.ndarray, right: np.ndarray, people: np.ndarray | None
) -> list[Gap]:
    """Return the difference of every pair of groups of MIN_IMAGES images or more, largest first.

    `members`: the group of each image as a position, int (N,), -1 for none. `right`: whether its
    prediction is, bool (N,). `people`: who is on it, int (N,), or None if they are independent.
    """
    compared = [i for i, group in enumerate(groups) if group.is_compared]
    if len(compared) < 2:
        return []
    position = np.full(len(groups) + 1, -1)  # the last one is that of images without a group
    position[compared] = np.arange(len(compared))
    members = position[members]
    used = members >= 0
    if people is not None and len(np.unique(people[used])) == used.sum():
        people = None
    if people is None:
        p_values = permutation_test(members[used], right[used], len(compared))
    else:
        p_values = sign_flip_test(members[used], right[used], people[used], len(compared))
    gaps = []
    for p, pair in zip(p_values, combinations(compared, 2), strict=True):
        lower, higher = sorted((groups[i] for i in pair), key=lambda g: g.scores.accuracy)
        gaps.append(Gap(lower, higher, float(p), float(p)))
    return sorted(gaps, key=lambda gap: (-gap.difference, gap.p))


def permutation_test(members: np.ndarray, right: np.ndarray, groups: int) -> np.ndarray:
    """Return p of the difference of each pair of groups, in the order of `combinations`.

    The right answers are dealt out to the images again. See `compare`; every image is in a group.
    """
    sizes = np.bincount(members, minlength=groups)
    accuracies = np.bincount(members, right, groups) / sizes
    drawn = np.random.default_rng(SEED).multivariate_hypergeometric(
        sizes, int(right.sum()), DRAWS, method="marginals"
    )
    fraction = right.mean()
    variances = fraction * (1 - fraction) / sizes
    first, second = _pairs(groups)
    chunks = np.array_split(drawn / sizes, len(_chunks(DRAWS, len(first))))
    return _max_t(accuracies, chunks, np.sqrt(variances[first] + variances[second]))


def sign_flip_test(
    members: np.ndarray, right: np.ndarray, people: np.ndarray, groups: int
) -> np.ndarray:
    """Return p of the difference of each pair of groups, in the order of `combinations`.

    A person's contribution to a difference is the sum of the residuals of his images, each divided
    by the size of its group. Their signs are drawn. See `compare`; every image is in a group.
    """
    _, rows = np.unique(people, return_inverse=True)
    sizes = np.bincount(members, minlength=groups)
    residuals = (right - right.mean()) / sizes[members]
    contributions = np.zeros((rows.max() + 1, groups))
    np.add.at(contributions, (rows, members), residuals)
    first, second = _pairs(groups)
    scale = np.sqrt(((contributions[:, first] - contributions[:, second]) ** 2).sum(0))
    generator = np.random.default_rng(SEED)
    chunks = (
        (2.0 * generator.integers(0, 2, (size, len(contributions)), np.int8) - 1) @ contributions
        for size in _chunks(DRAWS, max(contributions.shape[0], len(first)))
    )
    return _max_t(contributions.sum(0), chunks, scale)


def _pairs(groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second group of each pair, in the order of `combinations`."""
    first, second = np.triu_indices(groups, 1)
    return first, second


def _max_t(values: np.ndarray, drawn: Iterable[np.ndarray], scale: np.ndarray) -> np.ndarray:
    """Return for each pair how often the largest of all drawn differences is as large as its own.

    `values`: of each group, (groups,). `drawn`: the same in random draws, (draws, groups) in
    chunks. `scale`: the standard error of each pair's difference.
    """
    first, second = _pairs(len(values))
    scale = np.where(scale > 0, scale, np.inf)  # where nothing can differ
    observed = np.abs(values[first] - values[second]) / scale
    largest = np.concatenate(
        [(np.abs(chunk[:, first] - chunk[:, second]) / scale).max(1) for chunk in drawn]
    )
    at_least = len(largest) - np.searchsorted(np.sort(largest), observed - _TOLERANCE)
    return (1 + at_least) / (1 + len(largest))
