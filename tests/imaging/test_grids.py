"""Grids of captioned images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.imaging import grids
from utils.imaging.grids import (
    LINE_HEIGHT,
    MAX_BATCH_TILES,
    TILE,
    draw_batch,
    draw_contact_sheet,
    draw_mistakes,
)
from utils.imaging.image_io import ImageError


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    """A red, a green and a blue photo."""
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "lime", "blue")]
    for path in paths:
        Image.new("RGB", (50, 60), path.stem).save(path)
    return paths


@pytest.fixture
def captions(monkeypatch) -> list[str]:
    """The captions that are drawn, in order."""
    drawn = []
    draw = grids.ImageDraw.ImageDraw.text

    def text(self, xy, text, *args) -> None:
        drawn.append(text)
        draw(self, xy, text, *args)

    monkeypatch.setattr(grids.ImageDraw.ImageDraw, "text", text)
    return drawn


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def middle_of_tile(pixels: np.ndarray, row: int, column: int, lines: int) -> list[int]:
    y = row * (TILE + lines * LINE_HEIGHT) + lines * LINE_HEIGHT + TILE // 2
    return pixels[y, column * TILE + TILE // 2].tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_draw_batch_shows_images_below_their_targets(tmp_path, captions, channels):
    images = np.zeros((3, channels, 8, 8), np.float32)
    images[1] = 1
    images[2] = 2  # brighter than white, as augmentation may leave it
    targets = np.array([[1, 0, 0], [0, 0.3, 0.7], [0.5, 0.5, 0]])
    draw_batch(images, targets, ["a", "b", "c"], tmp_path / "x.png")
    pixels = pixels_of(tmp_path / "x.png")
    assert pixels.shape == (TILE + 2 * LINE_HEIGHT, 3 * TILE, 3)
    greys = [middle_of_tile(pixels, 0, column, lines=2)[0] for column in range(3)]
    assert greys == [0, 255, 255]
    assert captions == ["a", "c 70 %", "b 30 %", "a 50 %", "b 50 %"]


def test_draw_batch_has_a_limit_and_rows_of_eight(tmp_path):
    images = np.zeros((MAX_BATCH_TILES + 9, 1, 4, 4), np.float32)
    targets = np.eye(2)[np.zeros(len(images), int)]
    draw_batch(images, targets, ["a", "b"], tmp_path / "x.png")
    assert pixels_of(tmp_path / "x.png").shape[:2] == (8 * (TILE + LINE_HEIGHT), 8 * TILE)


def test_draw_mistakes_shows_each_image_below_both_classes(tmp_path, photos, captions):
    mistakes = [(photos[0], "a", "b", 0.871), (photos[2], "c", "a", 0.5)]
    draw_mistakes(mistakes, tmp_path / "x.png")
    pixels = pixels_of(tmp_path / "x.png")
    assert pixels.shape[1] == 6 * TILE
    assert middle_of_tile(pixels, 0, 0, lines=2) == [255, 0, 0]
    assert middle_of_tile(pixels, 0, 1, lines=2) == [0, 0, 255]
    assert captions == ["a", "b 87 %", "c", "a 50 %"]
    photos[0].unlink()
    with pytest.raises(ImageError, match="No such file"):
        draw_mistakes(mistakes, tmp_path / "x.png")


def test_draw_contact_sheet_has_a_row_for_each_class(tmp_path, photos, captions):
    (tmp_path / "broken.png").write_bytes(b"")
    faces = {"a": [photos[0]], "b": [tmp_path / "broken.png", photos[1], photos[2]], "none": []}
    draw_contact_sheet(faces, tmp_path / "x.png")
    pixels = pixels_of(tmp_path / "x.png")
    assert pixels.shape[:2] == (3 * (TILE + LINE_HEIGHT), 3 * TILE)
    assert captions == ["a", "b", "none"]
    assert middle_of_tile(pixels, 0, 0, lines=1) == [255, 0, 0]
    assert middle_of_tile(pixels, 1, 0, lines=1) == [0, 255, 0]  # the broken file is left out
    assert middle_of_tile(pixels, 1, 1, lines=1) == [0, 0, 255]
    for row, column in ((0, 1), (1, 2), (2, 0)):
        assert middle_of_tile(pixels, row, column, lines=1) == list(grids.TEXT_BACKGROUND)


def test_grid_shortens_captions_that_are_wider_than_a_tile(tmp_path, photos, captions):
    long = "a class name that needs more than one tile"
    draw_mistakes([(photos[0], long, long, 0.5)], tmp_path / "x.png")
    truth, prediction = captions
    assert truth.startswith("a class") and truth.endswith("…") and len(truth) < len(long)
    assert prediction.endswith("… 50 %")
    captions.clear()
    draw_contact_sheet({long: photos}, tmp_path / "y.png")  # which has three tiles' room
    assert captions == [long]
