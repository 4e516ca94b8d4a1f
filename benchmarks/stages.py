"""Run a script of the project as a user runs it, and measure its time and memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from utils.errors import StageError

ROOT = Path(__file__).resolve().parent.parent
INTERVAL = 0.1  # seconds between two looks at the memory


@dataclass(frozen=True)
class StageRun:
    """The time and memory of one run of a script.

    Memory is resident memory in bytes, shared libraries included.
    """

    seconds: float
    output: str
    main_memory: int  # peak of the first process
    worker_memory: int  # peak of the largest other process; 0: there was no other
    total_memory: int  # peak of the sum over all processes; shared memory counts in each

    def memory(self) -> str:
        """Return the three peaks in words."""
        worker = megabytes(self.worker_memory)
        workers = f", largest worker {worker}" if self.worker_memory else ""
        total = megabytes(self.total_memory)
        return f"main process {megabytes(self.main_memory)}{workers}, all together {total}"


def run(script: str, *words: object) -> StageRun:
    """Run a script with these arguments to its end. Raise StageError if its status is not 0.

    The time is that of the whole process, including its start. The memory is read from /proc, which
    only Linux has.
    """
    command = [sys.executable, str(ROOT / script), *map(str, words)]
    with tempfile.TemporaryFile() as file:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        with MemoryMonitor(process.pid) as monitor:
            status = process.wait()
        seconds = time.perf_counter() - started
        file.seek(0)
        output = file.read().decode()
    if status:
        raise StageError(f"{script} ended with exit status {status}: {output[-2000:]}")
    main_memory = monitor.peaks.pop(process.pid, 0)
    worker_memory = max(monitor.peaks.values(), default=0)
    # The peak of one process may lie between two looks at the sum.
    total_memory = max(monitor.total_peak, main_memory, worker_memory)
    return StageRun(seconds, output, main_memory, worker_memory, total_memory)


class MemoryMonitor:
    """Reads the memory of a process and its descendants at regular intervals, in a thread."""

    def __init__(self, pid: int) -> None:
        self.peaks: dict[int, int] = {}  # bytes, by process
        self.total_peak = 0
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryMonitor:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.is_set():
            total = 0
            for pid in process_tree(self._pid):
                with suppress(OSError, KeyError):  # it has ended meanwhile
                    status = Path(f"/proc/{pid}/status").read_text()
                    fields = dict(line.split(":", 1) for line in status.splitlines())
                    # The kernel keeps the peak of each process, so that no look can miss it.
                    self.peaks[pid] = int(fields["VmHWM"].split()[0]) << 10
                    total += int(fields["VmRSS"].split()[0]) << 10
            self.total_peak = max(self.total_peak, total)
            self._end.wait(INTERVAL)


def process_tree(pid: int) -> list[int]:
    """Return the process and all its descendants."""
    pids = [pid]
    for parent in pids:  # grows while it is read
        with suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                with suppress(OSError):
                    pids += map(int, (thread / "children").read_text().split())
    return pids


def megabytes(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1e6:,.0f} MB" if count else "-"


def spread(values: list[float], form: str = ",.1f") -> tuple[str, str]:
    """Return two cells of a table: the median of the values, and their range."""
    return format(statistics.median(values), form), f"{min(values):{form}}-{max(values):{form}}"
