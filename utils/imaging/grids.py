"""Grids of captioned images: a training batch, the worst mistakes, a contact sheet of crops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from utils.imaging.drawing import display_name, load_font
from utils.imaging.image_io import ImageError, open_image, save_image, to_channels

MAX_BATCH_TILES = 64
TILE = 112  # pixels
BACKGROUND = (32, 32, 40)
WHITE, GREEN, RED = (255, 255, 255), (150, 220, 150), (250, 150, 130)

Caption = tuple[str, tuple[int, int, int]]  # a line of text and its colour


def draw_batch(images: np.ndarray, targets: np.ndarray, classes: list[str], path: Path) -> None:
    """Draw a batch as the network sees it, each image under its target, as a PNG.

    `images`: float (n, C, S, S) in [0, 1]; `targets`: probabilities (n, classes).
    """
    tiles = []
    for pixels, target in zip(images[:MAX_BATCH_TILES], targets[:MAX_BATCH_TILES], strict=True):
        values = np.uint8(pixels.transpose(1, 2, 0).clip(0, 1) * 255 + 0.5)
        tile = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
        tile = tile.resize((TILE - 2, TILE - 2), Image.Resampling.NEAREST)
        tiles.append((tile, [(_target_text(target, classes), WHITE)]))
    save_image(_grid(tiles, columns=min(8, len(tiles)), lines=1), path)


def draw_mistakes(mistakes: list[tuple[Path, str, str, float]], path: Path) -> None:
    """Draw wrongly classified images: file, true class, predicted class, its probability each."""
    tiles = []
    for file, truth, prediction, probability in mistakes:
        tile = to_channels(open_image(file, TILE), 3).resize((TILE - 4, TILE - 4))
        text = f"{display_name(prediction)} {100 * probability:.0f} %"
        tiles.append((tile, [(display_name(truth), GREEN), (text, RED)]))
    save_image(_grid(tiles, columns=6, lines=2), path)


def draw_contact_sheet(faces: dict[str, list[Path]], path: Path) -> None:
    """Draw a row of faces for each class, in the format that the path's suffix names.

    Leave out files that cannot be read. Raise OSError if the picture cannot be written.
    """
    columns = max(1, *map(len, faces.values()))
    rows = []
    for label, paths in faces.items():
        tiles = []
        for face in paths:
            with suppress(ImageError):
                tile = to_channels(open_image(face, TILE), 3)
                tiles.append(ImageOps.pad(tile, (TILE - 2, TILE - 2), color=BACKGROUND))
        captions = [[(display_name(label), WHITE)], *([] for _ in range(columns - 1))]
        tiles += [Image.new("RGB", (1, 1), BACKGROUND)] * (columns - len(tiles))
        rows += list(zip(tiles, captions, strict=True))
    save_image(_grid(rows, columns, lines=1), path, quality=90)


def _grid(
    tiles: Iterable[tuple[Image.Image, Sequence[Caption]]], columns: int, lines: int
) -> Image.Image:
    """Return a sheet of tiles in rows, each below its captions of at most `lines` lines."""
    tiles = list(tiles)
    rows, columns = max(1, -(-len(tiles) // max(1, columns))), max(1, columns)
    line = TILE // 6
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + lines * line)), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), load_font(line - 5)
    for i, (tile, captions) in enumerate(tiles):
        x, y = i % columns * TILE, i // columns * (TILE + lines * line)
        sheet.paste(tile, (x + (TILE - tile.width) // 2, y + lines * line))
        for j, (text, colour) in enumerate(captions):
            draw.text((x + 3, y + j * line), text, colour, font)
    return sheet


def _target_text(target: np.ndarray, classes: list[str]) -> str:
    """Return the class, or the two likeliest classes with their per cent."""
    best = np.argsort(-target, kind="stable")[:2]
    parts = [(display_name(classes[i]), round(100 * target[i])) for i in best if target[i] >= 0.005]
    return parts[0][0] if len(parts) == 1 else " ".join(f"{name} {share}" for name, share in parts)
