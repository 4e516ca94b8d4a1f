"""Charts of training and testing: learning curves, confusion matrix, reliability diagram."""

from __future__ import annotations

import os
import tempfile
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils import interrupt
from utils.files import atomic_file
from utils.imaging.drawing import hangul_font
from utils.metrics import Reliability, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

CELL_LETTERS = 8  # Latin letters that fit below a cell of the confusion matrix
LETTER_WIDTH = 0.09  # inches of a Latin letter in a class name


def draw_curves(history: list[dict[str, float]], best: dict[str, float], path: Path) -> None:
    """Save a PNG with loss, validation accuracy and learning rate over the epochs.

    `history`: for each epoch `epoch`, `train_loss`, `val_loss`, `val_accuracy` in [0, 1] and `lr`.
    `best`: the row of the best epoch, which is marked.
    """
    figure = _figure(12, 4)
    from matplotlib.ticker import MaxNLocator

    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]

    def line(axes: Any, key: str, label: str, scale: float = 1) -> None:
        axes.plot(epochs, [row[key] * scale for row in history], ".-", label=label)

    line(loss, "train_loss", "train")
    line(loss, "val_loss", "validation")
    loss.set_title("loss (nats)")
    loss.legend()
    line(accuracy, "val_accuracy", "validation", 100)
    accuracy.plot(best["epoch"], 100 * best["val_accuracy"], "o", color="tab:red")
    accuracy.annotate(
        f"{100 * best['val_accuracy']:.2f}", (best["epoch"], 100 * best["val_accuracy"]),
        xytext=(0, -16), textcoords="offset points", ha="center",
    )  # fmt: skip
    accuracy.margins(x=0.1, y=0.1)  # room for the figure of a best epoch at an edge
    accuracy.set_title("validation accuracy (%)")
    line(rate, "lr", "learning rate")
    rate.set_title("learning rate")
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    _save(figure, path)


def draw_confusion(scores: Scores, classes: list[str], path: Path) -> None:
    """Save a PNG of the confusion matrix: counts as numbers, fractions of the row as shades."""
    n = len(classes)
    letters = max(map(_width_in_letters, classes))
    slanted = letters > CELL_LETTERS
    figure = _figure(
        2.9 + 0.8 * n + LETTER_WIDTH * max(0, letters - 4),
        2.4 + 0.7 * n + (0.7 * LETTER_WIDTH * letters if slanted else 0),
    )
    axes = figure.subplots()
    fractions = scores.confusion / np.maximum(scores.support, 1)[:, None]
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(scores.confusion):
        fraction = fractions[row, column]
        colour = "white" if fraction > 0.5 else "black" if count else "0.75"
        text = f"{count:,}\n{100 * fraction:.0f} %" if count else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    ticks = [name.replace("$", r"\$") for name in classes]  # matplotlib's mark for mathematics
    slant: dict[str, Any] = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    )
    axes.set_xticks(range(n), ticks, font=_font(12), **slant)
    axes.set_yticks(range(n), ticks, font=_font(12))
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (per cent of its row)")
    axes.set_title(f"accuracy {scores.accuracy:.2%} of {scores.total:,} images")
    _save(figure, path)


def draw_reliability(reliability: Reliability, path: Path) -> None:
    """Save a PNG with the accuracy in each bin of confidence, and above it the bin's images."""
    figure = _figure(6, 7)
    counts, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    width = 1 / len(reliability.count)
    centres = (np.arange(len(reliability.count)) + 0.5) * width
    filled = reliability.count > 0
    accuracy, confidence = reliability.accuracy[filled], reliability.confidence[filled]
    counts.bar(centres, reliability.count, width, edgecolor="white")
    counts.set_ylabel("images")
    counts.set_title(f"expected calibration error {reliability.ece:.2%}")
    axes.bar(centres[filled], accuracy, width, edgecolor="white", label="accuracy")
    axes.plot(confidence, accuracy, "o", color="tab:red", label="mean confidence", clip_on=False)
    axes.plot([0, 1], [0, 1], "--", color="0.4", label="perfect calibration")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axes.legend(loc="upper left")
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches."""
    # Matplotlib would write its list of fonts into the user's home folder.
    with (
        tempfile.TemporaryDirectory() as folder,
        _environment("MPLCONFIGDIR", folder),
        interrupt.importing(),
    ):
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable within the block, unless it is set already."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _font(size: int) -> FontProperties:
    """Return the font with Hangul; `size` in points."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=hangul_font(), size=size)


def _width_in_letters(name: str) -> int:
    """Return the width of a name in Latin letters; a Hangul syllable is as wide as two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name)


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as file, warnings.catch_warnings():
        # The font may lack letters of other languages; matplotlib would say so for every letter.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format="png", dpi=100)
