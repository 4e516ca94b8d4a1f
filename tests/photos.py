"""Photos and a video with real faces: skimage's astronaut, in the public domain."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

ASTRONAUT = skimage.data.astronaut()
FACE = (170, 60, 110, 130)  # x, y, width, height of the astronaut's face, about


def two_faces() -> Image.Image:
    """Return a wide photo with the astronaut twice, large on the left and small on the right."""
    photo = Image.new("RGB", (1500, 900), (90, 100, 110))
    head = Image.fromarray(ASTRONAUT[:300, 80:380])
    photo.paste(head.resize((750, 750)), (40, 100))
    photo.paste(head.resize((420, 420)), (960, 300))
    return photo


def write_video(path: Path, frames: list[np.ndarray], rate: float) -> Path:
    """Write frames, uint8 BGR, into a video file."""
    import cv2

    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def count_frames(path: Path) -> int:
    import cv2

    video = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: video.read()[0], False))


def rect_numbers(rect: str) -> tuple[int, ...]:
    """Return the numbers of a `rect` in an answer: x, y, width and height."""
    return tuple(map(int, re.findall(r"\d+", rect)))
