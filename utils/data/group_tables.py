"""Tables that say which groups images are in: a csv or tsv, votes, annotations, AI-Hub's labels.

In a csv or tsv with a column of file names, every further column is an attribute, and its values
are groups. Votes, annotation tables and label files also say how far the annotators agree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from utils.console import ProgressBar, one_line
from utils.data.aihub import BrokenRecord, LabelFiles, make_row, read_records
from utils.data.annotations import ANNOTATORS, COLUMNS, PART, Row, RowError, Table
from utils.data.downloads import open_annotations
from utils.data.name_index import NameIndex
from utils.data.text_table import TextTable
from utils.data.votes import VoteRow, find_vote_columns, has_annotators
from utils.emotions import NO_VOTE, fold_name
from utils.errors import StageError
from utils.filenames import nfc

AGREEMENT, PLACE = "agreement", "place"
MIN_VOTES = 2  # one annotator agrees with nobody

_EMPTY = {"", "na", "n/a", "nan", "null"}  # as R, spreadsheets, pandas and databases write it
_COUNT = re.compile(r"([0-9]{1,9}(\.0*)?)?")
_LOOKED_AT = 100  # rows, to see whether columns hold counts of votes
# The share of all votes from which on an image is in a group, in per cent.
_SHARES = ((100, "100 %"), (80, "80–99 %"), (60, "60–79 %"), (0, "0–59 %"))


class NoRowsError(StageError):
    """A table has no row for any of the images."""


class GroupRow(NamedTuple):
    """What a row says about an image."""

    where: str  # it stands, for messages
    name: str  # of the image's file, or its path
    values: dict[str, str]  # attribute → group; empty if it is not known


class GroupTable(Protocol):
    """A table of any kind. Each iteration reads it again."""

    path: Path
    is_of_photos: bool  # it annotates photos, whose names have a form of their own

    def __iter__(self) -> Iterator[GroupRow]: ...

    def count(self) -> int:
        """Return about how many rows there are, for a progress bar."""

    def problems(self) -> list[str]:
        """Return a line about the rows that could not be read in the latest iteration."""


def open_groups(path: Path) -> GroupTable:
    """Return the table in a file, or the label files of AI-Hub in a file or folder.

    Raise StageError if there is none.
    """
    return AnnotatedGroups(path) if has_annotators(path) else ColumnGroups(path)


class ColumnGroups:
    """A csv or tsv. Its columns are attributes, but counts of votes say how far people agree."""

    is_of_photos = False

    def __init__(self, path: Path) -> None:
        """Read the header. Raise StageError if the file is no such table."""
        self.path = path
        self._table = table = TextTable(path, "table of groups", "another column")
        self._file = table.file_column()
        columns = {i: c for i, c in enumerate(table.header) if i != self._file and table.folded[i]}
        self._votes = self._find_votes(columns)
        others = [i for i in columns if i not in self._votes]
        names = _distinct([columns[i] for i in others], [AGREEMENT] if self._votes else [])
        self._columns = dict(zip(others, names, strict=True))
        self._invalid: list[str] = []

    def __iter__(self) -> Iterator[GroupRow]:
        self._invalid = []
        for line, cells in self._table:
            self._table.check_lines(line, [cells[i] for i in (self._file, *self._columns)])
            where = f"{self.path.name} line {line}"
            values = {name: as_group(cells[i]) for i, name in self._columns.items()}
            if self._votes:
                votes = {name: cells[i] for i, name in self._votes.items()}
                try:
                    values[AGREEMENT] = share_of_votes(VoteRow(where, "", votes).counts())
                except RowError as error:
                    self._invalid.append(f"{where}: {error}")
            yield GroupRow(where, cells[self._file].strip(), values)

    def count(self) -> int:
        """Return about how many rows there are, for a progress bar."""
        return self._table.count()

    def problems(self) -> list[str]:
        """Return a line about the rows whose votes could not be read."""
        return _describe(self.path, "hold no counts of votes", self._invalid)

    def _find_votes(self, columns: Mapping[int, str]) -> dict[int, str]:
        """Return the columns of votes: two or more that are called like classes and hold counts."""
        rows = [cells for _, cells in islice(self._table, _LOOKED_AT)]
        votes = {
            i: name
            for i, name in find_vote_columns(columns).items()
            if all(_COUNT.fullmatch(cells[i].strip()) for cells in rows)
        }
        return votes if len(votes) > 1 and find_vote_columns(votes) else {}


class AnnotatedGroups:
    """The answers of three annotators: an annotation table, or AI-Hub's label files."""

    is_of_photos = True

    def __init__(self, path: Path) -> None:
        """See `open_annotations`."""
        self.path = path
        required = ("name", *(f"{who}_emotion" for who in ANNOTATORS))
        self._table = open_annotations(path, required)
        columns = self._table.columns
        places = [f"{who}_background" for who in ANNOTATORS]
        self._places = places if all(column in columns for column in places) else []
        others = [name for name in columns if name and name not in (*COLUMNS, PART)]
        self._others = dict(zip(others, _distinct(others, [AGREEMENT, PLACE]), strict=True))
        self._invalid: list[str] = []

    def __iter__(self) -> Iterator[GroupRow]:
        self._invalid = []
        for where, row, values in self._rows():
            try:
                name = row.photo_name()
                values[AGREEMENT] = agreement_of(row.answers())
                values[PLACE] = _majority([row[column] for column in self._places])
                values |= {name: row[column] for column, name in self._others.items()}
            except RowError as error:
                self._invalid.append(f"{where}: {error}")
            else:
                yield GroupRow(where, name, {k: as_group(v) for k, v in values.items()})

    def count(self) -> int:
        """Return the number of rows."""
        return self._table.count()

    def problems(self) -> list[str]:
        """Return a line about the rows that could not be read."""
        return _describe(self.path, "cannot be read", self._invalid)

    def _rows(self) -> Iterator[tuple[str, Row, dict[str, str]]]:
        """Yield where each row stands, the row, and what only label files say."""
        if isinstance(self._table, Table):
            for row in self._table:
                yield self._table.where(row), row, {}
            return
        assert isinstance(self._table, LabelFiles)
        for file in self._table.files:
            for number, record in enumerate(read_records(file), 1):
                where = f"{file.name} record {number}"
                if isinstance(record, BrokenRecord):
                    self._invalid.append(f"{where}: {record.reason}")
                else:
                    is_actor = record.get("isProf")  # 전문인 or 일반인
                    values = {"isProf": is_actor if isinstance(is_actor, str) else ""}
                    yield where, make_row(record, number, file.part), values


class GroupRows:
    """The rows of a table that are about given images."""

    def __init__(self, table: GroupTable, images: Sequence[Path]) -> None:
        """Read the table. Of several rows about an image, the first of those with the best path.

        A row counts if it may mean one image only. Raise NoRowsError if there is none.
        """
        self.path, self._images = table.path, images
        self.groups: dict[Path, dict[str, str]] = {}  # image → attribute → group
        self._unmatched: list[str] = []  # names of no image
        self._ambiguous: list[str] = []  # names of several images
        self._repeated: list[str] = []  # where an image has another row, which differs
        self._count = 0
        self._read(table)
        if not self.groups:
            raise NoRowsError(self._explain_nothing())

    def _read(self, table: GroupTable) -> None:
        index = NameIndex(self._images)
        certainties: dict[Path, int] = {}
        with ProgressBar(table.count(), "groups", "row") as bar:
            for row in table:
                bar.update()
                self._count += 1
                matches = index.find(row.name)
                if len(matches) != 1:
                    (self._ambiguous if matches else self._unmatched).append(row.name)
                    continue
                image, certainty = self._images[matches[0][0]], matches[0][1]
                if certainty > certainties.get(image, 0):
                    self.groups[image], certainties[image] = row.values, certainty
                elif certainty == certainties[image] and row.values != self.groups[image]:
                    self._repeated.append(row.where)

    def lines(self) -> list[str]:
        """Return what to say about rows that are not used, and images without a row."""
        lines = []
        if self._unmatched:
            lines.append(
                f"{len(self._unmatched)} of {self._count} rows are about no image here, such as "
                f"{self._unmatched[0] or 'one without a name'}"
            )
        if self._ambiguous:
            lines.append(
                f"{len(self._ambiguous)} rows may mean several images, such as "
                f"{self._ambiguous[0]}, and are not used: write the class folder before the name"
            )
        if self._repeated:
            lines.append(
                f"{len(self._repeated)} rows repeat an image with other values: the first row "
                f"counts, not {self._repeated[0]}"
            )
        if missing := [image for image in self._images if image not in self.groups]:
            lines.append(
                f"{len(missing)} of {len(self._images)} images have no row, such as "
                f"{missing[0].parent.name}/{missing[0].name}"
            )
        cells = [cell for values in self.groups.values() for cell in values.items()]
        known = {name for name, group in cells if group}
        without = Counter(name for name, group in cells if not group and name in known)
        if without:
            numbers = ", ".join(f"{name} {count}" for name, count in without.items())
            lines.append(f"images without a value: {numbers}")
        return [f"{self.path}: {line}" for line in lines]

    def _explain_nothing(self) -> str:
        """Return the message for a table that has no row for any of the images."""
        problem = f"--groups {self.path} has no row for any of the {len(self._images)} images"
        if self._ambiguous:
            return (
                f"{problem} alone, because several are called {self._ambiguous[0]}: write the "
                f"class folder before the name"
            )
        first = next(filter(None, self._unmatched), None)
        names = f"; it begins with {first!r}, the images with {self._images[0].name!r}"
        return problem + names * bool(first)


def agreement_of(answers: Sequence[str]) -> str:
    """Return how many of the annotators gave the most frequent answer, such as `2 of 3`.

    NO_VOTE is no answer; if nobody gave one, the result is empty.
    """
    votes = Counter(answer for answer in answers if answer != NO_VOTE)
    return f"{max(votes.values())} of {len(answers)}" if votes else ""


def share_of_votes(counts: Mapping[str, int]) -> str:
    """Return the range in which the most frequent answer's share of all votes lies.

    It is empty for fewer than MIN_VOTES votes. "unknown" and "NF" are answers as well.
    """
    total, most = sum(counts.values()), max(counts.values(), default=0)
    if total < MIN_VOTES:
        return ""
    return next(name for percent, name in _SHARES if 100 * most >= percent * total)


def as_group(cell: str) -> str:
    """Return a cell as the name of a group: one printable line, or nothing."""
    text = " ".join(nfc(cell).split())
    return "" if text.casefold() in _EMPTY else one_line(text)


def _distinct(columns: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return the names of columns as attributes: printable, and a number for one that is taken."""
    used = {fold_name(name) for name in taken}
    names = []
    for column in columns:
        plain = name = one_line(" ".join(nfc(column).split()))
        number = 1
        while fold_name(name) in used:
            number += 1
            name = f"{plain} {number}"
        used.add(fold_name(name))
        names.append(name)
    return names


def _majority(values: Sequence[str]) -> str:
    """Return the value that two of three annotators gave, or nothing."""
    [(value, count)] = Counter(filter(None, map(nfc, values))).most_common(1) or [("", 0)]
    return value if count > 1 else ""


def _describe(path: Path, what: str, rows: Sequence[str]) -> list[str]:
    return [f"{path}: {len(rows)} rows {what}, the first: {rows[0]}"] if rows else []
