"""Grids of captioned images: a training batch, the worst mistakes, a contact sheet of crops."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from utils.imaging.drawing import TEXT_BACKGROUND, fit_text, load_font
from utils.imaging.image_io import ImageError, open_image, save_image, to_channels

MAX_BATCH_TILES = 64
TILE = 112  # pixels, the side of a tile
LINE_HEIGHT = 18  # pixels
WHITE, GREEN, RED = (255, 255, 255), (150, 220, 150), (250, 150, 130)


class Caption(NamedTuple):
    """A line of text above a tile. A name that is too wide is shortened, its figure is not."""

    name: str
    colour: tuple[int, int, int]
    figure: str = ""


Tile = tuple[Image.Image, Sequence[Caption]]  # at most TILE × TILE pixels


def draw_batch(images: np.ndarray, targets: np.ndarray, classes: list[str], path: Path) -> None:
    """Save a PNG of a batch as the network sees it, each image below its target.

    `images`: float (n, C, S, S) in [0, 1]. `targets`: probabilities (n, classes). The first
    MAX_BATCH_TILES images are drawn.
    """
    tiles: list[Tile] = []
    for pixels, target in zip(images[:MAX_BATCH_TILES], targets[:MAX_BATCH_TILES], strict=True):
        values = (pixels.transpose(1, 2, 0).clip(0, 1) * 255 + 0.5).astype(np.uint8)
        image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
        image = image.resize((TILE - 2, TILE - 2), Image.Resampling.NEAREST)
        tiles.append((image, _target_captions(target, classes)))
    lines = max([1, *(len(captions) for _, captions in tiles)])
    save_image(_grid(tiles, columns=min(8, len(tiles)), lines=lines), path)


def draw_mistakes(mistakes: list[tuple[Path, str, str, float]], path: Path) -> None:
    """Save a picture of wrongly classified images, each below its true and its predicted class.

    A mistake is (file, true class, predicted class, probability of the prediction in [0, 1]).
    Raise ImageError if a file cannot be read.
    """
    tiles: list[Tile] = []
    for file, truth, prediction, probability in mistakes:
        image = to_channels(open_image(file, TILE), 3).resize((TILE - 4, TILE - 4))
        percent = f" {100 * probability:.0f} %"
        captions = (
            Caption(truth, GREEN),
            Caption(prediction, RED, percent),
        )
        tiles.append((image, captions))
    save_image(_grid(tiles, columns=6, lines=2), path)


def draw_contact_sheet(faces: dict[str, list[Path]], path: Path) -> None:
    """Save a picture with a row of faces for each class, in the format of the path's suffix.

    Leave out files that cannot be read. Raise OSError if the picture cannot be written.
    """
    columns = max([1, *map(len, faces.values())])
    blank = Image.new("RGB", (1, 1), TEXT_BACKGROUND)
    tiles: list[Tile] = []
    for label, paths in faces.items():
        images = []
        for face in paths:
            with suppress(ImageError):
                image = to_channels(open_image(face, TILE), 3)
                images.append(ImageOps.pad(image, (TILE - 2, TILE - 2), color=TEXT_BACKGROUND))
        images += [blank] * (columns - len(images))
        tiles.append((images[0], [Caption(label, WHITE)]))
        tiles += [(image, []) for image in images[1:]]
    save_image(_grid(tiles, columns, lines=1, caption_tiles=columns), path, quality=90)


def _grid(tiles: list[Tile], columns: int, lines: int, caption_tiles: int = 1) -> Image.Image:
    """Return a sheet of tiles in rows, each tile below its captions of at most `lines` lines.

    A caption is shortened if it is wider than `caption_tiles` tiles.
    """
    columns = max(1, columns)
    rows = max(1, -(-len(tiles) // columns))
    row_height = TILE + lines * LINE_HEIGHT
    sheet = Image.new("RGB", (columns * TILE, rows * row_height), TEXT_BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), load_font(LINE_HEIGHT - 5)
    for i, (image, captions) in enumerate(tiles):
        x, y = i % columns * TILE, i // columns * row_height
        sheet.paste(image, (x + (TILE - image.width) // 2, y + lines * LINE_HEIGHT))
        for j, caption in enumerate(captions):
            text = fit_text(caption.name, font, caption_tiles * TILE - 6, caption.figure)
            draw.text((x + 3, y + j * LINE_HEIGHT), text, caption.colour, font)
    return sheet


def _target_captions(target: np.ndarray, classes: list[str]) -> list[Caption]:
    """Return the class, or the two most likely classes with their probabilities in per cent."""
    likeliest = [i for i in np.argsort(-target, kind="stable")[:2] if target[i] >= 0.005]
    names = [classes[i] for i in likeliest]
    if len(names) == 1:
        return [Caption(names[0], WHITE)]
    percents = [f" {round(100 * target[i])} %" for i in likeliest]
    return [Caption(name, WHITE, percent) for name, percent in zip(names, percents, strict=True)]
