"""How far the three annotators agree, over a whole table, in a few bytes a row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np

from utils.emotions import EMOTIONS
from utils.imaging.geometry import Box, iou


class Agreement:
    """Counts of equal answers and the overlap of boxes, row by row."""

    def __init__(self) -> None:
        self._equal: Counter[int] = Counter()  # rows by how many annotators agreed: 3, 2 or 1
        self._answers: Counter[str] = Counter()
        self._overlaps = array("f")  # three a row, one for each two annotators

    def add(self, answers: Sequence[str], boxes: Sequence[Sequence[Box]]) -> None:
        """Count one row: the emotion that each annotator saw, and the boxes each has drawn."""
        self._equal[max(Counter(answers).values())] += 1
        self._answers.update(answers)
        # Of several people in a photo, two annotators mean the one on whom they agree best.
        self._overlaps.extend(
            max(iou(a, b) for a, b in product(*two)) for two in combinations(boxes, 2)
        )

    @property
    def kappa(self) -> float:
        """Fleiss' kappa: 1 where all agree, 0 where no more do than would by chance.

        Fleiss 1971, "Measuring nominal scale agreement among many raters", for three raters. NaN
        where every answer is the same, as agreement by chance is then complete.
        """
        rows = self._equal.total()
        # Of the three pairs among three answers, all are equal, or one, or none.
        observed = (self._equal[3] + self._equal[2] / 3) / rows
        chance = sum((self._answers[emotion] / (3 * rows)) ** 2 for emotion in EMOTIONS)
        return (observed - chance) / (1 - chance) if chance < 1 else float("nan")

    def __str__(self) -> str:
        """One line, for the end of the stage."""
        rows = self._equal.total()
        if not rows:
            return "no rows to compare annotators on"
        unanimous, two, none = (f"{100 * self._equal[n] / rows:.1f} %" for n in (3, 2, 1))
        return (
            f"annotators, over {rows} rows: {unanimous} unanimous, {two} two of three, {none} none "
            f"equal; Fleiss' kappa {self.kappa:.3f}; median IoU of their boxes "
            f"{np.median(self._overlaps):.3f}"
        )
