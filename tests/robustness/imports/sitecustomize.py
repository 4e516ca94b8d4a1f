"""Watch the imports of a script, which runs with this folder on its PYTHONPATH.

In a thread: append the module's name to the file IN_THREADS. In the main thread: at import number
INTERRUPT_AT of the script send SIGINT to the process, and at the first one make the file STARTED.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

# A shell lets what it starts in the background ignore SIGINT, tests too.
signal.signal(signal.SIGINT, signal.default_int_handler)

main_thread = threading.main_thread()
interrupt_at = int(os.environ.get("INTERRUPT_AT", 0))
in_threads = os.environ.get("IN_THREADS")
started = os.environ.get("STARTED")
imports = 0


def watch(event: str, arguments: tuple) -> None:
    global imports
    if event != "import" or "--multiprocessing-fork" in sys.argv:
        return
    if threading.current_thread() is not main_thread:
        if in_threads:
            with open(in_threads, "a") as file:  # noqa: PTH123 - pathlib may be what is imported
                file.write(f"{arguments[0]}\n")
    # Before utils.interrupt is imported, Ctrl-C cannot be handled.
    elif hasattr(sys.modules.get("utils.interrupt"), "exit_at_once"):
        imports += 1
        if imports == 1 and started:
            os.close(os.open(started, os.O_CREAT))
        if imports == interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)


sys.addaudithook(watch)
