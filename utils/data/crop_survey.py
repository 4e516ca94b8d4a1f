"""What a run of cropImages.py learns of its rows and faces, for its summary and its page."""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.data.agreement import Agreement
from utils.data.annotators import Patterns
from utils.filenames import nfc
from utils.imaging.geometry import Box

SAMPLES = 24  # faces of each class
SIDES = (32, 64, 128, 256, 512, 1024, 2048)  # pixels: where a bin of sizes ends and the next begins


class Face(NamedTuple):
    """A cropped face, and what the annotators saw in it."""

    path: Path
    answers: Sequence[str]

    @property
    def name(self) -> str:
        """The file's name, in NFC."""
        return nfc(self.path.name)


class CropSurvey:
    """Counts rows and faces, and keeps a few faces of each class: a few bytes for each row."""

    def __init__(self) -> None:
        self.agreement = Agreement()
        self.patterns: Patterns = Counter()  # rows by their answers
        self.missing: Counter[str] = Counter()  # rows without a photo, by class
        self.moved = 0  # faces that another labelling had put into another class
        self.sides = [0] * (len(SIDES) + 1)  # faces by the longer side of their region, see SIDES
        self._samples: defaultdict[str, list[tuple[int, str, Face]]] = defaultdict(list)  # heaps

    def add_row(self, answers: Sequence[str], boxes: Sequence[Sequence[Box]]) -> None:
        """Count a row: the emotion that each annotator saw, and the boxes that each drew."""
        self.agreement.add(answers, boxes)
        self.patterns[tuple(answers)] += 1

    def add_face(self, label: str, face: Face, region: Box) -> None:
        """Count a face that is cropped, now or earlier."""
        side = max(region.right - region.left, region.bottom - region.top)
        self.sides[bisect_right(SIDES, side)] += 1
        # Of each class the faces with the largest hashes of their names are kept: a random choice,
        # which depends on neither the order of the rows nor the number of runs.
        digest = hashlib.blake2b(face.name.encode(errors="surrogateescape"), digest_size=8).digest()
        kept, item = self._samples[label], (int.from_bytes(digest, "big"), face.name, face)
        if len(kept) < SAMPLES:
            heapq.heappush(kept, item)
        elif item > kept[0]:
            heapq.heapreplace(kept, item)

    def samples(self, label: str) -> list[Face]:
        """Return up to SAMPLES faces of a class, always the same ones of the same faces."""
        return [face for _, _, face in sorted(self._samples[label], reverse=True)]
