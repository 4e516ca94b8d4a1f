"""The annotation table: a TSV of any size, with or without a header, read as a stream of rows.

An invalid row stops nothing: it raises a RowError when it is used. Only a file that cannot be an
annotation table at all raises a StageError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from utils.data.boxes import parse_boxes
from utils.emotions import find_answer, posed_emotion
from utils.errors import StageError, describe_os_error
from utils.filenames import SAME_BUT_FOR_CASE, FileNameError, find_existing, safe_name
from utils.imaging.geometry import Box, BoxError

ANNOTATORS = ("TaskA", "TaskB", "TaskC")
COLUMNS = (
    "name",
    "url",
    *(f"{annotator}_emotion" for annotator in ANNOTATORS),
    *(f"{annotator}_background" for annotator in ANNOTATORS),
    *(f"{annotator}_result" for annotator in ANNOTATORS),
)
PART = "part"  # the column in the log of rows of AI-Hub's label files: Training or Validation
ERROR_COLUMNS = ("error", "time")  # which an error log adds, always at the end

HEAD_BYTES = 1 << 16  # of a file are read to find out whether it is UTF-8 text

# A quoted cell may hold tabs and doubled quotes. A quote that is not closed within its row is plain
# text, so that a stray quote cannot spoil other rows.
_CELL = re.compile(r'(?:^|\t)("(?:[^"]|"")*"(?=\t|$)|[^\t]*)')


class RowError(ValueError):
    """The reason why one row of the table is invalid."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    line: int  # in the file, from 1
    cells: tuple[str, ...]  # as they stand in the file, with their quotes
    columns: dict[str, int]  # name → position
    width: int  # columns of the table
    error: tuple[str, ...] = ()  # in an error log: the cells of ERROR_COLUMNS

    def __getitem__(self, column: str) -> str:
        """Return a cell without its quotes and outer spaces; empty if the row is too short.

        Raise RowError if the row has more cells than the table has columns, or is not UTF-8.
        """
        if len(self.cells) > self.width:
            raise RowError(f"{len(self.cells)} cells in a table of {self.width} columns")
        position = self.columns[column]
        text = _unquoted(self.cells[position]) if position < len(self.cells) else ""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RowError(f"{column} is not UTF-8 text") from None
        return text

    def photo_name(self) -> str:
        """Return the photo's file name, in NFC. Raise RowError if the name is not safe."""
        try:
            return safe_name(self["name"])
        except FileNameError as error:
            raise RowError(str(error)) from None

    def part(self) -> str:
        """Return AI-Hub's part, Training or Validation; empty if the table has none."""
        return self[PART] if PART in self.columns else ""

    def posed_emotion(self) -> str:
        """Return the emotion that the subject was asked to show.

        Raise RowError if the name holds none of the seven, or several.
        """
        emotion = posed_emotion(self["name"])
        if emotion is None:
            raise RowError("the name holds none of the seven emotions, or several")
        return emotion

    def answers(self) -> list[str]:
        """Return the emotion that each of the three annotators saw, or NO_VOTE for 알수없음.

        Raise RowError if a cell is empty or holds none of the seven, or several.
        """
        answers = []
        for annotator in ANNOTATORS:
            cell = self[f"{annotator}_emotion"]
            answer = find_answer(cell)
            if answer is None:
                problem = f"{cell!r} is not one of the seven emotions" if cell else "is empty"
                raise RowError(f"{annotator}_emotion {problem}")
            answers.append(answer)
        return answers

    def boxes(self) -> list[list[Box]]:
        """Return the boxes that each of the three annotators drew around the face.

        Raise RowError if a cell has no box, or cannot be read.
        """
        boxes = []
        for annotator in ANNOTATORS:
            try:
                boxes.append(parse_boxes(self[f"{annotator}_result"]))
            except BoxError as error:
                raise RowError(f"{annotator}_result {error}") from None
        return boxes


class Annotations(Protocol):
    """Rows of annotations: a table, or AI-Hub's label files. Each iteration reads them again."""

    path: Path
    columns: tuple[str, ...]
    is_error_log: bool

    def __iter__(self) -> Iterator[Row]: ...

    def count(self) -> int:
        """Return the number of rows, for a progress bar."""

    def where(self, row: Row) -> str:
        """Return where a row stands, for a message."""


class Table:
    """One annotation file. Each iteration reads it again, row by row."""

    def __init__(self, path: Path, required: Sequence[str]) -> None:
        """Read the header. Raise StageError if the file is no such table.

        It may be missing, empty, binary, in another encoding, or lack a column of `required`.
        """
        self.path = path
        self._check_text()
        first = next(self._lines(), None)
        if first is None:
            raise StageError(f"{path} is empty; a table of {', '.join(required)} is needed")
        header = [_unquoted(cell) for cell in first[1]]
        if any("\r" in cell for cell in header):
            raise StageError(f"{path} ends its lines in CR alone: save it with LF or CRLF")
        self.has_header = any(cell in COLUMNS for cell in header)
        if not self.has_header:
            widths = [len(cells) for _, cells in islice(self._lines(), 10)]
            if len(COLUMNS) not in widths:
                raise StageError(
                    f"{path} has no header and {len(header)} column(s); the annotation table has "
                    f"{len(COLUMNS)}, tab-separated: {' '.join(COLUMNS)}"
                )
            header = list(COLUMNS)
        missing = [column for column in required if column not in header]
        if missing:
            raise StageError(
                f"{path} has no column {', '.join(missing)}; its header is: {' '.join(header)}"
            )
        self.is_error_log = tuple(header[-2:]) == ERROR_COLUMNS
        self.columns = tuple(header[:-2] if self.is_error_log else header)

    def __iter__(self) -> Iterator[Row]:
        columns = {column: self.columns.index(column) for column in self.columns}
        lines = self._lines()
        if self.has_header:
            next(lines)
        for number, cells in lines:
            error: list[str] = []
            if self.is_error_log:
                cells, error = cells[:-2], cells[-2:]
            while len(cells) > len(self.columns) and not cells[-1].strip():
                cells = cells[:-1]
            yield Row(number, tuple(cells), columns, len(self.columns), tuple(error))

    def where(self, row: Row) -> str:
        """Return where a row stands, for a message."""
        return f"{self.path.name} line {row.line}"

    def count(self) -> int:
        """Return the number of rows, counted by line ends alone: for a progress bar, quickly."""
        with self.path.open("rb") as file:
            chunks = iter(lambda: file.read(1 << 20), b"")
            lines, last = 0, b""
            for last in chunks:
                lines += last.count(b"\n")
        return max(0, lines + (not last.endswith(b"\n")) - self.has_header)

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        # Bytes that are not UTF-8 become surrogates: only the row that holds them fails, and the
        # error log writes them as they were.
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\r\n")
                if line.strip():
                    yield number, _CELL.findall(line) if '"' in line else line.split("\t")

    def _check_text(self) -> None:
        if self.path.exists() and not self.path.is_file() and not self.path.is_dir():
            raise StageError(
                f"{self.path} is not a regular file (a pipe, perhaps); it is read several times: "
                f"save it as a file"
            )
        try:
            with self.path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except FileNotFoundError:
            raise StageError(f"{self.path}: no such file; name the table with --input") from None
        except OSError as error:
            raise StageError(describe_os_error(error)) from None
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise StageError(f"{self.path} is UTF-16 text: save it as UTF-8")
        if b"\0" in head:
            raise StageError(f"{self.path} is a binary file, not a tab-separated table")
        lines = head.splitlines()
        if len(head) == HEAD_BYTES:
            lines.pop()  # it may be cut within a character
        valid = sum(map(_is_utf8, lines))
        if valid < len(lines) - valid:  # a few invalid rows go to the error log
            raise StageError(f"{self.path} is not UTF-8 text (CP949, perhaps): save it as UTF-8")


def find_file(folder: Path, name: str) -> Path | None:
    """Return the path of a row's file in the folder, or None.

    Raise RowError if another file takes its place.
    """
    try:
        return find_existing(folder, name)
    except FileNameError as error:
        raise RowError(str(error)) from None


class NameRegistry:
    """Remembers the names of a table and their content, in constant memory per name."""

    # A retry recognizes this prefix in the error log.
    CONFLICT = "conflict: an earlier row has this name and other content; correct the table itself"
    # The text in logs of version 0.1.0.
    OLD_CONFLICT = "the name stands in an earlier row, with other content: correct the table itself"

    CASE_CONFLICT = f"the name of an earlier row {SAME_BUT_FOR_CASE}"

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._with_upper_case: set[int] = set()  # names with upper case, in lower case

    def is_new(
        self,
        row: Row,
        name: str,
        content: Hashable,
        ignores_case: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Return True for a new name, False for a known name with the same content.

        `ignores_case` returns whether the disk takes names that differ in case only for one. Raise
        RowError for such a name, and for a known name with other content. The latter stays invalid
        when it is retried from its error log, which does not hold the earlier row.
        """
        is_new = hash(name) not in self._seen
        if is_new and self._differs_in_case(name) and ignores_case():
            raise RowError(self.CASE_CONFLICT)
        known_content = self._seen.setdefault(hash(name), hash(content))
        if known_content != hash(content) or self._is_logged_conflict(row):
            raise RowError(self.CONFLICT)
        return is_new

    def _differs_in_case(self, name: str) -> bool:
        """Return whether a new name differs from a known one in upper and lower case only."""
        folded = name.casefold()
        if folded == name:
            return hash(name) in self._with_upper_case
        is_known = hash(folded) in self._with_upper_case or hash(folded) in self._seen
        self._with_upper_case.add(hash(folded))
        return is_known

    def _is_logged_conflict(self, row: Row) -> bool:
        reason = row.error[0] if row.error else ""
        return reason.startswith("conflict:") or reason == self.OLD_CONFLICT


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        cell = cell[1:-1].replace('""', '"').strip()
    return cell


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
