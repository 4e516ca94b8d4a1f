"""The pictures of training and of testing."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from utils.files import atomic_file
from utils.imaging.drawing import font, hangul_font, shown
from utils.imaging.image_io import ImageError, open_image, save_image, to_channels
from utils.metrics import Reliability, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

MOST = 64  # images in a mosaic
TILE = 112  # pixels
GROUND = (32, 32, 40)


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
    names = [shown(name).replace("$", r"\$") for name in classes]  # else it would be mathematics
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


def draw_mistakes(mistakes: list[tuple[Path, str, str, float]], path: Path) -> None:
    """Images whose answers are wrong: (file, true class, answer, its probability) each."""
    columns, line = 6, TILE // 5
    rows = max(1, -(-len(mistakes) // columns))
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + 2 * line)), GROUND)
    draw, letters = ImageDraw.Draw(sheet), font(line - 6)
    for i, (file, truth, answer, probability) in enumerate(mistakes):
        x, y = i % columns * TILE, i // columns * (TILE + 2 * line)
        picture = to_channels(open_image(file, TILE), 3).resize((TILE - 4, TILE - 4))
        sheet.paste(picture, (x + 2, y + 2 * line))
        draw.text((x + 3, y + 1), shown(truth), (150, 220, 150), letters)
        answer = f"{shown(answer)} {100 * probability:.0f} %"
        draw.text((x + 3, y + line), answer, (250, 150, 130), letters)
    save_image(sheet, path)


def draw_mosaic(images: np.ndarray, targets: np.ndarray, classes: list[str], path: Path) -> None:
    """A batch as the network sees it, each image under what it is to answer, as a PNG.

    `images`: float (n, C, S, S) in [0, 1]; `targets`: probabilities (n, classes).
    """
    images, targets = images[:MOST], targets[:MOST]
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    line = TILE // 7
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + line)), GROUND)
    draw, letters = ImageDraw.Draw(sheet), font(line - 3)
    for i, (pixels, target) in enumerate(zip(images, targets, strict=True)):
        x, y = i % columns * TILE, i // columns * (TILE + line)
        pixels = np.uint8(pixels.transpose(1, 2, 0).clip(0, 1) * 255 + 0.5)
        tile = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        sheet.paste(tile.resize((TILE - 2, TILE - 2), Image.Resampling.NEAREST), (x, y + line))
        draw.text((x + 2, y), _label(target, classes), "white", letters)
    save_image(sheet, path)


def draw_contact_sheet(faces: dict[str, list[Path]], path: Path) -> None:
    """A row of faces for each class, under its name; in the format that the path's suffix names.

    What cannot be read is left out. Raises OSError where the picture cannot be written.
    """
    line, columns = TILE // 5, max(1, *map(len, faces.values()))
    sheet = Image.new("RGB", (columns * TILE, len(faces) * (TILE + line)), GROUND)
    draw, letters = ImageDraw.Draw(sheet), font(line - 5)
    for i, (label, paths) in enumerate(faces.items()):
        y = i * (TILE + line)
        draw.text((4, y), shown(label), "white", letters)
        for j, face in enumerate(paths):
            with suppress(ImageError):
                tile = to_channels(open_image(face, TILE), 3)
                tile = ImageOps.pad(tile, (TILE - 2, TILE - 2), color=GROUND)
                sheet.paste(tile, (j * TILE, y + line))
    save_image(sheet, path, quality=90)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches."""
    with tempfile.TemporaryDirectory() as folder:
        # Where the library keeps its list of fonts, unless it is told: in the user's home.
        os.environ.setdefault("MPLCONFIGDIR", folder)
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _font(size: int) -> FontProperties:
    """A font that has Hangul, where the system has one."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=hangul_font(), size=size)


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=100)


def _label(target: np.ndarray, classes: list[str]) -> str:
    """The class, or, of several, the likeliest two with their per cent."""
    best = np.argsort(-target, kind="stable")[:2]
    parts = [(shown(classes[i]), round(100 * target[i])) for i in best if target[i] >= 0.005]
    return parts[0][0] if len(parts) == 1 else " ".join(f"{name} {share}" for name, share in parts)
