"""Work on many items at once, in constant memory, with workers that never outlive their stage."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any, Protocol, TypeVar


class WorkerKilledError(Exception):
    """The process that did a job was killed, and so was the next one that tried it."""


class HasArguments(Protocol):
    """A job that carries the arguments of the function that does it."""

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments."""


SomeJob = TypeVar("SomeJob", bound=HasArguments)


def bounded_map(
    executor: Executor,
    function: Callable[..., Any],
    jobs: Iterable[SomeJob],
    window: int,
    group: Callable[[SomeJob], Hashable] = lambda job: None,
    group_limit: int | None = None,
) -> Iterator[tuple[SomeJob, Future[Any]]]:
    """Run `function(*job.arguments)` for each job. Yield (job, future) as each is done.

    At most `window` jobs are taken from `jobs` and not yet yielded, so that a stream of any length
    takes constant memory, and one slow job does not hold up the others. At most `group_limit` jobs
    of one `group(job)` run at the same time; jobs that wait for it let jobs of other groups pass.
    If the caller stops early, jobs that have not started are dropped.
    """
    running: dict[Future[Any], SomeJob] = {}
    done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    group_sizes: Counter[Hashable] = Counter()
    waiting: defaultdict[Hashable, deque[SomeJob]] = defaultdict(deque)
    taken = 0  # jobs taken and not yet yielded

    def start(job: SomeJob) -> None:
        group_sizes[group(job)] += 1
        future = executor.submit(function, *job.arguments)
        running[future] = job
        future.add_done_callback(done.put)

    def finish() -> tuple[SomeJob, Future[Any]]:
        future = done.get()
        job = running.pop(future)
        its_group = group(job)
        group_sizes[its_group] -= 1
        if waiting[its_group]:
            start(waiting[its_group].popleft())
        else:  # forget the group, so that memory does not grow with the number of groups
            del waiting[its_group]
            if not group_sizes[its_group]:
                del group_sizes[its_group]
        return job, future

    try:
        for job in jobs:
            if group_limit is None or group_sizes[group(job)] < group_limit:
                start(job)
            else:
                waiting[group(job)].append(job)
            taken += 1
            while taken >= window or not done.empty():
                taken -= 1
                yield finish()
        while running:
            yield finish()
    finally:
        executor.shutdown(wait=not running, cancel_futures=True)


def ordered_map(
    executor: Executor, function: Callable, jobs: Iterable[tuple], window: int
) -> Iterator[Any]:
    """The results of `function(*arguments)` for each tuple in `jobs`, in their order.

    At most `window` results are under way, so that a stream of any length passes in constant
    memory. When the caller stops early, jobs not yet begun are dropped.
    """
    pending: deque[Future] = deque()
    try:
        for arguments in jobs:
            pending.append(executor.submit(function, *arguments))
            if len(pending) == window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=not pending, cancel_futures=True)


class ProcessPool(ThreadPoolExecutor):
    """Worker processes, each led by a thread, of which any may be killed without harm to the rest.

    A job whose worker is killed (by the kernel, when memory runs out) is tried once more, alone
    among such jobs, in a new one; killed again, its future holds WorkerKilledError. Workers leave
    Ctrl-C to the stage and end when it does, even by SIGKILL.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.killed = 0  # workers so far
        self._own = threading.local()
        self._alone = threading.Lock()
        self._ends: list[Connection] = []

    def submit(self, function: Callable, /, *arguments: Any) -> Future:
        """As of any executor; function and arguments have to be such that pickle takes them."""
        return super().submit(self._do, function, arguments)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            for end in self._ends:
                end.close()  # which ends its worker

    def _do(self, function: Callable, arguments: tuple) -> Any:
        try:
            return self._do_once(function, arguments)
        except WorkerKilledError:
            with self._alone:
                return self._do_once(function, arguments)

    def _do_once(self, function: Callable, arguments: tuple) -> Any:
        if not hasattr(self._own, "end"):
            self._own.end = _start_worker()
            self._ends.append(self._own.end)
        try:
            self._own.end.send((function, arguments))
            result, error = self._own.end.recv()
        except (EOFError, ConnectionError):
            self.killed += 1
            self._ends.remove(self._own.end)
            self._own.end.close()
            del self._own.end
            raise WorkerKilledError(
                "the process that worked on it was killed, twice: perhaps for want of memory"
            ) from None
        if error is not None:
            raise error
        return result


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> Connection:
    """A new worker process; returns the stage's end of the pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # A Ctrl-C on the terminal is meant for all; a worker would tell of it while it starts. What
    # multiprocessing starts beside the first one would undo the block, so it has to be there.
    resource_tracker.ensure_running()
    block = {signal.SIGINT} if hasattr(signal, "pthread_sigmask") else set()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, block) if block else None
    context.Process(target=_work, args=(theirs,), daemon=True).start()
    if block:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return ours


def _work(jobs: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, arguments = jobs.recv()
            jobs.send(answer(function, arguments))
        except (EOFError, OSError):  # the stage has ended
            return


def answer(function: Callable, arguments: tuple) -> tuple[Any, Exception | None]:
    """What the function returns, and what it raises, either of them None."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def _end_with_parent() -> None:
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)
