"""What the benchmarks of the data stages share: a stage run as a user runs it, time and memory."""

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
EVERY = 0.1  # seconds from one look at the memory to the next


@dataclass(frozen=True)
class Run:
    """What one run of a stage took. Memory is in bytes, resident, shared libraries included."""

    seconds: float
    output: str
    own: int  # peak of the stage's first process
    worker: int  # peak of the largest of those that it started; 0: there was none
    together: int  # largest sum over all at one moment: what they share counts in each

    def memory(self) -> str:
        """The three peaks in words."""
        workers = f", largest worker {megabytes(self.worker)}" if self.worker else ""
        return f"{megabytes(self.own)}{workers}, together {megabytes(self.together)}"


def run(script: str, *words: object) -> Run:
    """Run a script of the project to its end. Raises StageError if it does not end well.

    The time is that of the whole process, its start included. The memory is read from /proc, which
    only Linux has.
    """
    command = [sys.executable, str(ROOT / script), *map(str, words)]
    with tempfile.TemporaryFile() as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        with Watch(process.pid) as watch:
            status = process.wait()
        seconds = time.perf_counter() - started
        out.seek(0)
        output = out.read().decode()
    if status:
        raise StageError(f"{script} ended with exit status {status}: {output[-2000:]}")
    own = watch.peaks.pop(process.pid, 0)
    worker = max(watch.peaks.values(), default=0)
    # Between two looks one alone may have had more than all in any of them.
    return Run(seconds, output, own, worker, max(watch.together, own, worker))


class Watch:
    """Looks at the memory of a process and its descendants, again and again, in a thread."""

    def __init__(self, pid: int) -> None:
        self.peaks: dict[int, int] = {}  # by process
        self.together = 0
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.is_set():
            now = 0
            for pid in family(self._pid):
                with suppress(OSError, KeyError):  # it has ended meanwhile
                    status = Path(f"/proc/{pid}/status").read_text()
                    fields = dict(line.split(":", 1) for line in status.splitlines())
                    # The kernel keeps the peak itself, so that none is missed between two looks.
                    self.peaks[pid] = int(fields["VmHWM"].split()[0]) << 10
                    now += int(fields["VmRSS"].split()[0]) << 10
            self.together = max(self.together, now)
            self._end.wait(EVERY)


def family(pid: int) -> list[int]:
    """The process and all that it, or one of those, has started."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                with suppress(OSError):
                    found += map(int, (thread / "children").read_text().split())
    return found


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count else "-"


def spread(values: list[float], form: str = ",.1f") -> tuple[str, str]:
    """The median of the values, and the least and the largest, for two cells of a table."""
    return format(statistics.median(values), form), f"{min(values):{form}}-{max(values):{form}}"
