"""A video on its way: faces classified and smoothed, drawn, logged and shown."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.photos import write_video
from utils.imaging.geometry import Box, FaceGeometry
from utils.imaging.preprocess import Preprocess
from utils.recognition import video as video_module
from utils.recognition.faces import DetectedFace
from utils.recognition.photo import InputMaker
from utils.recognition.tracking import Track, TrackedFace
from utils.recognition.video import (
    VideoOptions,
    classify_tracks,
    draw_faces,
    draw_rate,
    process_video,
)
from utils.recognition.video_io import VideoReader

BLACK = np.zeros((240, 320, 3), np.uint8)


class BlindFinder:
    """A detector that finds nothing."""

    min_score = 0.5

    def __call__(self, picture, is_bgr: bool, min_score: float) -> list[DetectedFace]:
        return []


WHOLE = SimpleNamespace(finder=BlindFinder())


def classifier_of(*answers: list) -> SimpleNamespace:
    """Return a classifier that gives these probabilities, one batch after the other."""
    batches = iter(answers)
    return SimpleNamespace(classes=["a", "b"], probabilities=lambda faces: np.array(next(batches)))


@pytest.fixture
def inputs():
    return InputMaker(Preprocess(8, 3), FaceGeometry(), None)


def track_of(number: int, box: Box) -> Track:
    return Track(number, DetectedFace(box, 0.75))


def test_classify_tracks_smooths_the_probabilities_over_time(inputs):
    classifier = classifier_of([[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]])
    track, probs = track_of(1, Box.from_xywh(5, 5, 20, 20)), []
    for _ in range(3):
        [face] = classify_tracks(BLACK, [track], classifier, inputs, 0.7)
        assert (face.track, face.box, face.score) == (1, track.box, 0.75)
        probs.append(face.probs[0])
    assert probs == pytest.approx([1, 0.7, 0.49])


def test_classify_tracks_without_smoothing_takes_each_frame_as_it_is(inputs):
    classifier = classifier_of([[1.0, 0.0]], [[0.2, 0.8]])
    track = track_of(1, Box.from_xywh(5, 5, 20, 20))
    probs = [classify_tracks(BLACK, [track], classifier, inputs, 0)[0].probs[0] for _ in "ab"]
    assert probs == [1, 0.2]


@pytest.mark.parametrize("level", [False, True])
def test_classify_tracks_cuts_rgb_faces_out_in_one_batch(inputs, level):
    seen = []
    classifier = SimpleNamespace(
        probabilities=lambda faces: seen.append(faces) or np.ones((len(faces), 2))
    )
    frame = BLACK.copy()
    frame[10:40, 40:70] = (1, 2, 3)
    tracks = [track_of(1, Box(40, 15, 70, 35)), track_of(2, Box(-5, -5, 20, 20))]
    square = replace(inputs, geometry=FaceGeometry("square", level=level))
    classify_tracks(frame, tracks, classifier, square, 0.5)
    [[first, second]] = seen
    assert first.shape == (3, 8, 8) and first[:, 0, 0].tolist() == [3, 2, 1]
    assert (first == first[:, :1, :1]).all() and not second.any()
    assert classify_tracks(frame, [], classifier, square, 0.5) == [] and len(seen) == 1


def test_draw_faces_marks_each_face_and_draw_rate_the_corner():
    faces = [TrackedFace(3, Box(100, 80, 200, 180), np.array([0.2, 0.8]))]
    marked = BLACK.copy()
    draw_faces(marked, faces, ["a", "b"])
    green = marked[:, :, 1].astype(int) - marked[:, :, 0] > 60
    assert green[120:140, 98:104].any(1).all(), "the left edge"
    assert not marked[:40, :60].any()
    draw_rate(marked, 12.3)
    assert marked[:40, :60].any()


def options(tmp_path, **changes: object) -> VideoOptions:
    defaults = {"detect_every": 5, "smooth": 0.5, "display": False}
    return VideoOptions(**(defaults | {"output": None, "log": tmp_path / "x.csv"} | changes))


def test_process_video_goes_through_every_frame(tmp_path):
    path = write_video(tmp_path / "x.mp4", [BLACK] * 7, 25)
    frames, seconds = process_video(
        VideoReader(str(path)), classifier_of(), WHOLE, options(tmp_path)
    )
    assert frames == 7 and seconds > 0
    assert len((tmp_path / "x.csv").read_text("utf-8").splitlines()) == 8


def test_process_video_ends_when_the_window_is_closed(tmp_path, monkeypatch):
    class Window:
        shown = 0

        def __enter__(self) -> Window:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def show(self, pixels: np.ndarray) -> bool:
            Window.shown += 1
            return Window.shown < 3

    monkeypatch.setattr(video_module, "VideoWindow", Window)
    path = write_video(tmp_path / "x.mp4", [BLACK] * 7, 25)
    reader = VideoReader(str(path))
    frames, _ = process_video(reader, classifier_of(), WHOLE, options(tmp_path, display=True))
    assert frames == Window.shown == 3 and reader._closed
