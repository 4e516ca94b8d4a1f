"""Text on pictures in which Hangul really shows."""

from __future__ import annotations

import os
import sys
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.console import note
from utils.emotions import EMOTIONS, ENGLISH
from utils.imaging.geometry import Box

FRAME = (80, 200, 80)  # of a face: green

# Where systems keep fonts, and the common ones that have all of Hangul.
_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    os.path.expandvars("$SYSTEMROOT/Fonts") if sys.platform == "win32" else "~/Library/Fonts",
)
_FONTS = (
    "NanumGothic.ttf", "NanumBarunGothic.ttf", "NotoSansCJK-Regular.ttc", "NotoSansKR*.?tf",
    "AppleSDGothicNeo.ttc", "AppleGothic.ttf", "malgun.ttf", "gulim.ttc", "UnDotum.ttf",
)  # fmt: skip


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """A font of that height in pixels: with Hangul if the system has one, else PIL's own."""
    path = hangul_font()
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def display_name(label: str) -> str:
    """A class name as it can be drawn here: an emotion in English where there is no Hangul font."""
    return label if hangul_font() else ENGLISH.get(label, label)


@lru_cache(512)
def render_text(text: str, size: int) -> np.ndarray:
    """White text on a dark ground, uint8 RGB (height, width, 3), `size` pixels high letters."""
    face = load_font(size)
    left, top, right, bottom = face.getbbox(text)
    margin = size // 4
    patch = Image.new("RGB", (right - left + 2 * margin, bottom - top + 2 * margin), (32, 32, 40))
    ImageDraw.Draw(patch).text((margin - left, margin - top), text, "white", face)
    return np.asarray(patch)


def draw_face(picture: np.ndarray, box: Box, label: str, percent: float, prefix: str = "") -> None:
    """Draw one face's rectangle, and above it `prefix`, the label and its probability.

    `picture`: uint8 (height, width, 3), changed in place.
    """
    x, y, w, h = box.xywh
    line = max(2, min(picture.shape[:2]) // 250)
    for part in (
        picture[max(0, y) : y + line, max(0, x) : x + w],
        picture[max(0, y + h - line) : y + h, max(0, x) : x + w],
        picture[max(0, y) : y + h, max(0, x) : x + line],
        picture[max(0, y) : y + h, max(0, x + w - line) : x + w],
    ):
        part[:] = FRAME
    patch = render_text(f"{prefix}{display_name(label)} {percent:.0f} %", font_size_for(h))
    paste(picture, patch, x, y)


def draw_probabilities(
    picture: np.ndarray, box: Box, classes: list[str], probs: np.ndarray
) -> None:
    """Draw a bar for each class's probability beside a face, where there is more room."""
    x, y, w, h = box.xywh
    size = max(14, font_size_for(h) * 3 // 4)
    names = [render_text(display_name(name), size) for name in classes]
    widest, row = max(patch.shape[1] for patch in names), max(len(patch) for patch in names)
    length = max(40, w // 2)
    right = picture.shape[1] - (x + w) > x
    left = x + w + 4 if right else max(0, x - widest - length - 4)
    for i, (patch, share) in enumerate(zip(names, probs, strict=True)):
        top = max(0, y) + i * row
        paste(picture, patch, left, top + len(patch))
        ground = picture[top : top + row - 1, left + widest : left + widest + length]
        ground //= 3
        colour = FRAME if share == probs.max() else (200, 200, 200)
        ground[2:-1, : round(float(share) * length)] = colour


def font_size_for(height: int) -> int:
    """The height of the letters, in pixels, beside a face of that height."""
    return max(14, min(40, height // 9))


def paste(picture: np.ndarray, patch: np.ndarray, x: int, bottom: int) -> None:
    """Put a patch over the point (x, bottom), or below it where there is no room above."""
    height, width = patch.shape[:2]
    y = max(0, bottom - height)
    x = max(0, min(x, picture.shape[1] - width))
    room = picture[y : y + height, x : x + width]
    room[:] = patch[: room.shape[0], : room.shape[1]]


@cache
def hangul_font() -> str | None:
    """The file of a font that has the emotions' letters; None, said once, if there is none."""
    folders = [Path(folder).expanduser() for folder in _FOLDERS]
    for pattern in _FONTS:
        for folder in folders:
            for path in sorted(folder.rglob(pattern)):
                if _has_hangul(path):
                    return str(path)
    note("no Hangul font found, so pictures get English names (fonts-nanum has one)")
    return None


def _has_hangul(path: Path) -> bool:
    try:
        face = ImageFont.truetype(str(path), 20)
    except OSError:
        return False
    letters = {letter for emotion in EMOTIONS for letter in emotion}
    # A font draws all letters that it lacks alike.
    return len({bytes(face.getmask(letter)) for letter in letters}) == len(letters)
