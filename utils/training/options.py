"""The flags of a training: from the command line, a config, a run to resume or a model.

This module imports no torch, so that train.py reports a wrong flag at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import interrupt
from utils.cli import Parser, path, with_underscores
from utils.errors import StageError
from utils.filenames import expand_home
from utils.training.run_folder import OPTIONS, Run, read_options, to_argv

if TYPE_CHECKING:
    from utils.inference.checkpoint import Checkpoint

NEWEST, AUTO = "newest", "auto"  # values of --resume that are no folder
# Flags by which no run differs from another: where to begin, and how a page opens.
_NOT_OF_A_RUN = ("config", "resume", "lang")


def resolve_argv(argv: list[str]) -> tuple[list[str], Checkpoint | None]:
    """Return the whole command line, and the model to start from if --init names one.

    The flags of a run to resume or of a model come first, then those of --config, then `argv`:
    a later one wins. Raise StageError for a run, config or model that cannot be read.
    """
    finder = Parser(None, add_help=False)
    finder.add_argument("--config", type=path)
    finder.add_argument("--init", type=path)
    finder.add_argument("--resume", type=run_name, nargs="?", const=NEWEST)
    finder.add_argument("--runs_path", type=path, default=Path("runs"))
    argv = with_underscores(argv)
    args, _ = finder.parse_known_args(argv)
    if args.config:
        argv = _before(read_options(args.config), argv)
        args, _ = finder.parse_known_args(argv)
    if args.resume and args.resume != AUTO:
        run = find_run(args.resume, args.runs_path)
        return _before(read_options(run.folder / OPTIONS), argv), None
    if args.init:
        with interrupt.importing():  # torch
            from utils.inference.checkpoint import Checkpoint

        initial = Checkpoint.load(args.init)
        return _before(model_flags(initial), argv), initial
    return argv, None


def check_flags(args: argparse.Namespace) -> None:
    """Raise StageError for flags of train.py that do not fit together."""
    if args.folds and args.fold:
        raise StageError(f"--fold {args.fold} is one of --folds: give one of the two flags")
    if args.folds and args.resume not in (None, AUTO):
        raise StageError("--folds resumes by itself what it has begun: leave --resume out")
    if args.nesterov and not (args.optimizer == "sgd" and args.momentum):
        raise StageError("--nesterov needs --optimizer sgd and a --momentum above 0")
    if args.sam and args.accumulate > 1:
        raise StageError(
            "--sam needs the gradient of a whole step at once: leave --accumulate out, and lower "
            "--batch_size if memory is short"
        )
    shift = args.crop if args.crop >= 1 else round(args.crop * args.image_size)
    if args.crop and not (shift and args.crop < args.image_size):
        raise StageError(
            f"--crop {args.crop:g} shifts images of {args.image_size} pixels by {shift}: choose "
            f"less than {args.image_size} pixels, and at least one"
        )


def _before(options: dict[str, Any], words: list[str]) -> list[str]:
    """Return the options, then the words, as one command line on which the words win.

    Leave out the options that the words give too: the values of a list would add up.
    """
    given = {word.partition("=")[0] for word in words}
    earlier = with_underscores(to_argv(options))
    return [word for word in earlier if word.partition("=")[0] not in given] + words


def model_flags(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the flags that build the network of a model, to train it further."""
    preprocess = checkpoint.preprocessing()
    return {
        # The weights of resnet18-original fit resnet18, which pools the whole face.
        "model": checkpoint.network.removesuffix("-original"),
        "image_size": preprocess.image_size,
        "image_channel": preprocess.image_channel,
    }


def run_name(text: str) -> str:
    """Return the value of --resume: NEWEST, AUTO, or a path, in which ~ is the home folder."""
    word = text.strip().lower()
    return word if word in (NEWEST, AUTO) else expand_home(text)


def find_run(resume: str, runs_path: Path) -> Run:
    """Return the run that --resume names. Raise StageError if there is none."""
    return Run.newest(runs_path) if resume == NEWEST else Run.at(Path(resume))


def run_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags that define a run, as JSON can hold them."""
    chosen = {key: value for key, value in vars(args).items() if key not in _NOT_OF_A_RUN}
    return {key: _plain(value) for key, value in chosen.items()}


def _plain(value: Any) -> Any:
    """Return a flag's value with its paths as text."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
