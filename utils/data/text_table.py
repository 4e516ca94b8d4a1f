"""Tables that people make: a csv or tsv with a header and a column of file names, in any encoding.

It may be UTF-8 with or without a byte order mark, UTF-16 or CP949, and its cells may be separated
by commas, tabs, semicolons or bars: its content tells.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from utils.console import note
from utils.emotions import fold_name
from utils.errors import StageError, describe_os_error
from utils.filenames import has_image_suffix

# Names of the column of file names, without case and marks, in order of preference.
FILE_COLUMNS = (
    "file", "filename", "imagename", "imagefile", "filepath", "imagepath", "path", "image", "img",
    "photo", "name", "파일", "파일명", "파일이름", "이미지", "이미지명", "사진", "이름",
)  # fmt: skip
_OF_ANYTHING = ("name", "이름")  # it may be that of a person, beside a column of files
_DELIMITERS = ",\t;|"
_CHUNK = 1 << 20  # bytes
_LOOKED_AT = 100  # rows in which an unnamed column of file names is looked for


class TextTable:
    """A table with a header. Each iteration reads it again, row by row."""

    def __init__(self, path: Path, kind: str, others: str, minimum: int = 2) -> None:
        """Read the header. Raise StageError if the file is no table of `minimum` columns.

        For messages, `kind` is what the table is to be ("table of votes"), and `others` are the
        columns that it needs besides that of file names ("columns of counts").
        """
        self.path = path
        try:
            self._encoding, self._delimiter, self.header = self._sniff(kind, others, minimum)
        except OSError as error:
            raise StageError(describe_os_error(error)) from None
        self.folded = [fold_name(column) for column in self.header]

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield line number and cells of each row that is not empty, a cell for each column."""
        rows = self._rows(self._encoding, self._delimiter)
        next(rows)
        for line, cells in rows:
            yield line, cells + [""] * (len(self.header) - len(cells))

    def count(self) -> int:
        """Return about how many rows there are: for a progress bar, quickly."""
        with self.path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))

    def file_column(self) -> int:
        """Return the position of the column of file names, which is called so or holds such.

        Raise StageError if there is none.
        """
        named = next((self.folded.index(c) for c in FILE_COLUMNS if c in self.folded), None)
        if named is not None and self.folded[named] not in _OF_ANYTHING:
            return named
        if any(has_image_suffix(cell) for cell in self.header):
            raise StageError(f"{self.path} has no header: write the names of its columns above it")
        rows = [cells for _, cells in islice(self, _LOOKED_AT)]
        order = sorted(range(len(self.header)), key=lambda i: i != named)
        for i in order:
            if 2 * sum(has_image_suffix(cells[i].strip()) for cells in rows) > len(rows):
                return i
        if named is not None:
            return named
        raise StageError(
            f"{self.path} has no column of file names (file, image, Image name or the like); its "
            f"header is: {' '.join(self.header)}"
        )

    def check_lines(self, line: int, cells: list[str]) -> None:
        """Raise StageError if a cell spans lines: then a quote is not closed."""
        if any("\n" in cell or "\r" in cell for cell in cells):
            raise StageError(
                f"{self.path} line {line}: a cell has several lines; a quote is not closed"
            )

    def _sniff(self, kind: str, others: str, minimum: int) -> tuple[str, str, list[str]]:
        """Return encoding, delimiter and header. Raise StageError if the file is no table."""
        path = self.path
        if not path.exists():
            raise StageError(f"{path}: no such file")
        if not path.is_file():
            raise StageError(
                f"{path} is not a regular file, and is read several times: save it as one"
            )
        encoding = self._find_encoding()
        headers = {}
        for delimiter in _DELIMITERS:
            _, header = next(self._rows(encoding, delimiter), (0, [""]))
            headers[delimiter] = [cell.strip() for cell in header]
        delimiter = max(headers, key=lambda delimiter: len(headers[delimiter]))
        if len(headers[delimiter]) >= minimum:
            return encoding, delimiter, headers[delimiter]
        raise StageError(
            f"{path} is no {kind}: its first line has no file column and {others}, separated by "
            f"commas or tabs"
        )

    def _find_encoding(self) -> str:
        """Return the encoding of a text file: UTF-8, UTF-16 if it begins so, or else CP949.

        A file that is none of them is read as UTF-8, with a note.
        """
        with self.path.open("rb") as file:
            head = file.read(_CHUNK)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if b"\0" in head:
            raise StageError(f"{self.path} is a binary file, not a csv or tsv")
        if self._is_in("utf-8"):
            return "utf-8-sig"
        if not head.startswith(codecs.BOM_UTF8) and self._is_in("cp949"):
            return "cp949"
        note(f"{self.path}: some bytes are neither UTF-8 nor CP949, and are read as \ufffd")
        return "utf-8-sig"

    def _is_in(self, encoding: str) -> bool:
        """Return whether the whole file can be decoded."""
        decoder = codecs.getincrementaldecoder(encoding)()
        with self.path.open("rb") as file:
            try:
                while chunk := file.read(_CHUNK):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                return False
        return True

    def _rows(self, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Yield line and cells of each row that is not empty, the header among them."""
        with self.path.open(encoding=encoding, errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            try:
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        yield reader.line_num, cells
            except csv.Error as error:
                raise StageError(f"{self.path} line {reader.line_num}: {error}") from None
