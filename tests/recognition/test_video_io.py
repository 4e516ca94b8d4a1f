"""Frames of files and streams, with their times; recordings with these times, and with sound."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import BinaryIO

import av
import numpy as np
import pytest
from PIL import Image

from tests.films import cut, grey_frames, has_sound, noise_frames, read_film, write_film
from utils.errors import StageError
from utils.recognition import video_io, video_source
from utils.recognition.video_io import Frame, VideoReader, VideoWindow, VideoWriter, has_screen

BLACK = np.zeros((48, 64, 3), np.uint8)


class Capture:
    """Stands for OpenCV's VideoCapture: frames, with their number in the left half."""

    count = 6  # frames
    rate = 10.0
    opened = True

    def __init__(self, source: int) -> None:
        self.reads = 0

    def isOpened(self) -> bool:  # noqa: N802 - as OpenCV calls it
        return self.opened

    def read(self) -> tuple[bool, np.ndarray]:
        self.reads += 1
        pixels = BLACK.copy()
        pixels[:, :32] = self.reads % 200 + 1
        return self.reads <= self.count, pixels

    def get(self, what: int) -> float:
        return self.rate

    def release(self) -> None:
        pass


@pytest.fixture
def capture(monkeypatch):
    """Have every camera be a Capture."""
    import cv2

    class OwnCapture(Capture):
        pass

    monkeypatch.setattr(cv2, "VideoCapture", OwnCapture)
    return OwnCapture


def test_reader_gives_every_frame_of_a_file(tmp_path):
    frames = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(12)]
    path = write_film(tmp_path / "x.mp4", frames)
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


def test_reader_without_a_known_rate_takes_the_default(capture):
    capture.rate, capture.count = 0.0, 1000
    with closing(VideoReader("0")) as reader:
        assert reader.rate == video_source.DEFAULT_RATE == 30


def test_reader_mirrors_a_camera_and_keeps_only_its_newest_frame(capture):
    capture.count = 1000
    with closing(VideoReader("0")) as reader:
        assert reader.is_live and reader.path is None and reader.total == 0
        frame = next(iter(reader))
        assert frame.pixels[0, -1, 0] > 0 == frame.pixels[0, 0, 0]
        assert reader._items.qsize() <= 1


def test_reader_reports_a_camera_that_fails(capture):
    capture.count = 3
    with (
        closing(VideoReader("0")) as reader,
        pytest.raises(StageError, match=r"camera 0 sends no more frames; is it still conn"),
    ):
        list(reader)


def test_reader_reports_a_camera_that_hangs(capture, monkeypatch):
    capture.count, wait = 1000, threading.Event()
    read = capture.read
    monkeypatch.setattr(
        capture, "read", lambda self: read(self) if self.reads < 3 else (wait.wait(5), BLACK)
    )
    with closing(VideoReader("0", 0.01)) as reader:
        with pytest.raises(StageError, match=r"camera 0: no picture in 0\.01 seconds"):
            list(reader)
        wait.set()


@pytest.mark.parametrize(
    ("source", "message"),
    [("none.mp4", r"--source none\.mp4: no such file"), ("99", "--source 99: no camera answers")],
)
def test_reader_refuses_a_source_that_cannot_be_opened(capture, source, message):
    capture.opened = False
    with pytest.raises(StageError, match=message):
        VideoReader(source)


def test_reader_that_is_closed_early_reads_no_further(tmp_path):
    path = write_film(tmp_path / "x.mp4", grey_frames(100))
    reader = VideoReader(str(path))
    next(iter(reader))
    reader.close()
    assert not reader._thread.is_alive() and reader._source._decoded < 30


def test_reader_tells_a_problem_only_of_a_file_that_was_read_to_its_end(tmp_path):
    path = cut(write_film(tmp_path / "x.avi", noise_frames(6), codec="mjpeg"), 0.6)
    with closing(VideoReader(str(path))) as reader:
        frames = iter(reader)
        next(frames)
        reader._thread.join()  # it has read the file; the frames wait
        assert not reader.is_at_end and reader.problem is None
        list(frames)
        assert reader.is_at_end and "of 6 frames can be read" in reader.problem


def test_reader_passes_on_an_error_that_nobody_expects(capture, monkeypatch):
    def fail(self: Capture) -> tuple[bool, np.ndarray]:
        raise ZeroDivisionError

    monkeypatch.setattr(capture, "read", fail)
    with pytest.raises(ZeroDivisionError):
        VideoReader("0")


class Camera:
    """A server on 127.0.0.1 that sends JPEGs, as many cameras do, and then waits or hangs up."""

    def __init__(self, count: int, hangs_up: bool) -> None:
        self._count, self._hangs_up, self._connections = count, hangs_up, []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/live"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        jpeg = io.BytesIO()
        Image.new("RGB", (64, 48), "white").save(jpeg, "JPEG")
        part = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg.getvalue() + b"\r\n"
        head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._connections.append(connection)
                connection.sendall(head + part * self._count)
                if self._hangs_up:
                    connection.shutdown(socket.SHUT_RDWR)


class RtspCamera:
    """A server on 127.0.0.1 that sends a film by RTSP: MPEG-TS in RTP packets, through TCP."""

    def __init__(self, film: bytes) -> None:
        self._film = film
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/live"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, suppress(OSError), connection.makefile("rb") as requests:
            while (request := requests.readline()) and request.strip():
                headers = dict(line.split(": ", 1) for line in _header_lines(requests))
                method = request.split()[0].decode()
                connection.sendall(self._answer(method, headers["CSeq"]))
                if method == "PLAY":
                    self._send_film(connection)
                    return

    def _answer(self, method: str, number: str) -> bytes:
        more, body = "", ""
        if method == "DESCRIBE":
            body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n"
            more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        if method == "SETUP":
            more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{more}\r\n"
        return (head + body).encode()

    def _send_film(self, connection: socket.socket) -> None:
        size = 7 * 188  # bytes: seven packets of the film
        for number, start in enumerate(range(0, len(self._film), size)):
            part = self._film[start : start + size]
            rtp = struct.pack(">BBHII", 0x80, 33, number, 900 * number, 7) + part
            connection.sendall(b"$\0" + struct.pack(">H", len(rtp)) + rtp)


def _header_lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline().decode().strip():
        yield line


def test_reader_reads_a_camera_on_the_network(tmp_path):
    path = write_film(tmp_path / "x.ts", noise_frames(100))
    with closing(VideoReader(RtspCamera(path.read_bytes()).url, 5)) as reader:
        assert reader.is_live and reader.size == (160, 120) and reader.total == 0
        seconds = []
        with pytest.raises(StageError, match=r"stream rtsp://.*/live sends no more frames"):
            seconds.extend(frame.seconds for frame in reader)
    assert seconds == sorted(seconds)


def test_reader_shows_a_piece_of_a_live_stream_in_real_time(tmp_path, server):
    """HLS: a list of pieces, each of which comes at once."""
    piece = write_film(tmp_path / "x.ts", grey_frames(50)).read_bytes()
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXTINF:2,\na.ts\n"
    server.files = {"/live.m3u8": text.encode(), "/a.ts": piece}
    with closing(VideoReader(f"{server.url}/live.m3u8", 5)) as reader:
        assert reader.is_live
        frames = iter(reader)
        first, started = next(frames), time.monotonic()
        while (frame := next(frames)).seconds < first.seconds + 1.2:
            pass
        elapsed = time.monotonic() - started
    assert frame.seconds - first.seconds == pytest.approx(1.2, abs=0.3)
    assert elapsed > 0.8


def test_reader_reports_a_stream_that_ends():
    with closing(VideoReader(Camera(40, hangs_up=True).url)) as reader:
        assert reader.is_live and reader.size == (64, 48) and reader.total == 0
        with pytest.raises(
            StageError, match=r"stream http.*/live sends no more frames; is it still conn"
        ):
            list(reader)


def test_reader_reports_a_stream_that_sends_nothing_for_a_while():
    with closing(VideoReader(Camera(40, hangs_up=False).url, 1)) as reader:
        started, message = (
            time.monotonic(),
            "stream .*: no picture in 1 second; a longer --timeout",
        )
        with pytest.raises(StageError, match=message):
            list(reader)
        assert time.monotonic() - started < 3


def test_reader_reports_a_stream_that_never_begins():
    started = time.monotonic()
    with pytest.raises(StageError, match=r"--source http.*/live: no picture in 0\.5 seconds"):
        VideoReader(Camera(0, hangs_up=False).url, 0.5)
    assert time.monotonic() - started < 1.5


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


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "MP4"])
@pytest.mark.parametrize(
    "seconds",
    [
        (0, 0.4, 0.5, 1.0),
        (0, 0.01, 0.02, 0.1),
        tuple(i / 30 for i in range(40)),
        tuple(i * 1001 / 30_000 for i in range(40)),
        (0, 1 / 3, 20, 3600),
    ],
)
def test_writer_gives_each_frame_its_own_time(tmp_path, suffix, seconds):
    path, frames = tmp_path / f"x.{suffix}", grey_frames(len(seconds))
    with VideoWriter(path, (64, 48), 10) as writer:
        for number, second in enumerate(seconds):
            writer.write(Frame(number, second, frames[number]))
    times, brightness = read_film(path)
    assert times == pytest.approx(seconds, abs=0.0006 if suffix == "mkv" else 1e-5)
    assert brightness == pytest.approx([frame.mean() for frame in frames], abs=4)
    assert not has_sound(path)


def test_writer_keeps_frames_of_the_same_time(tmp_path):
    with VideoWriter(tmp_path / "x.mp4", (64, 48), 10) as writer:
        for number, second in enumerate((0, 0.1, 0.1, 0.1, 0.2)):
            writer.write(Frame(number, second, BLACK))
    assert read_film(tmp_path / "x.mp4")[0] == pytest.approx([0, 0.1, 0.1, 0.1, 0.2], abs=1e-4)


def test_writer_shows_the_last_frame_as_long_as_the_source(tmp_path):
    for name, duration, expected in (("x", 2.5, 3.5), ("y", 0.0, 1.1)):
        path = tmp_path / f"{name}.mp4"
        with VideoWriter(path, (64, 48), 10) as writer:
            for number, second in enumerate((0, 0.5, 1)):
                writer.write(Frame(number, second, BLACK, duration))
        with av.open(str(path)) as film:
            assert film.duration / 1e6 == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
def test_writer_writes_what_browsers_and_messengers_play(tmp_path, size):
    colours = [(0, 0, 250), (0, 250, 0), (250, 0, 0), (128, 128, 128)]
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for i, colour in enumerate(colours):
        pixels[:, i * size[0] // 4 : (i + 1) * size[0] // 4] = colour
    with VideoWriter(tmp_path / "x.mp4", size, 25) as writer:
        for number in range(3):
            writer.write(Frame(number, number / 25, pixels))
    content = (tmp_path / "x.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index stands first"
    with av.open(str(tmp_path / "x.mp4")) as film:
        [stream] = film.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert context.colorspace == (1 if size[1] >= 720 else 6) and context.color_range == 1
        assert stream.average_rate == 25
        middles = slice(size[0] // 8, None, size[0] // 4)
        for frame in film.decode(video=0):
            bgr = frame.to_ndarray(format="bgr24")[size[1] // 2, middles].astype(int)
            assert np.abs(bgr - colours).max() < 12


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


def test_writer_without_a_frame_leaves_no_file_and_keeps_an_older_one(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"an older one")
    for name in ("x.mp4", "y.mp4"):
        with VideoWriter(tmp_path / name, (64, 48), 10):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]
    assert (tmp_path / "x.mp4").read_bytes() == b"an older one"


def test_writer_refuses_frames_that_are_too_large(tmp_path):
    with (
        pytest.raises(StageError, match=r"x\.mp4: frames of 40000x20 pixels cannot be written"),
        VideoWriter(tmp_path / "x.mp4", (40_000, 20), 10),
    ):
        pass
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["10:22:11.mp4", "100%_%03d.mp4", "찍은 것 [1].mov", "rtsp:__x.mkv"]
)
def test_writer_takes_any_name_for_a_file(tmp_path, name):
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this system has no such names")
    with VideoWriter(tmp_path / name, (64, 48), 10) as writer:
        writer.write(Frame(0, 0, BLACK))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(read_film(tmp_path / name)[0]) == 1


@pytest.mark.parametrize("when", ["encode", "mux", "close"])
def test_writer_reports_a_video_that_is_not_whole(tmp_path, monkeypatch, when):
    """As on a full disk."""

    def fail(*args: object) -> None:
        raise av.error.OSError(28, "No space left on device")

    def record() -> None:
        with VideoWriter(tmp_path / "x.mp4", (64, 48), 10) as writer:
            name = "_stream" if when == "encode" else "_output"
            monkeypatch.setattr(writer, name, Failing(getattr(writer, name), when, fail))
            for number in range(200):
                writer.write(Frame(number, number / 10, BLACK))

    with pytest.raises(StageError, match=r"x\.mp4 could not be written whole: No space left on"):
        record()
    assert not any(tmp_path.iterdir())


class Failing:
    """An object, one method of which is replaced."""

    def __init__(self, real: object, name: str, method: object) -> None:
        self._real, self._name, self._method = real, name, method

    def __getattr__(self, name: str) -> object:
        return self._method if name == self._name else getattr(self._real, name)


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
