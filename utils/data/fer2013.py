"""FER2013's csv: a face a row, its 48x48 grey pixels as text, its class and its set.

    emotion,pixels,Usage
    0,70 80 82 … 106 109 82,Training

icml_face_data.csv has the same columns with spaces in their names, and the challenge's train.csv
has no Usage. FER+ (fer2013new.csv) gives the same faces new labels, from ten votes each.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from utils.console import ProgressBar
from utils.data.annotations import RowError
from utils.data.near_duplicates import thumbnail_of
from utils.data.placement import Failures, make_class_folders, target_of
from utils.data.split import SplitItem
from utils.data.votes import VoteRow, VotesTable, fer_plus_class
from utils.emotions import UNKNOWN, emotion_called
from utils.errors import StageError, describe_os_error, is_fatal_os_error
from utils.files import atomic_file

SIDE = 48  # pixels
NAME = "fer{:07}.png"  # of a face by its row
CLASSES = ("분노", "혐오", "공포", "기쁨", "슬픔", "놀람", "중립")  # of the numbers 0 to 6
PARTS = {"training": "train", "publictest": "validation", "privatetest": "test"}  # by Usage
DELIMITERS = ",;\t"
MAX_CELL = 1 << 24  # characters
HEAD_BYTES = 1 << 16
_NUMBER = re.compile(r"([0-9]{1,4})(\.0*)?")
_FER_NAME = re.compile(r"fer([0-9]{1,9})\.png", re.IGNORECASE)


class Row(NamedTuple):
    """A row of the csv."""

    line: int  # in the file, from 1
    number: int  # of the face, from 0
    emotion: str
    pixels: str
    usage: str | None  # None: the csv has no such column

    def image(self) -> np.ndarray:
        """Return the face, uint8 (SIDE, SIDE). Raise RowError if it is none."""
        words = self.pixels.split()
        if len(words) != SIDE * SIDE:
            raise RowError(f"{len(words)} pixels instead of {SIDE}×{SIDE} = {SIDE * SIDE}")
        try:
            values = bytes(map(int, words)) if self.pixels.isascii() else b""
        except ValueError:
            values = b""
        if not values or set("_+-") & set(self.pixels):
            wrong = next((word for word in words if not _is_pixel(word)), "")
            raise RowError(f"the pixel {wrong!r} is not a whole number from 0 to 255")
        return np.frombuffer(values, np.uint8).reshape(SIDE, SIDE)

    def label(self, classes: Sequence[str]) -> str:
        """Return the class. Raise RowError if it is none of `classes`."""
        number = _NUMBER.fullmatch(self.emotion)
        if number and int(number[1]) < len(classes):
            return classes[int(number[1])]
        if not number and (emotion := emotion_called(self.emotion)) in classes:
            return str(emotion)
        raise RowError(
            f"the emotion {self.emotion!r} is no class; they are 0 to {len(classes) - 1}"
        )

    def part(self) -> str:
        """Return the set that Usage names; empty without Usage. Raise RowError for another word."""
        if self.usage is None:
            return ""
        if part := PARTS.get(self.usage.casefold()):
            return part
        raise RowError(f"the Usage {self.usage!r} is none of Training, PublicTest, PrivateTest")


class FerTable:
    """The csv as a stream: each iteration reads it again, row by row."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raise StageError if the file is no such csv."""
        self._path = path
        head = self._read_head()
        self._delimiter = max(DELIMITERS, key=head.count)
        self._columns = [name.strip().strip('"').strip().casefold() for name in
                         head.split(self._delimiter)]  # fmt: skip
        missing = [name for name in ("emotion", "pixels") if name not in self._columns]
        if missing == ["emotion"]:
            raise StageError(
                f"{path} has no column emotion: it is the challenge's test data, which has no "
                f"labels; use train.csv, or Kaggle's fer2013.csv, which has all faces with labels"
            )
        if missing:
            raise StageError(
                f"{path} is not FER2013's csv: no column {' and '.join(missing)}; its header is: "
                f"{head[:200]}"
            )

    def _read_head(self) -> str:
        if not self._path.is_file():
            raise StageError(f"{self._path}: no such file")
        try:
            with self._path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as error:
            raise StageError(describe_os_error(error)) from None
        if b"\0" in head:
            raise StageError(
                f"{self._path} is not a csv in UTF-8: a binary file, or UTF-16; unpack an archive"
            )
        return head.decode("utf-8-sig", errors="replace").partition("\n")[0].strip()

    def __iter__(self) -> Iterator[Row]:
        csv.field_size_limit(MAX_CELL)
        where = {name: self._columns.index(name) for name in ("emotion", "pixels")}
        usage = self._columns.index("usage") if "usage" in self._columns else None
        with self._path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
            next(file)
            number = -1
            for line, text in enumerate(file, 2):
                if not text.strip(" \r\n\t,;"):
                    continue
                number += 1
                cells = self._cells(text)
                cells += [""] * (len(self._columns) - len(cells))
                values = (cells[where["emotion"]].strip(), cells[where["pixels"]])
                yield Row(line, number, *values, None if usage is None else cells[usage].strip())

    def _cells(self, text: str) -> list[str]:
        """Return the cells of a line. One line at a time: a stray quote spoils no other row."""
        try:
            return next(csv.reader([text.rstrip("\r\n")], delimiter=self._delimiter), [])
        except csv.Error:
            return []


class FerFaces:
    """The faces of the csv, as photos that can be split and placed."""

    def __init__(
        self,
        path: Path,
        names: Sequence[str] | None = None,
        votes: Path | None = None,
        with_unknown: bool = False,
    ) -> None:
        """Read the csv once. `names`: of the classes, from 0 on. `votes`: FER+'s csv.

        `with_unknown`: faces on which FER+'s annotators do not agree are of the class UNKNOWN.

        Raise StageError if a file is not of its kind, or the votes are on other rows.
        """
        self.photos: list[SplitItem] = []  # sorted by class and name
        self.failures: Failures = []
        self.lines: list[str] = []  # what was left out
        self._path = path
        self._table = FerTable(path)
        self._classes = tuple(names or CLASSES)
        self._votes = FerPlus(votes, self._table) if votes else None
        self._rows: dict[str, int] = {}  # name of a face → its row
        self._with_unknown = with_unknown
        self._digests: defaultdict[bytes, list[int]] = defaultdict(list)  # pixels → rows
        self._thumbnails: dict[int, np.ndarray] = {}  # by row
        self._read()

    def duplicates(self) -> list[list[int]]:
        """Return the positions of photos with equal pixels, as groups of two or more."""
        positions = {self._rows[photo.name]: i for i, photo in enumerate(self.photos)}
        groups = ([positions[n] for n in numbers] for numbers in self._digests.values())
        return [group for group in groups if len(group) > 1]

    def thumbnails(self, positions: Sequence[int], output: Path) -> np.ndarray:  # noqa: ARG002
        """Return the thumbnails of photos by their positions. `output` needs no cache of them."""
        return np.stack([self._thumbnails[self._rows[self.photos[i].name]] for i in positions])

    def place(self, output: Path) -> Failures:
        """Write every photo into its split as a PNG, unless it is there. Return what failed.

        The csv is read again: its pixels are never all in memory.
        """
        make_class_folders(self.photos, output)
        targets = {
            self._rows[photo.own_name or photo.name]: output.joinpath(*target_of(photo))
            for photo in self.photos
        }
        failures: Failures = []
        with ProgressBar(len(targets), "write", "face") as bar:
            for row in self._table:
                if not (target := targets.pop(row.number, None)):
                    continue
                try:
                    _write_png(row.image(), target)
                except (RowError, OSError) as error:
                    if isinstance(error, OSError) and is_fatal_os_error(error):
                        raise
                    reason = describe_os_error(error) if isinstance(error, OSError) else error
                    failures.append((self._path, f"line {row.line}: {reason}"))
                    bar.fail(*failures[-1])
                bar.update()
        changed = "its row is gone: the csv was changed meanwhile"
        return failures + [(target, changed) for target in targets.values()]

    def _read(self) -> None:
        """List the photos, check every row and keep the thumbnails."""
        unvoted, unknown = 0, 0
        with ProgressBar(None, "read", "row") as bar:
            for row in self._table:
                bar.update()
                try:
                    (label, name), part, image = self._label(row), row.part(), row.image()
                except RowError as error:
                    self.failures.append((self._path, f"line {row.line}: {error}"))
                    bar.fail(*self.failures[-1])
                    continue
                unvoted += label is None
                unknown += label == UNKNOWN
                if label and (label != UNKNOWN or self._with_unknown):
                    if not name or name in self._rows:
                        name = NAME.format(row.number)
                    self._rows[name] = row.number
                    self.photos.append(SplitItem(label, name, self._path, part=part))
                    self._keep(row.number, image)
        if self._votes:
            self.failures += self._votes.failures
        if unvoted:
            self.lines.append(f"{unvoted} rows are left out: they have no votes, as no faces")
        if unknown and not self._with_unknown:
            self.lines.append(f"{unknown} rows are left out: no class has the majority of votes")
        self.photos.sort()
        if not self.photos:
            reason = f", for example {self.failures[0][1]}" if self.failures else ""
            raise StageError(f"{self._path} has no row with a face and its class{reason}")

    def _label(self, row: Row) -> tuple[str | None, str]:
        """Return class and name of a face. Without votes, the class is None or the name empty."""
        return self._votes[row.number] if self._votes else (row.label(self._classes), "")

    def _keep(self, number: int, image: np.ndarray) -> None:
        self._thumbnails[number] = thumbnail_of(image)
        self._digests[hashlib.blake2b(image.tobytes(), digest_size=16).digest()].append(number)


class FerPlus:
    """FER+'s names and classes of the faces, by the majority of its paper.

    Its csv has a row for each row of fer2013.csv, in the same order. The number in an image's name
    is not that of the row: FER+ numbers the faces that it keeps.
    """

    def __init__(self, path: Path, table: FerTable) -> None:
        """Read the votes on the faces of `table`.

        Raise StageError if the file has none, or they cannot be matched with the faces.
        """
        self.failures: Failures = []  # rows that cannot be read
        self._path = path
        self._found: dict[int, tuple[str, str]] = {}  # row of the face → its class, and its name
        self._errors: dict[int, str] = {}  # row of the face → reason
        votes = list(VotesTable(path))
        faces = [row.usage for row in table]
        for vote, number in zip(votes, self._match(votes, faces), strict=True):
            name = vote.name if _FER_NAME.fullmatch(vote.name) else ""
            if number is None or (vote.name == "" and any(each.name for each in votes)):
                continue  # FER+ gives no name where there is no face
            try:
                winner = fer_plus_class(vote.counts())
                self._found[number] = (emotion_called(winner) or winner, name)
            except RowError as error:
                self._errors[number] = str(error)
                self.failures.append((path, f"{vote.where}: {error}"))
        if not self._found and not self._errors:
            raise StageError(f"{path} has no votes on the {len(faces)} rows of the csv of faces")

    def __getitem__(self, number: int) -> tuple[str | None, str]:
        """Return class and name of the face in a row; the class is None without votes.

        Raise RowError if the votes cannot be read.
        """
        if number in self._errors:
            raise RowError(f"its votes in {self._path} cannot be read: {self._errors[number]}")
        return self._found.get(number, (None, ""))

    def _match(self, votes: Sequence[VoteRow], faces: Sequence[str | None]) -> list[int | None]:
        """Return the face's row for each row of votes, by order or by the number in the name."""
        numbers = [_number_in(vote.name) for vote in votes]
        in_order = [i if i < len(faces) else None for i in range(len(votes))]
        if all(number in (None, i) for i, number in enumerate(numbers)):
            return in_order
        usages = [usage.casefold() for usage in _read_usages(self._path)]
        wanted = [(usage or "Training").casefold() for usage in faces]
        if len(votes) == len(faces) and (None in faces or usages in ([], wanted)):
            return in_order
        if usages and all(usages.count(usage) == wanted.count(usage) for usage in {*wanted}):
            rows: dict[str, Iterator[int]] = {}
            for usage in {*wanted}:
                rows[usage] = iter([i for i, other in enumerate(wanted) if other == usage])
            return [next(rows[usage]) if usage in rows else None for usage in usages]
        if None not in numbers:
            return [number if number in range(len(faces)) else None for number in numbers]
        raise StageError(
            f"{self._path} has {len(votes)} rows and the csv of faces {len(faces)}: they cannot be "
            f"matched; name the csv with all rows, fer2013.csv"
        )


def _read_usages(path: Path) -> list[str]:
    """Return the column Usage of a csv, for the rows that are not empty; empty without it."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file)
        header = [cell.strip().casefold() for cell in next(rows, [])]
        if "usage" not in header:
            return []
        column = header.index("usage")
        filled = (cells for cells in rows if any(cell.strip() for cell in cells))
        return [(cells[column] if column < len(cells) else "").strip() for cells in filled]


def _number_in(name: str) -> int | None:
    """Return the number in the name of a face, or None."""
    match = _FER_NAME.fullmatch(name)
    return int(match[1]) if match else None


def _write_png(image: np.ndarray, path: Path) -> None:
    """Write a face as a PNG, unless the file holds the same bytes already."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    try:
        if not path.is_symlink() and path.read_bytes() == content.getvalue():
            return
    except OSError:
        pass
    with atomic_file(path) as file:
        file.write(content.getbuffer())


def _is_pixel(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 10 and int(word) < 256
