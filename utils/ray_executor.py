"""The workers of a Ray cluster as an executor, for machines that share the stage's folders."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from utils import interrupt
from utils.console import one_line
from utils.errors import StageError
from utils.parallel import WorkerKilledError, result_or_error

ROOT = Path(__file__).resolve().parent.parent
MAX_RETRIES = 10  # of a job whose machine or worker has died


class RayExecutor(Executor):
    """Runs jobs on a Ray cluster. Jobs of a machine that dies run again on another."""

    def __init__(self, address: str, cores_per_job: float) -> None:
        """Connect to the cluster at `address` (host:port of its head, or auto).

        Raise StageError if Ray is not installed or the cluster cannot be reached.
        """
        try:
            with interrupt.importing():
                import ray
        except ImportError:
            raise StageError(
                "--ray needs Ray: python -m pip install -r requirements-ray.txt"
            ) from None
        check_reachable(address)
        try:
            ray.init(
                address,
                # The project's folder has the same path on all machines.
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
                configure_logging=False,
                log_to_driver=False,
            )
        except Exception as error:  # of many types, from several libraries
            raise StageError(f"--ray {address}: {one_line(error)[:200]}") from None
        self._ray = ray
        self._remote_call = ray.remote(num_cpus=cores_per_job, max_retries=MAX_RETRIES)(_call)
        self.killed = 0  # Ray does not report the workers that it replaces
        self.slots = max(1, int(ray.cluster_resources().get("CPU", 1) / cores_per_job))

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call on the cluster. Its function and arguments must be picklable."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        remote = self._remote_call.remote(str(Path.cwd()), function, args, kwargs).future()
        remote.add_done_callback(lambda done: self._copy_result(done, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Leave the cluster, which drops the jobs that have not started."""
        self._ray.shutdown()

    def _copy_result(self, remote: Future[Any], future: Future[Any]) -> None:
        try:
            result, error = remote.result()
        except Exception as problem:  # of many types; the future has to end with one
            result, error = None, WorkerKilledError(f"Ray: {one_line(problem)[:200]}")
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def check_reachable(address: str) -> None:
    """Raise StageError if no server listens at host:port. Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise StageError(
                f"--ray {address}: {error}; give host:port of the cluster's head"
            ) from None


def _call(
    folder: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Exception | None]:
    os.chdir(folder)  # relative paths then mean what they mean where the stage was started
    return result_or_error(function, args, kwargs)
