"""How well annotators agree over a whole table, in a few bytes per row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product

from utils import interrupt
from utils.emotions import NO_VOTE
from utils.imaging.geometry import Box, iou


class FleissKappa:
    """Collects the votes on each image, for Fleiss' kappa of any number of annotators.

    Images may have unequal numbers of votes r. With r_k votes for class k, the observed agreement
    is the mean, over images of two votes or more, of the fraction of equal pairs of votes,
    Σ_k r_k (r_k - 1) / (r (r - 1)); agreement by chance is Σ_k π_k², where π_k is the mean of
    r_k / r over all images. That is the form of Gwet 2014, "Handbook of Inter-Rater Reliability".
    With as many votes on every image it is that of Fleiss 1971, "Measuring nominal scale agreement
    among many raters".
    """

    def __init__(self) -> None:
        self.images = 0  # with at least one vote
        self.votes = 0
        self._compared = 0  # images with two votes or more
        self._equal_pairs = 0.0  # sum over images of the fraction of equal pairs
        self._shares: dict[str, float] = {}  # class → sum over images of its share of votes

    def add(self, counts: Mapping[str, int]) -> None:
        """Count one image: how many annotators voted for each class."""
        votes = sum(counts.values())
        if not votes:
            return
        self.images += 1
        self.votes += votes
        for name, count in counts.items():
            if count:
                self._shares[name] = self._shares.get(name, 0.0) + count / votes
        if votes > 1:
            self._compared += 1
            pairs = sum(count * (count - 1) for count in counts.values())
            self._equal_pairs += pairs / (votes * (votes - 1))

    @property
    def value(self) -> float:
        """Kappa: 1 if all agree, 0 if they agree no more than by chance.

        NaN if no image has two votes, or if every vote is the same, because agreement by chance is
        then complete.
        """
        if not self._compared or len(self._shares) == 1:
            return float("nan")
        observed = self._equal_pairs / self._compared
        chance = sum((share / self.images) ** 2 for share in self._shares.values())
        return (observed - chance) / (1 - chance)


class Agreement:
    """Collects the answers of three annotators and the overlap of their boxes, row by row."""

    def __init__(self) -> None:
        self._rows: Counter[int] = Counter()  # by how many annotators agreed: 3, 2 or 1
        self._kappa = FleissKappa()
        self._ious = array("f")  # up to three per row, one for each pair of annotators

    def add(self, answers: Sequence[str], boxes: Sequence[Sequence[Box]]) -> None:
        """Count one row: the emotion that each annotator saw, and the boxes that each drew.

        NO_VOTE is no answer. An annotator may have drawn no box.
        """
        votes = Counter(answer for answer in answers if answer != NO_VOTE)
        self._rows[max(votes.values(), default=1)] += 1
        self._kappa.add(votes)
        # In a photo of several people, two annotators mean the one on whom they agree best.
        self._ious.extend(
            max(iou(a, b) for a, b in product(*two)) for two in combinations(boxes, 2) if all(two)
        )

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._rows.total()

    @property
    def shares(self) -> list[float]:
        """The shares of rows on which three, two and none of the annotators agree."""
        return [self._rows[n] / max(1, self.rows) for n in (3, 2, 1)]

    @property
    def kappa(self) -> float:
        """Fleiss' kappa, see `FleissKappa`."""
        return self._kappa.value

    @property
    def median_iou(self) -> float:
        """The median overlap of two annotators' boxes, in [0, 1]; NaN if there are no two."""
        with interrupt.importing():  # only now: the worker processes have no use for it
            import numpy as np
        return float(np.median(self._ious)) if self._ious else float("nan")

    def iou_counts(self, bins: int) -> list[int]:
        """Return how many pairs of boxes overlap by how much, in equal bins from 0 to 1."""
        with interrupt.importing():
            import numpy as np
        counts, _ = np.histogram(np.asarray(self._ious), bins, (0, 1))
        return counts.tolist()

    def __str__(self) -> str:
        """Return the line that the stage prints at its end."""
        if not self.rows:
            return "no rows on which to compare the annotators"
        unanimous, two, none = (f"{100 * share:.1f} %" for share in self.shares)
        return (
            f"annotators, over {self.rows} rows: {unanimous} unanimous, {two} two of three, "
            f"{none} none equal; Fleiss' kappa {self.kappa:.3f}; median IoU of their boxes "
            f"{self.median_iou:.3f}"
        )
