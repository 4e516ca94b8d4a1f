"""Measure the seconds of emotion.py for one photo, start included, and its photos per second.

One photo is compared with the minimum, importing torch and reading the weights, and with the plain
way, which imports torchvision and OpenCV too. Many photos are compared with the plain way, one
photo after the other through torchvision's transforms. All ways run in turn.

  python -m benchmarks.predict --model_path model.pt --images data/test
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from utils import cli
from utils.data.image_folder import scan_class_folders
from utils.inference.model_path import default_model_path
from utils.parallel import cores

ROOT = Path(__file__).resolve().parent.parent
MINIMUM = "import torch, sys; torch.load(sys.argv[1], weights_only=True)"
PLAIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
import cv2, torch, torchvision.transforms as T
from PIL import Image
from utils.inference.checkpoint import Checkpoint
checkpoint = Checkpoint.load(__import__("pathlib").Path(sys.argv[2]))
model, settings = checkpoint.build(), checkpoint.preprocessing()
size = settings.image_size, settings.image_size
steps = T.Compose([T.Grayscale(settings.image_channel), T.Resize(size), T.ToTensor()])
started, paths = time.perf_counter(), open(sys.argv[3]).read().split("\\n")
with torch.no_grad():
    for path in paths:
        probs = model(steps(Image.open(path).convert("RGB"))[None]).softmax(1)[0].tolist()
print(len(paths) / (time.perf_counter() - started))
"""


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    model = "trained model (default: model.pt, or the bundled model if there is none)"
    flag("--model_path", model, None, cli.path, metavar="FILE")
    flag("--images", "a folder of class folders", Path("data/test"), cli.path, metavar="DIR")
    flag("--count", "images to classify, at most", 4000, cli.positive_int, metavar="N")
    flag("--rounds", "rounds, each with all ways in turn", 5, cli.positive_int, metavar="N")
    args = parser.parse_args()
    args.model_path = args.model_path or default_model_path()

    model = args.model_path
    folders = scan_class_folders(args.images)
    paths = [path for files in folders.values() for path in files][: args.count]
    emotion = (ROOT / "emotion.py", "--model_path", model, "--no-gpu", "--img")
    with tempfile.TemporaryDirectory() as folder:
        one, many = Path(folder) / "one.txt", Path(folder) / "many.txt"
        one.write_text(str(paths[0]), encoding="utf-8")
        many.write_text("\n".join(map(str, paths)), encoding="utf-8")
        seconds = run_in_turn(
            args.rounds,
            {
                "torch and weights": lambda: run("-c", MINIMUM, model),
                "emotion.py, one photo": lambda: run(*emotion, paths[0]),
                "plain, one photo": lambda: run("-c", PLAIN, ROOT, model, one),
                "emotion.py, all": lambda: run(*emotion, f"@{many}", "--batch_size", 64),
                "plain, all": lambda: run("-c", PLAIN, ROOT, model, many),
            },
        )
    for name, value in seconds.items():
        print(f"{name:22}{value:7.2f} s")
    minimum, one_photo = seconds["torch and weights"], seconds["emotion.py, one photo"]
    print(f"one photo, start included: emotion.py / torch and weights {one_photo / minimum:.2f}, "
          f"plain / emotion.py {seconds['plain, one photo'] / one_photo:.2f}")  # fmt: skip
    rates = {
        way: len(paths) / (seconds[f"{way}, all"] - seconds[f"{way}, one photo"])
        for way in ("emotion.py", "plain")
    }
    print(f"{len(paths)} images, {cores()} cores, after the start:")
    print(f"emotion.py {rates['emotion.py']:.0f}, plain {rates['plain']:.0f} images/s, "
          f"emotion.py / plain {rates['emotion.py'] / rates['plain']:.2f}")  # fmt: skip
    return cli.OK


def run_in_turn(rounds: int, ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Run all ways in turn, several times. Return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def run(*words: object) -> None:
    """Run Python with these arguments."""
    subprocess.run([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    cli.run(main)
