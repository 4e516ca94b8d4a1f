"""What Ctrl-C does, during imports and in main."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.helpers import ROOT
from utils import interrupt

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")


RUN = f"""
import signal, sys
sys.path.insert(0, {str(ROOT)!r})
from utils import interrupt
sys.argv[0] = "folder/stage.py"
send = lambda: signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def run_code(code: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", RUN + code], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_interrupt_ends_the_process_at_once():
    line = "stage.py: interrupted; run it again to finish\n"
    assert run_code("interrupt.exit_at_once(); send(); print(1)") == (130, line)
    assert run_code("with interrupt.importing(): send()") == (130, line)
    assert run_code("import os; os.environ['RANK'] = '1'; interrupt.exit_at_once(); send()") == (
        130,
        "",
    )


def test_interrupt_raises_in_main_and_exits_around_it():
    code = """
interrupt.exit_at_once()
with interrupt.raising():
    try:
        send()
    except KeyboardInterrupt:
        print("caught", file=sys.stderr)
    with interrupt.importing():
        pass
    try:
        send()
    except KeyboardInterrupt:
        print("caught", file=sys.stderr)
send()
"""
    line = "stage.py: interrupted; run it again to finish\n"
    assert run_code(code) == (130, "caught\ncaught\n" + line)


def test_interrupt_while_python_ends_changes_nothing():
    # A module's global is cleared after the handlers of signals.
    code = """
interrupt.exit_at_once()
import os
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=int(signal.SIGINT)):
        kill(pid, number)
sys.late = Late()
"""
    assert run_code(code) == (0, "")


def test_interrupt_leaves_other_handlers_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupt.exit_at_once()
        with interrupt.importing(), interrupt.raising():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_importing_in_a_thread_changes_nothing():
    before, seen = signal.signal(signal.SIGINT, signal.default_int_handler), []

    def import_something() -> None:
        with interrupt.importing():
            seen.append(signal.getsignal(signal.SIGINT))

    try:
        thread = threading.Thread(target=import_something)
        thread.start()
        thread.join()
        assert seen == [signal.default_int_handler]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
