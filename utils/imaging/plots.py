"""The pictures of training and of testing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.files import atomic_file
from utils.imaging.drawing import display_name, hangul_font
from utils.metrics import Reliability, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties


def draw_curves(history: list[dict[str, float]], best: dict[str, float], path: Path) -> None:
    """Loss, accuracy and learning rate over the epochs, the best of them marked, as a PNG."""
    figure = _figure(12, 4)
    from matplotlib.ticker import MaxNLocator

    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]

    def line(axes, key: str, label: str, scale: float = 1) -> None:
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
    accuracy.set_title("validation accuracy (%)")
    line(rate, "lr", "learning rate")
    rate.set_title("learning rate")
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    _save(figure, path)


def draw_confusion(scores: Scores, classes: list[str], path: Path) -> None:
    """The table of true and predicted classes: the number in each cell, its share as the shade."""
    n = len(classes)
    figure = _figure(3.2 + 0.8 * n, 2.4 + 0.7 * n)
    axes = figure.subplots()
    shares = scores.confusion / np.maximum(scores.support, 1)[:, None]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(scores.confusion):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black" if count else "0.75"
        text = f"{count:,}\n{100 * share:.0f} %" if count else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    names = [
        display_name(name).replace("$", r"\$") for name in classes
    ]  # else it would be mathematics
    axes.set_xticks(range(n), names, font=_font(12))
    axes.set_yticks(range(n), names, font=_font(12))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (per cent of its row)")
    axes.set_title(f"accuracy {scores.accuracy:.2%} of {scores.total:,} images")
    _save(figure, path)


def draw_reliability(before: Reliability, path: Path) -> None:
    """How often answers are right, by how sure they are; above it how many there are of each."""
    figure = _figure(6, 7)
    many, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    width = 1 / len(before.count)
    middles = (np.arange(len(before.count)) + 0.5) * width
    there = before.count > 0
    many.bar(middles, before.count, width, edgecolor="white")
    many.set_ylabel("images")
    axes.bar(middles[there], before.accuracy[there], width, edgecolor="white", label="right")
    axes.plot(before.confidence[there], before.accuracy[there], "o", color="tab:red",
              label="mean confidence")  # fmt: skip
    axes.plot([0, 1], [0, 1], "--", color="0.4", label="as right as sure")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
    axes.legend(loc="upper left")
    many.set_title(f"expected calibration error {before.ece:.2%}")
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches."""
    # Matplotlib would write its list of fonts into the user's home folder.
    with tempfile.TemporaryDirectory() as folder, _environment("MPLCONFIGDIR", folder):
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
    """A font that has Hangul, where the system has one."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=hangul_font(), size=size)


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=100)
