"""A stage's pass over the table: shards, jobs, counts and logs."""

from __future__ import annotations

import argparse
import threading
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.helpers import row, write_table
from utils import cli
from utils.console import ProgressBar
from utils.data import stage as stage_module
from utils.data.annotations import Row, RowError, Table
from utils.data.error_log import ErrorLog
from utils.data.stage import (
    Job,
    Shard,
    TableStage,
    Workers,
    add_distribution_flags,
    start_workers,
)
from utils.errors import StageError
from utils.parallel import ProcessPool

WHOLE_TABLE = Shard(1, 1)


@pytest.mark.parametrize("text", ["1/1", "3/16", "16/16"])
def test_shard_parse_reads_what_it_prints(text):
    assert str(Shard.parse(text)) == text


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/", "a/b", "1/0", "-1/3", "1/3/5", "²/3"])
def test_shard_parse_refuses_other_texts(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not K/N"):
        Shard.parse(text)


def read_rows(tmp_path: Path, *names: str) -> list[Row]:
    return list(Table(write_table(tmp_path / "t.tsv", [row(name) for name in names]), ()))


def test_shards_divide_the_rows_by_their_names(tmp_path):
    names = [f"{i}_기쁨_.jpg" for i in range(60)]
    rows = read_rows(tmp_path, *names)
    parts = [[row_["name"] for row_ in rows if Shard(k, 3).contains(row_)] for k in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(len(part) > 10 for part in parts)
    for row_ in read_rows(tmp_path, *(unicodedata.normalize("NFD", name) for name in names[::-1])):
        part = next(part for k, part in enumerate(parts, 1) if Shard(k, 3).contains(row_))
        assert unicodedata.normalize("NFC", row_["name"]) in part


def test_shard_contains_a_row_that_cannot_be_read(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"name\turl\n\xff\tu\n")
    [undecodable] = Table(path, ())
    assert sum(Shard(k, 3).contains(undecodable) for k in (1, 2, 3)) == 1


def test_shard_log_path_is_its_own_or_that_of_the_retried_log(tmp_path):
    table = Table(write_table(tmp_path / "t.tsv", [row("a.jpg")]), ())
    assert Shard(1, 1).log_path(tmp_path, "crop", table) == tmp_path / "crop.error.log"
    assert Shard(2, 3).log_path(tmp_path, "crop", table) == tmp_path / "crop.error.2-of-3.log"
    logged = tmp_path / "logs" / "crop.error.2-of-3.log"
    with ErrorLog(logged, table) as log:
        log.add(next(iter(table)), "no")
    retry = Table(logged, ())
    assert Shard(1, 1).log_path(tmp_path, "crop", retry) == logged
    assert Shard(1, 1).log_path(tmp_path, "parse", retry) == tmp_path / "parse.error.log"


def test_distribution_flags():
    parser = cli.Parser("docs")
    add_distribution_flags(parser)
    assert parser.parse_args([]).shard == Shard(1, 1) and parser.parse_args([]).ray is None
    args = parser.parse_args(["--shard", "2/3", "--ray", "auto"])
    assert args.shard == Shard(2, 3) and args.ray == "auto"


def test_job_label_is_composed(tmp_path):
    target = tmp_path / unicodedata.normalize("NFD", "기쁨") / "a.jpg"
    [row_] = read_rows(tmp_path, "a.jpg")
    assert Job(row_, target, False, None, ()).label == "기쁨"


def test_start_workers_without_ray_starts_local_ones():
    workers = start_workers(None, 1, ThreadPoolExecutor, 3)
    assert isinstance(workers.executor, ThreadPoolExecutor)
    assert workers.parallel_jobs == 3 and workers.killed == 0
    pool = start_workers(None, 1, ProcessPool, 2)
    pool.executor.killed = 4
    assert pool.killed == 4


def test_start_workers_reports_a_cluster_that_cannot_be_reached():
    pytest.importorskip("ray")
    with pytest.raises(StageError, match=r"--ray 127\.0\.0\.1:9"):
        start_workers("127.0.0.1:9", 1, ThreadPoolExecutor, 3)


class BrokenJobError(Exception):
    """A job that failed."""


def plan(row_: Row, folder: Path) -> Job:
    name = row_.photo_name()
    target = folder / row_.posed_emotion() / name
    return Job(row_, target, target.exists(), (target, row_["url"]), (target,), host=name[0])


def write_name(target: Path) -> None:
    if "broken" in target.name:
        raise BrokenJobError("it is broken")
    target.write_text(target.name)


@contextmanager
def open_stage(
    tmp_path: Path, rows: list[dict], shard: Shard = WHOLE_TABLE
) -> Iterator[TableStage]:
    """A stage over these rows; its logs are row.error.log and job.error.log."""
    (tmp_path / "기쁨").mkdir(exist_ok=True)
    table = Table(write_table(tmp_path / "t.tsv", rows), ())
    logs = [ErrorLog(tmp_path / f"{name}.error.log", table) for name in ("row", "job")]
    with logs[0], logs[1], ProgressBar(None, "") as bar:
        yield TableStage(table, shard, bar, *logs)


def failures_in(path: Path) -> dict[str, str]:
    return {row_["name"]: row_.error[0] for row_ in Table(path, ())} if path.exists() else {}


def test_table_stage_makes_missing_files_and_logs_failures(tmp_path):
    (tmp_path / "기쁨").mkdir()
    (tmp_path / "기쁨/old_기쁨.jpg").touch()
    names = ["new_기쁨.jpg", "old_기쁨.jpg", "broken_기쁨.jpg", "../x_기쁨.jpg", "none.jpg"]
    rows = [row(name) for name in names] + [row("new_기쁨.jpg")]
    after = []
    with open_stage(tmp_path, rows) as stage:
        jobs = stage.plan_jobs(partial(plan, folder=tmp_path))
        workers = Workers(ThreadPoolExecutor(2), 2)
        stage.run_jobs(jobs, write_name, workers, 4, (BrokenJobError,), after=after.append)
    assert stage.created == {"기쁨": 1} and stage.existing == {"기쁨": 1}
    assert stage.repeated_rows == 1
    assert sorted(job.target.name for job in after) == ["new_기쁨.jpg", "old_기쁨.jpg"]
    assert (tmp_path / "기쁨/new_기쁨.jpg").read_text() == "new_기쁨.jpg"
    assert (tmp_path / "기쁨/old_기쁨.jpg").read_text() == ""  # not made again
    assert failures_in(tmp_path / "row.error.log").keys() == {"../x_기쁨.jpg", "none.jpg"}
    assert failures_in(tmp_path / "job.error.log") == {"broken_기쁨.jpg": "it is broken"}
    assert stage.summary("made", 3, Path("out")) == (
        "1 made, 1 already there, 3 failed (repeated rows skipped: 1) -> out"
    )


def test_table_stage_summary_leaves_out_repeated_rows_if_there_are_none(tmp_path):
    with open_stage(tmp_path, [row("a_기쁨.jpg")]) as stage:
        assert stage.summary("made", 0, Path("out")) == "0 made, 0 already there, 0 failed -> out"


def test_table_stage_logs_a_row_that_contradicts_an_earlier_one(tmp_path):
    rows = [row("a_기쁨.jpg", "http://x"), row("a_기쁨.jpg", "http://y")]
    with open_stage(tmp_path, rows) as stage:
        jobs = list(stage.plan_jobs(partial(plan, folder=tmp_path)))
    assert [job.row["url"] for job in jobs] == ["http://x"]
    assert "earlier row" in failures_in(tmp_path / "row.error.log")["a_기쁨.jpg"]


def test_table_stage_plans_the_rows_of_its_shard_only(tmp_path):
    rows = [row(f"{i}_기쁨.jpg") for i in range(30)] + [row("none.jpg"), row("other.jpg")]
    planned, invalid = [], []
    for number in (1, 2):
        with open_stage(tmp_path, rows, Shard(number, 2)) as stage:
            planned += [job.target.name for job in stage.plan_jobs(partial(plan, folder=tmp_path))]
        invalid += failures_in(tmp_path / "row.error.log")
    assert sorted(planned) == sorted(f"{i}_기쁨.jpg" for i in range(30))
    assert sorted(invalid) == ["none.jpg", "other.jpg"]


def test_table_stage_plans_a_limited_number_of_jobs_ahead(tmp_path):
    planned, done = [], []

    def counted_plan(row_: Row) -> Job:
        planned.append(row_)
        assert len(planned) - len(done) <= 2 * 3
        return plan(row_, folder=tmp_path)

    with open_stage(tmp_path, [row(f"{i}_기쁨.jpg") for i in range(40)]) as stage:
        workers = Workers(ThreadPoolExecutor(2), 2)
        stage.run_jobs(stage.plan_jobs(counted_plan), write_name, workers, 3, (), after=done.append)
    assert len(done) == 40


def test_table_stage_limits_the_jobs_of_one_host(tmp_path):
    running, most, lock = [], [], threading.Lock()

    def work(target: Path) -> None:
        with lock:
            running.append(target)
            most.append(sum(path.name[0] == target.name[0] for path in running))
        write_name(target)
        with lock:
            running.remove(target)

    rows = [row(f"{host}{i}_기쁨.jpg") for i in range(20) for host in "ab"]
    with open_stage(tmp_path, rows) as stage:
        jobs = stage.plan_jobs(partial(plan, folder=tmp_path))
        stage.run_jobs(jobs, work, Workers(ThreadPoolExecutor(8), 8), 4, (), per_host=1)
    assert most == [1] * 40 and stage.created.total() == 40


def test_table_stage_stops_at_an_error_that_is_not_a_failure_of_the_job(tmp_path):
    def run() -> None:
        with open_stage(tmp_path, [row("broken_기쁨.jpg")]) as stage:
            jobs = stage.plan_jobs(partial(plan, folder=tmp_path))
            stage.run_jobs(jobs, write_name, Workers(ThreadPoolExecutor(1), 1), 4, (RowError,))

    with pytest.raises(BrokenJobError):
        run()


def test_table_stage_makes_no_two_files_that_the_disk_takes_for_one(tmp_path, monkeypatch):
    rows = [row("a_기쁨.jpg"), row("A_기쁨.jpg"), row("b_기쁨.jpg"), row("a_기쁨.jpg")]
    for ignores_case, made in ((True, 2), (False, 3)):
        folder = tmp_path / str(ignores_case)
        folder.mkdir()
        monkeypatch.setattr(stage_module, "ignores_case", lambda _, answer=ignores_case: answer)
        with open_stage(folder, rows) as stage:
            jobs = stage.plan_jobs(partial(plan, folder=folder))
            stage.run_jobs(jobs, write_name, Workers(ThreadPoolExecutor(1), 1), 4, ())
        assert (stage.created.total(), stage.repeated_rows) == (made, 1)
        assert len(failures_in(folder / "row.error.log")) == 3 - made
    reason = failures_in(tmp_path / "True/row.error.log")["A_기쁨.jpg"]
    assert "differs in upper and lower case only, and this disk does not tell them" in reason
