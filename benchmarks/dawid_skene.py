"""Labels by Dawid and Skene's model beside the majority's, by made annotators with known errors.

  python -m benchmarks.dawid_skene                        # made faces, of the seven emotions
  python -m benchmarks.dawid_skene --threshold 0.5        # also label faces that are less sure
  python -m benchmarks.dawid_skene --votes train-votes.csv  # faces with the votes of many
  python -m benchmarks.dawid_skene --time                 # seconds for 500,000 faces

Each made face has a true class, drawn by the shares of the emotions below, and answers of three
annotators, drawn by their confusion matrices. With --votes, faces are as hard as real ones: an
annotator first sees one of the votes on the face, and answers by a confusion matrix what was seen.
A face's true class is then that of more than half of its votes, single votes dropped (Barsoum et
al. 2016, arXiv 1608.01041); faces without one are left out.

The table reports means over the seeds, in per cent: label accuracy and the share of unlabelled
faces, for the majority (two of three) and for Dawid-Skene; label accuracy of Dawid-Skene at the
majority's coverage (the faces of the highest probability); the accuracy that the model estimates
for its labels; and the largest error of its accuracies of annotators.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import cli
from utils.data import dawid_skene
from utils.data.annotators import THRESHOLD
from utils.data.votes import VotesTable, fer_plus_class
from utils.emotions import EMOTIONS, UNKNOWN, is_no_emotion
from utils.errors import StageError

SHARES = (0.16, 0.13, 0.14, 0.13, 0.10, 0.16, 0.18)
RARE = (0.17, 0.14, 0.15, 0.14, 0.001, 0.189, 0.21)  # 1 of 1,000 is 상처
MISLED = 0.5  # how often an annotator sees the wrong class of a face that misleads


class Skill(NamedTuple):
    """How an annotator answers what is to be seen."""

    accuracy: float
    confuses: float = 0.0  # share of the faces of the fifth class that get the sixth

    def matrix(self, classes: int) -> np.ndarray:
        """Return [seen, answered], with equal errors everywhere but for the confused pair."""
        matrix = np.full((classes, classes), (1 - self.accuracy) / (classes - 1))
        np.fill_diagonal(matrix, self.accuracy)
        matrix[4] *= 1 - self.confuses
        matrix[4, 5] += self.confuses
        return matrix


class Profile(NamedTuple):
    """Three annotators, and the faces that they see."""

    name: str
    skills: Sequence[Skill]
    shares: Sequence[float] = SHARES
    misleading: float = 0.0  # share of faces that draw every annotator to one wrong class


EIGHTY, GUESS = Skill(0.8), Skill(1 / len(EMOTIONS))
PROFILES = (
    Profile("three of 80 %", [EIGHTY] * 3),
    Profile("three of 60 %", [Skill(0.6)] * 3),
    Profile("85, 80 and a careless one of 40 %", [Skill(0.85), EIGHTY, Skill(0.4)]),
    Profile("80, 80 and one who guesses", [EIGHTY, EIGHTY, GUESS]),
    Profile("one expert of 95 %, two of 60 %", [Skill(0.95), Skill(0.6), Skill(0.6)]),
    Profile("80 %, one calls 70 % of 상처 슬픔", [EIGHTY, EIGHTY, Skill(0.8, 0.7)]),
    Profile("80 %, two call 60 % of 상처 슬픔", [EIGHTY, Skill(0.8, 0.6), Skill(0.8, 0.6)]),
    Profile("80 %, and 상처 is 1 of 1,000", [EIGHTY] * 3, RARE),
    Profile("85 %, 20 % of the faces mislead all", [Skill(0.85)] * 3, misleading=0.2),
)
LIKE = Skill(1.0)  # answers by what those who voted saw
VOTED_PROFILES = (
    Profile("three like those who voted", [LIKE] * 3),
    Profile("two, and a careless one of 40 %", [LIKE, LIKE, Skill(0.4)]),
    Profile("two, and one who guesses", [LIKE, LIKE, GUESS]),
    Profile("one, and two of 60 %", [LIKE, Skill(0.6), Skill(0.6)]),
    Profile("one calls 70 % of {4} {5}", [LIKE, LIKE, Skill(1.0, 0.7)]),
    Profile("two call 60 % of {4} {5}", [LIKE, Skill(1.0, 0.6), Skill(1.0, 0.6)]),
)


class MadeFaces:
    """Faces of the seven emotions that exist as numbers alone."""

    classes = EMOTIONS
    profiles = PROFILES

    def __init__(self, number: int) -> None:
        self.number = number

    def draw(self, profile: Profile, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return the true classes (faces,) and the answers (faces, annotators)."""
        number, classes = self.number, len(self.classes)
        truth = generator.choice(classes, number, p=profile.shares)
        wrong = (truth + generator.integers(1, classes, number)) % classes
        is_misleading = generator.random(number) < profile.misleading
        answers = []
        for skill in profile.skills:
            answer = draw_rows(skill.matrix(classes)[truth], generator)
            is_misled = is_misleading & (generator.random(number) < MISLED)
            answers.append(np.where(is_misled, wrong, answer))
        return truth, np.stack(answers, axis=1)


class VotedFaces:
    """Faces on which many people have voted."""

    profiles = VOTED_PROFILES

    def __init__(self, path: Path) -> None:
        """Read a table of votes. Raise StageError if it has none."""
        table = VotesTable(path)
        self.classes = tuple(name for name in table.classes if not is_no_emotion(name))
        if len(self.classes) < 6:
            raise StageError(f"{path} has {len(self.classes)} classes; six are needed")
        rows, truth = [], []
        for row in table:
            counts = row.counts()
            label = fer_plus_class(counts)
            if label != UNKNOWN:
                rows.append([counts[name] for name in self.classes])
                truth.append(self.classes.index(label))
        self._truth = np.array(truth)
        self._shares = np.array(rows, float)
        self._shares /= self._shares.sum(axis=1, keepdims=True)
        self.number = len(rows)

    def draw(self, profile: Profile, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return the true classes (faces,) and the answers (faces, annotators)."""
        answers = []
        for skill in profile.skills:
            seen = draw_rows(self._shares, generator)
            answers.append(draw_rows(skill.matrix(len(self.classes))[seen], generator))
        return self._truth, np.stack(answers, axis=1)


def draw_rows(probabilities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a class for each row of probabilities."""
    limits = probabilities.cumsum(axis=1)
    drawn = (limits < generator.random((len(limits), 1))).sum(axis=1)
    return drawn.clip(max=probabilities.shape[1] - 1)


def majority(votes: np.ndarray, classes: int) -> np.ndarray:
    """Return the class with two of three votes, or -1."""
    counts = np.stack([(votes == k).sum(axis=1) for k in range(classes)], axis=1)
    return np.where(counts.max(axis=1) >= 2, counts.argmax(axis=1), -1)


def measure(
    faces: MadeFaces | VotedFaces, profile: Profile, seed: int, threshold: float
) -> list[float]:
    """Return the figures of a line."""
    truth, votes = faces.draw(profile, np.random.default_rng(seed))
    by_majority = majority(votes, len(faces.classes))
    model = dawid_skene.fit(votes, len(faces.classes))
    probabilities = model.probabilities(votes)
    best, highest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    by_model = np.where(highest > threshold, best, -1)
    surest = np.argsort(-highest, kind="stable")[: (by_majority >= 0).sum()]
    true_accuracies = (votes == truth[:, None]).mean(axis=0)
    return [
        *accuracy_and_unknown(by_majority, truth),
        *accuracy_and_unknown(by_model, truth),
        float((best == truth)[surest].mean()),
        float(highest[by_model >= 0].mean()),
        float(abs(model.accuracies - true_accuracies).max()),
    ]


def accuracy_and_unknown(labels: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the share of right labels among the labels, and of faces without one."""
    is_labelled = labels >= 0
    return float((labels == truth)[is_labelled].mean()), float(1 - is_labelled.mean())


def print_time(faces: MadeFaces | VotedFaces) -> None:
    """Print how long the estimate and the labels of many faces take."""
    for profile in faces.profiles:
        _, votes = faces.draw(profile, np.random.default_rng(0))
        started = time.perf_counter()
        model = dawid_skene.fit(votes.astype(np.int8), len(faces.classes))
        fitted = time.perf_counter()
        model.probabilities(votes)
        labelled = time.perf_counter()
        print(
            f"{profile.name:37} {faces.number:,} faces: fitted in {fitted - started:.2f} s "
            f"({model.steps} steps), probabilities in {labelled - fitted:.2f} s"
        )


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--images", "made faces of each set", 50_000, cli.positive_int, metavar="N")
    flag("--seeds", "sets of each kind", 5, cli.positive_int, metavar="N")
    at_least = "probability above which a face gets its label"
    flag("--threshold", at_least, THRESHOLD, cli.fraction_below_one, metavar="P")
    text = "table of votes of many people on each face, such as FER+'s"
    flag("--votes", text, None, cli.path, metavar="FILE")
    parser.switch("--time", "measure seconds, for 500,000 made faces", False)
    args = parser.parse_args()
    if args.time:
        print_time(MadeFaces(500_000))
        return cli.OK
    faces = VotedFaces(args.votes) if args.votes else MadeFaces(args.images)
    print(f"{faces.number:,} faces, threshold {args.threshold:g}\n")
    print(f"{'':37}    majority       Dawid–Skene    as many  it says  largest error of")
    print(f"{'annotators':37} right  UNKNOWN  right  UNKNOWN  right    right    an accuracy")
    for profile in faces.profiles:
        lines = [measure(faces, profile, seed, args.threshold) for seed in range(args.seeds)]
        a, b, c, d, e, f, g = (100 * np.mean(lines, axis=0)).tolist()
        name = profile.name.format(*faces.classes)
        print(
            f"{name:37}  {a:4.1f}    {b:4.1f}    {c:4.1f}    {d:4.1f}    {e:4.1f}     {f:4.1f}     "
            f" {g:4.1f}",
            flush=True,
        )
    return cli.OK


if __name__ == "__main__":
    cli.run(main)
