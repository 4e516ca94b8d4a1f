"""Frames of files and streams, with their times; recordings that last as long as the source."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photos import count_frames, write_video
from utils.errors import StageError
from utils.recognition import video_io
from utils.recognition.video_io import Frame, VideoReader, VideoWindow, VideoWriter, has_screen

BLACK = np.zeros((48, 64, 3), np.uint8)


class Capture:
    """Stands for OpenCV's VideoCapture: frames of some milliseconds each, with their number."""

    times = (0, 100, 700, 700, 0, 900)
    count = 6  # as the source says; 0: a live stream
    rate = 10.0
    opened = True

    def __init__(self, source: str | int) -> None:
        self.reads = 0

    def isOpened(self) -> bool:  # noqa: N802 - as OpenCV calls it
        return self.opened

    def read(self) -> tuple[bool, np.ndarray]:
        self.reads += 1
        pixels = BLACK.copy()
        pixels[:, :32] = self.reads
        return self.reads <= len(self.times), pixels

    def get(self, what: int) -> float:
        import cv2

        if what == cv2.CAP_PROP_POS_MSEC:
            return self.times[min(self.reads, len(self.times)) - 1]
        return {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: self.count}[what]

    def release(self) -> None:
        pass


@pytest.fixture
def capture(monkeypatch, tmp_path):
    """Have every source be a Capture; and a file that exists."""
    import cv2

    class OwnCapture(Capture):
        pass

    monkeypatch.setattr(cv2, "VideoCapture", OwnCapture)
    (tmp_path / "x.mp4").touch()
    OwnCapture.file = str(tmp_path / "x.mp4")
    return OwnCapture


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happens")


def test_reader_gives_every_frame_of_a_file(tmp_path):
    frames = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(12)]
    path = write_video(tmp_path / "x.mp4", frames, 25)
    reader = VideoReader(str(path))
    assert (reader.size, reader.rate, reader.total) == ((64, 48), 25, 12) and not reader.is_live
    for number, frame in enumerate(reader):
        assert frame.number == number and frame.seconds == pytest.approx(number / 25)
        assert np.abs(frame.pixels.astype(int) - frames[number]).max() < 20
    assert number == 11
    reader.close()


def test_reader_gives_the_time_of_each_frame(tmp_path):
    """A GIF whose frames last differently long, as those of phones' videos do."""
    frames = [Image.new("L", (64, 48), 40 * i) for i in range(4)]
    frames[0].save(
        tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=[100, 100, 500, 100]
    )
    reader = VideoReader(str(tmp_path / "x.gif"))
    assert [round(frame.seconds, 3) for frame in reader] == [0, 0.1, 0.2, 0.7]
    reader.close()


def test_reader_time_never_goes_back(capture):
    """If a file gives the same time twice, or none."""
    reader = VideoReader(capture.file)
    assert [round(frame.seconds, 3) for frame in reader] == [0, 0.1, 0.7, 0.7, 0.7, 0.9]
    reader.close()


def test_reader_without_a_known_rate_takes_the_default(capture):
    capture.rate, capture.times = 0.0, (0, 0, 0)
    reader = VideoReader(capture.file)
    assert reader.rate == video_io.DEFAULT_RATE == 30
    assert [round(frame.seconds, 4) for frame in reader] == [0, 0.0333, 0.0667]
    reader.close()


def test_reader_mirrors_a_camera_and_keeps_only_its_newest_frame(capture):
    capture.times = tuple(range(50))
    reader = VideoReader("0")
    assert reader.is_camera and reader.is_live and reader.total == 0
    wait_until(lambda: reader._video.reads > 50)
    frames = iter(reader)
    frame = next(frames)
    assert frame.number == 49 and frame.pixels[0, -1, 0] == 50 and frame.pixels[0, 0, 0] == 0
    with pytest.raises(StageError, match="camera 0 sends no more frames; is it still connected"):
        next(frames)
    reader.close()


def test_reader_reports_a_stream_that_sends_nothing_for_a_while(capture, monkeypatch):
    capture.count = 0
    monkeypatch.setattr(video_io, "TIMEOUT", 0.01)
    monkeypatch.setattr(VideoReader, "_read", lambda reader: None)
    reader = VideoReader("rtsp://camera/stream")
    assert reader.is_live and not reader.is_camera
    with pytest.raises(StageError, match="stream rtsp://camera/stream has sent no frame for"):
        next(iter(reader))
    reader.close()


@pytest.mark.parametrize(
    ("source", "change", "message"),
    [
        ("none.mp4", {}, r"--source none\.mp4: no such file"),
        ("99", {"opened": False}, "--source 99: no camera answers"),
        ("http://x/y", {"opened": False}, "--source http://x/y: not a video"),
        ("http://x/y", {"times": ()}, "no frame can be read"),
    ],
)
def test_reader_refuses_a_source_that_cannot_be_opened(capture, source, change, message):
    for name, value in change.items():
        setattr(capture, name, value)
    with pytest.raises(StageError, match=message):
        VideoReader(source)


def test_reader_that_is_closed_early_reads_no_further(capture):
    capture.times = tuple(range(10_000))
    reader = VideoReader(capture.file)
    next(iter(reader))
    reader.close()
    assert not reader._thread.is_alive() and reader._video.reads < 100


@pytest.mark.parametrize(("width", "height"), [(65, 49), (64, 49), (65, 48), (64, 48)])
def test_writer_doubles_the_last_row_or_column_of_an_odd_size(tmp_path, width, height):
    import cv2

    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, -5:] = frame[-5:] = 255
    with VideoWriter(tmp_path / "a/x.mp4", (width, height), 25) as writer:
        for number in range(3):
            writer.write(Frame(number, number / 25, frame))
    written = cv2.VideoCapture(str(tmp_path / "a/x.mp4")).read()[1]
    assert written.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(written[:height, :width].astype(int) - frame).max() < 60
    assert written[-1].min() > 200 and written[:, -1].min() > 200


@pytest.mark.parametrize(
    ("live", "seconds", "expected"),
    [
        (True, (0, 0.4, 0.5, 1.0), 11),  # four frames in a second, at ten a second
        (True, (0, 0.01, 0.02, 0.1), 2),  # more than ten a second
        (False, (0, 0.4, 0.5, 1.0), 4),  # of a file each once
    ],
)
def test_writer_records_as_long_as_was_filmed(tmp_path, live, seconds, expected):
    with VideoWriter(tmp_path / "x.mp4", (64, 48), 10, live) as writer:
        for number, second in enumerate(seconds):
            writer.write(Frame(number, second, BLACK))
    assert count_frames(tmp_path / "x.mp4") == expected


class BugError(Exception):
    """An error that is nobody's plan."""


@pytest.mark.parametrize(
    ("error", "kept"), [(KeyboardInterrupt, True), (StageError, True), (BugError, False)]
)
def test_writer_keeps_what_was_recorded_unless_it_fails_itself(tmp_path, error, kept):
    def record() -> None:
        with VideoWriter(tmp_path / "x.mp4", (64, 48), 10) as writer:
            writer.write(Frame(0, 0, BLACK))
            raise error

    with pytest.raises(error):
        record()
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"] * kept


def test_writer_refuses_a_suffix_that_is_not_of_a_video(tmp_path):
    with (
        pytest.raises(StageError, match=r"x\.txt cannot be written as a video; name an \.mp4"),
        VideoWriter(tmp_path / "x.txt", (64, 48), 10),
    ):
        pass
    assert not any(tmp_path.iterdir())


def test_writer_reports_a_video_that_is_not_whole(tmp_path):
    """As on a full disk, which OpenCV does not report."""

    def record() -> None:
        with VideoWriter(tmp_path / "x.mp4", (64, 48), 10) as writer:
            writer.write(Frame(0, 0, BLACK))
            writer._frames.put(None)
            writer._thread.join()
            writer._video.release()
            Path(writer._temporary).write_bytes(b"cut off")

    with pytest.raises(StageError, match="could not be written whole; is the disk full"):
        record()
    assert not any(tmp_path.iterdir())


def test_window_shows_frames_until_a_key_is_pressed(monkeypatch):
    import cv2

    keys, shown, closed = [-1, ord("x"), ord("q"), 27], [], []
    monkeypatch.setattr(cv2, "imshow", lambda title, pixels: shown.append(pixels))
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: keys.pop(0))
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: closed.append(1))
    with VideoWindow() as window:
        assert [window.show(BLACK) for _ in range(4)] == [True, True, False, False]
    assert len(shown) == 4 and closed == [1]


def test_has_screen_needs_a_display_server_on_linux(monkeypatch):
    for platform, display, expected in (
        ("linux", "", False),
        ("linux", ":0", True),
        ("darwin", "", True),
        ("win32", "", True),
    ):
        monkeypatch.setattr(video_io.sys, "platform", platform)
        monkeypatch.setenv("DISPLAY", display)
        monkeypatch.setenv("WAYLAND_DISPLAY", "")
        assert has_screen() is expected
