"""Face tracking: which face of a frame is which face of the frame before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from utils.imaging.geometry import Box, iou
from utils.recognition.face_detection import FaceFinder
from utils.recognition.faces import DetectedFace
from utils.recognition.opencv import import_cv2

MATCH_IOU = 0.3  # intersection over union above which two boxes are the same face
MAX_MISSES = 3  # detections in a row that miss a face before its track ends
TRACKING_SIDE = 270  # pixels of the shorter side of the reduced copy in which faces are followed
SEARCH_MARGIN = 0.25  # of a face's size: how far it is searched for in the next frame
MIN_CORRELATION = 0.5  # of a face with its patch in the last frame


@dataclass
class Track:
    """One face over time."""

    number: int  # from 1, never used again
    face: DetectedFace  # where it was found last, or where it has moved since
    probs: np.ndarray | None = None  # (classes,), smoothed; None until it is classified
    misses: int = 0  # detections in a row that missed it
    lost: bool = False  # whether the current frame shows nothing like it near its box
    patch: np.ndarray | None = None  # its pixels in the reduced copy of the last frame

    @property
    def box(self) -> Box:
        """The rectangle in pixels of the frame."""
        return self.face.box


class TrackedFace(NamedTuple):
    """A track's face in one frame, classified."""

    track: int  # number of the track
    box: Box
    probs: np.ndarray  # (classes,) in [0, 1], smoothed over the frames of the track
    score: float | None = None  # of the last detection, from 0 to 1; None: it does not tell


class Tracker:
    """Detect faces every few frames and follow them in between."""

    def __init__(self, detect_every: int, finder: FaceFinder) -> None:
        """`detect_every`: frames between detections by `finder`."""
        self.tracks: list[Track] = []
        self._detect_every, self._finder = detect_every, finder
        self._next_number, self._frames = 1, 0

    def update(self, frame: np.ndarray) -> list[Track]:
        """Return the faces in the next frame, uint8 BGR (height, width, 3), the oldest first.

        Leave out lost faces; a lost face keeps its number if it is soon found again.
        """
        cv2 = import_cv2()
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        factor = max(1.0, min(grey.shape) / TRACKING_SIDE)
        size = round(grey.shape[1] / factor), round(grey.shape[0] / factor)
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        for track in self.tracks:
            _follow(track, small, factor)
        if self._frames % self._detect_every == 0:
            self._match(self._finder(Image.fromarray(frame), is_bgr=True))
        self._frames += 1
        visible = [track for track in self.tracks if not track.lost]
        for track in visible:
            track.patch = _crop(small, track.box, factor)
        return visible

    def _match(self, faces: list[DetectedFace]) -> None:
        """Assign each detected face to the track that it overlaps most, the best pair first."""
        pairs = sorted(
            ((iou(track.box, face.box), i, j)
             for i, track in enumerate(self.tracks) for j, face in enumerate(faces)),
            reverse=True,
        )  # fmt: skip
        matches: dict[int, int] = {}  # index of a track: index of its face
        for overlap, i, j in pairs:
            if overlap > MATCH_IOU and i not in matches and j not in matches.values():
                matches[i] = j
        for i, track in enumerate(self.tracks):
            if i in matches:
                track.face, track.misses, track.lost = faces[matches[i]], 0, False
            else:
                track.misses += 1
        self.tracks = [track for track in self.tracks if track.misses < MAX_MISSES]
        for j, face in enumerate(faces):
            if j not in matches.values():
                self.tracks.append(Track(self._next_number, face))
                self._next_number += 1


def _follow(track: Track, small: np.ndarray, factor: float) -> None:
    """Move a track to where the new frame looks most like its face, or mark it as lost.

    `small`: the new frame in grey, reduced by `factor`.
    """
    cv2 = import_cv2()
    patch = track.patch
    if patch is None or min(patch.shape) < 4:
        return
    height, width = patch.shape
    x, y, _, _ = track.box.xywh
    small_x, small_y = round(x / factor), round(y / factor)
    reach_x, reach_y = round(SEARCH_MARGIN * width), round(SEARCH_MARGIN * height)
    left, top = max(0, small_x - reach_x), max(0, small_y - reach_y)
    window = small[top : small_y + height + reach_y, left : small_x + width + reach_x]
    if window.shape[0] < height or window.shape[1] < width:
        track.lost = True
        return
    correlation = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (dx, dy) = cv2.minMaxLoc(correlation)
    track.lost = best < MIN_CORRELATION
    if not track.lost and (left + dx, top + dy) != (small_x, small_y):
        new_x, new_y = round((left + dx) * factor), round((top + dy) * factor)
        track.face = track.face.moved(new_x - x, new_y - y)


def _crop(small: np.ndarray, box: Box, factor: float) -> np.ndarray:
    """Return a box's pixels in the reduced copy of a frame."""
    x, y, w, h = (round(value / factor) for value in box.xywh)
    return small[max(0, y) : y + h, max(0, x) : x + w].copy()
