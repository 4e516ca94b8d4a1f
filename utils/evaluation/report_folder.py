"""Where reports go: a folder for each model and each set, made before anything is measured."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from utils.console import note
from utils.errors import StageError, describe_os_error
from utils.files import make_folder
from utils.inference.model_path import BUNDLED_MODEL, is_onnx

TRIAL_BYTES = 4096  # written to see whether a folder can be written: a full disk takes empty files
# Errors that name a wrong path, rather than a disk that cannot be written now.
WRONG_PATH = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)


class Subject(NamedTuple):
    """What a report is about."""

    model: str  # file name
    data: Path  # absolute path of the folder with the class folders
    options: str  # see `report_options`


def report_options(tta: str, balance: float | None) -> str:
    """Return the flags on which the figures of a report depend."""
    return f"--tta {tta}" + (f" --balance {balance:g}" if balance else "")


def report_folders(model_paths: list[Path], root: Path, output: Path | None) -> list[Path]:
    """Return the folder of each model's report on the images in `root`.

    `output` is the folder of a single model's report, or holds a folder for each of several.
    Raise StageError if two reports would go into the same folder.
    """
    if output and len(model_paths) == 1:
        folders = [output]
    elif output:
        folders = [output / _report_name(path) for path in model_paths]
    else:
        folders = [_default_folder(path, root) for path in model_paths]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise StageError(
            "--model_path: two models have the same name, and so would their reports; test them "
            "one by one"
        )
    return folders


def _report_name(model_path: Path) -> str:
    """Return the name of a model's folder. An exported model often lies beside the original."""
    return f"{model_path.name if is_onnx(model_path) else model_path.stem}-report"


def is_bundled(model_path: Path) -> bool:
    """Return whether a model lies in the folder of the models that come with the project."""
    return model_path.parent.resolve() == BUNDLED_MODEL.parent


@contextmanager
def prepared_folders(
    folders: list[Path], model_paths: list[Path], root: Path, options: list[str]
) -> Iterator[dict[Path, str]]:
    """Make the folders, and yield those that cannot be written, with the reason.

    `options`: of each model's report, see `report_options`. Print a note for a report of something
    else that will be replaced. At the end, remove new folders that have stayed empty. Raise
    StageError for a path that can be no folder.
    """
    unwritable: dict[Path, str] = {}
    new = [path for folder in folders for path in _missing(folder)]
    try:
        for folder, model_path, flags in zip(folders, model_paths, options, strict=True):
            earlier = _subject_of(folder)
            if earlier not in (None, Subject(model_path.name, root.resolve(), flags)):
                model, data, flags = earlier
                note(f"{folder}: the report of {model} on {data}, {flags}, will be replaced")
            try:
                _make_writable(folder)
            except OSError as error:
                if error.errno in WRONG_PATH:
                    raise StageError(f"no report: {describe_os_error(error)}") from None
                reason = unwritable[folder] = describe_os_error(error)
                note(f"{reason}: only the figures will be printed (or name --output)")
        yield unwritable
    finally:
        for folder in new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _missing(folder: Path) -> list[Path]:
    """Return the folder and its parents that do not exist yet, the innermost first."""
    with suppress(OSError):  # a path that can be no folder
        return [path for path in (folder, *folder.parents) if not path.exists()]
    return []


def _default_folder(model_path: Path, root: Path) -> Path:
    """Return `<model>-report/<set>` beside the model, or here for a model of the project.

    The set is the name of its folder. If a report of another set of that name is there, add a
    number. Raise StageError if the folder would lie among the models of the project.
    """
    beside = model_path.parent
    if is_bundled(model_path):
        beside = Path()
        if is_bundled(beside / model_path.name):
            raise StageError(
                f"{model_path} comes with the project, and no report goes beside it: name a folder "
                f"with --output"
            )
    name = root.name if root.name not in ("", "..") else root.resolve().name or "root"
    for number in count(1):
        numbered = name if number == 1 else f"{name}-{number}"
        folder = beside / _report_name(model_path) / numbered
        earlier = _subject_of(folder)
        if earlier is None or earlier[:2] == (model_path.name, root.resolve()):
            return folder
        note(f"{folder} holds the report of {earlier.model} on {earlier.data}: it is kept")
    raise AssertionError


def _subject_of(folder: Path) -> Subject | None:
    """Return what the report in a folder is about, or None if there is no report."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        data = Path(report["data"]).resolve()
        balance = report.get("balance", {}).get("tau")
        options = report_options(report.get("tta", "none"), balance)
        return Subject(Path(report["model"]).name, data, options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _make_writable(folder: Path) -> None:
    """Make the folder and write a trial file. Raise OSError, with a file name, if that fails."""
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(TRIAL_BYTES))
    except OSError as error:
        error.filename = str(folder)
        raise
