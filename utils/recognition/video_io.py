"""Read frames of a camera, file or stream; write them into a file; show them in a window."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from queue import Empty, Full, Queue
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import StageError
from utils.files import atomic_file
from utils.recognition.opencv import import_cv2
from utils.recognition.pyav import import_av
from utils.recognition.video_source import (
    HD_HEIGHT,
    Source,
    describe_silence,
    find_source,
    is_camera,
)
from utils.urls import hide_credentials

if TYPE_CHECKING:
    from av import Packet

    from utils.recognition.sound import Sound

QUEUE_SIZE = 8  # frames that wait after reading or before writing
TIMEOUT = 10.0  # seconds without a frame after which a camera or stream counts as failed
MAX_LATE = 1.0  # seconds that a picture may come late without the next ones waiting as long
STEP = 0.1  # seconds that a thread waits for another before it looks around
WINDOW_TITLE = "facial emotion recognition"
ESCAPE = 27  # code of the key

# Suffix of a recording → FFmpeg's name of the format.
FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
CRF = 20  # constant rate factor of x264: 18 looks like the original, 23 is its default
PRESET = "veryfast"
TIME_BASE = Fraction(1, 90_000)  # seconds: 24, 25, 30 and 30000/1001 frames/s fit in exactly

_AFTER_FAILURE = "is it still connected? What was recorded so far is kept"


@dataclass(frozen=True)
class Frame:
    """A picture of a video."""

    number: int  # from 0; counts dropped frames too
    seconds: float  # since the first frame
    pixels: np.ndarray  # uint8 BGR (height, width, 3), as OpenCV has it
    duration: float = 0.0  # seconds until the next one; 0: not known


class _EmptyError(Exception):
    """A recording without a frame, which leaves no file."""


class VideoReader:
    """Read frames ahead in a thread.

    Of a file, keep every frame. Of a camera or live stream, keep only the newest, so that the
    picture is never late.
    """

    def __init__(self, source: str, timeout: float = TIMEOUT) -> None:
        """Open a camera by its number, a file by its path, or a stream by its address.

        `timeout`: seconds without a frame after which a camera or stream counts as failed. Raise
        StageError if the source cannot be opened.
        """
        self._timeout = timeout
        self._open, self.path = find_source(source, timeout)  # `path`: of a file, else None
        self._items: Queue[Frame | Exception | None] = Queue(QUEUE_SIZE)  # None: the end
        self._closed = False
        self._started = 0.0  # the present at the first frame
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        try:
            self._first = self._get_first(source)
        except BaseException:
            self.close()
            raise
        self.size = self._first.pixels.shape[1::-1]  # as displayed: phones store videos turned
        self.rate, self.is_live = self._source.rate, self._source.is_live
        self.total = self._source.total  # frames; 0: not known
        self.start = self._source.start  # seconds on the file's own clock
        self.is_at_end = False

    def _get_first(self, source: str) -> Frame:
        # A camera may take its time to start, and a file is read from a disk.
        waits = self.path is None and not is_camera(source)
        try:
            item = self._get(self._timeout if waits else None)
        except Empty:
            problem = describe_silence(self._timeout)
            raise StageError(f"--source {hide_credentials(source)}: {problem}") from None
        if isinstance(item, Exception):
            raise item
        if item is None:
            raise StageError(
                f"--source {hide_credentials(source)}: no frame can be read from it; convert it"
            )
        return item

    @property
    def problem(self) -> str | None:
        """What is wrong with a file that was read to its end, in a line; None: nothing."""
        return self._source.problem if self.is_at_end else None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. Raise StageError if a camera or stream stops sending."""
        item: Frame | Exception | None = self._first
        while isinstance(item, Frame):
            yield item
            try:
                # The reader knows best why nothing comes: it is given a second to tell.
                item = self._get(None if self.path else self._timeout + 1)
            except Empty:
                problem = describe_silence(self._timeout)
                raise StageError(f"{self._source.name}: {problem}; {_AFTER_FAILURE}") from None
        if item:
            raise item
        self.is_at_end = True

    def close(self) -> None:
        """Stop reading and release the source."""
        self._closed = True
        # A thread that waits for a server does not listen; it ends with the process.
        self._thread.join(2 * STEP if self.path is None else None)

    def _get(self, timeout: float | None) -> Frame | Exception | None:
        """Return what the thread sends next. Raise Empty if it sends nothing for `timeout` seconds.

        Wait in short steps, because Windows does not hear Ctrl-C in a long one.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            with suppress(Empty):
                return self._items.get(timeout=max(0.0, min(STEP, deadline - time.monotonic())))
            if time.monotonic() >= deadline:
                raise Empty

    def _read(self) -> None:
        """Open the source, read it to its end and close it, all in this thread."""
        end: Exception | None = None
        try:
            self._source = self._open()
            with closing(self._source):
                self._send_frames(self._source)
            if self._source.is_live:
                problem = self._source.problem
                problem = f": {problem}" if problem else " sends no more frames"
                end = StageError(f"{self._source.name}{problem}; {_AFTER_FAILURE}")
        except Exception as error:  # which the main thread raises
            end = error
        self._send(end)

    def _send_frames(self, source: Source) -> None:
        for number, picture in enumerate(source.pictures()):
            if not number:
                self._started = time.monotonic()
            seconds = picture.seconds
            if seconds is None:
                seconds = time.monotonic() - self._started
            elif source.is_live:
                self._wait_until(seconds)
            if source.is_live:
                with suppress(Empty):
                    self._items.get_nowait()  # an older frame, which nobody had the time for
            self._send(Frame(number, seconds, picture.pixels, picture.duration))
            if self._closed:
                return

    def _wait_until(self, seconds: float) -> None:
        """Wait until a picture of a live stream is due. HLS sends seconds of them at a time."""
        late = time.monotonic() - self._started - seconds
        if late > MAX_LATE:  # the stream had stopped for a while
            self._started += late
        while not self._closed and late < 0:
            time.sleep(min(STEP, -late))
            late = time.monotonic() - self._started - seconds

    def _send(self, item: Frame | Exception | None) -> None:
        while not self._closed:
            with suppress(Full):
                self._items.put(item, timeout=STEP)
                return


class VideoWriter:
    """Write frames into a file as H.264, in a thread, within a `with` block.

    Each frame gets its own time. The file gets its name when the block ends without an error, by
    Ctrl-C or by a StageError: what was recorded stays.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], rate: float, sound: Sound | None = None
    ) -> None:
        """`size`: width and height in pixels. `rate`: frames per second, on average."""
        self._path, self._size, self._rate, self._sound = path, size, rate, sound
        # YUV with half the colours has even sides: the last column or row is doubled.
        self._add_right, self._add_below = size[0] % 2, size[1] % 2
        self._frames: Queue[Frame | None] = Queue(QUEUE_SIZE)  # None: the end
        self._is_complete = False  # whether the source has ended
        self._last: Frame | None = None  # in the file
        self._last_pts = -1  # its time in the file, in units of TIME_BASE
        self._error: Exception | None = None  # of the thread
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> VideoWriter:
        """Raise StageError if H.264 cannot have frames of this size."""
        self._av = import_av()
        suffix = self._path.suffix.lower()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_file(self._path)).name
            # The index at the start lets a browser play the file before it has all of it.
            options = {} if suffix == ".mkv" else {"movflags": "+faststart"}
            self._output = self._av.open(
                f"file:{temporary}", "w", FORMATS[suffix], container_options=options
            )
            self._add_stream()
            if self._sound:
                self._sound.add_to(self._output)
            try:
                self._output.start_encoding()
            except self._av.error.FFmpegError as error:
                size = f"{self._size[0]}x{self._size[1]}"
                problem = f"frames of {size} pixels cannot be written ({error.strerror})"
                raise StageError(f"{self._path}: {problem}") from None
            self._file = stack.pop_all()
        self._thread.start()
        return self

    def write(self, frame: Frame) -> None:
        """Hand over the next frame, which must not be changed afterwards.

        Raise StageError if the file cannot be written, as on a full disk.
        """
        while not self._put(frame):
            self._check()

    def finish(self) -> None:
        """Let the recording have the rest of the sound: the source has ended."""
        self._is_complete = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the file. Raise StageError if it is not a whole video."""
        with suppress(_EmptyError), self._file:
            while self._thread.is_alive() and not self._put(None):
                pass
            self._thread.join()
            if error and not isinstance(error, KeyboardInterrupt | StageError):
                raise error  # and remove the file
            self._check()
            if not self._last:
                raise _EmptyError

    def _put(self, frame: Frame | None) -> bool:
        """Return False if the queue is full for a moment, or the thread has failed."""
        if self._error:
            return False
        try:
            self._frames.put(frame, timeout=STEP)
        except Full:
            return False
        return True

    def _check(self) -> None:
        """Raise the error of the thread, if it has failed."""
        if isinstance(self._error, self._av.error.FFmpegError):
            reason = self._error.strerror or str(self._error)
            raise StageError(f"{self._path} could not be written whole: {reason}")
        if self._error:
            raise self._error

    def _add_stream(self) -> None:
        """Add a stream whose settings every browser and messenger knows."""
        rate = Fraction(self._rate).limit_denominator(1001)  # 30000/1001 is common
        self._stream = stream = self._output.add_stream("libx264", rate=rate)
        stream.options = {"crf": str(CRF), "preset": PRESET, "bf": "0"}
        stream.width, stream.height = self._even_size()
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        is_hd = self._size[1] >= HD_HEIGHT
        self._colours = "ITU709" if is_hd else "ITU601"
        context = stream.codec_context
        # BT.709, and SMPTE 170M, which is BT.601; the range of the values is that of television.
        context.colorspace = context.color_primaries = context.color_trc = 1 if is_hd else 6
        context.color_range = 1
        self._converter = self._av.video.reformatter.VideoReformatter()

    def _even_size(self) -> tuple[int, int]:
        return self._size[0] + self._add_right, self._size[1] + self._add_below

    def _run(self) -> None:
        try:
            for frame in iter(self._frames.get, None):
                self._write(frame)
            self._write_end()
        except Exception as error:  # which `_check` raises in the main thread
            self._error = error
        try:
            self._output.close()
        except Exception as error:
            self._error = self._error or error

    def _write(self, frame: Frame) -> None:
        self._mux_sound(frame.seconds)
        pixels = frame.pixels
        if self._add_right or self._add_below:
            margins = (0, self._add_below), (0, self._add_right), (0, 0)
            pixels = np.pad(pixels, margins, "edge")
        picture = self._converter.reformat(
            self._av.VideoFrame.from_ndarray(pixels, "bgr24"),
            format="yuv420p",
            src_color_range="JPEG",
            dst_color_range="MPEG",
            dst_colorspace=self._colours,
        )
        self._last = frame
        self._last_pts = max(self._last_pts + 1, round(frame.seconds / TIME_BASE))
        picture.pts, picture.time_base = self._last_pts, TIME_BASE
        self._mux(self._stream.encode(picture))

    def _write_end(self) -> None:
        if not self._last:
            return
        self._mux(self._stream.encode(None))
        last_second = self._last.seconds + (self._last.duration or 1 / self._rate)
        self._mux_sound(math.inf if self._is_complete else last_second)

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            if packet.pts == self._last_pts and self._last and self._last.duration:
                packet.duration = round(self._last.duration / TIME_BASE)
            self._output.mux(packet)

    def _mux_sound(self, until: float) -> None:
        if self._sound:
            for packet in self._sound.packets(until):
                self._output.mux(packet)


class VideoWindow:
    """A window that shows frames, within a `with` block."""

    def __enter__(self) -> VideoWindow:
        """Load OpenCV; the first frame opens the window."""
        self._cv2 = import_cv2()
        return self

    def show(self, pixels: np.ndarray) -> bool:
        """Show a frame, uint8 BGR (height, width, 3). Return False if the user pressed q or Esc."""
        self._cv2.imshow(WINDOW_TITLE, pixels)
        return self._cv2.waitKey(1) & 0xFF not in (ord("q"), ESCAPE)

    def __exit__(self, *error: object) -> None:
        """Close the window."""
        self._cv2.destroyAllWindows()


def has_screen() -> bool:
    """Return False where opening a window would end the process: Linux without a display server."""
    server = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(server) or not sys.platform.startswith("linux")
