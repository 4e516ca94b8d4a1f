"""A video on its way through recognition: track its faces, classify, log, draw, write and show."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.console import ProgressBar
from utils.imaging.drawing import draw_face, draw_probabilities, paste, render_text
from utils.inference.face_classifier import FaceClassifier
from utils.recognition.photo import InputMaker
from utils.recognition.sound import open_sound
from utils.recognition.tracking import Track, TrackedFace, Tracker
from utils.recognition.video_io import VideoReader, VideoWindow, VideoWriter
from utils.recognition.video_log import LogWriter, open_log


@dataclass(frozen=True)
class VideoOptions:
    """How often faces are found, how they are smoothed, and where the results go."""

    detect_every: int  # frames between detections
    smooth: float  # weight of the past in the probabilities, in [0, 1]
    output: Path | None  # the marked video
    log: Path | None  # a line for each face of each frame
    display: bool  # in a window


def process_video(
    video: VideoReader,
    classifier: FaceClassifier,
    inputs: InputMaker,
    options: VideoOptions,
) -> tuple[int, float]:
    """Process the frames to the end of the video, or until the user stops it, and close it.

    Return the number of frames and the seconds from the first to the last. Raise StageError if a
    live source stops or an output cannot be written.
    """
    classes = classifier.classes
    assert inputs.finder, "a video is searched for faces"
    tracker = Tracker(options.detect_every, inputs.finder)
    frames, seconds = 0, 0.0
    with ExitStack() as stack:
        stack.callback(video.close)
        log, writer, window = _open_outputs(video, classes, options, stack)
        bar = stack.enter_context(ProgressBar(video.total or None, "video", "frame"))
        started = time.monotonic()
        for frames, frame in enumerate(video, 1):
            tracks = tracker.update(frame.pixels)
            faces = classify_tracks(frame.pixels, tracks, classifier, inputs, options.smooth)
            if log:
                log(frame, faces)
            seconds = time.monotonic() - started
            if writer or window:
                draw_faces(frame.pixels, faces, classes)
                draw_rate(frame.pixels, frames / max(seconds, 1e-6))
            if writer:
                writer.write(frame)
            bar.update()
            if window and not window.show(frame.pixels):
                break
        if writer and video.is_at_end:
            writer.finish()
    return frames, seconds


def _open_outputs(
    video: VideoReader, classes: list[str], options: VideoOptions, stack: ExitStack
) -> tuple[LogWriter | None, VideoWriter | None, VideoWindow | None]:
    """Open the log, the recording with the sound of a file, and the window, until `stack` ends."""
    log = writer = window = None
    if options.log:
        log = stack.enter_context(open_log(options.log, classes))
    if options.output:
        sound = open_sound(video.path, video.start, stack) if video.path else None
        writer = stack.enter_context(VideoWriter(options.output, video.size, video.rate, sound))
    if options.display:
        window = stack.enter_context(VideoWindow())
    return log, writer, window


def classify_tracks(
    pixels: np.ndarray,
    tracks: list[Track],
    classifier: FaceClassifier,
    inputs: InputMaker,
    smooth: float,
) -> list[TrackedFace]:
    """Classify the faces of a frame, uint8 BGR (height, width, 3), in one batch.

    Return a face for each track. Update its probabilities: `smooth` times its own of the frame
    before, plus 1 - `smooth` times those of this frame. The first ones are taken as they are.
    """
    if not tracks:
        return []
    pictures = [inputs.cut_bgr(pixels, track.face) for track in tracks]
    faces = []
    for track, probs in zip(tracks, classifier.probabilities(pictures), strict=True):
        past = probs if track.probs is None else track.probs
        track.probs = smooth * past + (1 - smooth) * probs
        faces.append(TrackedFace(track.number, track.box, track.probs, track.face.score))
    return faces


def draw_faces(pixels: np.ndarray, faces: list[TrackedFace], classes: list[str]) -> None:
    """Draw each face's rectangle, track, label and probabilities; `pixels` is changed in place."""
    for face in faces:
        best = int(face.probs.argmax())
        percent, prefix = 100 * float(face.probs[best]), f"{face.track}  "
        label_bottom = draw_face(pixels, face.box, classes[best], percent, prefix)
        draw_probabilities(pixels, face.box, classes, face.probs, min_top=label_bottom)


def draw_rate(pixels: np.ndarray, rate: float) -> None:
    """Draw the speed in frames per second at the upper left; `pixels` is changed in place."""
    patch = render_text(f"{rate:.0f} FPS", 18)
    paste(pixels, patch, 4, 4 + len(patch))
