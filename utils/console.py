"""Lines and progress bars on the terminal (stderr)."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable

from tqdm import tqdm

MAX_LINE = 1000  # characters
SHOWN_FAILURES = 5  # on the screen, of those that a log or the output has too


def is_primary_process() -> bool:
    """Return whether this process may print: of the processes that torchrun starts, only rank 0."""
    return os.environ.get("RANK", "0") == "0"


def one_line(text: object) -> str:
    """Return any text as one line that is safe on a terminal, with control characters escaped.

    Cut it after MAX_LINE characters: a server may send 60 KB as the reason of a refusal.
    """
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[: MAX_LINE + 1])
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…"


def info(message: object) -> None:
    """Print a line on stderr, above any progress bar."""
    if is_primary_process():
        ProgressBar.write(one_line(message), file=sys.stderr)


def markdown_row(cells: Iterable[object]) -> str:
    """Return a row of a Markdown table; bars in its cells are escaped."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def note(message: object) -> None:
    """Print a line that starts with "note:" on stderr: something unusual that stops nothing."""
    info(f"note: {message}")


class ProgressBar(tqdm):
    """A progress bar on stderr with a rate and a count of failures.

    It shows nothing if stderr is not a terminal.
    """

    def __init__(
        self,
        total: int | None,
        description: str,
        unit: str = "photo",
        leave: bool = True,
        record: str = "the log has all of them",
    ) -> None:
        """Start a bar that counts `unit`s up to `total` (None: not known yet).

        An empty `description` hides it; `leave` False erases it at its end. `record`: where the
        failures are that it does not print.
        """
        is_shown = bool(description) and is_primary_process()
        super().__init__(
            total=total, desc=description, unit=unit, file=sys.stderr, dynamic_ncols=True,
            leave=leave,
            disable=None if is_shown else True,  # None: if stderr is not a terminal
        )  # fmt: skip
        self.failures = 0
        self._record = record
        self._recorded = 0  # failures

    def fail(self, item: object, reason: object, is_recorded: bool = True) -> None:
        """Count a failure. Print the first few, and all that are recorded nowhere else."""
        self.failures += 1
        self._recorded += is_recorded
        if self._recorded <= SHOWN_FAILURES or not is_recorded:
            info(f"failed: {item}: {reason}")
        elif self._recorded == SHOWN_FAILURES + 1:
            info(f"more failures follow; {self._record}")
        self.set_postfix(failed=self.failures, refresh=False)


# tqdm's own lock is one between processes. It is made at the first use, which Ctrl-C may interrupt.
ProgressBar.set_lock(threading.RLock())
