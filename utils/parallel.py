"""Work on many items at once, in constant memory, with workers that never outlive their stage."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any


def bounded_map(
    executor: Executor, function: Callable, jobs: Iterable[tuple[Any, tuple]], window: int
) -> Iterator[tuple[Any, Future]]:
    """Run `function(*arguments)` for each (key, arguments); yield (key, future) as each is done.

    Never are more than `window` jobs taken from `jobs` and not yet yielded, so that a stream of any
    length passes in constant memory, and one slow job holds up none of the others. When the caller
    stops early, jobs not yet begun are dropped.
    """
    keys: dict[Future, Any] = {}
    done: queue.SimpleQueue[Future] = queue.SimpleQueue()
    try:
        for key, arguments in jobs:
            future = executor.submit(function, *arguments)
            keys[future] = key
            future.add_done_callback(done.put)
            while len(keys) >= window:
                future = done.get()
                yield keys.pop(future), future
        while keys:
            future = done.get()
            yield keys.pop(future), future
    finally:
        executor.shutdown(wait=not keys, cancel_futures=True)


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


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes that leave Ctrl-C to the stage and end when it does, even by SIGKILL."""
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
