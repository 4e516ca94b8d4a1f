"""Many jobs at once: bounded, in order, in processes that may be killed."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import add
from pathlib import Path
from typing import Any

import pytest

from utils.parallel import (
    ProcessPool,
    WorkerKilledError,
    bounded_map,
    cores,
    ordered_map,
    result_or_error,
)


@dataclass(frozen=True)
class Job:
    arguments: tuple[Any, ...]
    group: str = ""


def test_bounded_map_yields_every_job_with_its_future():
    jobs = [Job((i, 1)) for i in range(20)]
    results = list(bounded_map(ThreadPoolExecutor(3), add, jobs, window=4))
    assert sorted((job.arguments[0], future.result()) for job, future in results) == [
        (i, i + 1) for i in range(20)
    ]


def test_bounded_map_keeps_an_error_in_its_future():
    [(_, future)] = bounded_map(ThreadPoolExecutor(1), int, [Job(("x",))], window=2)
    with pytest.raises(ValueError, match="invalid literal"):
        future.result()


def test_bounded_map_takes_no_more_jobs_than_its_window():
    taken = []

    def jobs():
        for i in range(100):
            taken.append(i)
            yield Job((i, 0))

    yielded = 0
    for _ in bounded_map(ThreadPoolExecutor(2), add, jobs(), window=5):
        yielded += 1
        assert len(taken) - yielded < 5
    assert yielded == 100


def test_bounded_map_lets_other_jobs_pass_a_slow_one():
    release = threading.Event()
    jobs = [Job((release.wait, 60)), *(Job((int, i)) for i in range(5))]
    results = bounded_map(
        ThreadPoolExecutor(2), lambda function, value: function(value), jobs, window=3
    )
    assert [next(results)[1].result() for _ in range(5)] == [0, 1, 2, 3, 4]
    release.set()
    assert next(results)[1].result() is True


def test_bounded_map_limits_the_jobs_of_a_group():
    running, most, lock = Counter(), Counter(), threading.Lock()
    both = threading.Barrier(3, timeout=60)  # two jobs of the first group, one of the other

    def work(group: str, first: bool) -> None:
        with lock:
            running[group] += 1
            most[group] = max(most[group], running[group])
        if first:
            both.wait()
        with lock:
            running[group] -= 1

    # The first two fill their group; the third waits and lets the other group's job pass.
    jobs = [Job(("a", i < 2), "a") for i in range(10)]
    jobs.insert(3, Job(("b", True), "b"))
    results = list(
        bounded_map(ThreadPoolExecutor(8), work, jobs, 8, lambda job: job.group, group_limit=2)
    )
    assert len(results) == 11 and most == {"a": 2, "b": 1}
    for _, future in results:
        future.result()


def test_bounded_map_drops_the_jobs_not_started_when_the_caller_stops():
    started, release = [], threading.Event()

    def work(number: int) -> None:
        started.append(number)
        if number:
            release.wait(60)

    pool = ThreadPoolExecutor(1)
    results = bounded_map(pool, work, [Job((i,)) for i in range(10)], window=5)
    next(results)
    results.close()
    release.set()
    pool.shutdown()
    assert len(started) <= 2


def test_ordered_map_keeps_the_order_within_its_window():
    taken, release = [], threading.Event()

    def jobs():
        for i in range(20):
            taken.append(i)
            yield (i,)

    def work(number: int) -> int:
        if number == 0:
            release.wait(60)
        elif number == 3:
            release.set()  # the first result waits for a later one
        return number * 10

    results = ordered_map(ThreadPoolExecutor(4), work, jobs(), window=4)
    assert next(results) == 0 and len(taken) == 4
    assert list(results) == [10 * i for i in range(1, 20)]


def test_ordered_map_raises_the_error_of_a_job():
    results = ordered_map(ThreadPoolExecutor(2), int, [("1",), ("x",), ("3",)], window=2)
    assert next(results) == 1
    with pytest.raises(ValueError, match="invalid literal"):
        next(results)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        die()
    return "done"


def test_process_pool_runs_calls_in_other_processes():
    with ProcessPool(1) as pool:
        worker = pool.submit(os.getpid).result()
        assert worker != os.getpid() == pool.submit(os.getppid).result()
        assert pool.submit(os.getpid).result() == worker  # each worker does many jobs
        with pytest.raises(ValueError, match="invalid literal"):
            pool.submit(int, "x").result()
    assert pool.killed == 0


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_process_pool_replaces_killed_workers(tmp_path):
    with ProcessPool(1) as pool:
        assert pool.submit(die_once, tmp_path / "marker").result() == "done"
        assert pool.killed == 1
        with pytest.raises(WorkerKilledError, match="killed twice"):
            pool.submit(die).result()
        assert pool.killed == 3
        assert pool.submit(add, 1, 2).result() == 3


def test_process_pool_ends_only_when_a_starting_worker_has_started(monkeypatch):
    begun, finished = threading.Event(), []
    stage_end, worker_end = multiprocessing.Pipe()

    def start_slowly():
        begun.set()
        time.sleep(0.2)
        finished.append(True)
        return stage_end

    monkeypatch.setattr("utils.parallel._start_worker", start_slowly)
    pool = ProcessPool(1)
    pool.submit(len, "a")
    begun.wait()
    pool.shutdown(wait=False, cancel_futures=True)
    assert finished == [True]
    worker_end.close()  # the worker ends, and is not started again


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= cores() <= os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
        try:
            assert cores() == 1
        finally:
            os.sched_setaffinity(0, allowed)


def test_result_or_error_returns_one_of_both():
    assert result_or_error(int, ("7",), {"base": 8}) == (7, None)
    result, error = result_or_error(int, ("x",), {})
    assert result is None and isinstance(error, ValueError)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="page faults of glibc")
def test_a_worker_uses_freed_memory_again():
    size = 8 << 20  # bytes: two of a photo's buffers
    buffers, faults = f"[bytearray({size}), bytearray({size})]", "resource.getrusage(0).ru_minflt"
    with ProcessPool(1) as workers:
        workers.submit(exec, "import builtins, resource; builtins.resource = resource").result()
        workers.submit(exec, buffers).result()
        before = workers.submit(eval, faults).result()
        for _ in range(4):
            workers.submit(exec, buffers).result()
        after = workers.submit(eval, faults).result()
    assert after - before < size / 4096  # otherwise 8 times as many, one for each 4 KiB
