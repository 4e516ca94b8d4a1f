"""The folder of a training run: what it was told, what came of it, and where it can go on.

runs/003-vgg19/options.json     every flag; train.py --config takes it
               results.csv      a line an epoch
               curves.png, first_batch.png
               best.pt          the epoch with the best validation accuracy
               last.pt          the newest state; train.py --resume goes on from it
               replaced.pt      the model that stood where the new one went, if no run has it
"""

from __future__ import annotations

import csv
import filecmp
import io
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from utils.errors import StageError, describe_os_error
from utils.files import atomic_file, remove_stale_temp_files, try_lock

OPTIONS, RESULTS = "options.json", "results.csv"
BEST, LAST, REPLACED = "best.pt", "last.pt", "replaced.pt"


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best, self.last, self.replaced = folder / BEST, folder / LAST, folder / REPLACED

    @classmethod
    def new(cls, runs: Path, name: str) -> Run:
        """A folder that no run has had, with the next number: no result is ever overwritten."""
        runs.mkdir(parents=True, exist_ok=True)
        number = max((_number(folder) for folder in runs.iterdir()), default=0)
        while True:
            number += 1
            try:
                (runs / f"{number:03d}-{name}").mkdir()
            except FileExistsError:  # another run has started at the same moment
                continue
            return cls(runs / f"{number:03d}-{name}")

    def lock(self) -> None:
        """Be the one process that trains in it, until this ends. Raises StageError if one does."""
        if not try_lock(self.folder):
            raise StageError(
                f"{self.folder} is being trained by another process: wait for it, or stop it first"
            )

    @classmethod
    def newest(cls, runs: Path) -> Run:
        """The run with the highest number that can go on. Raises StageError where there is none."""
        found = [run for run in _all(runs) if run.last.exists()]
        if not found:
            raise StageError(f"--resume: {runs} holds no run; start one without --resume")
        return found[-1]

    @classmethod
    def at(cls, path: Path) -> Run:
        """The run of that folder, or of a file in it. Raises StageError where there is none."""
        folder = path.parent if path.is_file() else path
        if not (folder / OPTIONS).is_file():
            raise StageError(f"--resume {path} is no run's folder: it has no {OPTIONS}")
        return cls(folder)

    @classmethod
    def find_matching(cls, runs: Path, options: dict[str, Any]) -> Run | None:
        """The newest run that was told just these options and has something to go on from."""
        for run in reversed(_all(runs)):
            with suppress(StageError):  # another run's broken options are no concern of this one
                if run.last.exists() and read_options(run.folder / OPTIONS) == options:
                    return run
        return None

    def backup_replaced(self, model_path: Path) -> None:
        """Copy the model that this run's will take the place of, unless some run has it."""
        bests = (run.best for run in _all(self.folder.parent) if run.best.exists())
        if not any(filecmp.cmp(model_path, best, shallow=False) for best in bests):
            with atomic_file(self.replaced) as file:
                file.write(model_path.read_bytes())

    def write_options(self, options: dict[str, Any]) -> None:
        remove_stale_temp_files(self.folder)
        with atomic_file(self.folder / OPTIONS) as file:
            text = json.dumps(options, ensure_ascii=False, indent=2) + "\n"
            file.write(text.encode(errors="surrogateescape"))  # a path need not be UTF-8

    def write_results(self, history: list[dict[str, float]]) -> None:
        """The whole table, each time: a line is never there twice, or half."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(history[0]))
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in history)
        with atomic_file(self.folder / RESULTS) as file:
            file.write(text.getvalue().encode())


def read_options(path: Path) -> dict[str, Any]:
    """The options in a file that `write_options` wrote, or one like it. Raises StageError."""
    try:
        options = json.loads(path.read_text(encoding="utf-8-sig", errors="surrogateescape"))
    except OSError as error:
        raise StageError(describe_os_error(error)) from None
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise StageError(f'{path} is not JSON like {{"model": "vgg19", "epochs": 30}}')
    wrong = [name for name, value in options.items() if not _is_word(str(value))]
    if wrong:
        raise StageError(f"{path}: {wrong[0]} holds a character that no path or name can have")
    return options


def to_argv(options: dict[str, Any]) -> list[str]:
    """Options as the words of a command line; those that are null are left out."""
    return [f"--{name}={value}" for name, value in options.items() if value is not None]


def _is_word(text: str) -> bool:
    """False for what JSON can hold and a command line cannot: NUL, and half a character."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _all(runs: Path) -> list[Run]:
    folders = [folder.parent for folder in runs.glob(f"*/{OPTIONS}")]
    return [Run(folder) for folder in sorted(folders, key=lambda f: (_number(f), f.name))]


def _number(folder: Path) -> int:
    found = re.match(r"\d+", folder.name)
    return int(found[0]) if found else 0
