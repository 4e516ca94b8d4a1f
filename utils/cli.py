"""The command line that all scripts share: flags, exit statuses and one-line errors."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from utils import interrupt
from utils.console import is_primary_process, one_line
from utils.errors import StageError, describe_os_error

OK, SOME_FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, interrupt.STATUS
MAX_NUMBER = 1e9  # in any flag; a larger number would overflow somewhere

Number = TypeVar("Number", int, float)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows a switch as `--flip, --no-flip`."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.type is boolean:
            return ", ".join(switch_forms(action.option_strings[0]))
        return super()._format_action_invocation(action)


class Parser(argparse.ArgumentParser):
    """An argument parser with the script's docstring as its description and one-line errors."""

    def __init__(self, docstring: str | None) -> None:
        super().__init__(
            description=docstring,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        self._group: argparse._ActionsContainer = self

    def section(self, title: str) -> None:
        """Start a group of flags: those added from now on stand under this title in --help."""
        self._group = self.add_argument_group(title)

    def error(self, message: str) -> NoReturn:
        """Print a problem with the command line in one line and exit with status 2."""
        self.exit(COULD_NOT_RUN, f"{self.prog}: error: {one_line(message)} (see --help)\n")

    def flag(
        self, name: str, help: str, default: object, type: Callable[[str], Any], **options: Any
    ) -> None:
        """Add a flag. Its help text ends with its default in parentheses."""
        help += default_note(default).replace("%", "%%")
        self._group.add_argument(name, help=help, default=default, type=type, **options)

    def switch(self, name: str, help: str, default: bool) -> None:
        """Add a yes/no flag that takes every usual spelling: --x, --x False, --x=0, --no-x."""
        self.flag(name, help, default, boolean, nargs="?", const=True, metavar="BOOL")
        word = name.removeprefix("--")
        for negative in dict.fromkeys((_negative(name), f"--no_{word}")):
            self._group.add_argument(
                negative, dest=word, action="store_false", help=argparse.SUPPRESS
            )

    def device_flags(self) -> None:
        """Add --gpu and --cuda_idx."""
        self.switch("--gpu", "use a GPU if the system has one; --no-gpu: use the CPU", True)
        self.flag("--cuda_idx", "index of the GPU, from 0", 0, non_negative_int, metavar="N")

    def reference_size_flag(self, max_side: int) -> None:
        """Add --image_size, for a model file of the reference implementation, which lacks it."""
        text = "image size of a model of the reference implementation; other model files hold it"
        self.flag("--image_size", text, None, int_between(1, max_side), metavar="PIXELS")

    def log_dir_flag(self) -> None:
        """Add --log_dir."""
        self.flag("--log_dir", "folder for the error logs", Path(), Path, metavar="DIR")


def switch_forms(name: str) -> list[str]:
    """Return the two forms of a switch to show: --flip and --no-flip. --no_display has only one."""
    return [name] if name.startswith("--no_") else [name, _negative(name)]


def _negative(name: str) -> str:
    return f"--no-{name.removeprefix('--').replace('_', '-')}"


def default_note(default: object) -> str:
    """Return the default in parentheses, as it ends a help text; an empty text for None."""
    if default is None:
        return ""
    if isinstance(default, float):
        return f" ({default:g})"
    text = " ".join(map(str, default)) if isinstance(default, list) else default
    return f" ({text})"


def boolean(text: str) -> bool:
    """Return True or False from any common spelling. An argparse type."""
    word = text.strip().lower()
    if word in ("true", "yes", "on", "1", "y", "t"):
        return True
    if word in ("false", "no", "off", "0", "n", "f"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def _number(
    kind: Callable[[str], Number],
    minimum: float,
    description: str,
    maximum: float = MAX_NUMBER,
    exclude_minimum: bool = False,
) -> Callable[[str], Number]:
    """Return an argparse type for numbers from `minimum` to `maximum`."""

    def convert(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {description}") from None
        if not minimum <= value <= maximum or (value == minimum and exclude_minimum):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {description}")
        return value

    return convert


def int_between(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers from `minimum` to `maximum`."""
    return _number(int, minimum, f"whole number from {minimum} to {maximum}", maximum)


non_negative_int = _number(int, 0, "whole number of 0 or more")
positive_int = _number(int, 1, "whole number of 1 or more")
percent = int_between(1, 100)
positive_float = _number(float, 0, "number above 0", exclude_minimum=True)
non_negative_float = _number(float, 0, "number of 0 or more")
fraction = _number(float, 0, "number from 0 to 1", 1)
fraction_below_one = _number(float, 0, "number from 0 to 0.99", 0.99)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script's `main` and exit with its status. Print expected errors as one line."""
    _use_utf8()
    script = Path(sys.argv[0]).name
    try:
        with interrupt.raising():
            status = main()
            sys.stdout.flush()
    except StageError as error:
        status = _report(script, error)
    except KeyboardInterrupt as error:
        if is_primary_process():
            print(interrupt.line(*error.args[:1]), end="", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has ended (`| head`). Python would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = SOME_FAILED
    except OSError as error:
        status = _report(script, describe_os_error(error))
    if status in (COULD_NOT_RUN, INTERRUPTED):
        # sys.exit would wait for threads, which may wait for a server.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _report(script: str, message: object) -> int:
    """Print an error as one line and return the exit status."""
    name = script if is_primary_process() else f"{script} (rank {os.environ['RANK']})"
    print(f"{name}: error: {one_line(message)}", file=sys.stderr)
    return COULD_NOT_RUN


def _use_utf8() -> None:
    """Use UTF-8 for file names and output under any locale.

    In other locales Python cannot open a file with a Hangul name unless it is restarted in its
    UTF-8 mode. The check of the flag keeps an interpreter that ignores `-X utf8` from restarting
    for ever.
    """
    if sys.getfilesystemencoding().lower() != "utf-8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
