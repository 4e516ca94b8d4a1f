"""Faces followed through a video: which face of this frame is which of the one before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.data.boxes import Box, iou
from utils.recognition.face_detection import Rect, find_faces, import_cv2

SAME = 0.3  # intersection over union above which two rectangles are of one face
FORGET = 3  # detections in a row that do not find a face before it is given up
SMALL = 270  # pixels of the shorter side of the copy in which faces are followed
REACH = 0.25  # of its size is how far a face is looked for in the next frame
SURE = 0.5  # correlation that a face found again must have


@dataclass
class Track:
    """One face over time."""

    number: int  # from 1, never given twice
    rect: Rect
    probs: np.ndarray | None = None  # smoothed, in class order
    missed: int = 0  # detections in a row that have not found it
    lost: bool = False  # whether this frame has nothing like it where it was
    patch: np.ndarray | None = None  # what it looked like in the small copy of the last frame


class Tracker:
    """Finds faces every few frames and follows them in those between."""

    def __init__(self, every: int, smallest: float) -> None:
        """`every`: frames from one detection to the next. `smallest`: as for `find_faces`."""
        self.tracks: list[Track] = []
        self._every, self._smallest = every, smallest
        self._next_number, self._frames = 1, 0

    def update(self, frame: np.ndarray) -> list[Track]:
        """The faces in the next frame, uint8 (height, width, 3) as OpenCV has it; oldest first.

        A face that is lost is not among them, and has its number again if it is soon found again.
        """
        cv2 = import_cv2()
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        factor = max(1.0, min(grey.shape) / SMALL)
        size = round(grey.shape[1] / factor), round(grey.shape[0] / factor)
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        for track in self.tracks:
            follow(track, small, factor)
        if self._frames % self._every == 0:
            self._match(find_faces(grey, self._smallest))
        self._frames += 1
        there = [track for track in self.tracks if not track.lost]
        for track in there:
            track.patch = cut(small, track.rect, factor)
        return there

    def _match(self, rects: list[Rect]) -> None:
        """Give each rectangle to the track that it overlaps most, the best pair first."""
        pairs = sorted(
            ((overlap(track.rect, rect), i, j)
             for i, track in enumerate(self.tracks) for j, rect in enumerate(rects)),
            reverse=True,
        )  # fmt: skip
        matched: dict[int, int] = {}
        for share, i, j in pairs:
            if share > SAME and i not in matched and j not in matched.values():
                matched[i] = j
        for i, track in enumerate(self.tracks):
            if i in matched:
                track.rect, track.missed, track.lost = rects[matched[i]], 0, False
            else:
                track.missed += 1
        self.tracks = [track for track in self.tracks if track.missed < FORGET]
        for j, rect in enumerate(rects):
            if j not in matched.values():
                self.tracks.append(Track(self._next_number, rect))
                self._next_number += 1


def follow(track: Track, small: np.ndarray, factor: float) -> None:
    """Move a track to where the new frame looks most like its face, if it does so nearby."""
    cv2 = import_cv2()
    patch = track.patch
    if patch is None or min(patch.shape) < 4:
        return
    height, width = patch.shape
    x, y = round(track.rect[0] / factor), round(track.rect[1] / factor)
    left, top = max(0, x - round(REACH * width)), max(0, y - round(REACH * height))
    window = small[
        top : y + height + round(REACH * height), left : x + width + round(REACH * width)
    ]
    if window.shape[0] < height or window.shape[1] < width:
        track.lost = True
        return
    likeness = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (dx, dy) = cv2.minMaxLoc(likeness)
    track.lost = best < SURE
    if not track.lost and (left + dx, top + dy) != (x, y):
        track.rect = round((left + dx) * factor), round((top + dy) * factor), *track.rect[2:]


def cut(small: np.ndarray, rect: Rect, factor: float) -> np.ndarray:
    x, y, w, h = (round(value / factor) for value in rect)
    return small[max(0, y) : y + h, max(0, x) : x + w].copy()


def overlap(a: Rect, b: Rect) -> float:
    """Intersection over union of two rectangles (x, y, width, height)."""
    return iou(*(Box(x, y, x + w, y + h) for x, y, w, h in (a, b)))
