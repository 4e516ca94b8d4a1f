"""Decisions about labels: which photos get another class, and which are left out.

relabel.tsv has a row for each photo that somebody has looked at:

    set     class   file        decision  new class
    train   슬픔    a_1.jpg     move      중립
    train   기쁨    a_2.jpg     drop
    train   기쁨    a_3.jpg     keep

Class and file are those of the data folder. The input itself is never changed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from utils.class_names import match_classes
from utils.data.sets import name_set
from utils.data.split import SplitItem, free_name
from utils.data.text_table import TextTable
from utils.emotions import UNKNOWN, fold_name
from utils.errors import StageError
from utils.filenames import nfc

KEEP, MOVE, DROP = DECISIONS = ("keep", "move", "drop")
COLUMNS = ("set", "class", "file", "decision", "new class")
_NEEDED = COLUMNS[1:]


class Decision(NamedTuple):
    """A row of relabel.tsv."""

    path: Path  # of the table
    line: int
    set: str  # in which the photo was seen; empty if the table does not say
    label: str
    file: str
    decision: str
    new_label: str  # of MOVE


@dataclass(frozen=True)
class Relabelling:
    """What the decisions make of the photos."""

    photos: list[SplitItem]  # without the photos that are left out
    positions: list[int]  # of these among the photos as they were
    counts: Counter[str]  # photos by decision
    failures: list[tuple[Path, str]]  # the rows that are not applied

    def describe(self) -> str:
        """Return the counts as a line."""
        return (
            f"{self.counts[MOVE]} photos are moved to another class, {self.counts[DROP]} are left "
            f"out, {self.counts[KEEP]} keep theirs"
        )


def read_decisions(paths: Iterable[Path]) -> list[list[Decision]]:
    """Return the rows of each table. Raise StageError for a file that is no such table."""
    return [_read(path) for path in paths]


def _read(path: Path) -> list[Decision]:
    table = TextTable(path, "list of decisions", "the columns class, decision and new class")
    places = {column: table.folded.index(fold_name(column)) for column in COLUMNS
              if fold_name(column) in table.folded}  # fmt: skip
    if missing := [column for column in _NEEDED if column not in places]:
        raise StageError(
            f"{path} is no list of decisions: it has no column {' and '.join(missing)}; "
            f"suspects.html of test.py --suspects writes one"
        )
    rows = []
    for line, cells in table:
        table.check_lines(line, cells)
        values = {column: nfc(cells[place]) for column, place in places.items()}
        label, word, new = (values[name].strip() for name in ("class", "decision", "new class"))
        split = values.get("set", "").strip()
        rows.append(Decision(path, line, split, label, values["file"], word.lower(), new))
    return rows


def relabel(photos: Sequence[SplitItem], tables: Iterable[Sequence[Decision]]) -> Relabelling:
    """Apply the decisions, table by table: a later one may be about a photo's new class.

    Every photo keeps its set. A photo that is moved keeps its name, with a number if another photo
    of the class has it. Rows that cannot be applied are failures: those that match no photo, name
    no class, or contradict another row.
    """
    state = _State(photos)
    for table in tables:
        state.apply(table)
    positions = [i for i in range(len(photos)) if i not in state.dropped]
    return Relabelling(
        [state.photos[i] for i in positions], positions, state.counts(), state.failures
    )


class _State:
    """The photos after the decisions so far."""

    def __init__(self, photos: Sequence[SplitItem]) -> None:
        self.photos = list(photos)
        self._input = photos
        self.dropped: set[int] = set()
        self.failures: list[tuple[Path, str]] = []
        self._decided: set[int] = set()  # photos
        self._classes = sorted({photo.label for photo in photos} - {UNKNOWN})
        self._meant: dict[str, str | None] = {UNKNOWN: UNKNOWN}  # name in a table → class
        # Class and name → photos. No name is used again, not even that of a photo that was moved
        # away: a path in the data folder never comes to mean another photo.
        self._places: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        self._taken: defaultdict[str, set[str]] = defaultdict(set)
        for i, photo in enumerate(photos):
            self._places[photo.label, photo.name].append(i)
            self._taken[photo.label].add(photo.name.casefold())

    def counts(self) -> Counter[str]:
        """Return the number of photos by what becomes of them, one of DECISIONS."""
        moved = {i for i in self._decided if self.photos[i].was} - self.dropped
        kept = self._decided - self.dropped - moved
        return Counter({KEEP: len(kept), MOVE: len(moved), DROP: len(self.dropped)})

    def apply(self, table: Sequence[Decision]) -> None:
        """Apply the rows of one table."""
        found: defaultdict[int, list[tuple[Decision, str]]] = defaultdict(list)
        for row in table:
            try:
                position, label = self._find(row), self._outcome(row)
            except _RowError as error:
                self._fail(row, str(error))
            else:
                found[position].append((row, label))
        for i, outcomes in sorted(found.items()):
            rows = [row for row, _ in outcomes]
            if len({label for _, label in outcomes}) > 1:
                lines = " and ".join(str(row.line) for row in rows)
                self._fail(rows[0], f"the lines {lines} contradict each other; none is applied")
                continue
            try:
                self._decide(i, rows[0], outcomes[0][1])
            except _RowError as error:
                self._fail(rows[0], str(error))

    def _fail(self, row: Decision, reason: str) -> None:
        self.failures.append((row.path, f"line {row.line}: {row.label}/{row.file}: {reason}"))

    def _find(self, row: Decision) -> int:
        """Return the position of a row's photo. Raise _RowError if there is none, or several."""
        label = self._class_called(row.label)
        # In the input, a photo may lie in a subfolder: sub/1.jpg is sub_1.jpg in the data folder.
        flat = row.file.replace("\\", "/").replace("/", "_")
        found = self._places.get((label, row.file)) or self._places.get((label, flat), [])
        if len(found) > 1:
            found = [i for i in found if self.photos[i].split == name_set(row.set)]
            if len(found) != 1:
                raise _RowError("it is in several sets, and the column set names none of them")
        if not found and label == UNKNOWN:
            raise _RowError(f"no such photo; photos of {UNKNOWN} need --unknown keep")
        if not found:
            raise _RowError("no such photo in the input")
        return found[0]

    def _outcome(self, row: Decision) -> str:
        """Return the class that a row gives its photo; empty to leave it out.

        Raise _RowError if it is no decision.
        """
        if row.decision == DROP:
            return ""
        if row.decision not in DECISIONS:
            raise _RowError(f"{row.decision!r} is no decision; they are {', '.join(DECISIONS)}")
        label = self._class_called(row.label if row.decision == KEEP else row.new_label)
        if row.decision == MOVE and label == UNKNOWN:
            raise _RowError(f"{UNKNOWN} is no class: a photo without one is to be dropped")
        return label

    def _class_called(self, name: str) -> str:
        """Return the class that a name in a table means. Raise _RowError if there is none."""
        if name not in self._meant:
            try:
                self._meant[name] = match_classes([name], self._classes, "").get(name)
            except StageError:  # it may mean several
                self._meant[name] = None
        if (label := self._meant[name]) is None:
            raise _RowError(f"{name!r} is no class of the input: {' '.join(self._classes)}")
        return label

    def _decide(self, i: int, row: Decision, label: str) -> None:
        """Give a photo a class, or leave it out. Raise _RowError if an earlier table said other."""
        photo = self.photos[i]
        is_new = photo.label == self._class_called(row.label)
        if i in self.dropped or not is_new:
            now = "" if i in self.dropped else photo.label
            if label != now:
                done = f"moved it to {now}" if now else "left it out"
                raise _RowError(f"contradicts an earlier list, which has {done}; not applied")
        self._decided.add(i)
        if not label:
            self.dropped.add(i)
        elif label != photo.label:
            self._move(i, label)

    def _move(self, i: int, label: str) -> None:
        original, name = self._input[i], self.photos[i].name
        if label == original.label:  # it is moved back
            self.photos[i] = original
            return
        name = free_name(name, self._taken[label])
        own_name = original.own_name or ("" if name == original.name else original.name)
        self.photos[i] = original._replace(
            label=label, name=name, own_name=own_name, was=original.label
        )
        self._places[label, name].append(i)


class _RowError(ValueError):
    """Why a row cannot be applied."""
