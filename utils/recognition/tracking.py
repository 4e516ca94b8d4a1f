"""Face tracking: which face of a frame is which face of the frame before.

Between detections a face is followed by its pixels. A detection is matched with the faces known in
stages, as in ByteTrack (Zhang et al. 2022, arXiv 2110.06864): the sure ones first, then the weak
ones, which turned heads get, and these for known faces only. A pair fits by its place, where the
face is expected at its speed as in SORT (Bewley et al. 2016, arXiv 1602.00763), and by its look. A
lost face gets its number back by its look alone if no other is nearly as much like it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
from PIL import Image

from utils.imaging.geometry import Box, clip, iou
from utils.recognition.face_detection import FaceFinder
from utils.recognition.faces import DetectedFace
from utils.recognition.opencv import import_cv2

MATCH_IOU = 0.3  # intersection over union above which two boxes may be the same face
MIN_FIT = 0.8  # intersection over union plus likeness of a track and a face that overlap
WEAK_SCORE = 0.2  # of a face: enough if a track expects it there
MAX_MISSES = 3  # detections in a row that miss a face before it is lost
MEMORY = 300  # frames that a lost face is remembered

# Likeness of two looks, from -1 to 1. In the films of benchmarks/tracking.py a face has about 0.85
# between two detections in the median, and less than 0.6 in one of ten; different faces have less
# than 0.3 in the median, and more than 0.6 in one pair of 50.
NEAR_LIKENESS = 0.6  # of a lost face with one found where it is expected
FAR_LIKENESS = 0.7  # of a lost face with one found elsewhere
LIKENESS_LEAD = 0.1  # of it over any other track
DOUBTFUL_LIKENESS = 0.3  # of a new face with a lost one: it may be the same, turned or half hidden
PATIENCE = 3  # detections in which a doubtful face is looked at before it gets a new number
NEW_VIEW = 0.9  # likeness below which a look is worth remembering
MAX_LOOKS = 24  # of one face, from several sides
LOOK_SIDE = 16  # pixels

TRACKING_SIDE = 270  # pixels of the shorter side of the reduced copy in which faces are followed
SEARCH_MARGIN = 0.25  # of a face's size: how far from its expected place it is searched for
MIN_CORRELATION = 0.6  # of a face with its patch in the last frame
VELOCITY_GAIN = 0.25  # weight of the last frame's movement in the velocity
FRICTION = 0.93  # of the velocity of a lost face, per frame
NEARNESS, NEAR_FRAMES = 0.8, 60  # sides of a face, frames: how far and long a lost one is near
MAX_TOUCH = 0.05  # intersection over union of two faces that do not hide each other


@dataclass(eq=False)
class Track:
    """One face over time."""

    number: int  # from 1, never used again; 0: it may be a lost face and has none yet
    face: DetectedFace  # where it was found last, or where it has moved since
    probs: np.ndarray | None = None  # (classes,), smoothed; None until it is classified
    misses: int = 0  # detections in a row that missed it
    hits: int = 1  # detections that found it
    lost: bool = False  # whether the current frame does not show it
    unseen: int = 0  # frames since it was lost
    followed: bool = False  # whether its place is not that of a detection in this frame
    place: tuple[float, float] | None = None  # its middle in the last frame
    velocity: tuple[float, float] = (0.0, 0.0)  # pixels per frame, to the right and down
    patch: np.ndarray | None = None  # its pixels in the reduced copy of the last frame
    looks: list[np.ndarray] = field(default_factory=list)  # unit vectors, the newest last

    @property
    def box(self) -> Box:
        """The rectangle in pixels of the frame."""
        return self.face.box

    def measure(self) -> None:
        """Measure the velocity at the end of a frame that shows the face."""
        place, (vx, vy) = _centre(self.box), self.velocity
        if self.place:
            vx += VELOCITY_GAIN * (place[0] - self.place[0] - vx)
            vy += VELOCITY_GAIN * (place[1] - self.place[1] - vy)
        self.place, self.velocity = place, (vx, vy)

    def coast(self) -> None:
        """Let a lost face move on, slower and slower."""
        vx, vy = self.velocity
        self.face = self.face.moved(vx, vy)
        self.velocity = FRICTION * vx, FRICTION * vy
        self.unseen += 1

    def miss(self) -> None:
        """Note that a detection missed the face."""
        self.misses += 1
        if self.misses >= MAX_MISSES:
            self.lose()

    def find(self, face: DetectedFace) -> None:
        """Take over a detected face."""
        if self.lost:  # it may have come from anywhere
            self.place, self.velocity = None, (0.0, 0.0)
        if self.misses >= MAX_MISSES:
            self.probs = None  # too old to be averaged with the next
        self.face = face
        self.misses, self.lost, self.unseen, self.followed = 0, False, 0, False
        self.hits += 1

    def lose(self) -> None:
        """Keep the face in mind; the frame does not show it."""
        self.lost, self.patch = True, None

    def likeness(self, look: np.ndarray) -> float:
        """Return how much a look is like the face's most similar one, from -1 to 1."""
        return max((float(known @ look) for known in self.looks), default=0.0)

    def learn(self, look: np.ndarray) -> None:
        """Remember a look if it is new."""
        if self.likeness(look) < NEW_VIEW:
            self.looks = [*self.looks[1 - MAX_LOOKS :], look]


class TrackedFace(NamedTuple):
    """A track's face in one frame, classified."""

    track: int  # number of the track
    box: Box
    probs: np.ndarray  # (classes,) in [0, 1], smoothed over the frames of the track
    score: float | None = None  # of the last detection, from 0 to 1; None: it does not tell


class Sighting(NamedTuple):
    """A detected face, and its look."""

    face: DetectedFace
    look: np.ndarray
    is_sure: bool


class Tracker:
    """Detect faces every few frames and follow them in between."""

    def __init__(self, detect_every: int, finder: FaceFinder) -> None:
        """`detect_every`: frames between detections by `finder`."""
        self.tracks: list[Track] = []
        self._detect_every, self._finder = detect_every, finder
        self._next_number, self._frames = 1, 0

    def update(self, frame: np.ndarray) -> list[Track]:
        """Return the faces in the next frame, uint8 BGR (height, width, 3), the oldest first.

        Leave out lost faces; a lost face keeps its number if it is found again.
        """
        cv2 = import_cv2()
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        factor = max(1.0, min(grey.shape) / TRACKING_SIDE)
        size = round(grey.shape[1] / factor), round(grey.shape[0] / factor)
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        for track in self.tracks:
            _follow(track, small, factor)
        if self._frames % self._detect_every == 0:
            self._match(self._detect(frame))
        self._frames += 1
        self._hide_covered(frame)
        self.tracks = [track for track in self.tracks if track.unseen <= MEMORY]
        visible = [track for track in self.tracks if not track.lost]
        for track in visible:
            track.measure()
            if track.patch is None or not _overlaps(track.face, (other.face for other in visible)):
                track.patch = _crop(small, track.box, factor)
        return [track for track in visible if track.number]

    def _detect(self, frame: np.ndarray) -> list[Sighting]:
        """Return the faces that the detector finds, the weak ones too."""
        min_score, picture = self._finder.min_score, Image.fromarray(frame)
        faces = self._finder(picture, is_bgr=True, min_score=min(min_score, WEAK_SCORE))
        return [
            Sighting(face, _look(frame, face.box), face.score is None or face.score >= min_score)
            for face in faces
        ]

    def _match(self, seen: list[Sighting]) -> None:
        """Assign the detected faces to tracks, and start new ones."""
        visible = [track for track in self.tracks if not track.lost]
        sure = [i for i, sighting in enumerate(seen) if sighting.is_sure]
        weak = [i for i, sighting in enumerate(seen) if not sighting.is_sure]
        found: dict[int, Track] = {}  # index of a face: its track
        _assign(found, self.tracks, seen, sure)
        _assign(found, self.tracks, seen, weak)
        self._return_lost(found, seen, sure)
        self.tracks = [track for track in self.tracks if track.number or track in found.values()]
        for i in sure:
            if i not in found:
                found[i] = Track(0, seen[i].face, hits=0)
                self.tracks.append(found[i])
        for track in visible:
            if track not in found.values():
                track.miss()
        for i, track in found.items():
            track.find(seen[i].face)
            if not track.looks or not _overlaps(seen[i].face, (other.face for other in seen)):
                track.learn(seen[i].look)
        for track in found.values():
            self._number(track)

    def _return_lost(self, found: dict[int, Track], seen: list[Sighting], sure: list[int]) -> None:
        """Give lost faces that are surely found, wherever it is, their number back."""
        known = [track for track in self.tracks if track.number]
        for i in sure:
            if (i in found and found[i].number) or not known:
                continue
            *others, (best, _, track) = sorted(
                (track.likeness(seen[i].look), track.number, track) for track in known
            )
            lead = best - others[-1][0] if others else 1.0
            is_free = track.lost and track not in found.values()
            if is_free and best >= FAR_LIKENESS and lead >= LIKENESS_LEAD:
                found[i] = track

    def _number(self, track: Track) -> None:
        """Give a track that has no number the next one, unless it may still be a lost face."""
        lost = [other for other in self.tracks if other.lost]
        is_doubtful = track.hits < PATIENCE and any(
            other.likeness(look) >= DOUBTFUL_LIKENESS for other in lost for look in track.looks
        )
        if not track.number and not is_doubtful:
            track.number = self._next_number
            self._next_number += 1

    def _hide_covered(self, frame: np.ndarray) -> None:
        """Of two tracks on the same face, lose the one that looks less like it.

        Two faces that the detector has just told apart both stay.
        """
        for a, b in combinations(self.tracks, 2):
            is_doubtful = a.misses or b.misses or a.followed or b.followed
            if a.lost or b.lost or not is_doubtful or iou(a.box, b.box) <= MATCH_IOU:
                continue
            like_a, like_b = (track.likeness(_look(frame, track.box)) for track in (a, b))
            (a if (a.misses, -like_a) > (b.misses, -like_b) else b).lose()


def _assign(
    found: dict[int, Track], tracks: list[Track], seen: list[Sighting], indices: list[int]
) -> None:
    """Match tracks and faces that are free and fit, the best pair first, and add them to `found`.

    With the few faces of a frame this is hardly worse than the best sum over all pairs.
    """
    pairs = ((_fit(track, seen[i]), -j, i) for j, track in enumerate(tracks) for i in indices)
    for fit, j, i in sorted(pairs, reverse=True):
        if fit > 0 and i not in found and tracks[-j] not in found.values():
            found[i] = tracks[-j]


def _fit(track: Track, sighting: Sighting) -> float:
    """Return how well a face fits a track by place and look; 0: not at all."""
    overlap, likeness = iou(track.box, sighting.face.box), track.likeness(sighting.look)
    if track.lost:
        fits = likeness >= NEAR_LIKENESS and _is_near(track, sighting.face.box)
    else:
        fits = overlap > MATCH_IOU and overlap + likeness > MIN_FIT
        fits |= likeness >= NEAR_LIKENESS and _is_near(track, sighting.face.box)
    return overlap + likeness if fits else 0.0


def _is_near(track: Track, box: Box) -> bool:
    """Return whether a box is about where a track is expected."""
    distance = math.dist(_centre(track.box), _centre(box))
    return track.unseen <= NEAR_FRAMES and distance < NEARNESS * max(box.width, box.height)


def _centre(box: Box) -> tuple[float, float]:
    """Return the middle of a box."""
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2


def _overlaps(face: DetectedFace, others: Iterable[DetectedFace]) -> bool:
    """Return whether a face overlaps another: then some of its pixels may be the other's."""
    return any(iou(face.box, other.box) > MAX_TOUCH for other in others if other is not face)


def _look(frame: np.ndarray, box: Box) -> np.ndarray:
    """Return a face's pixels in small, without their mean colour and contrast: a unit vector."""
    cv2 = import_cv2()
    left, top, right, bottom = map(int, clip(box, frame.shape[1], frame.shape[0]))
    if left >= right or top >= bottom:
        return np.zeros(3 * LOOK_SIDE**2, np.float32)
    pixels = frame[top:bottom, left:right]
    small = cv2.resize(pixels, (LOOK_SIDE, LOOK_SIDE), interpolation=cv2.INTER_AREA)
    look = small - small.mean((0, 1), dtype=np.float32)
    return look.ravel() / max(float(np.linalg.norm(look)), 1e-6)


def _follow(track: Track, small: np.ndarray, factor: float) -> None:
    """Move a track to where the new frame looks most like its face, or lose it.

    `small`: the new frame in grey, reduced by `factor`.
    """
    cv2 = import_cv2()
    if track.lost:
        track.coast()
        return
    track.followed, patch = True, track.patch
    if patch is None or min(patch.shape) < 4:
        return
    height, width = patch.shape
    x, y, _, _ = track.box.xywh
    vx, vy = track.velocity
    small_x, small_y = round(x / factor), round(y / factor)
    start_x, start_y = round((x + vx) / factor), round((y + vy) / factor)
    reach_x, reach_y = round(SEARCH_MARGIN * width), round(SEARCH_MARGIN * height)
    left, top = max(0, start_x - reach_x), max(0, start_y - reach_y)
    bottom = max(0, start_y + height + reach_y)
    window = small[top:bottom, left : max(0, start_x + width + reach_x)]
    if window.shape[0] < height or window.shape[1] < width:
        track.lose()
        return
    correlation = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (dx, dy) = cv2.minMaxLoc(correlation)
    if best < MIN_CORRELATION:
        track.lose()
        return
    new_x, new_y = x, y
    if (left + dx, top + dy) != (small_x, small_y):
        new_x, new_y = round((left + dx) * factor), round((top + dy) * factor)
    track.face = track.face.moved(new_x - x, new_y - y)


def _crop(small: np.ndarray, box: Box, factor: float) -> np.ndarray:
    """Return a box's pixels in the reduced copy of a frame."""
    x, y, w, h = (round(value / factor) for value in box.xywh)
    return small[max(0, y) : y + h, max(0, x) : x + w].copy()
