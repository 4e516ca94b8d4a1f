"""Labels by Dawid and Skene's model beside the majority's, on made annotators with known errors.

  python -m benchmarks.dawid_skene                     # accuracy of the labels
  python -m benchmarks.dawid_skene --threshold 0.7     # label only images that are surer
  python -m benchmarks.dawid_skene --time              # seconds for 500,000 images

Each image has a true class, drawn by the shares of the seven emotions below, and the votes of three
annotators, drawn by their confusion matrices. A line has the mean over the seeds: how many per cent
of the labels are right, and how many images get none, by the majority (two of three) and by Dawid
and Skene; and how many are right if Dawid and Skene's label goes only to as many images as the
majority labels, those of the highest probability.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils import cli
from utils.data import dawid_skene
from utils.data.annotators import THRESHOLD
from utils.emotions import EMOTIONS

CLASSES = len(EMOTIONS)
SHARES = np.array([0.16, 0.13, 0.14, 0.13, 0.10, 0.16, 0.18])
RARE = np.array([0.17, 0.14, 0.15, 0.14, 0.001, 0.189, 0.21])  # 1 of 1,000 is 상처
HURT, SAD = EMOTIONS.index("상처"), EMOTIONS.index("슬픔")


class Profile(NamedTuple):
    """Three annotators, and the images that they see."""

    name: str
    matrices: Sequence[np.ndarray]  # [true, answered] of each annotator
    shares: np.ndarray = SHARES
    misleading: float = 0.0  # share of images that draw every annotator to one wrong class


def skilled(accuracy: float) -> np.ndarray:
    """Return the matrix of an annotator with equal errors everywhere."""
    matrix = np.full((CLASSES, CLASSES), (1 - accuracy) / (CLASSES - 1))
    np.fill_diagonal(matrix, accuracy)
    return matrix


def confusing(accuracy: float, share: float) -> np.ndarray:
    """Return the matrix of an annotator who calls a share of the hurt faces sad."""
    matrix = skilled(accuracy)
    matrix[HURT] *= 1 - share
    matrix[HURT, SAD] += share
    return matrix


PROFILES = (
    Profile("three of 80 %", [skilled(0.8)] * 3),
    Profile("three of 60 %", [skilled(0.6)] * 3),
    Profile("85, 80 and a careless one of 40 %", [skilled(0.85), skilled(0.8), skilled(0.4)]),
    Profile("80, 80 and one who guesses", [skilled(0.8), skilled(0.8), skilled(1 / CLASSES)]),
    Profile("one expert of 95 %, two of 60 %", [skilled(0.95), skilled(0.6), skilled(0.6)]),
    Profile("80 %, one calls 70 % of 상처 슬픔", [skilled(0.8)] * 2 + [confusing(0.8, 0.7)]),
    Profile("80 %, two call 60 % of 상처 슬픔", [skilled(0.8)] + [confusing(0.8, 0.6)] * 2),
    Profile("80 %, and 상처 is 1 of 1,000", [skilled(0.8)] * 3, RARE),
    Profile("85 %, 20 % of the images mislead all", [skilled(0.85)] * 3, misleading=0.2),
)


def draw(
    profile: Profile, images: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the true classes (images,) and the votes (images, 3)."""
    truth = generator.choice(CLASSES, images, p=profile.shares)
    wrong = (truth + generator.integers(1, CLASSES, images)) % CLASSES
    is_misleading = generator.random(images) < profile.misleading
    votes = []
    for matrix in profile.matrices:
        chances = matrix[truth].cumsum(axis=1)
        answers = (chances < generator.random((images, 1))).sum(axis=1).clip(max=CLASSES - 1)
        is_misled = is_misleading & (generator.random(images) < 0.5)
        votes.append(np.where(is_misled, wrong, answers))
    return truth, np.stack(votes, axis=1)


def majority(votes: np.ndarray) -> np.ndarray:
    """Return the class with two of three votes, or -1."""
    counts = np.stack([(votes == k).sum(axis=1) for k in range(CLASSES)], axis=1)
    return np.where(counts.max(axis=1) >= 2, counts.argmax(axis=1), -1)


def measure(profile: Profile, images: int, seed: int, threshold: float) -> list[float]:
    """Return the figures of a line."""
    truth, votes = draw(profile, images, np.random.default_rng(seed))
    by_majority = majority(votes)
    model = dawid_skene.fit(votes, CLASSES)
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
    """Return the share of right labels among the labels, and of images without one."""
    is_labelled = labels >= 0
    return float((labels == truth)[is_labelled].mean()), float(1 - is_labelled.mean())


def print_time(images: int) -> None:
    """Print how long the estimate and the labels of many images take."""
    for profile in PROFILES:
        _, votes = draw(profile, images, np.random.default_rng(0))
        started = time.perf_counter()
        model = dawid_skene.fit(votes.astype(np.int8), CLASSES)
        fitted = time.perf_counter()
        model.probabilities(votes)
        labelled = time.perf_counter()
        print(
            f"{profile.name:38} {images:,} images: fitted in {fitted - started:.2f} s "
            f"({model.steps} steps), probabilities in {labelled - fitted:.2f} s"
        )


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--images", "images of each set", 50_000, cli.positive_int, metavar="N")
    flag("--seeds", "sets of each kind", 5, cli.positive_int, metavar="N")
    at_least = "probability above which an image gets its label"
    flag("--threshold", at_least, THRESHOLD, cli.fraction_below_one, metavar="P")
    parser.switch("--time", "measure seconds, for 500,000 images", False)
    args = parser.parse_args()
    if args.time:
        print_time(500_000)
        return cli.OK
    print(f"{'':38}     majority      Dawid–Skene    as many   it says   largest error of")
    print(f"{'annotators':38} right  UNKNOWN  right  UNKNOWN  right     right    an accuracy")
    for profile in PROFILES:
        lines = [measure(profile, args.images, seed, args.threshold) for seed in range(args.seeds)]
        a, b, c, d, e, f, g = (100 * np.mean(lines, axis=0)).tolist()
        print(
            f"{profile.name:38} {a:4.1f}   {b:5.1f}    {c:4.1f}   {d:5.1f}   {e:5.1f}     {f:4.1f} "
            f"     {g:4.1f}",
            flush=True,
        )
    return cli.OK


if __name__ == "__main__":
    cli.run(main)
