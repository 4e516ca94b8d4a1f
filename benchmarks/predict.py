"""Measure how long emotion.py takes for one photo, start included, and its photos per second.

One photo is compared with the import of torch alone, as an .onnx and a .pt file, with and without
face detection, and with the plain way, which imports torchvision and OpenCV too. Many photos are
compared with the plain way, one photo after the other through torchvision's transforms; many with
faces to find, with the Haar cascade. Batches of 64 faces in memory are predicted by onnxruntime and
by torch in float32 and bfloat16. All ways run in turn.

  python -m benchmarks.predict --images data/test --photos photos/
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from utils import cli
from utils.data.image_folder import scan_class_folders
from utils.imaging.image_files import find_images
from utils.inference.model_path import BUNDLED_MODEL, BUNDLED_ONNX
from utils.parallel import cores

ROOT = Path(__file__).resolve().parent.parent
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


# Seconds of a batch of 64 faces, in onnxruntime and in torch, in turn.
BATCHES = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from pathlib import Path
from utils.inference.face_classifier import load_model
onnx, model = (load_model(Path(path)) for path in sys.argv[2:4])
shape = 64, *model.info.preprocessing().shape
faces = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
ways = {"onnxruntime": lambda: onnx.log_probs(faces)}
ways["torch float32"] = lambda: model.log_probs(faces)
def bf16():
    with torch.autocast("cpu", torch.bfloat16):
        model.log_probs(faces)
ways["torch bfloat16"] = bf16
best = dict.fromkeys(ways, 9e9)
for _ in range(30):
    for name, way in ways.items():
        started = time.perf_counter()
        way()
        best[name] = min(best[name], time.perf_counter() - started)
print("batches of 64: " + ", ".join(f"{name} {64 / t:.0f} faces/s" for name, t in best.items()))
"""


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--model_path", "trained model (.pt)", BUNDLED_MODEL, cli.path, metavar="FILE")
    flag("--onnx", "the same model, exported", BUNDLED_ONNX, cli.path, metavar="FILE")
    flag("--images", "a folder of class folders", Path("data/test"), cli.path, metavar="DIR")
    flag("--photos", "a folder of photos with faces to find", None, cli.path, metavar="DIR")
    flag("--count", "images to classify, at most", 4000, cli.positive_int, metavar="N")
    flag("--rounds", "rounds, each with all ways in turn", 5, cli.positive_int, metavar="N")
    args = parser.parse_args()

    folders = scan_class_folders(args.images)
    paths = [path for files in folders.values() for path in files][: args.count]
    photo = find_images(args.photos)[0][0] if args.photos else paths[0]
    with tempfile.TemporaryDirectory() as folder:
        one, many = Path(folder) / "one.txt", Path(folder) / "many.txt"
        one.write_text(str(paths[0]), encoding="utf-8")
        many.write_text("\n".join(map(str, paths)), encoding="utf-8")
        ways: dict[str, Callable[[], None]] = {
            "import torch": lambda: run("-c", "import torch"),
            ".onnx, one photo": lambda: emotion(args.onnx, paths[0]),
            ".onnx, one photo, detection": lambda: emotion(args.onnx, photo, "--detect_face"),
            ".pt, one photo": lambda: emotion(args.model_path, paths[0]),
            ".pt, one photo, detection": lambda: emotion(args.model_path, photo, "--detect_face"),
            "plain, one photo": lambda: run("-c", PLAIN, ROOT, args.model_path, one),
            ".onnx, all": lambda: emotion(args.onnx, f"@{many}"),
            ".pt, all": lambda: emotion(args.model_path, f"@{many}"),
            "plain, all": lambda: run("-c", PLAIN, ROOT, args.model_path, many),
        }
        if args.photos:
            for name in ("retinaface", "haar"):
                words = ("--detect_face", "--detector", name)
                ways[f"{name}, all photos"] = partial(emotion, args.onnx, args.photos, *words)
        seconds = run_in_turn(args.rounds, ways)
    print_results(seconds, len(paths), len(find_images(args.photos)[0]) if args.photos else 0)
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", BATCHES, ROOT, args.onnx, args.model_path], check=True)
    return cli.OK


def print_results(seconds: dict[str, float], images: int, photos: int) -> None:
    """Print the seconds of each way, beside the import of torch, and the rates."""
    for name, value in seconds.items():
        print(f"{name:30}{value:7.2f} s {value / seconds['import torch']:6.2f} of import torch")
    starts = {way: seconds[f"{way}, one photo"] for way in (".onnx", ".pt", "plain")}
    rates = {way: images / (seconds[f"{way}, all"] - start) for way, start in starts.items()}
    print(f"{images} images, {cores()} cores, after the start: "
          + ", ".join(f"{way} {rate:.0f} images/s" for way, rate in rates.items()))  # fmt: skip
    if photos:
        found = {
            name: photos / (seconds[f"{name}, all photos"] - starts[".onnx"])
            for name in ("retinaface", "haar")
        }
        text = ", ".join(f"{name} {rate:.0f} photos/s" for name, rate in found.items())
        print(f"{photos} photos with detection, after the start: {text}")


def emotion(model: Path, *words: object) -> None:
    """Run emotion.py on the CPU."""
    run(ROOT / "emotion.py", "--model_path", model, "--no-gpu", "--img", *words)


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
    subprocess.run(
        [sys.executable, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    cli.run(main)
