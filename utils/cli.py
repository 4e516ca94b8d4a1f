"""The command line that all scripts share: flags, exit statuses and one-line errors."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from utils import interrupt, torchrun
from utils.console import is_primary_process, one_line
from utils.errors import LostProcessError, StageError, TransientError, describe_os_error
from utils.filenames import expand_home

OK, SOME_FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, interrupt.STATUS
MAX_NUMBER = 1e9  # in any flag; a larger number would overflow somewhere
MAX_SUGGESTIONS = 3  # flags or choices that begin like a mistyped one

_DASHES = "\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}"
_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1", "y", "t"), True)
_BOOLEANS |= dict.fromkeys(("false", "no", "off", "0", "n", "f"), False)

Number = TypeVar("Number", int, float)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows a switch as `--flip, --no-flip`."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.type is boolean:
            return ", ".join(switch_forms(action.option_strings[0]))
        return super()._format_action_invocation(action)


class _ListAction(argparse.Action):
    """Stores a list of values. A flag that is given again adds to it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse hands it over
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        earlier = getattr(namespace, self.dest)
        is_first = earlier is self.default
        setattr(namespace, self.dest, [*([] if is_first else earlier), *values])


class Parser(argparse.ArgumentParser):
    """An argument parser with the script's docstring as its description and one-line errors.

    It takes hyphens for underscores (`--data-path`), and choices in any case (`Adam`).
    """

    def __init__(self, docstring: str | None, add_help: bool = True) -> None:
        super().__init__(
            description=docstring,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            add_help=add_help,
        )
        self._group: argparse._ActionsContainer = self
        self._names = ["--help"] * add_help  # to suggest if a flag is mistyped
        self._flagless: argparse.Action | None = None  # takes the words without a flag
        self._closing: Callable[[list[str]], str] = lambda words: ""
        self._words: list[str] = []  # of the command line

    def section(self, title: str) -> None:
        """Start a group of flags: those added from now on stand under this title in --help."""
        self._group = self.add_argument_group(title)

    def error(self, message: str) -> NoReturn:
        """Print a problem with the command line in one line and exit with status 2."""
        line = f"{self.prog}: error: {one_line(message)} (see --help)\n"
        self.exit(COULD_NOT_RUN, line if torchrun.report(line.strip(), is_final=True) else None)

    def flag(
        self, name: str, help: str, default: object, type: Callable[[str], Any], **options: Any
    ) -> None:
        """Add a flag. Its help text ends with its default in parentheses."""
        help = (help + default_note(default)).replace("%", "%%")  # argparse formats it
        if choices := options.get("choices"):
            type = _choice(choices)
        if options.get("nargs") == "+":
            options["action"] = _ListAction
        self._group.add_argument(name, help=help, default=default, type=type, **options)
        self._names.append(name)

    def switch(self, name: str, help: str, default: bool | None) -> None:
        """Add a yes/no flag that takes every usual spelling: --x, --x False, --x=0, --no-x.

        The default None is neither.
        """
        self.flag(name, help, default, boolean, nargs="?", const=True, metavar="BOOL")
        word = name.removeprefix("--")
        for negative in dict.fromkeys((_negative(name), f"--no_{word}")):
            self._group.add_argument(
                negative, dest=word, action="store_false", help=argparse.SUPPRESS
            )
        self._names += switch_forms(name)[1:]

    def flagless(self, name: str) -> None:
        """Let words that follow no flag be values of the flag `name`: `emotion.py photo.jpg`."""
        self._flagless = self._option_string_actions[name]

    def closing(self, text: Callable[[list[str]], str]) -> None:
        """End --help with a text. It is made, from the command line's words, when it is shown."""
        self._closing = text

    def format_help(self) -> str:
        """Return the text of --help."""
        closing = self._closing(self._words)
        return super().format_help() + (f"\n{closing}\n" if closing else "")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Return the values of all flags. Exit with one line for a word that cannot be used."""
        words = self._words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        words, flagless = words[:end], words[end + 1 :]
        if not {"-h", "--help"} & {*words}:
            self._refuse_unknown(words)
        words = self._spell(words)
        values, rest = super().parse_known_args(words, namespace)
        if flagless := rest + flagless:
            name = self._flag_for(flagless, values)
            words += [f"{name}={word}" for word in flagless]
            values, _ = super().parse_known_args(words, namespace)
        return values

    def _flag_for(self, words: list[str], values: argparse.Namespace) -> str:
        """Return the flag that takes the words without a flag. Exit if none can."""
        if not self._flagless:
            flags = (action for action in self._actions if action.metavar and action.nargs != "?")
            example = next((f", as in {flag.option_strings[0]} {words[0]}" for flag in flags), "")
            self.error(f"{words[0]!r} follows no flag; give it one{example}")
        flag = self._flagless
        name = flag.option_strings[0]
        is_given = getattr(values, flag.dest) != flag.default
        if flag.nargs is None and len(words) + is_given > 1:
            self.error(f"{name} takes one value, not {words[-1]!r} as well")
        return name

    def _spell(self, words: Sequence[str]) -> list[str]:
        """Return the words with the flags as they are declared.

        If words without a flag are images, `--detect_face photo.jpg` has to become
        `--detect_face=True photo.jpg`.
        """
        spelled = with_underscores(words)
        for i, word in enumerate(spelled[:-1] if self._flagless else ()):
            if (
                word in self._option_string_actions
                and self._option_string_actions[word].type is boolean
                and not is_boolean(spelled[i + 1])
            ):
                spelled[i] = f"{word}=True"
        return spelled

    def _refuse_unknown(self, words: list[str]) -> None:
        """Exit if a word looks like a flag and is none. Say which flag it resembles."""
        problems = []
        for word in words:
            name = word.partition("=")[0]
            suggestion = did_you_mean(name, self._names)
            is_flag = name[:1] == "-" and name != "-" and " " not in name and not _is_number(word)
            # A word processor makes one dash of two hyphens.
            is_flag |= name[:1] in _DASHES and bool(suggestion)
            if is_flag and with_underscores([name])[0] not in self._option_string_actions:
                problems.append(f"unknown flag {name}{suggestion}")
        if problems:
            self.error("; ".join(dict.fromkeys(problems)))

    def device_flags(self, small_requests: str = "") -> None:
        """Add --gpu and --cuda_idx.

        `small_requests`: which requests a GPU does not get unless it is asked for, if there are
        such. Then the default of --gpu is None.
        """
        text = "use a CUDA GPU if the system has one; --no-gpu: use the CPU"
        text += f" (default: not for {small_requests})" if small_requests else ""
        self.switch("--gpu", text, None if small_requests else True)
        self.flag("--cuda_idx", "index of the GPU, from 0", 0, non_negative_int, metavar="N")

    def reference_size_flag(self, max_side: int) -> None:
        """Add --image_size, for a model file of the reference implementation, which lacks it."""
        text = "image size of a model of the reference implementation; other model files hold it"
        self.flag("--image_size", text, None, int_between(1, max_side), metavar="PIXELS")

    def lang_flag(self) -> None:
        """Add --lang. `utils.pages.page` knows what "auto" is."""
        text = "language in which a page opens; a button switches it (auto: that of the system)"
        self.flag("--lang", text, "auto", str, choices=("auto", "en", "ko"))

    def log_dir_flag(self) -> None:
        """Add --log_dir."""
        self.flag("--log_dir", "folder for the error logs", Path(), path, metavar="DIR")


def wants_gpu(args: argparse.Namespace) -> bool | None:
    """Return whether the flags ask for a GPU or refuse it; None: they leave it open.

    Who names one with --cuda_idx asks for it.
    """
    return True if args.gpu is None and args.cuda_idx else args.gpu


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


def with_underscores(words: Iterable[str]) -> list[str]:
    """Return the words of a command line, the names of flags with underscores for hyphens."""
    spelled = []
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
        spelled.append(name + equals + value)
    return spelled


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return "; did you mean --epochs?" for `--epoch`; an empty text if no name is similar."""
    import difflib  # only now, because few command lines have a mistake

    by_key = {_comparable(name): name for name in names}
    key = _comparable(word)
    similar = [name for known, name in by_key.items() if key and known.startswith(key)]
    if not 1 <= len(similar) <= MAX_SUGGESTIONS:
        similar = [by_key[close] for close in difflib.get_close_matches(key, by_key, 1)]
    words = " or ".join(", ".join(similar).rsplit(", ", 1))
    return f"; did you mean {words}?" if similar else ""


def _comparable(name: str) -> str:
    return name.strip("-" + _DASHES).replace("-", "_").lower()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def path(text: str) -> Path:
    """Return a path, in which ~ is the home folder. An argparse type."""
    return Path(expand_home(text))


def boolean(text: str) -> bool:
    """Return True or False from any common spelling. An argparse type."""
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return value


def is_boolean(text: str) -> bool:
    """Return whether `boolean` can read a text."""
    return text.strip().lower() in _BOOLEANS


def _choice(choices: Sequence[object]) -> Callable[[str], object]:
    """Return an argparse type that takes one of the choices, in any case."""

    def convert(text: str) -> object:
        for choice in choices:
            if str(choice).lower() == text.strip().lower():
                return choice
        words = [str(choice) for choice in choices]
        problem = f"{text!r} is not one of {', '.join(words)}{did_you_mean(text, words)}"
        raise argparse.ArgumentTypeError(problem)

    return convert


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
        if value > maximum == MAX_NUMBER:
            most = f"{MAX_NUMBER:,.0f}"
            raise argparse.ArgumentTypeError(f"{text!r} is too large: the most is {most}")
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


def number_between(minimum: float, maximum: float) -> Callable[[str], float]:
    """Return an argparse type for numbers from `minimum` to `maximum`."""
    return _number(float, minimum, f"number from {minimum:g} to {maximum:g}", maximum)


fraction = _number(float, 0, "number from 0 to 1", 1)
fraction_below_one = _number(float, 0, "number from 0 to 0.99", 0.99)
shear_angle = _number(float, 0, "number of degrees from 0 to 60", 60)


def pixels_or_fraction(text: str) -> float:
    """Return a whole number of pixels, int, or a fraction below 1, float. An argparse type."""
    number = non_negative_float(text)
    if number != int(number) and number > 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a whole number of pixels nor a fraction below 1"
        )
    return int(number) if number == int(number) else number


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script's `main` and exit with its status. Print expected errors as one line."""
    _use_utf8()
    script = Path(sys.argv[0]).name
    if failure := torchrun.earlier_failure():
        torchrun.report(failure, is_final=True)  # it has been printed before
        sys.exit(COULD_NOT_RUN)
    try:
        with interrupt.raising():
            status = main()
            sys.stdout.flush()
    except StageError as error:
        status = _report(script, error)
    except KeyboardInterrupt as error:
        line = interrupt.line(*error.args[:1])
        torchrun.report(line.strip(), is_final=False)
        if is_primary_process():
            print(line, end="", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has ended (`| head`). Python would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = SOME_FAILED
    except OSError as error:
        status = _report(script, TransientError(describe_os_error(error)))
    if status in (COULD_NOT_RUN, INTERRUPTED):
        # sys.exit would wait for threads, which may wait for a server.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _report(script: str, error: StageError) -> int:
    """Print an error as one line, unless another process has. Return the exit status."""
    name = script if is_primary_process() else f"{script} (rank {os.environ['RANK']})"
    is_printed = torchrun.report(
        f"{script}: error: {one_line(error)}",
        is_final=not isinstance(error, TransientError),
        is_consequence=isinstance(error, LostProcessError),
    )
    if is_printed:
        print(f"{name}: error: {one_line(error)}", file=sys.stderr)
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
