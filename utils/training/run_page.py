"""index.html of a run's folder: a training as a page to look at, while it runs and afterwards.

It is made from results.csv, options.json and first_batch.png alone, so it can be made of
any run, also of an older version's.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from csv import DictReader
from csv import Error as CsvError
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

from utils.cli import switch_forms
from utils.errors import StageError
from utils.files import CSV_ENCODING
from utils.imaging.image_io import ImageError
from utils.pages.charts import Line
from utils.pages.page import write_page
from utils.pages.texts import text
from utils.pages.thumbnails import thumbnail_uri
from utils.training.run_folder import OPTIONS, PAGE, RESULTS, read_flags_and_environment

COLUMNS = ("epoch", "lr", "train_loss", "val_loss", "val_accuracy", "images_per_second")
PICTURE_SIDE = 1024  # pixels of the first batch
TRAINING, FINISHED, STOPPED_EARLY, INTERRUPTED = "training", "finished", "early", "interrupted"
# An update waits until so many times as long has passed as the page takes to write.
PATIENCE = 100


@dataclass(frozen=True)
class Option:
    """A flag of the run."""

    name: str
    value: str
    default: str
    is_changed: bool


class RunPage:
    """Writes the page of a run."""

    def __init__(
        self,
        folder: Path,
        language: str,
        defaults: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`defaults`: the flags of an empty command line, as `run_options` returns them."""
        self.path = folder / PAGE
        self._language, self._defaults, self._clock = language, defaults, clock
        self._picture: tuple[float, str] = (0.0, "")  # time of the file, and its address
        self._seconds = 0.0  # that the latest page took, if it is not the first
        self._written = -math.inf

    def update(self) -> None:
        """Write the page of a run in training, unless that would slow the training down."""
        if self._clock() - self._written >= PATIENCE * self._seconds:
            self.write(TRAINING)

    def write(self, state: str) -> None:
        """Write the page of a run in one of the four states. Raise OSError if it fails."""
        started = self._clock()
        folder = self.path.parent
        options: dict[str, Any] = {}
        environment: dict[str, Any] = {}
        with suppress(StageError):  # the page of a broken file shows the rest
            options, environment = read_flags_and_environment(folder / OPTIONS)
        history = read_results(folder)
        write_page(
            self.path,
            "run.html",
            self._language,
            title_values={"name": folder.name},
            folder=folder,
            state=state,
            history=history,
            best=find_best(history),
            epochs=options.get("epochs", self._defaults.get("epochs")),
            images=[_count(environment, f"{name}_images") for name in ("training", "validation")],
            mean_speed=_mean(history, "images_per_second"),
            time=training_time(history, _count(environment, "training_images")),
            charts=make_charts(history),
            picture=self._first_batch(),
            options=list_options(options, self._defaults),
            environment=environment,
            network=options.get("model", ""),
            command=make_command(options, self._defaults),
            resume=shlex.join(["python", "train.py", "--resume", str(folder)]),
            test=_test_command(options),
        )
        if math.isfinite(self._written):  # the first time, jinja2 is imported, too
            self._seconds = self._clock() - started
        self._written = self._clock()

    def _first_batch(self) -> str:
        """Return first_batch.png as an address, or nothing if there is none."""
        path = self.path.with_name("first_batch.png")
        with suppress(OSError, ImageError):
            changed = path.stat().st_mtime
            if self._picture[0] != changed:
                self._picture = changed, thumbnail_uri(path, PICTURE_SIDE)
            return self._picture[1]
        return ""


def read_results(folder: Path) -> list[dict[str, float | None]]:
    """Return COLUMNS of each epoch in results.csv; None for a missing or invalid cell."""
    try:
        with (folder / RESULTS).open(encoding=CSV_ENCODING, errors="replace", newline="") as file:
            rows = [{name: _number(row.get(name)) for name in COLUMNS} for row in DictReader(file)]
    except (OSError, CsvError):
        return []
    return [row for row in rows if row["epoch"] is not None]


def _number(cell: object) -> float | None:
    try:
        number = float(str(cell))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def find_best(history: Sequence[Mapping[str, float | None]]) -> Mapping[str, float | None] | None:
    """Return the epoch with the best validation accuracy, the first of equals, or None."""
    measured = [row for row in history if row["val_accuracy"] is not None]
    return max(measured, key=lambda row: row["val_accuracy"] or 0.0, default=None)


def _mean(history: Sequence[Mapping[str, float | None]], column: str) -> float | None:
    values = [value for row in history if (value := row[column])]
    return sum(values) / len(values) if values else None


def training_time(history: Sequence[Mapping[str, float | None]], images: int | None) -> str | None:
    """Return how long the epochs took without validation, as 1:23:45; None if it is not known."""
    speeds = [speed for row in history if (speed := row["images_per_second"]) is not None]
    usual = median(speeds) if speeds else 0.0
    if not images or usual <= 0 or len(speeds) < len(history):
        return None
    # The speed of an epoch that was resumed near its end is that of a few images, or 0.
    seconds = sum(images / (speed if speed > usual / 4 else usual) for speed in speeds)
    with suppress(OverflowError):
        return str(timedelta(seconds=round(seconds)))
    return None


def _count(environment: Mapping[str, Any], key: str) -> int | None:
    """Return a number of images of the environment, which earlier versions did not store."""
    value = environment.get(key)
    return value if isinstance(value, int) else None


def make_charts(history: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Return the lines of each chart, and the epochs below them."""

    def line(name: Markup, column: str) -> Line:
        return Line(name, [row[column] for row in history])

    train, validation = text("run.train"), text("run.validation")
    return {
        "epochs": [row["epoch"] for row in history],
        "loss": [line(train, "train_loss"), line(validation, "val_loss")],
        "accuracy": [line(validation, "val_accuracy")],
        "lr": [line(text("run.lr"), "lr")],
    }


def list_options(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Option]:
    """Return all flags with their values and defaults, those that differ first.

    The run of an earlier version lacks newer flags, which then have their defaults.
    """
    listed = [
        Option(
            f"--{name}",
            _show(value),
            _show(defaults[name]) if name in defaults else "",
            name not in defaults or value != defaults[name],
        )
        for name, value in (dict(defaults) | dict(options)).items()
    ]
    return sorted(listed, key=lambda option: not option.is_changed)


def make_command(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the command line that starts the same training again."""
    words = ["python", "train.py"]
    for name, value in options.items():
        if name not in defaults or value == defaults[name] or value is None:
            continue
        if isinstance(value, bool):
            forms = switch_forms(f"--{name}")
            words.append(forms[0] if value else forms[-1])
        else:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *map(_show, values)]
    return shlex.join(words)


def _test_command(options: Mapping[str, Any]) -> str:
    words = ["python", "test.py"]
    for name, default in (("model_path", "model.pt"), ("data_path", "data")):
        value = options.get(name)
        if value not in (None, default):
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _show(value: Any) -> str:
    """Return a value as on the command line; nothing for a flag that is not set."""
    if value is None:
        return ""
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return " ".join(map(_show, value)) if isinstance(value, list) else str(value)
