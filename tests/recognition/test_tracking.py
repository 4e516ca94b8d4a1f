"""Faces over time: followed, lost, found again, and never confused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.photos import ASTRONAUT
from utils.imaging.geometry import Box
from utils.recognition import tracking
from utils.recognition.face_detection import DetectionOptions, FaceFinder
from utils.recognition.faces import DetectedFace
from utils.recognition.tracking import Tracker

EMPTY = np.full((540, 960, 3), 100, np.uint8)


@pytest.fixture(scope="module")
def finder():
    return FaceFinder(DetectionOptions())


@pytest.fixture
def frame():
    """A frame with the astronaut at the upper left."""
    frame = EMPTY.copy()
    frame[20:220, 40:250] = ASTRONAUT[20:220, 120:330, ::-1]
    return frame


def numbers(tracks: list[tracking.Track]) -> list[int]:
    return [track.number for track in tracks]


def test_tracker_keeps_the_number_of_a_face_that_is_soon_found_again(frame, finder):
    tracker = Tracker(1, finder)
    assert numbers(tracker.update(frame)) == [1]
    assert tracker.update(EMPTY) == []
    assert numbers(tracker.update(frame)) == [1]
    assert [tracker.update(EMPTY) for _ in range(3)] == [[], [], []]
    assert numbers(tracker.update(frame)) == [2]


def test_tracker_follows_a_face_between_detections(frame, finder):
    tracker = Tracker(100, finder)
    [x, y, *_], *_ = (track.box.xywh for track in tracker.update(frame))
    [track] = tracker.update(np.roll(frame, (14, 22), (0, 1)))
    assert track.box.xywh[:2] == pytest.approx((x + 22, y + 14), abs=2)


def test_tracker_loses_a_face_that_is_gone_between_detections(frame, finder):
    tracker = Tracker(100, finder)
    assert numbers(tracker.update(frame)) == [1]
    assert tracker.update(EMPTY) == []


def test_tracker_detects_every_few_frames(frame):
    calls = []

    def find(picture, is_bgr: bool) -> list[DetectedFace]:
        calls.append((picture.size, is_bgr))
        return []

    tracker, counts = Tracker(3, find), []
    for _ in range(7):
        tracker.update(frame)
        counts.append(len(calls))
    assert counts == [1, 1, 1, 2, 2, 2, 3] and calls[0] == ((960, 540), True)


def test_tracker_gives_each_face_to_the_track_that_it_overlaps_most():
    found = [
        [Box(100, 100, 200, 200), Box(300, 100, 400, 200)],
        # Both have moved to the right, in the other order; the third is new.
        [Box(340, 100, 440, 200), Box(140, 100, 240, 200), Box(700, 300, 800, 400)],
    ]
    noise = np.random.default_rng(0).integers(0, 255, EMPTY.shape, dtype=np.uint8)
    tracker = Tracker(1, lambda picture, is_bgr: [DetectedFace(box) for box in found.pop(0)])
    assert numbers(tracker.update(noise)) == [1, 2]
    boxes = {track.number: track.box for track in tracker.update(noise)}
    assert boxes == {
        1: Box(140, 100, 240, 200),
        2: Box(340, 100, 440, 200),
        3: Box(700, 300, 800, 400),
    }


def test_tracker_survives_a_face_at_the_edge_that_leaves_the_frame(frame, finder):
    tracker = Tracker(100, finder)
    tracker.update(frame)
    for shift in range(0, 300, 30):
        moved = EMPTY.copy()
        moved[:, : 960 - shift] = frame[:, shift:]
        tracks = tracker.update(moved)
        assert len(tracks) <= 1
    assert tracks == []
