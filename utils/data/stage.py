"""A stage's pass over a table: each row is planned, what is missing made, what fails logged."""

from __future__ import annotations

import argparse
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from utils.cli import Bar, Parser
from utils.data.annotations import Once, Row, RowError, Table
from utils.data.error_log import ErrorLog
from utils.emotions import nfc


class Shard(NamedTuple):
    """The share of a table that one of several machines works on."""

    number: int  # from 1
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/16`, for argparse."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 1 to N, like 3/16")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, row: Row) -> bool:
        """Whether the row is of this share: by its name alone, wherever it stands."""
        try:
            text = nfc(row["name"])
        except RowError:
            text = row.cells[0]
        digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1

    def log(self, folder: Path, name: str, table: Table) -> Path:
        """The error log of this share: each has its own, as they may be written at one time.

        Rows that are tried again out of such a log leave it, or stay in it.
        """
        if self.of == 1 and table.is_error_log and table.path.name.startswith(f"{name}.error"):
            return table.path
        part = f".{self.number}-of-{self.of}" if self.of > 1 else ""
        return folder / f"{name}.error{part}.log"


def machine_flags(parser: Parser) -> None:
    """The flags of a stage that many machines can do together, on folders that they share."""
    parser.section("many machines, which share the folders")
    what = "do only the rows of part K of N, each machine another part"
    parser.flag("--shard", what, Shard(1, 1), Shard.parse, metavar="K/N")
    what = "let this Ray cluster do it: host:port of its head, or auto"
    parser.flag("--ray", what, None, str, metavar="ADDRESS")


class Job(NamedTuple):
    """What a row asks for."""

    target: Path  # the file that it becomes, in a folder of its class
    content: object  # what the file depends on: another row of that name must ask for the same
    arguments: tuple  # of the function that makes the file
    annotations: tuple = ()  # what the row says besides

    @property
    def label(self) -> str:
        """The class whose folder the file is in, in NFC, however a Mac has stored it."""
        return nfc(self.target.parent.name)


class Work:
    """Counts and logs, for the bar and the summary, what becomes of a table's rows."""

    def __init__(self, table: Table, shard: Shard, bar: Bar, bad_rows: ErrorLog) -> None:
        self.made: Counter[str] = Counter()  # files by the name of their folder
        self.there: Counter[str] = Counter()
        self.repeated = 0
        self._table, self._shard, self._bar, self._bad_rows = table, shard, bar, bad_rows
        if not bar.disable:  # the work does not wait until all rows are counted
            threading.Thread(target=self._count, daemon=True).start()

    def missing(
        self,
        plan: Callable[[Row], Job],
        new: Callable[[Job], None] = lambda job: None,
        found: Callable[[Job], None] = lambda job: None,
    ) -> Iterator[tuple[tuple[Row, Job], tuple]]:
        """Each row whose file is not there yet, with its job, and the job's arguments.

        `plan` raises RowError for a row that asks for nothing that can be made; that is logged.
        `new` is told of each job, `found` of each whose file is there.
        """
        once = Once()
        for row in self._table:
            if not self._shard.has(row):
                continue
            try:
                job = plan(row)
                first = once.first(row, nfc(job.target.name), job.content)
            except RowError as error:
                self.failed(row, error, self._bad_rows)
                continue
            if not first:
                self.repeated += 1
                self._bar.update()
                continue
            new(job)
            if not job.target.exists():
                yield (row, job), job.arguments
                continue
            found(job)
            self.there[job.label] += 1
            self._bar.update()

    def done(self, job: Job) -> None:
        """The job's file has been made."""
        self.made[job.label] += 1
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

    def _count(self) -> None:
        self._bar.total = self._table.count() // self._shard.of
