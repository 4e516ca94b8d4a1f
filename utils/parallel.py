"""Run many jobs at once, in constant memory, with workers that never outlive their stage."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Generic, Protocol, TypeVar

from utils.memory import keep_freed_memory

# Bytes of freed memory that a worker keeps, as a large photo's decoder and encoder take.
KEPT_BY_WORKER = 128 << 20


class WorkerKilledError(Exception):
    """The worker process of a job was killed, and so was the second one that tried it."""


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
    of one `group(job)` run at the same time; jobs of other groups overtake those that wait for it.
    If the caller stops early, jobs that have not started are dropped.
    """
    pending = _PendingJobs(executor, function, group, group_limit)
    try:
        for job in jobs:
            pending.add(job)
            while pending.count >= window or pending.has_result():
                yield pending.take_result()
        while pending.count:
            yield pending.take_result()
    finally:
        executor.shutdown(wait=not pending.count, cancel_futures=True)


class _PendingJobs(Generic[SomeJob]):
    """The jobs of a `bounded_map` that run, wait for others of their group, or are done."""

    def __init__(
        self,
        executor: Executor,
        function: Callable[..., Any],
        group: Callable[[SomeJob], Hashable],
        group_limit: int | None,
    ) -> None:
        self.count = 0  # jobs added whose result was not taken yet
        self._executor, self._function = executor, function
        self._group, self._group_limit = group, group_limit
        self._started: dict[Future[Any], SomeJob] = {}
        self._done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._group_sizes: Counter[Hashable] = Counter()  # started jobs
        self._waiting: defaultdict[Hashable, deque[SomeJob]] = defaultdict(deque)

    def add(self, job: SomeJob) -> None:
        """Start a job, or let it wait until its group has room."""
        self.count += 1
        group = self._group(job)
        if self._group_limit is None or self._group_sizes[group] < self._group_limit:
            self._start(job)
        else:
            self._waiting[group].append(job)

    def has_result(self) -> bool:
        """Return whether `take_result` would return at once."""
        return not self._done.empty()

    def take_result(self) -> tuple[SomeJob, Future[Any]]:
        """Wait for the next job to be done, and start one that waited for its group."""
        future = self._done.get()
        job = self._started.pop(future)
        self.count -= 1
        group = self._group(job)
        self._group_sizes[group] -= 1
        if self._waiting[group]:
            self._start(self._waiting[group].popleft())
        else:  # forget the group, so that memory does not grow with the number of groups
            del self._waiting[group]
            if not self._group_sizes[group]:
                del self._group_sizes[group]
        return job, future

    def _start(self, job: SomeJob) -> None:
        self._group_sizes[self._group(job)] += 1
        future = self._executor.submit(self._function, *job.arguments)
        self._started[future] = job
        future.add_done_callback(self._done.put)


def ordered_map(
    executor: Executor,
    function: Callable[..., Any],
    jobs: Iterable[tuple[Any, ...]],
    window: int,
) -> Iterator[Any]:
    """Yield `function(*arguments)` for each tuple of arguments in `jobs`, in their order.

    At most `window` jobs are submitted and not yet yielded, so that a stream of any length takes
    constant memory. If the caller stops early, jobs that have not started are dropped.
    """
    pending: deque[Future[Any]] = deque()
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
    """Worker processes, each led by a thread. Any of them may be killed without harm to the rest.

    If a worker is killed (by the kernel, when memory runs out), its job is tried once more in a
    new worker, while no other job is tried again. If that one is killed too, the job's future
    raises WorkerKilledError. Workers ignore Ctrl-C and end when the stage ends, even by SIGKILL.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        # Otherwise the threads import it, when they start their workers at the same time.
        import_module(f"multiprocessing.popen_spawn_{'win32' if os.name == 'nt' else 'posix'}")
        self.killed = 0  # workers so far
        self._of_thread = threading.local()  # .connection: to this thread's worker
        self._one_retry = threading.Lock()
        # Held while a worker starts: a stage that exits then would cut the pipe from which the
        # worker reads its start, and the worker would print a traceback.
        self._starting = threading.Lock()
        self._is_ending = False
        self._connections: list[Connection] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in a worker. Its function and arguments must be picklable."""
        return super().submit(self._call, (function, args, kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, and their workers if `wait`. No worker starts from now on, if not."""
        if not wait:
            with self._starting:
                self._is_ending = True
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            for connection in self._connections:
                connection.close()  # which ends the worker

    def _call(self, call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
        try:
            return self._call_once(call)
        except WorkerKilledError:
            with self._one_retry:
                return self._call_once(call)

    def _call_once(self, call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
        if not hasattr(self._of_thread, "connection"):
            with self._starting:
                if self._is_ending:
                    raise WorkerKilledError("the stage has ended")
                self._of_thread.connection = _start_worker()
            self._connections.append(self._of_thread.connection)
        connection = self._of_thread.connection
        try:
            connection.send(call)
            result, error = connection.recv()
        except (EOFError, ConnectionError):
            self.killed += 1
            self._connections.remove(connection)
            connection.close()
            del self._of_thread.connection
            raise WorkerKilledError(
                "its worker process was killed twice, perhaps for lack of memory"
            ) from None
        if error is not None:
            raise error
        return result


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def result_or_error(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Exception | None]:
    """Call the function. Return (its result, None), or (None, the exception it raised)."""
    try:
        return function(*args, **kwargs), None
    except Exception as error:
        return None, error


def _start_worker() -> Connection:
    """Start a worker process. Return the stage's end of the pipe to it."""
    context = multiprocessing.get_context("spawn")
    stage_end, worker_end = context.Pipe()
    # Block SIGINT while the worker starts, or Ctrl-C would print its traceback. The resource
    # tracker has to run before: starting it would unblock the signal.
    resource_tracker.ensure_running()
    can_block = hasattr(signal, "pthread_sigmask")
    if can_block:
        previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    context.Process(target=_run_worker, args=(worker_end,), daemon=True).start()
    if can_block:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
    worker_end.close()
    return stage_end


def _run_worker(calls: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory(KEPT_BY_WORKER)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            calls.send(result_or_error(*calls.recv()))
        except (EOFError, OSError):  # the stage has ended
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent, "a worker has a parent"
    wait_for_any([parent.sentinel])
    os._exit(1)
