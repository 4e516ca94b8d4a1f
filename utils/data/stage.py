"""A stage's pass over the annotation table: plan each row, make missing files, log failures."""

from __future__ import annotations

import argparse
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from utils.cli import Parser
from utils.console import ProgressBar
from utils.data.annotations import Annotations, NameRegistry, Row, RowError
from utils.data.error_log import ErrorLog
from utils.filenames import nfc
from utils.files import ignores_case
from utils.parallel import bounded_map
from utils.ray_executor import RayExecutor


class Shard(NamedTuple):
    """The part of the table that one of several machines processes."""

    number: int  # from 1
    total: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a text like `3/16`. An argparse type."""
        number, slash, total = text.partition("/")
        has_numbers = slash and number.isdecimal() and total.isdecimal()
        if not (has_numbers and 1 <= int(number) <= int(total)):
            raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 1 to N, like 3/16")
        return cls(int(number), int(total))

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @property
    def suffix(self) -> str:
        """What the names of this part's own files have, like `3-of-16`; empty for the whole."""
        return f"{self.number}-of-{self.total}" if self.total > 1 else ""

    def contains(self, row: Row) -> bool:
        """Return whether the row is in this part. Only its name decides, not its position."""
        try:
            text = nfc(row["name"])
        except RowError:
            text = row.cells[0]
        digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.total == self.number - 1

    def log_path(self, folder: Path, name: str, table: Annotations) -> Path:
        """Return the path of this part's error log. Parts may run at once, so each has its own.

        A retry of the rows of a log writes to that log.
        """
        is_own_log = table.is_error_log and table.path.name.startswith(f"{name}.error")
        if self.total == 1 and is_own_log:
            return table.path
        part = f".{self.suffix}" if self.suffix else ""
        return folder / f"{name}.error{part}.log"


def add_distribution_flags(parser: Parser) -> None:
    """Add --shard and --ray, which share a stage's work among machines."""
    parser.section("several machines with shared folders")
    shard = "process only part K of N; give each machine another K"
    parser.flag("--shard", shard, Shard(1, 1), Shard.parse, metavar="K/N")
    ray = "run on a Ray cluster: host:port of its head, or auto if this machine is part of it"
    parser.flag("--ray", ray, None, str, metavar="ADDRESS")


@dataclass(frozen=True, slots=True)
class Job:
    """The file that a row describes, and how to make it."""

    row: Row
    target: Path  # the file, in the folder of its class
    exists: bool  # whether the file exists
    fingerprint: Hashable  # of the cells that the file depends on; equal in rows of one name
    arguments: tuple[Any, ...]  # of the function that makes the file
    host: str = ""  # the server that the job downloads from, if any

    @property
    def label(self) -> str:
        """The class, which is the folder's name, in NFC even if a Mac stored it in NFD."""
        return nfc(self.target.parent.name)


SomeJob = TypeVar("SomeJob", bound=Job)


class Workers(NamedTuple):
    """The threads, processes or machines that do a stage's jobs."""

    executor: Executor
    parallel_jobs: int  # jobs that run at the same time

    @property
    def killed(self) -> int:
        """The worker processes that the system has killed so far; 0 if the executor has none."""
        return getattr(self.executor, "killed", 0)


def start_workers(
    ray: str | None, cores_per_job: float, start_local: Callable[[int], Executor], count: int
) -> Workers:
    """Connect to the Ray cluster at address `ray`, or without one start `count` local workers.

    A Ray cluster runs as many jobs at once as it has `cores_per_job`. Raise StageError if it
    cannot be reached.
    """
    if ray:
        cluster = RayExecutor(ray, cores_per_job)
        return Workers(cluster, cluster.slots)
    return Workers(start_local(count), count)


class TableStage:
    """Turns the rows of a table into jobs and the jobs into files, and counts the results."""

    def __init__(
        self,
        table: Annotations,
        shard: Shard,
        bar: ProgressBar,
        row_log: ErrorLog,
        job_log: ErrorLog,
    ) -> None:
        """`row_log` gets the rows that are invalid, `job_log` those whose job fails."""
        self.created: Counter[str] = Counter()  # files of each class
        self.existing: Counter[str] = Counter()
        self.repeated_rows = 0
        self._table, self._shard, self._bar = table, shard, bar
        self._row_log, self._job_log = row_log, job_log
        if not bar.disable:  # in a thread, because counting a large table takes a while
            threading.Thread(target=self._count_rows, daemon=True).start()

    def plan_jobs(self, plan: Callable[[Row], SomeJob]) -> Iterator[SomeJob]:
        """Yield a job for each row of this shard. Skip repeated rows and log invalid ones.

        `plan` returns a row's job, and raises RowError if the row is invalid.
        """
        names = NameRegistry()
        for row in self._table:
            if not self._shard.contains(row):
                continue
            try:
                job = plan(row)
                name, on_disk = nfc(job.target.name), partial(ignores_case, job.target.parent)
                is_new = names.is_new(row, name, job.fingerprint, on_disk)
            except RowError as error:
                self._fail(row, error, self._row_log)
                continue
            if is_new:
                yield job
            else:
                self.repeated_rows += 1
                self._bar.update()

    def run_jobs(
        self,
        jobs: Iterable[SomeJob],
        function: Callable[..., object],
        workers: Workers,
        ahead: int,
        failures: tuple[type[Exception], ...],
        per_host: int | None = None,
        after: Callable[[SomeJob], object] = lambda job: None,
    ) -> None:
        """Make the missing files with `function(*job.arguments)`.

        Plan at most `ahead` jobs per worker in advance, and run at most `per_host` jobs of one host
        at the same time. Log a job that raises one of `failures`. Call `after` with each job whose
        file exists, from an earlier run or now.
        """

        def missing() -> Iterator[SomeJob]:
            for job in jobs:
                if job.exists:
                    after(job)
                    self._count(self.existing, job)
                else:
                    yield job

        window = ahead * workers.parallel_jobs
        for job, future in bounded_map(
            workers.executor, function, missing(), window, lambda job: job.host, per_host
        ):
            try:
                future.result()
            except failures as error:
                self._fail(job.row, error, self._job_log)
            else:
                after(job)
                self._count(self.created, job)

    def _count(self, counts: Counter[str], job: Job) -> None:
        counts[job.label] += 1
        self._bar.update()

    def summary(self, verb: str, failures: int, output: Path) -> str:
        """Return the line that ends the stage: how many files, how many failures."""
        counts = f"{self.created.total()} {verb}, {self.existing.total()} already there"
        repeated = f" (repeated rows skipped: {self.repeated_rows})" if self.repeated_rows else ""
        return f"{counts}, {failures} failed{repeated} -> {output}"

    def _fail(self, row: Row, reason: object, log: ErrorLog) -> None:
        log.add(row, reason)
        self._bar.fail(self._table.where(row), reason)
        self._bar.update()

    def _count_rows(self) -> None:
        self._bar.total = self._table.count() // self._shard.total
