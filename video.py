"""Recognize facial expressions in the picture of a camera, a video file or a stream, as it plays.

Each face is followed, with a number of its own, and shown with its label and the probabilities of
all classes, which are smoothed over time. q or Esc ends it. Of a camera or live stream frames are
left out rather than shown late; of a file none is.

  python video.py                                          # the first camera
  python video.py --source 1 --model_path model.pt
  python video.py --source in.mp4 --output out.mp4 --log faces.csv
  python video.py --source rtsp://camera/stream --log faces.jsonl --no_display
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from utils import cli
from utils.console import ProgressBar
from utils.errors import StageError
from utils.imaging.preprocess import MAX_SIDE

if TYPE_CHECKING:  # torch takes seconds, which --help or a wrong flag should not
    import numpy as np

    from utils.recognition.recognizer import Recognizer
    from utils.recognition.tracking import Track
    from utils.recognition.video_io import Frame, VideoReader

TITLE = "facial emotion recognition"
ESCAPE = 27


def make_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag(
        "--source", "camera number, video file, or address of a stream", "0", str, metavar="SOURCE"
    )
    model = "the trained model (model.pt; where there is none, the one in pretrained/)"
    flag("--model_path", model, None, Path, metavar="FILE")
    flag("--output", "write the marked video, an .mp4", None, Path, metavar="FILE")
    flag(
        "--log", "a line for every face of every frame: .csv or .jsonl", None, Path, metavar="FILE"
    )
    parser.switch("--no_display", "no window; so by itself where there is no screen", False)
    parser.section("finding and judging faces")
    flag("--detect_every", "frames from one search to the next", 5, cli.positive_int, metavar="N")
    flag("--min_face", "smallest, as share of the shorter side", 0.1, cli.fraction, metavar="X")
    flag("--smooth", "share of the past in the probabilities", 0.7, cli.fraction, metavar="X")
    parser.reference_size_flag(MAX_SIDE)
    parser.section("the machine")
    parser.device_flags()
    return parser


def main() -> int:
    args = make_parser().parse_args()
    # Decoders would complain beside our one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if args.log and args.log.suffix.lower() not in (".csv", ".jsonl"):
        raise StageError(f"--log {args.log}: name a .csv or a .jsonl")
    for path in (args.output, args.log):
        if path and path.resolve() == Path(args.source).resolve():
            raise StageError(f"{path} is the source itself: name another")
    display = not args.no_display and has_screen()
    if not (display or args.output or args.log):
        raise StageError("there is no screen to show it on; --output out.mp4, or --log faces.csv")
    from utils.inference.checkpoint import default_model_path
    from utils.recognition.recognizer import Recognizer
    from utils.recognition.video_io import VideoReader

    recognize = Recognizer(
        args.model_path or default_model_path(), args.gpu, args.cuda_idx, args.image_size
    )
    video = VideoReader(args.source)
    try:
        frames, seconds = watch(video, recognize, args, display)
    except KeyboardInterrupt:  # which is how a recording without a window ends
        raise KeyboardInterrupt("what was recorded so far is kept") from None
    where = "".join(f" -> {path}" for path in (args.output, args.log) if path)
    print(f"{frames} frames{where}, {frames / max(seconds, 1e-6):.1f} frames/s")
    return cli.OK


def watch(
    video: VideoReader, recognize: Recognizer, args: argparse.Namespace, display: bool
) -> tuple[int, float]:
    """Go through the video to its end, or the user's. How many frames, and in how many seconds."""
    from utils.recognition.tracking import Tracker
    from utils.recognition.video_io import open_video_writer

    tracker = Tracker(args.detect_every, args.min_face)
    frames, seconds = 0, 0.0
    with ExitStack() as stack:
        stack.callback(video.close)
        keep = stack.enter_context(logged(args.log, recognize.classes))
        write = show = None
        if args.output:
            write = stack.enter_context(
                open_video_writer(args.output, video.size, video.rate, video.live)
            )
        if display:
            show = stack.enter_context(window())
        bar = stack.enter_context(ProgressBar(video.total or None, "video", "frame"))
        started = time.monotonic()
        for frame in video:
            tracks = tracker.update(frame.pixels)
            judge(frame.pixels, tracks, recognize, args.smooth)
            keep(frame, tracks)
            frames += 1
            seconds = time.monotonic() - started
            if write or show:
                draw(frame.pixels, tracks, recognize.classes, frames / max(seconds, 1e-6))
            if write:
                write(frame)
            bar.update()
            if show and not show(frame.pixels):
                break
    return frames, seconds


def has_screen() -> bool:
    """False where opening a window would end the process: Linux without a display server."""
    served = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(served) or not sys.platform.startswith("linux")


def judge(pixels: np.ndarray, tracks: list[Track], recognize: Recognizer, smooth: float) -> None:
    """Classify all faces of a frame in one batch, and let their tracks remember it."""
    import numpy as np
    from PIL import Image

    if not tracks:
        return
    faces = []
    for track in tracks:
        x, y, w, h = track.box.xywh
        face = np.ascontiguousarray(pixels[max(0, y) : y + h, max(0, x) : x + w, ::-1])
        faces.append(recognize.preprocess(Image.fromarray(face)))
    for track, probs in zip(tracks, recognize.probabilities(faces), strict=True):
        past = probs if track.probs is None else track.probs
        track.probs = smooth * past + (1 - smooth) * probs


def draw(pixels: np.ndarray, tracks: list[Track], classes: list[str], rate: float) -> None:
    """Mark every face in the frame (BGR, changed in place), and say how fast it goes."""
    from utils.imaging.drawing import draw_face, draw_probabilities, paste, render_text

    for track in tracks:
        best = int(track.probs.argmax())
        draw_face(pixels, track.box, classes[best], 100 * track.probs[best], f"{track.number}  ")
        draw_probabilities(pixels, track.box, classes, track.probs)
    patch = render_text(f"{rate:.0f} FPS", 18)
    paste(pixels, patch, 4, 4 + len(patch))


@contextmanager
def window() -> Iterator[Callable[[np.ndarray], bool]]:
    """A function that shows a frame in a window and says whether to go on."""
    from utils.recognition.opencv import import_cv2

    cv2 = import_cv2()

    def show(pixels: np.ndarray) -> bool:
        cv2.imshow(TITLE, pixels)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), ESCAPE)

    try:
        yield show
    finally:
        cv2.destroyAllWindows()


@contextmanager
def logged(path: Path | None, classes: list[str]) -> Iterator[Callable[[Frame, list[Track]], None]]:
    """A function that writes a line for each face of a frame; one without a face has a line too."""
    if not path:
        yield lambda frame, tracks: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under its own name from the start, line by line: it can be read while a camera runs.
    with path.open("w", encoding="utf-8", newline="") as file:
        line = csv_lines(file, classes) if path.suffix.lower() == ".csv" else json_lines(file)

        def keep(frame: Frame, tracks: list[Track]) -> None:
            for track in tracks or [None]:
                line(frame, track, classes)
            file.flush()

        yield keep


def csv_lines(file: TextIO, classes: list[str]) -> Callable:
    writer = csv.writer(file)
    writer.writerow(["frame", "timestamp", "track", "x", "y", "w", "h", "label", *classes])

    def line(frame: Frame, track: Track | None, classes: list[str]) -> None:
        cells = [""] * (6 + len(classes))
        if track:
            probs = [f"{100 * p:.2f}" for p in track.probs]
            cells = [track.number, *track.box.xywh, classes[int(track.probs.argmax())], *probs]
        writer.writerow([frame.number, f"{frame.seconds:.3f}", *cells])

    return line


def json_lines(file: TextIO) -> Callable:
    def line(frame: Frame, track: Track | None, classes: list[str]) -> None:
        content = {"frame": frame.number, "timestamp": round(frame.seconds, 3), "track": None}
        if track:
            content |= {
                "track": track.number,
                "rect": str(track.box.xywh),
                "label": classes[int(track.probs.argmax())],
                "probs": [round(100 * float(p), 2) for p in track.probs],
            }
        file.write(json.dumps(content, ensure_ascii=False) + "\n")

    return line


if __name__ == "__main__":
    cli.run(main)
