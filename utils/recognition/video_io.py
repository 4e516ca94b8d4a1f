"""Videos in and out: frames from a camera, a file or a stream, and frames into a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Queue

import numpy as np

from utils.errors import StageError
from utils.files import atomic_file
from utils.recognition.opencv import import_cv2

AHEAD = 8  # frames read, or to be written, that may wait
PATIENCE = 10.0  # seconds without a picture after which a camera or stream counts as dead


@dataclass(frozen=True)
class Frame:
    """A picture of a video."""

    number: int  # from 0, of all that the source gave, shown or not
    seconds: float  # since the first
    pixels: np.ndarray  # uint8 (height, width, 3), blue first, as OpenCV has it


class VideoReader:
    """A source of frames, read ahead in a thread.

    Of a file no frame is left out. Of a camera or a live stream only the newest is kept, so that
    what is shown is never late.
    """

    def __init__(self, source: str) -> None:
        """Raises StageError for a source that cannot be opened."""
        cv2 = import_cv2()
        self.camera = source.isdecimal() and len(source) < 4
        address = "://" in source
        if not self.camera and not address and not Path(source).is_file():
            raise StageError(f"--source {source}: no such file")
        cv2.utils.logging.setLogLevel(0)
        self._video = cv2.VideoCapture(int(source) if self.camera else source)
        if not self._video.isOpened():
            what = "no camera answers" if self.camera else "not a video that OpenCV can read"
            raise StageError(f"--source {source}: {what}")
        there, self._first = self._video.read()
        if not there:
            raise StageError(f"--source {source}: not one picture comes out of it")
        self.size = self._first.shape[1::-1]  # as it is shown: phones store videos turned
        get = self._video.get
        self._position = partial(get, cv2.CAP_PROP_POS_MSEC)  # of the frame read last
        rate = get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else 30.0
        count = int(get(cv2.CAP_PROP_FRAME_COUNT))
        self.live = self.camera or (address and count <= 0)
        self.total = count if not self.live and count > 0 else 0
        self._source, self._frames, self._closed = source, Queue(1 if self.live else AHEAD), False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        """Raises StageError where a camera or live stream stops giving pictures."""
        what = "camera" if self.camera else "stream"
        while True:
            try:
                frame = self._frames.get(timeout=PATIENCE if self.live else None)
            except Empty:
                raise StageError(
                    f"{what} {self._source} has given no picture for a while"
                ) from None
            if frame is None:
                if self.live:
                    raise StageError(f"{what} {self._source} gives no more pictures")
                return
            yield frame

    def close(self) -> None:
        """Stop reading. A camera is free again afterwards."""
        self._closed = True
        while self._thread.is_alive():
            self._drop()
            self._thread.join(0.05)
        self._video.release()

    def _read(self) -> None:
        started, number, seconds = time.monotonic(), 0, 0.0
        there, pixels, begin = True, self._first, self._position()
        while there and not self._closed:
            if self.live:
                seconds = time.monotonic() - started
            elif number:  # phones change their rate; a file without times has its rate
                told = (self._position() - begin) / 1000
                seconds = told if told > seconds else max(seconds, number / self.rate)
            if self.camera:
                pixels = np.ascontiguousarray(pixels[:, ::-1])  # people expect a mirror
            if self.live:
                self._drop()
            self._frames.put(Frame(number, seconds, pixels))
            there, pixels = self._video.read()
            number += 1
        self._frames.put(None)

    def _drop(self) -> None:
        with suppress(Empty):
            self._frames.get_nowait()


@contextmanager
def open_video_writer(
    path: Path, size: tuple[int, int], rate: float, live: bool = False
) -> Iterator[Callable[[Frame], None]]:
    """A function that writes frames of that width and height into a video file, in a thread.

    Each is written once; of a `live` source as often, or not at all, as it takes for the film to
    last as long as what was filmed. OpenCV would cut an odd size to an even one, so the last column
    or row is doubled. The file gets its name when the block ends, however it ends: what was
    recorded stays. Raises StageError for a name whose kind of video cannot be written, and for a
    video that does not come out whole.
    """
    cv2 = import_cv2()
    path.parent.mkdir(parents=True, exist_ok=True)
    problem: BaseException | None = None
    right, below = size[0] % 2, size[1] % 2
    even = size[0] + right, size[1] + below
    with atomic_file(path) as file:
        writer = cv2.VideoWriter(file.name, cv2.VideoWriter.fourcc(*"mp4v"), rate, even)
        if not writer.isOpened():
            raise StageError(f"{path} cannot be written as a video; name an .mp4")
        frames: Queue[Frame | None] = Queue(AHEAD)
        count = 0

        def write() -> None:
            nonlocal count
            while (frame := frames.get()) is not None:
                pixels = frame.pixels
                if even != size:
                    pixels = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE)
                times = int(frame.seconds * rate) + 1 - count if live else 1
                for _ in range(times):
                    writer.write(pixels)
                    count += 1

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        try:
            yield frames.put
        except (KeyboardInterrupt, StageError) as error:
            problem = error
        finally:
            frames.put(None)
            thread.join()
            writer.release()
        # OpenCV tells nobody that a write failed.
        if count and not cv2.VideoCapture(file.name).read()[0]:
            raise StageError(f"{path} could not be written whole; is the disk full?")
    if problem:
        raise problem
