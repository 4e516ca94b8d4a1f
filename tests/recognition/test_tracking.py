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
SIDE = 100  # pixels of a drawn face


@pytest.fixture(scope="module")
def finder():
    return FaceFinder(DetectionOptions())


@pytest.fixture
def frame():
    """A frame with the astronaut at the upper left."""
    frame = EMPTY.copy()
    frame[20:220, 40:250] = ASTRONAUT[20:220, 120:330, ::-1]
    return frame


class ScriptedFinder:
    """A detector that finds the given faces, one list after the other."""

    min_score = 0.5

    def __init__(self, *found: list[DetectedFace]) -> None:
        self.found, self.sizes, self.min_scores = list(found), [], []

    def __call__(self, picture, is_bgr: bool, min_score: float) -> list[DetectedFace]:
        assert is_bgr
        self.sizes.append(picture.size)
        self.min_scores.append(min_score)
        return self.found.pop(0) if self.found else []


def look_of(person: int) -> np.ndarray:
    """Return a drawn face: soft spots, other ones for each person."""
    spots = np.random.default_rng(person).uniform(40, 220, (5, 5, 3))
    return np.kron(spots, np.ones((SIDE // 5, SIDE // 5, 1))).astype(np.uint8)


def play(*scenes: list[tuple], every: int = 1) -> tuple[list[dict[int, int]], Tracker]:
    """Run a tracker over scenes. Return which number is at which x in each, and the tracker.

    A scene is a list of faces, the farthest first: person, x, and a score, or None where the
    detector does not find the face.
    """
    frames, found = [], []
    for scene in scenes:
        frame = EMPTY.copy()
        for person, x, _ in scene:
            frame[200 : 200 + SIDE, x : x + SIDE] = look_of(person)
        frames.append(frame)
        found.append(
            [
                DetectedFace(Box.from_xywh(x, 200, SIDE, SIDE), score)
                for _, x, score in scene
                if score
            ]
        )
    tracker = Tracker(every, ScriptedFinder(*found[::every]))
    shown = [{t.number: round(t.box.left) for t in tracker.update(frame)} for frame in frames]
    return shown, tracker


def numbers(tracks: list[tracking.Track]) -> list[int]:
    return [track.number for track in tracks]


def test_tracker_keeps_the_number_of_a_face_that_is_found_again(frame, finder):
    tracker = Tracker(1, finder)
    assert numbers(tracker.update(frame)) == [1]
    assert [tracker.update(EMPTY) for _ in range(20)] == [[]] * 20
    assert numbers(tracker.update(frame)) == [1]


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
    finder = ScriptedFinder()
    tracker, counts = Tracker(3, finder), []
    for _ in range(7):
        tracker.update(frame)
        counts.append(len(finder.sizes))
    assert counts == [1, 1, 1, 2, 2, 2, 3] and finder.sizes[0] == (960, 540)


def test_tracker_gives_each_face_to_the_track_that_it_overlaps_most():
    found = [
        [Box(100, 100, 200, 200), Box(300, 100, 400, 200)],
        # Both have moved to the right, in the other order; the third is new.
        [Box(340, 100, 440, 200), Box(140, 100, 240, 200), Box(700, 300, 800, 400)],
    ]
    stripes = np.empty_like(EMPTY)
    stripes[:] = np.random.default_rng(0).integers(0, 255, (540, 1, 3))
    finder = ScriptedFinder(*([DetectedFace(box) for box in boxes] for boxes in found))
    tracker = Tracker(1, finder)
    assert numbers(tracker.update(stripes)) == [1, 2]
    boxes = {track.number: track.box for track in tracker.update(stripes)}
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


def test_a_weak_detection_keeps_a_track_and_starts_none():
    weak, missed = [(1, 100, 0.3)] * 6, [(1, 100, None)] * 6
    shown, tracker = play([(1, 100, 0.9)], *([face] for face in weak), [(2, 600, 0.3)])
    assert shown[:7] == [{1: 100}] * 7 and shown[7] == {}
    assert tracker._finder.min_scores[0] == tracking.WEAK_SCORE
    shown, _ = play([(1, 100, 0.9)], *([face] for face in missed))
    assert shown[3:] == [{}] * 4, "without any detection it is lost"


def test_a_detector_without_scores_finds_faces_that_are_sure():
    tracker = Tracker(1, ScriptedFinder([DetectedFace(Box(100, 100, 200, 200))]))
    assert numbers(tracker.update(EMPTY)) == [1]


def test_a_lower_min_score_is_left_as_it_is(frame):
    finder = ScriptedFinder([DetectedFace(Box(100, 100, 200, 200), 0.1)])
    finder.min_score = 0.1
    assert numbers(Tracker(1, finder).update(frame)) == [1] and finder.min_scores == [0.1]


def test_two_faces_that_cross_keep_their_numbers():
    # 1 goes to the right, behind 2 which goes to the left and hides it at times.
    scenes = []
    for i in range(13):
        a, b = 200 + 25 * i, 500 - 25 * i
        is_hidden = abs(a - b) < SIDE
        scenes.append([(1, a, None if is_hidden else 0.9), (2, b, 0.9)])
    shown, tracker = play(*scenes)
    assert shown[0] == {1: 200, 2: 500} and shown[-1] == {1: 500, 2: 200}
    assert all(at[2] == 500 - 25 * i for i, at in enumerate(shown)), "the nearer one is always seen"
    assert tracker._next_number == 3
    assert 1 not in shown[6], "the hidden one has no box on the other's face"


def test_a_face_that_turns_back_behind_another_keeps_its_number():
    # By the places alone, 1 would go on to the right: the look tells that it has turned back.
    way = [200, 240, 280, 320, 340, 340, 320, 280, 240, 200]
    scenes = [[(1, x, 0.9 if x < 290 else None), (2, 340, 0.9)] for x in way]
    shown, tracker = play(*scenes)
    assert shown[-1] == {1: 200, 2: 340} and tracker._next_number == 3


def test_a_fast_face_is_searched_for_where_it_moves_to():
    scenes = [[(1, 10 + i * i, 0.9)] for i in range(28)]  # at last it moves by half its width
    shown, _ = play(*scenes, every=100)
    assert [abs(at.get(1, -99) - 10 - i * i) <= 3 for i, at in enumerate(shown)] == [True] * 28


def test_a_hidden_face_is_expected_where_it_moves_to(monkeypatch):
    monkeypatch.setattr(tracking, "FAR_LIKENESS", 1.1)  # its look alone is not enough
    seen = [[(1, 20 * i, 0.9)] for i in range(10)]
    shown, _ = play(*seen, *[[]] * 6, [(1, 20 * 16, 0.9)])
    assert shown[-2:] == [{}, {1: 320}]


def test_a_face_that_comes_back_gets_its_number_by_its_look():
    away = [[(2, 700, 0.9)]] * 30
    first = [[(1, 100, 0.9), (2, 700, 0.9)]] * 3
    shown, _ = play(*first, *away, [(1, 400, 0.9), (2, 700, 0.9)])
    assert shown[-1] == {1: 400, 2: 700}


def test_a_lost_number_never_goes_to_another_person():
    gone = [[]] * 5
    shown, _ = play(*[[(1, 100, 0.9)]] * 3, *gone, *[[(3, 100, 0.9)]] * 3)
    assert shown[2] == {1: 100} and shown[-1] == {2: 100}


def test_a_face_that_covers_another_does_not_take_its_number(monkeypatch):
    monkeypatch.setattr(tracking, "MIN_CORRELATION", -1)  # the covered one is not lost at once
    known, covered = [(1, 100, 0.9)], [(1, 100, None), (3, 140, 0.9)]
    shown, _ = play(*[known] * 3, *[covered] * 3)
    assert shown[2] == {1: 100} and shown[-1] == {2: 140}


def test_a_lost_number_is_not_guessed_between_two_that_look_alike():
    # 1 and 4 are twins. Both leave; the one who comes back may be either.
    known = [[(1, 100, 0.9), (1, 700, 0.9)]] * 3
    shown, _ = play(*known, *[[]] * 70, *[[(1, 400, 0.9)]] * 4)
    assert shown[2] == {1: 100, 2: 700} and shown[-1] == {3: 400}


def test_a_face_that_may_be_a_lost_one_waits_for_its_number(monkeypatch):
    monkeypatch.setattr(tracking, "FAR_LIKENESS", 1.1)  # nothing is like enough
    shown, _ = play([(1, 100, 0.9)], *[[]] * 3, *[[(1, 600, 0.9)]] * 4)
    waiting = tracking.PATIENCE - 1
    assert shown[4:] == [{}] * waiting + [{2: 600}] * (4 - waiting)


def test_a_face_is_forgotten_at_last():
    tracker = Tracker(1, ScriptedFinder([DetectedFace(Box(100, 100, 200, 200))]))
    for _ in range(tracking.MEMORY + 10):
        tracker.update(EMPTY)
    assert tracker.tracks == []


def test_two_tracks_are_never_on_one_face():
    # The second box is on the same face, and only the first is found again.
    box, beside = Box(100, 200, 200, 300), Box(140, 200, 240, 300)
    frame = EMPTY.copy()
    frame[200:300, 100:200] = look_of(1)
    finder = ScriptedFinder([DetectedFace(box), DetectedFace(beside)], [DetectedFace(box)])
    tracker = Tracker(1, finder)
    assert numbers(tracker.update(frame)) == [1, 2]
    assert numbers(tracker.update(frame)) == [1]


def test_probabilities_of_a_face_that_was_away_start_again():
    frame = EMPTY.copy()
    frame[200:300, 100:200] = look_of(1)
    for missed in (1, tracking.MAX_MISSES):
        tracker = Tracker(1, ScriptedFinder([DetectedFace(Box(100, 200, 200, 300))]))
        [track] = tracker.update(frame)
        track.probs = np.array([0.2, 0.8])
        for _ in range(missed):
            tracker.update(frame)
        tracker._finder.found = [[DetectedFace(Box(100, 200, 200, 300))]]
        assert tracker.update(frame) == [track] and track.number == 1
        assert (track.probs is None) == (missed == tracking.MAX_MISSES)


def test_a_face_behind_another_does_not_learn_the_other_ones_pixels():
    apart, crossing = [(1, 300, 0.9), (2, 420, 0.9)], [(1, 300, 0.9), (2, 370, 0.9)]
    _, before = play(*[apart] * 2)
    _, after = play(*[apart] * 2, *[crossing] * 2)
    [patch], [known] = (
        [track.patch for track in tracker.tracks if track.number == 1]
        for tracker in (before, after)
    )
    assert np.array_equal(patch, known)
    assert [len(track.looks) for track in after.tracks] == [1, 1]
