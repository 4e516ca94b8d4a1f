"""Send a stage a signal at one of its file operations. Python imports this file as it starts.

Every open to write, rename, link and removal below FOLDER is one step of the stage and its workers
together. At the step STEP the stage is sent SIGNAL. The processes count together in the file STEPS,
which is as many bytes long as there have been steps.
"""

import os
import signal
import sys
import threading

_folder = os.environ["FOLDER"] + os.sep
_step, _signal = int(os.environ["STEP"]), int(os.environ["SIGNAL"])
_steps = os.open(os.environ["STEPS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_stage = os.getppid() if "--multiprocessing-fork" in sys.orig_argv else os.getpid()
_one_by_one = threading.Lock()
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _watch(event: str, args: tuple) -> None:
    if event == "open":
        changes = isinstance(args[0], str) and args[2] & _WRITES
    else:
        changes = event in ("os.rename", "os.link", "os.remove", "os.symlink", "os.mkdir")
    if changes and os.path.abspath(args[0]).startswith(_folder):  # noqa: PTH100
        with _one_by_one:
            os.write(_steps, b".")
            step = os.lseek(_steps, 0, os.SEEK_CUR)  # the end of this very write
        if step == _step:
            os.kill(_stage, _signal)


# A shell lets what it starts in the background ignore SIGINT, tests too.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.addaudithook(_watch)
