"""AI-Hub's label files: JSON lists of records, read as rows of the annotation table.

AI-Hub publishes the set (number 82) as ZIPs of photos and ZIPs of one JSON file each, which has up
to 60,000 records, one for each photo of an emotion and part:

    {"filename": "….jpg", "gender": "여", "age": 20, "isProf": "일반인", "faceExp_uploader": "기쁨",
     "annot_A": {"boxes": {"minX": 1.5, …}, "faceExp": "기쁨", "bg": "도심 환경"}, "annot_B": …}

AI-Hub's own description has `faceBB_A` instead, whose boxes have the emotion as their label.
"""

from __future__ import annotations

import codecs
import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from utils.console import one_line
from utils.data.annotations import COLUMNS, PART, Row
from utils.data.archives import ArchivedFile, ArchiveError, read_checked
from utils.errors import describe_os_error

HEAD_BYTES = 1 << 16  # of a file tell whether it is a label file

_CHUNK = 1 << 15  # bytes read at once; so much is lost before a place that is damaged
_MAX_RECORD = 1 << 20  # characters
_HEAD = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{")
_KEYS = (re.compile(rb'"filename"\s*:'), re.compile(rb'"(?:annot|faceBB)_[ABC]"\s*:'))
_BETWEEN = re.compile(r"[\s,]*")
_NEXT = re.compile(r"\}\s*,\s*(?=\{)")  # where the next record begins after a broken one


def is_label_file(head: bytes) -> bool:
    """Return whether a file with these first HEAD_BYTES bytes is a list of AI-Hub's records."""
    return bool(_HEAD.match(head)) and all(key.search(head) for key in _KEYS)


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A label file, which may lie in an archive."""

    source: Path | ArchivedFile
    name: str
    part: str  # Training or Validation; empty if neither it nor its folders say so

    def open(self) -> BinaryIO:
        """Open the file. Raise OSError or ArchiveError if it cannot be opened."""
        return self.source.open("rb") if isinstance(self.source, Path) else self.source.open()

    def __str__(self) -> str:
        return str(self.source) if isinstance(self.source, Path) else f"{self.source}: {self.name}"


class LabelFiles:
    """All label files, as one annotation table. Each iteration reads them again."""

    is_error_log = False
    columns = (*COLUMNS, PART)

    def __init__(self, path: Path, files: list[LabelFile]) -> None:
        """`path`: what the user named."""
        self.path = path
        self.files = files
        self.problems: list[tuple[str, str]] = []  # file and reason, of the latest iteration
        self._starts: list[int] = []  # number of the first row of each file

    def __iter__(self) -> Iterator[Row]:
        self._starts, self.problems = [], []
        number = 0
        for file in self.files:
            self._starts.append(number + 1)
            records = read_records(file)
            for record in records:
                number += 1
                if isinstance(record, dict):
                    yield make_row(record, number, file.part)
                else:
                    place = f"record {number - self._starts[-1] + 1}: " if record.number else ""
                    self.problems.append((str(file), f"{place}{record.reason}"))

    def where(self, row: Row) -> str:
        """Return where a row stands, for a message."""
        i = bisect_right(self._starts, row.line) - 1
        return f"{self.files[i].name} record {row.line - self._starts[i] + 1}"

    def count(self) -> int:
        """Return the number of records, for a progress bar."""
        count = 0
        for file in self.files:
            try:
                with file.open() as content:
                    while chunk := read_checked(content, _CHUNK):
                        count += chunk.count(b'"filename"')
            except (OSError, ArchiveError):  # reading the records reports it
                continue
        return count


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """A part of a label file that cannot be read."""

    reason: str
    number: bool = True  # whether it is a record; otherwise the file ends there


def read_records(file: LabelFile) -> Iterator[dict[str, Any] | BrokenRecord]:
    """Yield the records of a label file, of which only a few are in memory."""
    try:
        with file.open() as content:
            yield from _parse(_decode(content))
    except ArchiveError as error:
        yield BrokenRecord(f"{error}; the records before it are read", number=False)
    except OSError as error:
        yield BrokenRecord(describe_os_error(error), number=False)


def _decode(file: BinaryIO) -> Iterator[str]:
    """Yield the text of a file in chunks. It is UTF-8 or CP949: the first Hangul tells."""
    decoder = codecs.getincrementaldecoder("ascii")("strict")
    known = False
    while chunk := read_checked(file, _CHUNK):
        if not known and not chunk.isascii():
            known = True
            decoder = codecs.getincrementaldecoder(_guess_encoding(chunk))("surrogateescape")
        yield decoder.decode(chunk)
    yield decoder.decode(b"", True)


def _guess_encoding(chunk: bytes) -> str:
    """Return the encoding in which fewer bytes of a text are invalid."""
    return min(("utf-8", "cp949"), key=lambda code: chunk.decode(code, "replace").count("\ufffd"))


def _parse(chunks: Iterator[str]) -> Iterator[dict[str, Any] | BrokenRecord]:
    """Yield the records of a JSON list whose text comes in chunks."""
    decoder = json.JSONDecoder()
    text = next(chunks, "")
    position, is_whole = text.find("[") + 1, False  # there may be a byte order mark
    while True:
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
        if text.startswith("]", position):
            return
        try:
            record, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:  # it may be incomplete
            reason = f"broken JSON: {getattr(error, 'msg', error)}"
        else:
            yield record if isinstance(record, dict) else BrokenRecord("not a record")
            continue
        if not is_whole and len(text) - position < _MAX_RECORD:
            more = next(chunks, None)
            text, position, is_whole = text[position:] + (more or ""), 0, more is None
            continue
        if is_whole and position == len(text):
            yield BrokenRecord("the file is cut short: its list has no end", number=False)
            return
        yield BrokenRecord(reason)
        following = _NEXT.search(text, position)
        if is_whole and not following:
            return
        position = following.end() if following else len(text)


def make_row(record: dict[str, Any], number: int, part: str) -> Row:
    """Return a record as a row of the annotation table. What it lacks is empty."""
    annotations = [_annotation(record, letter) for letter in "ABC"]
    emotions, places, boxes = zip(*annotations, strict=True)
    cells = (_cell(record.get("filename")), "", *emotions, *places, *boxes, part)
    return Row(number, cells, _POSITIONS, len(cells))


_POSITIONS = {column: i for i, column in enumerate(LabelFiles.columns)}


def _annotation(record: dict[str, Any], letter: str) -> tuple[str, str, str]:
    """Return what an annotator saw, where, and the boxes that he drew, as cells of the table."""
    annotation = record.get(f"annot_{letter}", record.get(f"faceBB_{letter}"))
    if not isinstance(annotation, dict):
        annotation = {"boxes": annotation}
    boxes = annotation.get("boxes", annotation if "minX" in annotation else None)
    if isinstance(boxes, dict):
        boxes = [boxes]
    emotion = annotation.get("faceExp")
    if emotion is None and isinstance(boxes, list):
        labels = {box["label"] for box in boxes if isinstance(box, dict) and _has_label(box)}
        emotion = labels.pop() if len(labels) == 1 else None
    cell = json.dumps({"boxes": boxes if isinstance(boxes, list) else []})
    return _cell(emotion), _cell(annotation.get("bg")), cell


def _has_label(box: dict[str, Any]) -> bool:
    return isinstance(box.get("label"), str)


def _cell(value: object) -> str:
    """Return a value as a cell of the table: without tabs, and with its quotes doubled."""
    text = "" if value is None else str(value)
    if not text.isprintable():
        text = one_line(text)
    return '"' + text.replace('"', '""') + '"' if '"' in text else text
