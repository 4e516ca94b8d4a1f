"""The annotators of a table: how their answers become a face's class, and how reliable they are.

A face's label is the majority's, or the most probable class by the model of Dawid and Skene
(`utils/data/dawid_skene.py`), which knows what each annotator tends to confuse. The model is
estimated from all rows of the table and stands in `annotators.json`, in the folder of the crops.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import interrupt
from utils.console import ProgressBar
from utils.data.annotations import ANNOTATORS, Annotations, RowError
from utils.emotions import EMOTIONS, NO_VOTE, UNKNOWN, majority_vote
from utils.files import atomic_file

if TYPE_CHECKING:
    from utils.data.dawid_skene import DawidSkene

MAJORITY, DAWID_SKENE = LABELINGS = ("majority", "dawid_skene")
FILE = "annotators.json"

# The probability above which a face gets its class. On made annotators such labels are about as
# often right as those of two of three, and there are more of them (benchmarks/dawid_skene.py).
THRESHOLD = 0.7
FEW_ROWS = 1000  # below which the estimate is rough

NOT_VOTED = -1  # for the model; other answers are positions in EMOTIONS
_CODES = {emotion: i for i, emotion in enumerate(EMOTIONS)} | {NO_VOTE: NOT_VOTED}

Answers = tuple[str, ...]  # what each annotator saw: an emotion, or NO_VOTE
Patterns = Counter[Answers]  # how many rows have these answers


@dataclass(frozen=True)
class Annotators:
    """What is estimated of the annotators from a number of rows."""

    rows: int
    model: DawidSkene

    @property
    def accuracies(self) -> list[float]:
        """The probability that an annotator's answer is right, of each annotator."""
        return [float(accuracy) for accuracy in self.model.accuracies]

    def label(self, answers: Answers) -> str:
        """Return the most probable class, or UNKNOWN if it is not more probable than THRESHOLD."""
        if all(answer == NO_VOTE for answer in answers):
            return UNKNOWN
        [probabilities] = self.model.probabilities(_as_votes([answers]))
        best = int(probabilities.argmax())
        return EMOTIONS[best] if probabilities[best] > THRESHOLD else UNKNOWN

    def mistaken(self) -> list[tuple[str, str]]:
        """Return (class, other class) of each class that the annotators mostly call by another.

        Such a class may have changed places with the other: nothing but answers tells them apart.
        """
        answered = self.model.confusion.mean(axis=0)
        found = [(k, int(row.argmax())) for k, row in enumerate(answered)]
        return [(EMOTIONS[k], EMOTIONS[j]) for k, j in found if j != k]

    def describe(self) -> str:
        """Return the annotators' accuracies as a phrase."""
        pairs = zip(ANNOTATORS, self.accuracies, strict=True)
        return ", ".join(f"{who} {100 * accuracy:.1f} %" for who, accuracy in pairs)


def estimate(patterns: Patterns) -> Annotators:
    """Estimate the annotators from the answers of all rows. Equal patterns give an equal result."""
    with interrupt.importing():  # only now: numpy is slow to import
        from utils.data import dawid_skene
    different = sorted(patterns)
    votes = _as_votes(different) or [[NOT_VOTED] * len(ANNOTATORS)]
    images = [patterns[answers] for answers in different] or [0]
    return Annotators(patterns.total(), dawid_skene.fit(votes, len(EMOTIONS), images))


def count_answers(table: Annotations) -> Patterns:
    """Read a whole table once, and count its rows by their answers.

    A name that is repeated counts once, and rows whose answers are invalid do not count.
    """
    patterns: Patterns = Counter()
    names: set[int] = set()
    with ProgressBar(None, "annotators", "row") as bar:
        for row in table:
            bar.update()
            with suppress(RowError):  # the run over the rows logs it
                key, answers = hash(row.photo_name()), tuple(row.answers())
                if key not in names:
                    names.add(key)
                    patterns[answers] += 1
    return patterns


class Labels:
    """Gives each row its class, by the majority or by a model of the annotators."""

    def __init__(self, annotators: Annotators | None, *others: Annotators | None) -> None:
        """`annotators`: None for the majority. `others`: models by which faces may lie elsewhere.

        By the majority they may lie elsewhere, too.
        """
        self.annotators = annotators
        self._others = [None, *others]
        self._known: dict[Answers, tuple[str, list[str]]] = {}

    @property
    def method(self) -> str:
        """One of LABELINGS."""
        return DAWID_SKENE if self.annotators else MAJORITY

    def of(self, answers: Sequence[str]) -> str:
        """Return the class of a row with these answers, or UNKNOWN."""
        return self._look_up(tuple(answers))[0]

    def others_of(self, answers: Sequence[str]) -> list[str]:
        """Return the classes where such a face lies if it was labelled in another way."""
        return self._look_up(tuple(answers))[1]

    def _look_up(self, answers: Answers) -> tuple[str, list[str]]:
        if answers not in self._known:
            label = label_by(self.annotators, answers)
            others = dict.fromkeys(label_by(model, answers) for model in self._others)
            self._known[answers] = label, [other for other in others if other != label]
        return self._known[answers]


def label_by(annotators: Annotators | None, answers: Answers) -> str:
    """Return the class by a model of the annotators, or by the majority if it is None."""
    return annotators.label(answers) if annotators else majority_vote(answers)


def describe_changes(patterns: Patterns, annotators: Annotators) -> str:
    """Return how many labels differ from the majority's, as a phrase."""
    rows: Counter[tuple[bool, bool]] = Counter()  # by whether a majority and the model have a label
    differ = 0
    for answers, count in patterns.items():
        by_majority, label = majority_vote(answers), annotators.label(answers)
        rows[by_majority != UNKNOWN, label != UNKNOWN] += count
        differ += count * (label != by_majority)
    without = rows[False, False] + rows[False, True]
    return (
        f"{differ:,} of {rows.total():,} labels differ from the majority's, {rows[False, True]:,} "
        f"of {without:,} {UNKNOWN} get one, {rows[True, False]:,} become {UNKNOWN}"
    )


@dataclass(frozen=True)
class SavedAnnotators:
    """The content of annotators.json: how the faces beside it are labelled, and the annotators."""

    method: str  # one of LABELINGS
    annotators: Annotators

    def save(self, folder: Path) -> None:
        """Write annotators.json, whole or not at all."""
        model = self.annotators.model
        people = {
            who: {"accuracy": accuracy, "confusion": matrix.tolist()}
            for who, accuracy, matrix in zip(
                ANNOTATORS, self.annotators.accuracies, model.confusion, strict=True
            )
        }
        content = {
            "labels": self.method, "threshold": THRESHOLD, "rows": self.annotators.rows,
            "classes": list(EMOTIONS), "shares": model.shares.tolist(), "annotators": people,
        }  # fmt: skip
        with atomic_file(folder / FILE) as file:
            file.write((_dump(content) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> SavedAnnotators | None:
        """Read annotators.json. Return None if there is none, or none that this program wrote."""
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            content = json.loads((folder / FILE).read_text(encoding="utf-8-sig"))
            matrices = [content["annotators"][who]["confusion"] for who in ANNOTATORS]
            is_known = content["labels"] in LABELINGS and content["classes"] == list(EMOTIONS)
            model = _make_model(content["shares"], matrices)
            if is_known and model:
                return cls(content["labels"], Annotators(int(content["rows"]), model))
        return None


def _make_model(shares: Any, matrices: Any) -> DawidSkene | None:
    """Return the model with these parameters, or None if they are no probabilities."""
    with interrupt.importing():
        import numpy as np

        from utils.data.dawid_skene import DawidSkene
    k = len(EMOTIONS)
    p, confusion = np.array(shares, float), np.array(matrices, float)
    if p.shape != (k,) or confusion.shape != (len(ANNOTATORS), k, k):
        return None
    has_zeros = (p <= 0).any() or (confusion <= 0).any()
    sums = np.append(confusion.sum(axis=2).ravel(), p.sum())
    return None if has_zeros or not np.allclose(sums, 1) else DawidSkene(p, confusion)


def _as_votes(patterns: Sequence[Answers]) -> list[list[int]]:
    """Return the answers as the model takes them."""
    return [[_CODES[answer] for answer in answers] for answers in patterns]


def _dump(value: object, indent: str = "") -> str:
    """Return JSON with a key a line, and a row of a matrix a line."""
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key)}: {_dump(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(f"{inner}{json.dumps(row)}" for row in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
