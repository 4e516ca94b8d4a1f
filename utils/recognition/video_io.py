"""Read frames of a camera, file or stream; write them into a file; show them in a window."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType

import numpy as np

from utils.errors import StageError
from utils.files import atomic_file
from utils.recognition.opencv import import_cv2

QUEUE_SIZE = 8  # frames that wait after reading or before writing
TIMEOUT = 10.0  # seconds without a frame after which a camera or stream counts as failed
DEFAULT_RATE = 30.0  # frames per second of a source that does not know its rate
WINDOW_TITLE = "facial emotion recognition"
ESCAPE = 27  # code of the key

_AFTER_FAILURE = "is it still connected? What was recorded so far is kept"


@dataclass(frozen=True)
class Frame:
    """A picture of a video."""

    number: int  # from 0; counts dropped frames too
    seconds: float  # since the first frame
    pixels: np.ndarray  # uint8 BGR (height, width, 3), as OpenCV has it


class VideoReader:
    """Read frames ahead in a thread.

    Of a file, keep every frame. Of a camera or live stream, keep only the newest, so that the
    picture is never late.
    """

    def __init__(self, source: str) -> None:
        """Open a camera by its number, a file by its path, or a stream by its address.

        Raise StageError if the source cannot be opened.
        """
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: errors get one line here
        cv2 = import_cv2()
        self.is_camera = source.isdecimal() and len(source) < 4
        is_address = "://" in source
        if not self.is_camera and not is_address and not Path(source).is_file():
            raise StageError(f"--source {source}: no such file")
        cv2.utils.logging.setLogLevel(0)
        self._video = cv2.VideoCapture(int(source) if self.is_camera else source)
        if not self._video.isOpened():
            problem = "not a video that OpenCV can read; convert it to an H.264 .mp4"
            if self.is_camera:
                problem = "no camera answers; is another program using it?"
            raise StageError(f"--source {source}: {problem}")
        success, self._first = self._video.read()
        if not success:
            raise StageError(f"--source {source}: no frame can be read from it")
        self.size = self._first.shape[1::-1]  # as displayed: phones store videos turned
        get = self._video.get
        self._position = partial(get, cv2.CAP_PROP_POS_MSEC)  # of the frame that was read last
        rate = get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE
        count = int(get(cv2.CAP_PROP_FRAME_COUNT))
        self.is_live = self.is_camera or (is_address and count <= 0)
        self.total = count if not self.is_live and count > 0 else 0  # frames; 0: not known
        self._name = f"{'camera' if self.is_camera else 'stream'} {source}"
        self._frames: Queue[Frame | None] = Queue(
            1 if self.is_live else QUEUE_SIZE
        )  # None: the end
        self._closed = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. Raise StageError if a camera or live stream stops sending."""
        while True:
            try:
                frame = self._frames.get(timeout=TIMEOUT if self.is_live else None)
            except Empty:
                problem = f"has sent no frame for {TIMEOUT:.0f} seconds"
                raise StageError(f"{self._name} {problem}; {_AFTER_FAILURE}") from None
            if frame is None:
                if self.is_live:
                    raise StageError(f"{self._name} sends no more frames; {_AFTER_FAILURE}")
                return
            yield frame

    def close(self) -> None:
        """Stop reading and release the source."""
        self._closed = True
        while self._thread.is_alive():
            self._drop()
            self._thread.join(0.05)
        self._video.release()

    def _read(self) -> None:
        started, number, seconds = time.monotonic(), 0, 0.0
        success, pixels, first_position = True, self._first, self._position()
        while success and not self._closed:
            if self.is_live:
                seconds = time.monotonic() - started
            elif number:  # the rate of phones' videos varies; a file without times has only a rate
                position = (self._position() - first_position) / 1000
                seconds = position if position > seconds else max(seconds, number / self.rate)
            if self.is_camera:
                pixels = np.ascontiguousarray(pixels[:, ::-1])  # people expect a mirror
            if self.is_live:
                self._drop()
            self._frames.put(Frame(number, seconds, pixels))
            success, pixels = self._video.read()
            number += 1
        self._frames.put(None)

    def _drop(self) -> None:
        """Remove the frame that waits longest, if there is one."""
        with suppress(Empty):
            self._frames.get_nowait()


class VideoWriter:
    """Write frames into a video file, in a thread, within a `with` block.

    Each frame of a file is written once. A frame of a live source is repeated or left out, so that
    the recording lasts as long as the source was filmed. The file gets its name when the block ends
    without an error, by Ctrl-C or by a StageError: what was recorded stays.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: float, live: bool = False) -> None:
        """`size`: width and height in pixels. `rate`: frames per second."""
        self._path, self._size, self._rate, self._live = path, size, rate, live
        # OpenCV would cut an odd size to an even one: the last column or row is doubled instead.
        self._add_right, self._add_below = size[0] % 2, size[1] % 2
        self._count = 0  # frames in the file
        self._frames: Queue[Frame | None] = Queue(QUEUE_SIZE)  # None: the end
        self._thread = threading.Thread(target=self._write_all, daemon=True)

    def __enter__(self) -> VideoWriter:
        """Raise StageError if the path's suffix is not of a video that OpenCV can write."""
        cv2 = import_cv2()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        even_size = self._size[0] + self._add_right, self._size[1] + self._add_below
        with ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_file(self._path)).name
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._video = cv2.VideoWriter(self._temporary, codec, self._rate, even_size)
            if not self._video.isOpened():
                raise StageError(f"{self._path} cannot be written as a video; name an .mp4")
            self._file = stack.pop_all()
        self._thread.start()
        return self

    def write(self, frame: Frame) -> None:
        """Hand over the next frame, which must not be changed afterwards."""
        self._frames.put(frame)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the file. Raise StageError if it is not a whole video."""
        with self._file:
            self._frames.put(None)
            self._thread.join()
            self._video.release()
            if error and not isinstance(error, KeyboardInterrupt | StageError):
                raise error  # and remove the file
            # OpenCV does not report a write that failed.
            if self._count and not import_cv2().VideoCapture(self._temporary).read()[0]:
                raise StageError(f"{self._path} could not be written whole; is the disk full?")

    def _write_all(self) -> None:
        cv2 = import_cv2()
        while (frame := self._frames.get()) is not None:
            pixels = frame.pixels
            if self._add_right or self._add_below:
                pixels = cv2.copyMakeBorder(
                    pixels, 0, self._add_below, 0, self._add_right, cv2.BORDER_REPLICATE
                )
            times = int(frame.seconds * self._rate) + 1 - self._count if self._live else 1
            for _ in range(times):
                self._video.write(pixels)
                self._count += 1


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
