"""Text on pictures in which Hangul really shows."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.cli import say
from utils.emotions import EMOTIONS, ENGLISH

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


def font(size: int) -> ImageFont.FreeTypeFont:
    """A font of that height in pixels: with Hangul if the system has one, else PIL's own."""
    path = _hangul_font()
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def shown(label: str) -> str:
    """A class name as it can be drawn here: an emotion in English where there is no Hangul font."""
    return label if _hangul_font() else ENGLISH.get(label, label)


@cache
def label_patch(text: str, size: int) -> np.ndarray:
    """White text on a dark ground, uint8 RGB (height, width, 3), `size` pixels high letters."""
    face = font(size)
    left, top, right, bottom = face.getbbox(text)
    margin = size // 4
    patch = Image.new("RGB", (right - left + 2 * margin, bottom - top + 2 * margin), (32, 32, 40))
    ImageDraw.Draw(patch).text((margin - left, margin - top), text, "white", face)
    return np.asarray(patch)


@cache
def _hangul_font() -> str | None:
    folders = [Path(folder).expanduser() for folder in _FOLDERS]
    for pattern in _FONTS:
        for folder in folders:
            for path in sorted(folder.rglob(pattern)):
                if _has_hangul(path):
                    return str(path)
    say("note: no Hangul font found, so pictures get English names (fonts-nanum has one)")
    return None


def _has_hangul(path: Path) -> bool:
    try:
        face = ImageFont.truetype(str(path), 20)
    except OSError:
        return False
    letters = {letter for emotion in EMOTIONS for letter in emotion}
    # A font draws all letters that it lacks alike.
    return len({bytes(face.getmask(letter)) for letter in letters}) == len(letters)
