"""The pictures of a training run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from utils.draw import font, shown
from utils.files import atomic_file

MOST = 64  # images in a mosaic
TILE = 112  # pixels


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """Loss, accuracy and learning rate over the epochs, as a PNG."""
    with tempfile.TemporaryDirectory() as folder:
        # Where the library keeps its list of fonts, unless it is told: in the user's home.
        os.environ.setdefault("MPLCONFIGDIR", folder)
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 4), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]

    def line(axes, key: str, label: str, scale: float = 1) -> None:
        axes.plot(epochs, [row[key] * scale for row in history], ".-", label=label)

    line(loss, "train_loss", "train")
    line(loss, "val_loss", "validation")
    loss.set_title("loss (nats)")
    loss.legend()
    line(accuracy, "val_accuracy", "validation", 100)
    best = max(history, key=lambda row: row["val_accuracy"])
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
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=100)


def draw_mosaic(images: np.ndarray, targets: np.ndarray, classes: list[str], path: Path) -> None:
    """A batch as the network sees it, each image under what it is to answer, as a PNG.

    `images`: float (n, C, S, S) in [0, 1]; `targets`: probabilities (n, classes).
    """
    images, targets = images[:MOST], targets[:MOST]
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    line = TILE // 7
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + line)), (32, 32, 40))
    draw, letters = ImageDraw.Draw(sheet), font(line - 3)
    for i, (pixels, target) in enumerate(zip(images, targets, strict=True)):
        x, y = i % columns * TILE, i // columns * (TILE + line)
        pixels = np.uint8(pixels.transpose(1, 2, 0).clip(0, 1) * 255 + 0.5)
        tile = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        sheet.paste(tile.resize((TILE - 2, TILE - 2), Image.Resampling.NEAREST), (x, y + line))
        draw.text((x + 2, y), _label(target, classes), "white", letters)
    with atomic_file(path) as file:
        sheet.save(file, "PNG")


def _label(target: np.ndarray, classes: list[str]) -> str:
    """The class, or, of several, the likeliest two with their per cent."""
    best = np.argsort(-target, kind="stable")[:2]
    parts = [(shown(classes[i]), round(100 * target[i])) for i in best if target[i] >= 0.005]
    return parts[0][0] if len(parts) == 1 else " ".join(f"{name} {share}" for name, share in parts)
