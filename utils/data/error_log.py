"""Error logs: what a stage could not do, each row as it was read plus `error` and `time` columns.

A log is thereby a table that the same script takes as its `--input`, to try just those again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.console import one_line
from utils.data.annotations import ERROR_COLUMNS, Row, Table
from utils.errors import StageError
from utils.files import atomic_file, make_folder, write_tsv


class ErrorLog:
    """One log of one run over `table`; it takes its name when the run ends, not before.

    A run over the annotation table replaces the log; one that does not come to its end only adds to
    it. A run over an error log is a retry: rows that it has tried leave the log unless they failed
    again, all others stay. No rows, no file.
    """

    def __init__(self, path: Path, table: Table) -> None:
        self.path = path
        self.failures = 0
        self._table = table
        self._failed: set[int] = set()

    def __enter__(self) -> ErrorLog:
        """Raises StageError where a retry would have to mix rows of two different tables."""
        if self._table.is_error_log and self.path.exists():
            before = Table(self.path, required=())
            if not before.is_error_log or before.columns != self._table.columns:
                raise StageError(
                    f"{self.path} is the log of another table: move it away, or name a --log_dir"
                )
        make_folder(self.path.parent)
        self._writer = atomic_file(self.path)
        self._file = self._writer.__enter__()
        self._write((*self._table.columns, *ERROR_COLUMNS))
        return self

    def add(self, row: Row, error: object) -> None:
        """Keep a row that failed, with the reason and the time."""
        self.failures += 1
        self._failed.add(self._key(row))
        # A quote could pair with a stray one in the row's last cell when the log is read.
        reason = one_line(error).replace('"', "'")
        self._write((*self._whole(row), reason, _now()))

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if kind and not self.failures:
            self._writer.__exit__(kind, error, trace)  # the log that is there stays as it is
            return
        kept = 0
        for cells in self._untried(complete=kind is None):
            self._write(cells)
            kept += 1
        self._writer.__exit__(None, None, None)  # also what an interrupted run has found stays
        if not self.failures and not kept:
            self.path.unlink()

    def _untried(self, complete: bool) -> Iterator[tuple[str, ...]]:
        """The lines of the log as it was that this run has nothing new to say about."""
        retry = self._table.is_error_log
        if not self.path.exists() or (complete and not retry):
            return
        before = Table(self.path, required=())
        if not before.is_error_log or before.columns != self._table.columns:
            return
        tried = {self._key(row) for row in self._table} if complete else self._failed
        for row in before:
            if self._key(row) not in tried:
                yield (*self._whole(row), *row.error)

    def _whole(self, row: Row) -> tuple[str, ...]:
        """The row's cells, a short one's filled up: what the log adds has columns of its own."""
        return row.cells + ("",) * (len(self._table.columns) - len(row.cells))

    def _key(self, row: Row) -> int:
        return hash(self._whole(row))

    def _write(self, cells: Iterable[str]) -> None:
        self._file.write(("\t".join(cells) + "\n").encode(errors="surrogateescape"))
        self._file.flush()


def write_file_errors(path: Path, failures: Iterable[tuple[Path, str]]) -> None:
    """The log of a stage whose items are files and not rows: file, error, time. None, no file."""
    failures = list(failures)
    if not failures:
        path.unlink(missing_ok=True)
        return
    lines = ((str(file), one_line(error), _now()) for file, error in failures)
    write_tsv(path, [("file", *ERROR_COLUMNS), *lines])


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
