"""Error logs: the rows that a stage could not process, plus the columns `error` and `time`.

A log is an annotation table again: given as --input to the same script, it retries only its rows.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from utils.console import one_line
from utils.data.annotations import ERROR_COLUMNS, Annotations, Row, Table
from utils.errors import StageError
from utils.filenames import IMAGE_SUFFIXES, nfc
from utils.files import atomic_file, make_folder, write_tsv

MAX_KINDS = 200  # of reasons that are counted apart
OTHER_KINDS = "…"

# A reason may begin with the path of a photo or archive, and name what is particular to one row.
_SUFFIXES = "|".join(map(re.escape, IMAGE_SUFFIXES))
_FILE = re.compile(rf".*(?:{_SUFFIXES}|\.zip|\.part\d+): ", re.IGNORECASE)
_QUOTED = re.compile(r"'[^']*'")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class ErrorLog:
    """The error log of one run over `table`. It is a temporary file until the run ends.

    A run over the annotation table replaces the log; if it is interrupted, it only adds to the log.
    A run over an error log is a retry: its rows leave the log unless they fail again, and other
    rows stay. An empty log is removed.
    """

    def __init__(self, path: Path, table: Annotations) -> None:
        self.path = path
        self.failures = 0
        self.kinds: Counter[str] = Counter()  # failures by `kind_of` their reasons
        self._table = table
        self._failed: set[int] = set()  # keys of rows

    def __enter__(self) -> ErrorLog:
        """Open the log. Raise StageError if a retry would mix rows of two different tables."""
        if self._table.is_error_log and self.path.exists() and not self._previous_log():
            raise StageError(
                f"{self.path} is the log of another table: move it away, or name another --log_dir"
            )
        make_folder(self.path.parent)
        self._writer = atomic_file(self.path)
        self._file = self._writer.__enter__()
        self._write((*self._table.columns, *ERROR_COLUMNS))
        return self

    def add(self, row: Row, error: object) -> None:
        """Log a row that failed, with the reason and the time."""
        self.failures += 1
        self._failed.add(self._key(row))
        # A quote could pair with a stray one in the row's last cell when the log is read.
        reason = one_line(error).replace('"', "'")
        kind = kind_of(reason, _name_in(row))
        self.kinds[kind if len(self.kinds) < MAX_KINDS or kind in self.kinds else OTHER_KINDS] += 1
        self._write((*self._padded(row), reason, _now()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind and not self.failures:
            self._writer.__exit__(kind, error, traceback)  # keep the previous log
            return
        kept = 0
        for cells in self._lines_to_keep(complete=kind is None):
            self._write(cells)
            kept += 1
        # An interrupted run writes its log too: its failures are not lost.
        self._writer.__exit__(None, None, None)
        if not self.failures and not kept:
            self.path.unlink()

    def _lines_to_keep(self, complete: bool) -> Iterator[tuple[str, ...]]:
        """Yield the lines of the previous log that this run has not replaced."""
        is_retry = self._table.is_error_log
        if not self.path.exists() or (complete and not is_retry):
            return
        previous = self._previous_log()
        if not previous:
            return
        tried = {self._key(row) for row in self._table} if complete else self._failed
        for row in previous:
            if self._key(row) not in tried:
                yield (*self._padded(row), *row.error)

    def _previous_log(self) -> Table | None:
        """Return the log that an earlier run left, or None if it is one of another table."""
        previous = Table(self.path, required=())
        same = previous.is_error_log and previous.columns == self._table.columns
        return previous if same else None

    def _padded(self, row: Row) -> tuple[str, ...]:
        """Return the row's cells, as many as the table has columns: `error` and `time` follow."""
        return row.cells + ("",) * (len(self._table.columns) - len(row.cells))

    def _key(self, row: Row) -> int:
        return hash(self._padded(row))

    def _write(self, cells: Iterable[str]) -> None:
        self._file.write(("\t".join(cells) + "\n").encode(errors="surrogateescape"))
        self._file.flush()


def kind_of(reason: str, name: str) -> str:
    """Return a reason without what differs from row to row: paths, quotes and numbers.

    `name`: that of the row's photo.
    """
    kind = nfc(_FILE.sub("", reason, count=1))
    if name and nfc(name) in kind:  # "two photos have this name: …"
        kind = kind.partition(nfc(name))[0].rpartition(": ")[0]
    return _NUMBER.sub("N", _QUOTED.sub("'…'", kind)) or OTHER_KINDS


def write_file_errors(path: Path, failures: Iterable[tuple[Path | str, str]]) -> None:
    """Write the log of a stage that processes files, not rows: file, error, time.

    Without failures, remove the log of an earlier run.
    """
    failures = list(failures)
    if not failures:
        path.unlink(missing_ok=True)
        return
    rows = ((one_line(file), one_line(error), _now()) for file, error in failures)
    write_tsv(path, [("file", *ERROR_COLUMNS), *rows])


def _name_in(row: Row) -> str:
    """Return the cell of the photo's name as it stands in the row, which may be invalid."""
    position = row.columns.get("name", len(row.cells))
    return row.cells[position] if position < len(row.cells) else ""


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
