"""Where frames come from: cameras through OpenCV, files and streams through FFmpeg (PyAV)."""

from __future__ import annotations

import math
import os
import re
import socket
import struct
import time
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, url2pathname

import numpy as np

from utils.console import note
from utils.errors import StageError
from utils.imaging.formats import HEAD_BYTES, identify
from utils.recognition.opencv import import_cv2
from utils.recognition.pyav import import_av
from utils.urls import ascii_host, hide_credentials

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.error import FFmpegError

DEFAULT_RATE = 30.0  # frames per second of a source that does not know its rate
HD_HEIGHT = 720  # rows from which on a video that does not name its colours has those of BT.709
TOLERANCE = 0.01  # of the frames that a file announces; so many may be missing without a word
MAX_PROBE = 5.0  # seconds in which FFmpeg finds out what a stream sends, as by default

# How a video that is YUV becomes BGR: the number in its frames → the name that PyAV knows.
_COLOURS = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)
_PARTIAL = "is it a partial copy, or damaged?"


class Picture(NamedTuple):
    """A picture of a source."""

    pixels: np.ndarray  # uint8 BGR (height, width, 3), upright, all of one size
    seconds: float | None  # since the first one; None: it has come at the present
    duration: float  # seconds until the next one, as far as the source knows


class Source(ABC):
    """A camera, file or stream that is open."""

    name: str  # for messages
    rate: float  # frames per second, on average
    is_live: bool  # whether it shows the present and has no end
    total: int = 0  # frames; 0: not known
    start: float = 0.0  # time of the first picture, in seconds on the file's own clock
    problem: str | None = None  # why it ended too early

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures, to the end."""

    @abstractmethod
    def close(self) -> None:
        """Release the source."""


def find_source(text: str, timeout: float) -> tuple[Callable[[], Source], Path | None]:
    """Return a function that opens the source that `text` names, and its path if it is a file.

    The function may wait for a server, so it can be called in a thread: what it needs is imported
    here. Raise StageError if there is no such file.
    """
    import_cv2()
    if is_camera(text):
        return partial(CameraSource, int(text)), None
    import_av()
    path = find_file(text)
    if path:
        return partial(_open_file, path, text), path
    if not _ADDRESS.match(text):
        problem = "is a folder, not a video" if Path(text).is_dir() else "no such file"
        raise StageError(f"--source {text}: {problem}")
    return partial(_open_stream, text, timeout), None


def is_camera(text: str) -> bool:
    """Return whether the text is the number of a camera."""
    return text.isdecimal() and len(text) < 4


def find_file(text: str) -> Path | None:
    """Return the path of the file that a text names, whatever the text looks like, or None."""
    names = [text]
    if text.lower().startswith("file://"):
        names.append(url2pathname(urlsplit(text).path))
    for name in names:
        for form in (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))):
            with suppress(OSError, ValueError):  # a name that no file can have
                if Path(form).is_file():
                    return Path(form)
    return None


class CameraSource(Source):
    """A camera, mirrored as people expect it."""

    is_live = True

    def __init__(self, number: int) -> None:
        """Raise StageError if no camera of that number, from 0, answers."""
        self._cv2 = import_cv2()
        self._cv2.utils.logging.setLogLevel(0)
        self.name = f"camera {number}"
        self._video = self._cv2.VideoCapture(number)
        if not self._video.isOpened():
            raise StageError(f"--source {number}: no camera answers; is another program using it?")
        rate = self._video.get(self._cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures until the camera fails."""
        while True:
            success, pixels = self._video.read()
            if not success:
                return
            yield Picture(np.ascontiguousarray(pixels[:, ::-1]), None, 1 / self.rate)

    def close(self) -> None:
        """Release the camera."""
        self._video.release()


class Clock:
    """Turns a stream's own times into seconds that never go back.

    Files that were joined start again at 0 in the middle; single times can be wrong or missing.
    """

    def __init__(self, step: float, start: float | None = None) -> None:
        """`step`: seconds between frames. `start`: the time that becomes 0; None: the first one."""
        self._step, self.start = step, start
        self._last = -math.inf  # the last time as the stream has it, less `start`
        self._shift = 0.0  # what is added to its times
        self._jumped = False  # whether the last time went back
        self._count = 0
        self.now = -math.inf  # what `read` returned last

    def read(self, own: float | None) -> float:
        """Return the seconds of the next frame, whose time the stream gives as `own`."""
        if self.start is None:
            self.start = own or 0.0
        first, self._count = self._count == 0, self._count + 1
        if own is None:
            self.now = 0.0 if first else self.now + self._step
            return self.now
        seconds = own - self.start
        if self._jumped and seconds > self.now:  # only a single time was wrong
            self._shift = 0.0
        self._jumped = False
        if seconds + self._shift > self.now:
            self.now = seconds + self._shift
        elif seconds == self._last:  # some files have one time for all frames
            self.now = max(self.now, (self._count - 1) * self._step)
        else:
            self.now += self._step
            self._shift, self._jumped = self.now - seconds, True
        self._last = seconds
        return self.now


class MediaSource(Source):
    """A video file, or a stream: its first video track, decoded."""

    def __init__(
        self, address: str, name: str, timeout: float | None = None, path: Path | None = None
    ) -> None:
        """Open what `address` names for FFmpeg. `name` is for messages, `path` that of a file.

        Raise FFmpegError if it cannot be opened, or if nothing comes for `timeout` seconds;
        StageError if it holds no video that can be read.
        """
        self._av, self._cv2 = import_av(), import_cv2()
        self.name, self._timeout, self._path = name, timeout, path
        if timeout:
            probe = round(min(MAX_PROBE, timeout / 2) * 1e6)
            # By TCP, because a lost UDP packet would be a grey patch.
            options = {"analyzeduration": f"{probe}", "rtsp_flags": "prefer_tcp"}
        else:
            options = {"pattern_type": "none"}  # %d in the name of an image is no pattern
        self._container = self._av.open(
            address, options=options, timeout=timeout, metadata_errors="replace"
        )
        try:
            self._stream = self._container.streams.best("video")
            self._check_stream()
        except StageError:
            self._container.close()
            raise
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE
        self.is_live = bool(timeout) and self._is_endless()
        # HLS sends a piece of some seconds at a time, in which each picture has its own time.
        self._shows_present = self.is_live and self._container.format.name != "hls"
        # Threads that decode frames at once are fast, but the picture would be late.
        self._stream.thread_type = "SLICE" if self.is_live else "AUTO"
        self.total = 0 if self.is_live else self._announced_frames()
        self._clock = Clock(1 / self.rate)
        self._converter = self._av.video.reformatter.VideoReformatter()
        self._packets = self._hidden = 0  # frames in the file to show, and not to show
        self._decoded = self._failed = 0  # frames
        self._is_broken_off = False  # whether the last frame in the file is a part of one
        self._reached = -math.inf  # seconds on the file's clock
        self._size: tuple[int, int] | None = None  # of the first picture
        self._has_noted_size = False  # that another one came

    def _check_stream(self) -> None:
        if self._stream is None:
            raise StageError(f"{self.name}: there is no video in it")
        if self._stream.codec_context is None:
            problem = "its video has an unknown codec; convert it to an H.264 .mp4"
            raise StageError(f"{self.name}: {problem}")

    def _is_endless(self) -> bool:
        container = self._container
        if container.duration is not None:
            return False
        # A file on a web server has a size, and so does the list of a live stream.
        return container.format.name in ("hls", "rtsp") or container.size <= 0

    def _announced_frames(self) -> int:
        if self._stream.frames:
            return self._stream.frames
        return round((self._container.duration or 0) / 1e6 * self.rate)

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures, to the end. Afterwards `problem` says if there should be more."""
        failure = None
        try:
            for packet in self._container.demux():
                if packet.stream_index == self._stream.index:
                    yield from self._decode(packet)
                self._follow(packet)
        except self._av.error.FFmpegError as error:
            failure = error
            yield from self._decode(None)  # the frames that the decoder still has
        if not self.is_live:
            self.problem = self._find_problem(failure)
        elif isinstance(failure, self._av.error.ExitError) and self._timeout:
            self.problem = describe_silence(self._timeout)

    def close(self) -> None:
        """Close the file or the connection."""
        self._container.close()

    def _decode(self, packet: Packet | None) -> Iterator[Picture]:
        """Yield the pictures that a packet completes; None: those that remain at the end."""
        try:
            frames = self._stream.decode(packet)
        except self._av.error.FFmpegError:
            self._failed += 1
            return
        base = self._stream.time_base
        for frame in frames:
            self._decoded += 1
            seconds = self._clock.read(None if frame.pts is None else float(frame.pts * base))
            self.start = self._clock.start or 0.0
            duration = float((frame.duration or 0) * base) or 1 / self.rate
            pixels = self._upright(frame)
            yield Picture(pixels, None if self._shows_present else seconds, duration)

    def _follow(self, packet: Packet) -> None:
        """Note how far the file reaches."""
        if packet.stream_index == self._stream.index and packet.size:
            self._hidden += packet.is_discard  # before the start of a video that was trimmed
            self._packets += not packet.is_discard
            self._is_broken_off = packet.is_corrupt
        if packet.pts is not None and not packet.is_discard:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self._reached = max(self._reached, float(end))

    def _find_problem(self, failure: FFmpegError | None) -> str | None:
        """Return what a file lacks of what it announces, in a line; None: nothing."""
        read, announced = self._decoded, self._stream.frames - self._hidden
        seconds, reached = self._announced_seconds(), self._reached_seconds()
        tolerance = max(seconds * TOLERANCE, 1.5 / self.rate)
        if not self._stream.frames or reached >= seconds - tolerance:
            # It has its end, or does not say how many frames it has. A trimmed .mp4 announces the
            # frames outside as well, and an .avi empty ones, which prolong the one before.
            announced = self._packets if self._failed else read
        if announced - read > max(1, announced * TOLERANCE):
            return f"{self.name}: only {read} of {announced} frames can be read; {_PARTIAL}"
        if self._is_cut_off(seconds - reached):
            return (
                f"{self.name} ends after {read} frames, {reached:.1f} of {seconds:.1f} seconds; "
                f"{_PARTIAL}"
            )
        if self._is_broken_off:
            return f"{self.name} ends in the middle of frame {read}; {_PARTIAL}"
        if failure:
            reason = _describe_stream(failure, self._timeout)
            return f"{self.name} ends after {read} frames: {reason}"
        return None

    def _announced_seconds(self) -> float:
        if self._container.format.name == "avi" and self._stream.average_rate:
            # FFmpeg makes the duration of a cut file shorter.
            return float(self._stream.frames / self._stream.average_rate)
        return (self._container.duration or 0) / 1e6

    def _reached_seconds(self) -> float:
        return max(0.0, self._reached - (self._container.start_time or 0) / 1e6)

    def _is_cut_off(self, missing: float) -> bool:
        """Return whether a file that announces no frames lacks its end, `missing` seconds."""
        if self._container.format.name == "flv":
            return missing > max(0.3, TOLERANCE * self._announced_seconds())
        if self._container.format.name == "matroska,webm" and self._path:
            return is_matroska_cut(self._path)
        return False

    def _upright(self, frame: VideoFrame) -> np.ndarray:
        """Return a frame as displayed, in the size of the first one."""
        colours = _COLOURS.get(frame.colorspace)
        if colours is None:
            colours = "ITU709" if frame.height >= HD_HEIGHT else "ITU601"
        bgr = self._converter.reformat(
            frame, format="bgr24", src_colorspace=colours, dst_colorspace=colours
        )
        pixels = np.ascontiguousarray(bgr.to_ndarray())
        pixels = turn_upright(self._cv2, pixels, _display_matrix(frame))
        size = pixels.shape[1], pixels.shape[0]
        if self._size is None:
            self._size = size
        if size == self._size:
            return pixels
        return self._fit(pixels)

    def _fit(self, pixels: np.ndarray) -> np.ndarray:
        """Return a picture of another size in that of the first one, between black borders."""
        assert self._size is not None
        width, height = self._size
        if not self._has_noted_size:
            self._has_noted_size = True
            note(
                f"{self.name}: the picture changes from {width}x{height} to {pixels.shape[1]}x"
                f"{pixels.shape[0]} pixels at frame {self._decoded - 1}; it is fitted into "
                f"{width}x{height} from there on"
            )
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        inner = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
        fitted = np.zeros((height, width, 3), np.uint8)
        method = self._cv2.INTER_AREA if scale < 1 else self._cv2.INTER_LINEAR
        fitted[top : top + inner[1], left : left + inner[0]] = self._cv2.resize(
            pixels, inner, interpolation=method
        )
        return fitted


def is_matroska_cut(path: Path) -> bool:
    """Return whether a .mkv or .webm is shorter than it says in its header."""
    with path.open("rb") as file:
        for _ in range(2):  # the EBML header, then the segment, which is the rest of the file
            file.read(4)  # what it is
            first = file.read(1)
            length = 9 - first[0].bit_length() if first and first[0] else 1  # bytes of the size
            data = first + file.read(length - 1)
            size = int.from_bytes(data, "big") & ~(1 << 7 * length)
            end = file.tell() + size
            file.seek(size, os.SEEK_CUR)
    is_known = size != (1 << 7 * length) - 1  # a live recording could not come back to say it
    return is_known and end > path.stat().st_size


def _display_matrix(frame: VideoFrame) -> tuple[int, ...]:
    """Return the upper left 2 × 2 of the matrix that displays a frame as filmed: a, b, c, d.

    A pixel at (x, y) is displayed at (a x + c y, b x + d y).
    """
    with suppress(ValueError):  # PyAV does not know all kinds of side data
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        if not matrix:
            return 1, 0, 0, 1
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
        return a, b, c, d
    turned = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), -90: (0, 1, -1, 0), -180: (-1, 0, 0, -1)}
    return turned.get(frame.rotation, (1, 0, 0, 1))


def turn_upright(cv2: ModuleType, pixels: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """Return a picture turned and mirrored as its matrix says, to the nearest right angle."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = cv2.transpose(pixels), c, b
    if a < 0 or d < 0:
        pixels = cv2.flip(pixels, -1 if a < 0 and d < 0 else 1 if a < 0 else 0)
    return pixels


def _open_file(path: Path, name: str) -> MediaSource:
    """Open a file. Raise StageError if it is not a video that can be read."""
    try:
        # Without "file:" FFmpeg would take what stands before a colon in the name for a protocol.
        return MediaSource(f"file:{path}", name, path=path)
    except import_av().error.FFmpegError as error:
        raise StageError(f"--source {name}: {_describe_file(path, error)}") from None


def _open_stream(address: str, timeout: float) -> MediaSource:
    """Open a stream by its address. Raise StageError if its host is not known."""
    shown = hide_credentials(address)
    parts = urlsplit(address)
    try:
        port_is_valid = parts.port != 0
    except ValueError:
        port_is_valid = False
    if not port_is_valid:
        raise StageError(f"--source {shown}: the port is not a number from 1 to 65535")
    if parts.hostname and not (parts.scheme in ("http", "https") and getproxies()):
        # FFmpeg does not say that a name is unknown, and does not know names in Hangul.
        try:
            host = ascii_host(parts.hostname)
            socket.getaddrinfo(host, None)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StageError(f"--source {shown}: its host is not known ({reason})") from None
        if not parts.hostname.isascii():
            begin, at, _ = parts.netloc.rpartition("@")
            port = f":{parts.port}" if parts.port else ""
            address = urlunsplit(parts._replace(netloc=f"{begin}{at}{host}{port}"))
    started = time.monotonic()
    try:
        return MediaSource(address, f"stream {shown}", timeout)
    except import_av().error.FFmpegError as error:
        # FFmpeg tells some protocols' timeouts as bad data.
        was_silent = time.monotonic() - started >= timeout
        reason = describe_silence(timeout) if was_silent else _describe_stream(error, timeout)
        raise StageError(f"--source {shown}: {reason}") from None


def describe_silence(timeout: float) -> str:
    """Return that nothing comes, and what to do."""
    unit = "second" if timeout == 1 else "seconds"
    return f"no picture in {timeout:g} {unit}; a longer --timeout waits longer"


def _describe_file(path: Path, error: FFmpegError) -> str:
    """Return why a file cannot be opened, and what to do."""
    kinds = import_av().error
    if not isinstance(error, kinds.InvalidDataError | kinds.EOFError):
        return error.strerror or str(error)
    with path.open("rb") as file:
        kind = identify(file.read(HEAD_BYTES)).name
    if kind and "video" not in kind:
        return f"{kind}, not a video"
    return "no video can be read from it; is it a partial copy, or another kind of file?"


def _describe_stream(error: FFmpegError, timeout: float | None) -> str:
    """Return why a stream does not come, and what to do."""
    kinds = import_av().error
    if isinstance(error, kinds.ExitError) and timeout:
        return describe_silence(timeout)
    for kind, reason in (
        (kinds.TimeoutError, "the connection was not answered"),
        (kinds.ConnectionRefusedError, "the connection was refused; is the port right?"),
        (kinds.HTTPNotFoundError, "not found (404); is the path right?"),
        (kinds.HTTPUnauthorizedError, "it wants a name and a password (401): //name:password@…"),
        (kinds.HTTPForbiddenError, "access is forbidden (403)"),
        (kinds.HTTPClientError, "the server refuses the request (4xx)"),
        (kinds.HTTPServerError, "the server has an error (5xx)"),
        (kinds.ProtocolNotFoundError, "not a kind of address that can be read, such as rtsp://"),
        (kinds.InvalidDataError, "what it sends is not a video"),
        (kinds.EOFError, "it sends nothing"),
    ):
        if isinstance(error, kind):
            return reason
    return error.strerror or str(error)
