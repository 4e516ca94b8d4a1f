"""The folder of a training run: its flags, its results, its models and its newest state.

runs/003-vgg19/options.json     every flag, and the environment; train.py --config reads it
               results.csv      a row per epoch
               index.html       the same as a page to look at
               curves.png, first_batch.png
               best.pt          the model of the epoch with the best validation accuracy
               last.pt          the newest state, from which train.py --resume continues
               replaced.pt      the model that was at --model_path before, if no run has it
               held_out.csv     of a fold: the best model's predictions for the images left out
"""

from __future__ import annotations

import filecmp
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from utils.errors import StageError, TransientError, describe_os_error
from utils.files import atomic_file, remove_stale_temp_files, try_lock, write_csv

OPTIONS, RESULTS, PAGE = "options.json", "results.csv", "index.html"
ENVIRONMENT = "environment"  # the key in OPTIONS that holds no flag
BEST, LAST, REPLACED = "best.pt", "last.pt", "replaced.pt"
HELD_OUT = "held_out.csv"


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best, self.last, self.replaced = folder / BEST, folder / LAST, folder / REPLACED
        self.held_out = folder / HELD_OUT

    @classmethod
    def new(cls, runs: Path, name: str) -> Run:
        """Make a folder with the next free number below `runs`: no result is ever overwritten."""
        runs.mkdir(parents=True, exist_ok=True)
        number = max((_number(folder) for folder in runs.iterdir()), default=0)
        while True:
            number += 1
            try:
                (runs / f"{number:03d}-{name}").mkdir()
            except FileExistsError:  # another run started at the same moment
                continue
            return cls(runs / f"{number:03d}-{name}")

    def lock(self) -> None:
        """Keep other processes from training in this folder until this process ends.

        Raise TransientError if another process trains in it.
        """
        if not try_lock(self.folder):
            raise TransientError(
                f"{self.folder} is being trained by another process: wait for it, or stop it first"
            )

    @classmethod
    def newest(cls, runs: Path) -> Run:
        """Return the run with the highest number that has a state to resume from.

        Raise StageError if there is none.
        """
        resumable = [run for run in _list_runs(runs) if run.last.exists()]
        if not resumable:
            raise StageError(f"--resume: {runs} holds no run to resume; start one without --resume")
        return resumable[-1]

    @classmethod
    def at(cls, path: Path) -> Run:
        """Return the run of a folder, or of a file in it. Raise StageError if it is not a run's."""
        folder = path.parent if path.is_file() else path
        if not (folder / OPTIONS).is_file():
            raise StageError(f"--resume {path} is not the folder of a run: it has no {OPTIONS}")
        return cls(folder)

    @classmethod
    def find_matching(
        cls, runs: Path, options: dict[str, Any], defaults: dict[str, Any] | None = None
    ) -> Run | None:
        """Return the newest run with exactly these options that can be resumed, or None.

        The run of an earlier version lacks flags that are newer: they have their `defaults`.
        """
        words = sorted(to_argv(options))
        for run in reversed(_list_runs(runs)):
            with suppress(StageError):  # a run whose options cannot be read does not match
                stored = (defaults or {}) | read_options(run.folder / OPTIONS)
                if run.last.exists() and sorted(to_argv(stored)) == words:
                    return run
        return None

    def backup_replaced(self, model_path: Path) -> None:
        """Copy the model that this run will replace to `replaced.pt`, unless a run has it."""
        bests = (run.best for run in _list_runs(self.folder.parent) if run.best.exists())
        if not any(filecmp.cmp(model_path, best, shallow=False) for best in bests):
            with atomic_file(self.replaced) as file:
                file.write(model_path.read_bytes())

    def write_options(
        self, options: dict[str, Any], environment: dict[str, str | int] | None = None
    ) -> None:
        """Write `options.json`, and remove temporary files that a killed process left.

        `environment`: see `describe_environment`. It is for people: `read_options` ignores it.
        """
        remove_stale_temp_files(self.folder)
        content = options | ({ENVIRONMENT: environment} if environment else {})
        with atomic_file(self.folder / OPTIONS) as file:
            text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
            file.write(text.encode(errors="surrogateescape"))  # a path may not be UTF-8

    def write_results(self, history: list[dict[str, float]]) -> None:
        """Write all rows of `results.csv` again, so that none can be repeated or incomplete."""
        columns = list(history[0])
        rows = ([f"{row[column]:.6g}" for column in columns] for row in history)
        write_csv(self.folder / RESULTS, [columns, *rows])


def read_options(path: Path) -> dict[str, Any]:
    """Read the flags from JSON, as `write_options` or a user wrote it.

    Raise StageError if the file cannot be read, or if no command line can hold its values.
    """
    options, _ = read_flags_and_environment(path)
    return options


def read_flags_and_environment(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read both parts of such a file; a user's has no environment. See `read_options`."""
    try:
        options = json.loads(path.read_text(encoding="utf-8-sig", errors="surrogateescape"))
    except OSError as error:
        raise StageError(describe_os_error(error)) from None
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise StageError(f'{path} is not JSON like {{"model": "vgg19", "epochs": 30}}')
    environment = options.pop(ENVIRONMENT) if isinstance(options.get(ENVIRONMENT), dict) else {}
    invalid = [name for name, value in options.items() if not all(map(_is_word, _words(value)))]
    if invalid:
        raise StageError(f"{path}: {invalid[0]} has a character that no path or name can hold")
    return options, environment


def to_argv(options: dict[str, Any]) -> list[str]:
    """Return options as the words of a command line, without those that are null.

    A list becomes a word for each value.
    """
    return [
        f"--{name}={word}"
        for name, value in options.items()
        if value is not None
        for word in _words(value)
    ]


def _words(value: Any) -> list[str]:
    return list(map(str, value)) if isinstance(value, list) else [str(value)]


def _is_word(text: str) -> bool:
    """Return False for text that no command line can hold: with NUL, or half a character."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _list_runs(runs: Path) -> list[Run]:
    """Return the runs below a folder, the newest last."""
    folders = [folder.parent for folder in runs.glob(f"*/{OPTIONS}")]
    return [Run(folder) for folder in sorted(folders, key=lambda f: (_number(f), f.name))]


def _number(folder: Path) -> int:
    digits = re.match(r"\d+", folder.name)
    return int(digits[0]) if digits else 0
