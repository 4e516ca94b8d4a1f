"""How well the three annotators agree over a whole table, in a few bytes per row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np

from utils.emotions import EMOTIONS
from utils.imaging.geometry import Box, iou


class Agreement:
    """Collects the annotators' answers and the overlap of their boxes, row by row."""

    def __init__(self) -> None:
        self._rows: Counter[int] = Counter()  # by how many annotators agreed: 3, 2 or 1
        self._answers: Counter[str] = Counter()
        self._ious = array("f")  # three per row, one for each pair of annotators

    def add(self, answers: Sequence[str], boxes: Sequence[Sequence[Box]]) -> None:
        """Count one row: the emotion that each annotator saw, and the boxes that each drew."""
        self._rows[max(Counter(answers).values())] += 1
        self._answers.update(answers)
        # In a photo of several people, two annotators mean the one on whom they agree best.
        self._ious.extend(
            max(iou(a, b) for a, b in product(*two)) for two in combinations(boxes, 2)
        )

    @property
    def kappa(self) -> float:
        """Fleiss' kappa: 1 if all agree, 0 if they agree no more than by chance.

        From Fleiss 1971, "Measuring nominal scale agreement among many raters". NaN if every answer
        is the same, because agreement by chance is then complete.
        """
        rows = self._rows.total()
        # Three answers make three pairs, of which all are equal, or one, or none.
        observed = (self._rows[3] + self._rows[2] / 3) / rows
        chance = sum((self._answers[emotion] / (3 * rows)) ** 2 for emotion in EMOTIONS)
        return (observed - chance) / (1 - chance) if chance < 1 else float("nan")

    def __str__(self) -> str:
        """Return the line that the stage prints at its end."""
        rows = self._rows.total()
        if not rows:
            return "no rows on which to compare the annotators"
        unanimous, two, none = (f"{100 * self._rows[n] / rows:.1f} %" for n in (3, 2, 1))
        return (
            f"annotators, over {rows} rows: {unanimous} unanimous, {two} two of three, {none} none "
            f"equal; Fleiss' kappa {self.kappa:.3f}; median IoU of their boxes "
            f"{np.median(self._ious):.3f}"
        )
