"""Compare the frames per second of video.py, which writes its output, with the plain loop.

plain     faces are searched in every frame and classified one by one, then the frame is marked and
          written, all in one thread
video.py  as a user runs it

Without --source a clip is made: 1280×720, two moving faces (needs scikit-image, which make test
installs).

  python -m benchmarks.video --model_path model.pt
  python -m benchmarks.video --model_path model.pt --source in.mp4
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils import cli
from utils.inference.face_classifier import FaceClassifier, load_model
from utils.inference.model_path import BUNDLED_MODEL, default_model_path
from utils.parallel import cores

ROOT = Path(__file__).resolve().parent.parent
SIZE, RATE, FRAMES = (1280, 720), 30, 240


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    model = "trained model (default: model.pt, or the bundled model if there is none)"
    flag("--model_path", model, None, cli.path, metavar="FILE")
    flag("--source", "video file (default: a clip that is made)", None, cli.path, metavar="FILE")
    flag("--rounds", "rounds, each with both ways in turn", 3, cli.positive_int, metavar="N")
    args = parser.parse_args()
    args.model_path = args.model_path or default_model_path(fast_start=True)

    with tempfile.TemporaryDirectory() as folder:
        source = args.source or make_clip(Path(folder) / "clip.mp4")
        out = Path(folder) / "out.mp4"
        plain = FaceClassifier(load_model(BUNDLED_MODEL), tta="none")
        model = args.model_path
        ways = {
            "plain": lambda: process_plainly(source, out, plain),
            "video.py": lambda: run_script(source, out, "--model_path", model),
            "video.py, no mirror image": lambda: run_script(
                source, out, "--model_path", model, "--tta", "none"
            ),
            "video.py, haar": lambda: run_script(
                source, out, "--model_path", model, "--tta", "none", "--detector", "haar"
            ),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                rates[name].append(way())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{source.name}, {cores()} cores")
    for name, rate in medians.items():
        print(f"{name:26}{rate:6.1f} frames/s  ({min(rates[name]):.1f}-{max(rates[name]):.1f})")
    print(f"video.py / plain {medians['video.py'] / medians['plain']:.2f}")
    return cli.OK


def make_clip(path: Path) -> Path:
    """Write a video with two moving faces. Return its path."""
    import skimage.data

    head = skimage.data.astronaut()[0:260, 90:350, ::-1]
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    background = cv2.GaussianBlur(noise, (31, 31), 0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    for i in range(FRAMES):
        frame, shift = background.copy(), round(120 * np.sin(i / 25))
        frame[60:320, 250 + shift : 510 + shift] = head
        frame[380:640, 800 - shift : 1060 - shift] = head[:, ::-1]
        writer.write(frame)
    writer.release()
    return path


def process_plainly(source: Path, out: Path, classifier: FaceClassifier) -> float:
    """Process a video the plain way. Return the frames per second."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    video = cv2.VideoCapture(str(source))
    size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"mp4v"), RATE, size)
    started, count = time.perf_counter(), 0
    while True:
        success, frame = video.read()
        if not success:
            break
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        for x, y, w, h in cascade.detectMultiScale(grey, 1.1, 5):
            face = Image.fromarray(frame[y : y + h, x : x + w, ::-1])
            [answer] = classifier([classifier.info.preprocessing()(face)])
            cv2.rectangle(frame, (x, y), (x + w, y + h), (80, 200, 80), 2)
            text = f"{max(answer['probs']):.0f} %"
            cv2.putText(frame, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 1, (80, 200, 80))
        writer.write(frame)
        count += 1
    rate = count / (time.perf_counter() - started)
    writer.release()
    return rate


def run_script(source: Path, out: Path, *flags: object) -> float:
    """Process a video with video.py. Return the frames per second that it prints."""
    words = ["--source", source, "--output", out, "--no-gpu", *flags]
    command = [sys.executable, ROOT / "video.py", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    [rate] = re.findall(r"([\d.]+) frames/s", done.stdout)
    return float(rate)


if __name__ == "__main__":
    cli.run(main)
