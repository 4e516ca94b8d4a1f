"""Recognize facial expressions in a camera's picture, a video file or a stream, as it plays.

Each face is tracked under a number and shown with its label and the probabilities of all classes,
smoothed over time. q or Esc stops. Live sources drop frames to stay current; files keep every
frame.

  python video.py                                          # the first camera
  python video.py --source 1 --model_path model.pt
  python video.py --source in.mp4 --output out.mp4 --log faces.csv
  python video.py --source rtsp://camera/stream --log faces.jsonl --no_display
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import argparse

from utils import cli
from utils.console import info
from utils.errors import StageError
from utils.filenames import expand_home
from utils.imaging.preprocess import MAX_SIDE, TTA
from utils.inference.face_classifier import FaceClassifier, load_model
from utils.inference.model_path import default_model_path, display_path
from utils.inference.peek import describe_order
from utils.parallel import cores
from utils.recognition.face_detection import DetectionOptions, FaceFinder, add_detection_flags
from utils.recognition.photo import InputMaker
from utils.recognition.video import VideoOptions, process_video
from utils.recognition.video_io import FORMATS, TIMEOUT, VideoReader, has_screen
from utils.recognition.video_log import LOG_SUFFIXES
from utils.recognition.video_source import find_file


def make_parser() -> cli.Parser:
    """Return the parser of the script's flags."""
    parser = cli.Parser(__doc__)
    flag = parser.flag
    source = "camera number, video file, or address of a stream; --source may be omitted"
    flag("--source", source, "0", expand_home, metavar="SOURCE")
    parser.flagless("--source")
    model = "trained model (default: model.pt, or the bundled model if there is none)"
    flag("--model_path", model, None, cli.path, metavar="FILE")
    output = "write the marked video to this .mp4, .mov or .mkv file"
    flag("--output", output, None, cli.path, metavar="FILE")
    log = "write a line for every face of every frame to this .csv or .jsonl file"
    flag("--log", log, None, cli.path, metavar="FILE")
    parser.switch("--no_display", "open no window, as if there were no screen", False)
    timeout = "seconds without a picture after which a camera or stream counts as failed"
    flag("--timeout", timeout, TIMEOUT, cli.positive_float, metavar="SECONDS")
    parser.reference_size_flag(MAX_SIDE)
    tta = "test-time augmentation (default: what test.py --calibrate chose, else none)"
    flag("--tta", tta, None, str, choices=TTA)
    parser.section("faces")
    flag("--detect_every", "frames between face detections", 5, cli.positive_int, metavar="N")
    add_detection_flags(parser)
    smooth = "weight of the past in the smoothed probabilities (0: no smoothing)"
    flag("--smooth", smooth, 0.7, cli.fraction, metavar="X")
    parser.section("device")
    parser.device_flags("the bundled model")
    parser.closing(describe_order)
    return parser


def main() -> int:
    """Process the video. Return the exit status."""
    args = make_parser().parse_args()
    display = has_screen() and not args.no_display
    check_outputs(args, display)
    gpu = cli.wants_gpu(args)
    path = args.model_path or default_model_path(fast_start=not gpu)
    model = load_model(path, gpu is not False, args.cuda_idx, args.image_size)
    finder = FaceFinder(DetectionOptions.of(args), cores())
    inputs = InputMaker.of(model.info, finder, args.margin)
    try:
        video = VideoReader(args.source, args.timeout)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing is recorded yet") from None
    info(f"{display_path(path)}: {model.info.describe()}; {' '.join(model.info.classes)}")
    options = VideoOptions(args.detect_every, args.smooth, args.output, args.log, display)
    classifier = FaceClassifier(model, args.tta)
    try:
        frames, seconds = process_video(video, classifier, inputs, options)
    except KeyboardInterrupt:  # the way to stop if there is no window
        raise KeyboardInterrupt("what was recorded so far is kept") from None
    files = "".join(f" -> {path}" for path in (args.output, args.log) if path)
    print(f"{frames} frames{files}, {frames / max(seconds, 1e-6):.1f} frames/s")
    if video.problem:
        info(video.problem)
        return cli.SOME_FAILED
    return cli.OK


def check_outputs(args: argparse.Namespace, display: bool) -> None:
    """Raise StageError if an output cannot be written, or if there is none."""
    source = find_file(args.source)
    for flag, path, suffixes in (
        ("--output", args.output, tuple(FORMATS)),
        ("--log", args.log, LOG_SUFFIXES),
    ):
        if path and path.suffix.lower() not in suffixes:
            raise StageError(f"{flag} {path}: its name must end in {' or '.join(suffixes)}")
        if path and source and path.exists() and path.samefile(source):
            raise StageError(f"{path} is the source itself: name another file")
    if display or args.output or args.log:
        return
    if args.no_display:
        raise StageError("with --no_display nothing would show: name --output or --log")
    raise StageError(
        "there is no screen to show the video on; add --output out.mp4 or --log faces.csv"
    )


if __name__ == "__main__":
    cli.run(main)
