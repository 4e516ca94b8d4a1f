"""Votes: how many annotators saw each class in each image, from a table of any kind.

A votes table is a csv or tsv with a header: a column of file names and one column of counts for
each class, such as FER+'s fer2013new.csv (Barsoum et al. 2016, arXiv 1608.01041), which has a row
for each row of fer2013.csv:

    Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
    Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0

In an annotation table and in AI-Hub's label files, three annotators voted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.class_names import describe_other_names, match_classes
from utils.data.aihub import LabelFiles
from utils.data.annotations import ANNOTATORS, COLUMNS, Annotations, Row, RowError
from utils.data.downloads import is_aihub, open_annotations
from utils.data.text_table import FILE_COLUMNS, TextTable
from utils.emotions import (
    EMOTIONS,
    NO_VOTE,
    UNKNOWN,
    emotion_called,
    fold_name,
    is_no_emotion,
    majority_vote,
)
from utils.errors import StageError

FER_PLUS_MINIMUM = 2  # FER+'s paper drops single votes
_IGNORED = {"usage", "index", "id", ""}  # columns that need no word
_COUNT = re.compile(r"([0-9]{1,9})(\.0*)?")
_CHUNK = 1 << 20  # bytes


def majority(counts: Mapping[str, int], minimum: int = 1) -> str | None:
    """Return the class with more than half of the votes, or None if there is no such class.

    Classes with fewer than `minimum` votes do not count.
    """
    kept = {name: count for name, count in counts.items() if count >= max(1, minimum)}
    winner = max(kept, key=kept.__getitem__, default=None)
    return winner if winner and 2 * kept[winner] > sum(kept.values()) else None


def fer_plus_class(counts: Mapping[str, int]) -> str:
    """Return the class that FER+'s paper gives an image, or UNKNOWN.

    Single votes are dropped, and the winner needs more than half of what is left. UNKNOWN is also
    the class of an image for which "unknown" or "NF" (not a face) wins.
    """
    winner = majority(counts, FER_PLUS_MINIMUM)
    return UNKNOWN if winner is None or is_no_emotion(winner) else winner


@dataclass(frozen=True, slots=True)
class VoteRow:
    """The votes on one image."""

    where: str  # it stands, for messages
    name: str  # the file's name or path, as it stands in the table; FER+ leaves some empty
    cells: dict[str, str]  # class → cell

    def counts(self) -> dict[str, int]:
        """Return class → number of votes. Raise RowError if a cell is no such number."""
        return {name: self._count(name, cell.strip()) for name, cell in self.cells.items()}

    def _count(self, name: str, cell: str) -> int:
        number = _COUNT.fullmatch(cell or "0")
        if not number:
            raise RowError(f"{cell!r} in the column {name} is no whole number of votes")
        return int(number[1])


class VotesTable:
    """A table of votes. Each iteration reads it again, row by row."""

    def __init__(self, path: Path, classes: Sequence[str] = ()) -> None:
        """Read the header. `classes`: those of a training, whose names the columns get.

        Raise StageError if the file is no such table, or if two of its columns are one class.
        """
        self.path = path
        self._table = TextTable(path, "table of votes", "columns of counts", minimum=3)
        header, folded = self._table.header, self._table.folded
        self._file = self._table.file_column()
        columns = {i: c for i, c in enumerate(header) if i != self._file and folded[i]}
        self.other_names = match_classes(columns.values(), classes, path)  # column → class
        self._columns = {
            i: self.other_names.get(name, name)
            for i, name in find_vote_columns(columns, self.other_names).items()
        }
        if not self._columns:
            raise StageError(
                f"{path} has no column of votes for a class; its header is: {' '.join(header)}"
            )
        self.classes = list(self._columns.values())
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise StageError(f"{path} has two columns for {twice}; put their votes into one")
        self.unused = [
            column
            for i, column in columns.items()
            if i not in self._columns and folded[i] not in _IGNORED
        ]

    def __iter__(self) -> Iterator[VoteRow]:
        for line, cells in self._table:
            self._table.check_lines(line, [cells[i] for i in (self._file, *self._columns)])
            votes = {name: cells[i] for i, name in self._columns.items()}
            yield VoteRow(f"{self.path.name} line {line}", cells[self._file].strip(), votes)

    def count(self) -> int:
        """Return about how many rows there are: for a progress bar, quickly."""
        return self._table.count()

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Files that could not be read, with the reason: none, there is one file."""
        return []

    def leaders(self, counts: Mapping[str, int], minimum: int) -> set[str]:
        """Return the classes with most votes: several of equals, none without `minimum` votes."""
        most = max(counts.values(), default=0)
        return {name for name, n in counts.items() if n == most >= max(1, minimum)}

    def describe_columns(self) -> list[str]:
        """Return what to say about the header: names that differ, and columns that are not used."""
        pairs = describe_other_names(self.other_names)
        unused = " ".join(self.unused)
        return [
            *([f"{self.path} has the classes by other names: {pairs}"] if pairs else []),
            *(
                [f"{self.path}: not used, because no class is called so: {unused}"]
                if unused
                else []
            ),
        ]


@dataclass(frozen=True, slots=True)
class AnnotatorRow:
    """The votes of the three annotators of an annotation table on one image."""

    name: str
    row: Row
    table: Annotations
    classes: dict[str, str]  # emotion → class

    @property
    def where(self) -> str:
        """Return where the row stands, for messages."""
        return self.table.where(self.row)

    def counts(self) -> dict[str, int]:
        """Return class → number of votes. Raise RowError if an answer is none of the emotions."""
        votes = Counter(answer for answer in self.row.answers() if answer != NO_VOTE)
        return {self.classes.get(emotion, emotion): count for emotion, count in votes.items()}


class AnnotatorVotes:
    """The votes in an annotation table or in AI-Hub's label files; read again by each iteration."""

    def __init__(self, path: Path, classes: Sequence[str] = ()) -> None:
        """See `VotesTable`. Raise StageError if the path holds no annotations."""
        self.path = path
        required = ("name", *(f"{who}_emotion" for who in ANNOTATORS))
        self._table = open_annotations(path, required)
        self.other_names = match_classes(EMOTIONS, classes, path)
        self.classes = [self.other_names.get(emotion, emotion) for emotion in EMOTIONS]

    def __iter__(self) -> Iterator[AnnotatorRow]:
        for row in self._table:
            try:
                name = row.photo_name()
            except RowError:  # the data stages log it
                continue
            yield AnnotatorRow(name, row, self._table, self.other_names)

    def count(self) -> int:
        """Return the number of rows."""
        return self._table.count()

    @property
    def problems(self) -> list[tuple[str, str]]:
        """The label files that could not be read in the latest iteration, with the reason."""
        return self._table.problems if isinstance(self._table, LabelFiles) else []

    def leaders(self, counts: Mapping[str, int], minimum: int) -> set[str]:  # noqa: ARG002
        """Return the class that two of the three saw, if there is one, as cropImages.py does."""
        return {majority_vote(list(Counter(counts).elements()))} - {UNKNOWN}

    def describe_columns(self) -> list[str]:
        """Return what to say about the classes: names that differ."""
        pairs = describe_other_names(self.other_names)
        return [f"{self.path} has the classes by other names: {pairs}"] if pairs else []


Votes = VotesTable | AnnotatorVotes


def open_votes(path: Path, classes: Sequence[str]) -> Votes:
    """Return the votes in a file of any kind, which its content tells, or in a folder of AI-Hub.

    `classes`: those of the training. Raise StageError if the path holds no votes.
    """
    return AnnotatorVotes(path, classes) if has_annotators(path) else VotesTable(path, classes)


def has_annotators(path: Path) -> bool:
    """Return whether a path holds the answers of three annotators, rather than a plain table."""
    return is_aihub(path) or _is_annotation_table(path)


def _is_annotation_table(path: Path) -> bool:
    """Return whether the first line is that of an annotation table, with a header or without."""
    if not path.is_file():  # to open a pipe would wait for its other end
        return False
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            cells = [cell.strip(' "\r\n') for cell in file.readline(_CHUNK).split("\t")]
    except OSError:  # VotesTable says which
        return False
    names = {f"{who}_{what}" for who in ANNOTATORS for what in ("emotion", "result")}
    # FER+'s columns with a tab between them are as many as those of the annotation table.
    has_files = any(fold_name(cell) in FILE_COLUMNS for cell in cells)
    return bool(names.intersection(cells)) or (len(cells) == len(COLUMNS) and not has_files)


def find_vote_columns(columns: Mapping[int, str], known: Container[str] = ()) -> dict[int, str]:
    """Return those columns, by position, that hold the votes for a class, or none.

    They are called like an emotion, or like one of the classes in `known`, or lie between such.
    """
    found = {i for i, c in columns.items() if c in known or emotion_called(c) or is_no_emotion(c)}
    return {i: columns[i] for i in sorted(_with_other_classes(found, columns))}


def _with_other_classes(known: set[int], columns: Mapping[int, str]) -> set[int]:
    """Return the positions of the columns of votes, out of those of the known classes.

    Columns between them are votes for classes that the training lacks, and so are all numbers if
    one of them is a number.
    """
    if not known:
        return known
    has_numbers = any(columns[i].isdecimal() for i in known)
    between = {i for i in columns if min(known) < i < max(known)}
    return known | between | {i for i, c in columns.items() if has_numbers and c.isdecimal()}
