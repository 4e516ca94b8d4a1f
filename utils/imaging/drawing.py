"""Draw labels, frames and bars on pictures, with a font that has Hangul."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.errors import StageError
from utils.files import package_file
from utils.imaging.geometry import Box

# Colours are the same in RGB and in OpenCV's BGR, or nearly.
FRAME_COLOUR = (80, 200, 80)  # green
BAR_COLOUR = (200, 200, 200)
TEXT_BACKGROUND = (32, 32, 40)
MIN_FONT_SIZE, MAX_FONT_SIZE = 14, 40  # pixels

# NanumGothic, under the Open Font License. Only the file is taken from the package, which would
# change matplotlib's settings.
FONT_PACKAGE, FONT_FILE = "koreanize_matplotlib", "fonts/NanumGothic.ttf"


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return a font `size` pixels high, which has Hangul."""
    return ImageFont.truetype(hangul_font(), size)


@cache
def hangul_font() -> str:
    """Return the path of a font file with Hangul. Raise StageError if it is not installed."""
    if path := package_file(FONT_PACKAGE, FONT_FILE):
        return str(path)
    raise StageError(
        "the font for labels is not installed: pip install koreanize-matplotlib, "
        "which has NanumGothic"
    )


def fit_text(text: str, font: ImageFont.FreeTypeFont, width: float, suffix: str = "") -> str:
    """Return text and suffix; end the text in "…" if both are wider than `width` pixels."""
    if font.getlength(text + suffix) <= width:
        return text + suffix
    while text and font.getlength(f"{text}…{suffix}") > width:
        text = text[:-1]
    return f"{text.rstrip()}…{suffix}"


@lru_cache(512)
def render_text(text: str, size: int) -> np.ndarray:
    """Return white text on a dark background, uint8 RGB (height, width, 3).

    `size` is the height of the font in pixels.
    """
    font = load_font(size)
    left, top, right, bottom = (int(value) for value in font.getbbox(text))
    margin = size // 4
    patch = Image.new(
        "RGB", (right - left + 2 * margin, bottom - top + 2 * margin), TEXT_BACKGROUND
    )
    ImageDraw.Draw(patch).text((margin - left, margin - top), text, "white", font)
    return np.asarray(patch)


def font_size_for(face_height: int) -> int:
    """Return the font size in pixels for the label of a face of that height in pixels."""
    return max(MIN_FONT_SIZE, min(MAX_FONT_SIZE, face_height // 9))


def draw_face(picture: np.ndarray, box: Box, label: str, percent: float, prefix: str = "") -> int:
    """Draw a face's rectangle, and above it `prefix`, the label and its probability.

    `picture`: uint8 (height, width, 3), changed in place. Return the row below the label.
    """
    x, y, w, h = box.xywh
    left, top, right, bottom = max(0, x), max(0, y), x + w, y + h
    line = max(2, min(picture.shape[:2]) // 250)
    for rows, columns in (
        (slice(top, max(0, y + line)), slice(left, right)),
        (slice(max(0, bottom - line), bottom), slice(left, right)),
        (slice(top, bottom), slice(left, max(0, x + line))),
        (slice(top, bottom), slice(max(0, right - line), right)),
    ):
        picture[rows, columns] = FRAME_COLOUR
    patch = _render_label(f"{prefix}{label}", f" {percent:.0f} %", h, picture.shape[1])
    return paste(picture, patch, x, y)


def _render_label(text: str, figure: str, face_height: int, max_width: int) -> np.ndarray:
    """Return a label no wider than `max_width`: smaller, or without its figure, or shortened."""
    for size in (font_size_for(face_height), MIN_FONT_SIZE):
        patch = render_text(text + figure, size)
        if patch.shape[1] <= max_width:
            return patch
    margins = 2 * (MIN_FONT_SIZE // 4)
    return render_text(fit_text(text, load_font(MIN_FONT_SIZE), max_width - margins), MIN_FONT_SIZE)


def draw_probabilities(
    picture: np.ndarray, box: Box, classes: list[str], probs: np.ndarray, min_top: int = 0
) -> None:
    """Draw a bar for each class's probability beside a face, on the side that has more room.

    `picture`: uint8 (height, width, 3), changed in place. `probs`: (classes,) in [0, 1]. Nothing
    is drawn above the row `min_top` if there is enough room below.
    """
    x, y, w, h = box.xywh
    height, width = picture.shape[:2]
    size = max(MIN_FONT_SIZE, font_size_for(h) * 3 // 4)
    names = [render_text(name, size) for name in classes]
    name_width = max(patch.shape[1] for patch in names)
    row_height = max(patch.shape[0] for patch in names)
    bar_width = max(40, w // 2)
    right_is_wider = width - (x + w) > x
    left = x + w + 4 if right_is_wider else x - name_width - bar_width - 4
    left = max(0, min(left, width - name_width - bar_width))
    top = max(0, min(max(y, min_top), height - len(classes) * row_height))
    bar_left = left + name_width
    for i, (patch, prob) in enumerate(zip(names, probs, strict=True)):
        row = slice(top + i * row_height, top + (i + 1) * row_height - 1)
        picture[row, left:bar_left] = TEXT_BACKGROUND
        paste(picture, patch[: row_height - 1], left, row.stop)
        background = picture[row, bar_left : bar_left + bar_width]
        background //= 3
        colour = FRAME_COLOUR if prob == probs.max() else BAR_COLOUR
        background[2:-1, : round(float(prob) * bar_width)] = colour


def paste(picture: np.ndarray, patch: np.ndarray, x: int, bottom: int) -> int:
    """Put a patch above the point (x, bottom), or as near to it as the picture has room.

    `picture` is changed in place. Return the row below the patch.
    """
    height, width = patch.shape[:2]
    y = max(0, bottom - height)
    x = max(0, min(x, picture.shape[1] - width))
    region = picture[y : y + height, x : x + width]
    region[:] = patch[: region.shape[0], : region.shape[1]]
    return y + height
