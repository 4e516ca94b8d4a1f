"""The workers of a Ray cluster as an executor: what threads or processes do here, done on many
machines that share the folders."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from utils.console import one_line
from utils.errors import StageError
from utils.parallel import WorkerKilledError, answer

ROOT = Path(__file__).resolve().parent.parent
RETRIES = 10  # of a job whose machine or worker has died


class RayExecutor(Executor):
    """Jobs done by a Ray cluster; those of a machine that dies are done again on another."""

    def __init__(self, address: str, cores: float) -> None:
        """`address`: of the cluster, as ray.init takes it; `cores`: that each job keeps busy.

        Raises StageError where Ray is not installed, or the cluster cannot be reached.
        """
        try:
            import ray
        except ImportError:
            raise StageError(
                "--ray needs Ray: python -m pip install -r requirements-ray.txt"
            ) from None
        check_reachable(address)
        try:
            ray.init(
                address,
                # Where a worker finds this project, which is the same folder everywhere.
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
                configure_logging=False,
                log_to_driver=False,
            )
        except Exception as error:  # of many kinds, from several libraries
            raise StageError(f"--ray {address}: {one_line(error)[:200]}") from None
        self._ray = ray
        self._do = ray.remote(num_cpus=cores, max_retries=RETRIES)(_do)
        self.killed = 0  # Ray redoes the work of those that were, and tells nobody
        self.slots = max(1, int(ray.cluster_resources().get("CPU", 1) / cores))

    def submit(self, function: Callable, /, *arguments: Any) -> Future:
        """As of any executor; function and arguments have to be such that pickle takes them."""
        future: Future = Future()
        future.set_running_or_notify_cancel()
        inner = self._do.remote(str(Path.cwd()), function, arguments).future()
        inner.add_done_callback(lambda done: self._pass_on(done, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which drops what it has not begun."""
        self._ray.shutdown()

    def _pass_on(self, inner: Future, future: Future) -> None:
        try:
            result, error = inner.result()
        except Exception as problem:  # Ray has many, and a future has to end with one
            result, error = None, WorkerKilledError(f"the cluster: {one_line(problem)[:200]}")
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def check_reachable(address: str) -> None:
    """Raise StageError where nobody listens at host:port; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise StageError(f"--ray {address}: {error}; is that the cluster's head?") from None


def _do(folder: str, function: Callable, arguments: tuple) -> tuple[Any, Exception | None]:
    os.chdir(folder)  # relative paths mean what they mean where the stage was started
    return answer(function, arguments)
