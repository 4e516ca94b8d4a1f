"""torchrun, if it started this process: one line for a problem of all, and no vain restarts.

torchrun starts all its processes again when one has failed, whatever the reason. It keeps a folder
for all attempts of a job on a machine, in which the processes leave word for each other here:

  <job>/failed                  why no further attempt can succeed
  <job>/reported-<checksum>     a line that a process has printed
  <job>/attempt_0/reported      a process of this attempt has printed why it ends
  <job>/attempt_0/1/error.json  why local rank 1 ends: torchrun shows it in its summary
"""

from __future__ import annotations

import os
import time
import zlib
from contextlib import suppress
from pathlib import Path

from utils.console import is_primary_process

WAIT_SECONDS = 1.0  # for rank 0 to print what another rank would


def is_launcher() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def earlier_failure() -> str | None:
    """Return why no further attempt can succeed, if one has found that out; else None."""
    if (attempt := _attempt_folder()) and (attempt.parent / "failed").exists():
        return (attempt.parent / "failed").read_text(encoding="utf-8")
    return None


def report(reason: str, is_final: bool, is_consequence: bool = False) -> bool:
    """Tell torchrun and the other processes why this one ends. Return whether to print it.

    `is_final`: no further attempt can succeed. `is_consequence`: another process may have ended
    first, and have said why. Of equal reasons only one is printed on a machine, by rank 0 if it
    has it, too.
    """
    if not (attempt := _attempt_folder()):
        return True
    with suppress(OSError):  # a full disk must not hide the reason itself
        _write_error_file(reason)
        if is_final:
            (attempt.parent / "failed").write_text(reason, "utf-8", "backslashreplace")
        if is_consequence and (attempt / "reported").exists():
            return False
        number = zlib.crc32(reason.encode(errors="backslashreplace"))
        is_first = _claim(attempt.parent / f"reported-{number:08x}")
        (attempt / "reported").touch()
        return is_first
    return True


def _attempt_folder() -> Path | None:
    """Return the folder of this attempt, or None without torchrun or with an unknown one."""
    error_file = Path(os.environ.get("TORCHELASTIC_ERROR_FILE", ""))
    attempt = error_file.parent.parent
    number = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    is_known = attempt.name == f"attempt_{number}" and attempt.is_dir()
    return attempt if is_launcher() and is_known else None


def _write_error_file(reason: str) -> None:
    """Write what torchrun's summary shows as the reason, in its format."""
    import json  # which a script that does not fail may never need

    details = {"py_callstack": reason, "timestamp": str(int(time.time()))}
    content = {"message": {"message": reason, "extraInfo": details}}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(content), encoding="utf-8")


def _claim(path: Path) -> bool:
    """Make a file. Return False if another process has made it."""
    deadline = time.monotonic() + (0 if is_primary_process() else WAIT_SECONDS)
    while time.monotonic() < deadline and not path.exists():
        time.sleep(0.02)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
