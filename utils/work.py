"""A stage's pass over a table: each row is planned, what is missing made, what fails logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from utils.annotations import Once, Row, RowError, Table
from utils.cli import Bar
from utils.errorlog import ErrorLog


class Job(NamedTuple):
    """What a row asks for."""

    target: Path  # the file that it becomes, in a folder of its class
    content: object  # what the file depends on: another row of that name must ask for the same
    arguments: tuple  # of the function that makes the file


class Work:
    """Counts and logs, for the bar and the summary, what becomes of a table's rows."""

    def __init__(self, table: Table, bar: Bar, bad_rows: ErrorLog) -> None:
        self.made: Counter[str] = Counter()  # files by the name of their folder
        self.there: Counter[str] = Counter()
        self.repeated = 0
        self._table, self._bar, self._bad_rows = table, bar, bad_rows

    def missing(
        self, plan: Callable[[Row], Job], found: Callable[[Job], None] = lambda job: None
    ) -> Iterator[tuple[tuple[Row, Job], tuple]]:
        """Each row whose file is not there yet, with its job, and the job's arguments.

        `plan` raises RowError for a row that asks for nothing that can be made; that is logged.
        `found` is told of each job whose file is there.
        """
        once = Once()
        for row in self._table:
            try:
                job = plan(row)
                new = once.first(row, job.target.name, job.content)
            except RowError as error:
                self.failed(row, error, self._bad_rows)
                continue
            if new and not job.target.exists():
                yield (row, job), job.arguments
                continue
            if new:
                found(job)
                self.there[job.target.parent.name] += 1
            else:
                self.repeated += 1
            self._bar.update()

    def done(self, job: Job) -> None:
        """The job's file has been made."""
        self.made[job.target.parent.name] += 1
        self._bar.update()

    def failed(self, row: Row, reason: object, log: ErrorLog) -> None:
        """The row, or what it asks for, cannot be done."""
        log.add(row, reason)
        self._bar.fail(f"{self._table.path.name} line {row.line}", reason)
        self._bar.update()

    def summary(self, verb: str, failures: int, output: Path) -> str:
        """One line of how many were made, or found, or failed, for the end of the stage."""
        counts = f"{self.made.total()} {verb}, {self.there.total()} already there"
        repeated = f" ({self.repeated} rows were repeated)" if self.repeated else ""
        return f"{counts}, {failures} failed{repeated} -> {output}"
