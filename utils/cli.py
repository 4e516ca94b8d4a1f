"""What every script shares with the shell: flags, one-line errors, bars and exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

OK, SOME_FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130
LARGEST = 1e9  # of any number in a flag: above, something beneath would overflow
LEADS = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts, one speaks
MAX_SIDE = 4096  # pixels of a network's input
LONGEST_LINE = 1000  # letters
SHOWN_FAILURES = 5  # lines on the screen; the log has them all


class StageError(Exception):
    """What keeps a stage from running, told to the user in one line: what, where, what to do."""


class Parser(argparse.ArgumentParser):
    """Takes its description from a script's docstring and tells what is wrong in one line."""

    def __init__(self, docstring: str) -> None:
        super().__init__(
            description=docstring,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._into: argparse._ActionsContainer = self

    def section(self, title: str) -> None:
        """The flags that follow stand below this title in --help."""
        self._into = self.add_argument_group(title)

    def error(self, message: str) -> NoReturn:
        self.exit(COULD_NOT_RUN, f"{self.prog}: error: {one_line(message)} (see --help)\n")

    def flag(self, name: str, help: str, default: object, type: Callable, **more: object) -> None:
        """A flag whose help ends with its default, as the seed's list of them does."""
        text = " ".join(map(str, default)) if isinstance(default, list) else default
        shown = f" ({text})".replace("%", "%%") if default is not None else ""
        self._into.add_argument(name, help=help + shown, default=default, type=type, **more)

    def switch(self, name: str, help: str, default: bool) -> None:
        """A yes/no flag in every spelling people try: --x, --x False, --x=0, --no-x, --no_x."""
        self.flag(name, help, default, boolean, nargs="?", const=True, metavar="BOOL")
        word = name.removeprefix("--")
        for no in dict.fromkeys((f"--no-{word.replace('_', '-')}", f"--no_{word}")):
            self._into.add_argument(no, dest=word, action="store_false", help=argparse.SUPPRESS)

    def device_flags(self) -> None:
        self.switch("--gpu", "use a GPU where the system has one; --no-gpu: never", True)
        self.flag("--cuda_idx", "which GPU, counted from 0", 0, whole, metavar="N")

    def original_size_flag(self) -> None:
        what = "of a checkpoint of the original, which does not say; others know it"
        self.flag("--image_size", what, None, side, metavar="PIXELS")

    def log_dir_flag(self) -> None:
        self.flag("--log_dir", "where the error logs are written", Path(), Path, metavar="DIR")


def boolean(text: str) -> bool:
    """True or False from any common spelling of them, for argparse."""
    word = text.strip().lower()
    if word in ("true", "yes", "on", "1", "y", "t"):
        return True
    if word in ("false", "no", "off", "0", "n", "f"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def _number(
    kind: type, smallest: float, allow_smallest: bool, name: str, largest: float = LARGEST
) -> Callable:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {name}") from None
        if not smallest <= value <= largest or (value == smallest and not allow_smallest):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {name}")
        return value

    return convert


whole = _number(int, 0, True, "whole number of 0 or more")
positive = _number(int, 1, True, "whole number of 1 or more")
side = _number(int, 1, True, f"whole number from 1 to {MAX_SIDE}", MAX_SIDE)
per_cent = _number(int, 1, True, "whole number from 1 to 100", 100)
positive_float = _number(float, 0, False, "number above 0")
not_negative = _number(float, 0, True, "number of 0 or more")
share = _number(float, 0, True, "number from 0 to 1", 1)
part = _number(float, 0, True, "number from 0 to 0.99", 0.99)


def one_line(text: object) -> str:
    """Any text as one line that is safe on a terminal: control characters become escapes.

    What is longer than anybody reads is cut: a server may send 60 KB as the reason of a refusal.
    """
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[: LONGEST_LINE + 1])
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"


def say(message: object) -> None:
    """A line for the person at the terminal (stderr), clear of any bar that is being drawn."""
    if LEADS:
        tqdm.write(one_line(message), file=sys.stderr)


class Bar(tqdm):
    """A bar on stderr with a rate and a count of failures; silent where stderr is no terminal."""

    def __init__(
        self, total: int, description: str, unit: str = "photo", leave: bool = True
    ) -> None:
        """`leave`: the full bar stays on the screen; False where a line will say the same."""
        super().__init__(
            total=total, desc=description, unit=unit, file=sys.stderr, dynamic_ncols=True,
            leave=leave,
            # None: where stderr is no terminal
            disable=None if description and LEADS else True,
        )  # fmt: skip
        self.failures = 0

    def fail(self, what: object, why: object) -> None:
        """Count one failure and tell the first few; the rest are only in the stage's log."""
        self.failures += 1
        if self.failures <= SHOWN_FAILURES:
            say(f"failed: {what}: {why}")
        elif self.failures == SHOWN_FAILURES + 1:
            say("more failures follow: all of them are in the log")
        self.set_postfix(failed=self.failures, refresh=False)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script's `main` and leave with its exit status; no traceback for what is not a bug."""
    _use_utf8()
    script = Path(sys.argv[0]).name
    try:
        status = main()
        sys.stdout.flush()
    except StageError as problem:
        status = _stop(script, problem)
    except KeyboardInterrupt as interrupt:
        what = interrupt.args[0] if interrupt.args else "run it again to finish"
        print(f"{script}: interrupted; {what}", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = SOME_FAILED
    except OSError as error:
        status = _stop(script, describe(error))
    if status in (COULD_NOT_RUN, INTERRUPTED):
        # Threads that wait for a server would hold a plain exit back until it answers.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def describe(error: OSError) -> str:
    """An operating system's error as `path: reason`, without its number."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def _stop(script: str, message: object) -> int:
    who = script if LEADS else f"{script} (rank {os.environ['RANK']})"
    print(f"{who}: error: {one_line(message)}", file=sys.stderr)
    return COULD_NOT_RUN


def _use_utf8() -> None:
    """Hangul in file names and on stdout under any locale.

    Outside UTF-8 locales Python cannot even name the files, which only a restart in its UTF-8
    mode mends; the guard keeps an interpreter that ignores `-X utf8` from restarting for ever.
    """
    if sys.getfilesystemencoding().lower() != "utf-8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
