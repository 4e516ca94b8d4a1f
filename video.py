"""Recognize facial expressions in the picture of a camera, or in a video file, as it plays.

Each frame's faces are found, classified and shown with their label; q or Esc ends it.

  python video.py                                          # the first camera
  python video.py --source 1 --model_path model.pt
  python video.py --source in.mp4 --output out.mp4         # write instead of show
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from utils import cli
from utils.cli import StageError
from utils.faces import find_faces, import_cv2
from utils.files import atomic_file

TITLE = "facial emotion recognition"
ESCAPE = 27


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--source", "camera number, or a video file", "0", str, metavar="SOURCE")
    flag("--model_path", "the trained model", Path("model.pt"), Path, metavar="FILE")
    parser.original_size_flag()
    flag("--output", "write an .mp4 instead of showing a window", None, Path, metavar="FILE")
    parser.device_flags()
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    # Decoders would complain beside our one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if not args.output and not has_screen():
        raise StageError("there is no screen to show the video on; --output out.mp4 writes it")
    # Not imported for --help or a wrong flag: torch alone takes seconds.
    from utils.recognizer import Recognizer

    recognize = Recognizer(args.model_path, args.gpu, args.cuda_idx, args.image_size)
    count = 0
    with open_video(args.source) as (frames, size, rate), open_sink(args, size, rate) as show:
        for frame in frames:
            count += 1
            annotate(frame, recognize)
            if not show(frame):
                break
    where = f" -> {args.output}" if args.output else ""
    print(f"{count} frames{where}")
    return cli.OK


def has_screen() -> bool:
    """False where opening a window would end the process: Linux without a display server."""
    served = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(served) or not sys.platform.startswith("linux")


@contextmanager
def open_video(source: str) -> Iterator[tuple[Iterator[np.ndarray], tuple[int, int], float]]:
    """A source's frames (BGR uint8), their size (width, height) and frames per second.

    Raises StageError for a source that cannot be opened, or a camera that stops.
    """
    cv2 = import_cv2()
    camera = source.isdecimal() and len(source) < 4
    if not camera and not Path(source).is_file():
        raise StageError(f"--source {source}: no such file")
    cv2.utils.logging.setLogLevel(0)
    video = cv2.VideoCapture(int(source) if camera else source)

    def frames() -> Iterator[np.ndarray]:
        while True:
            there, frame = video.read()
            if there:
                yield frame
            elif camera:
                raise StageError(f"camera {source} gives no more pictures")
            else:
                return

    try:
        if not video.isOpened():
            what = "no camera answers" if camera else "not a video that OpenCV can read"
            raise StageError(f"--source {source}: {what}")
        size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
        yield frames(), size, video.get(cv2.CAP_PROP_FPS) or 30.0
    finally:
        video.release()


@contextmanager
def open_sink(
    args: argparse.Namespace, size: tuple[int, int], rate: float
) -> Iterator[Callable[[np.ndarray], bool]]:
    """Where the frames go: a function that takes each and says whether to go on."""
    cv2 = import_cv2()
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(args.output) as file:
            writer = cv2.VideoWriter(file.name, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
            try:
                if not writer.isOpened():
                    raise StageError(f"{args.output} cannot be written as a video; name an .mp4")
                yield lambda frame: writer.write(frame) is None
            finally:
                writer.release()
    else:

        def show(frame: np.ndarray) -> bool:
            cv2.imshow(TITLE, frame)
            return cv2.waitKey(1) & 0xFF not in (ord("q"), ESCAPE)

        yield show
        cv2.destroyAllWindows()


def annotate(frame: np.ndarray, recognize: Callable) -> None:
    """Draw every face's rectangle and answer into the frame (BGR, changed in place)."""
    from PIL import Image

    from utils.draw import label_patch, shown

    cv2 = import_cv2()
    rects = find_faces(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    if not rects:
        return
    picture = Image.fromarray(frame[:, :, ::-1])
    answers = recognize([picture.crop((x, y, x + w, y + h)) for x, y, w, h in rects])
    for (x, y, w, h), answer in zip(rects, answers, strict=True):
        cv2.rectangle(frame, (x, y), (x + w, y + h), (80, 200, 80), 2)
        text = f"{shown(answer['label'])} {max(answer['probs']):.0f} %"
        patch = label_patch(text, max(14, h // 8))[:, :, ::-1]
        top = max(0, y - len(patch))
        room = frame[top : top + patch.shape[0], x : x + patch.shape[1]]
        room[:] = patch[: room.shape[0], : room.shape[1]]


if __name__ == "__main__":
    cli.run(main)
