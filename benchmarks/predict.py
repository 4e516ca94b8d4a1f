"""How long emotion.py takes for one photo, cold, and how many it does in a second.

For one photo it is compared with what nobody can avoid, importing torch and reading the weights,
and with the plain way, which imports torchvision and OpenCV too. For many it is compared with the
plain way, one photo after the other through torchvision's transforms. All in turns.

  python -m benchmarks.predict --model_path model.pt --images data/test
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from utils import cli
from utils.data.image_folder import scan_class_folders
from utils.parallel import cores

ROOT = Path(__file__).resolve().parent.parent
LEAST = "import torch, sys; torch.load(sys.argv[1], weights_only=True)"
PLAIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
import cv2, torch, torchvision.transforms as T
from PIL import Image
from utils.inference.checkpoint import Checkpoint
checkpoint = Checkpoint.load(__import__("pathlib").Path(sys.argv[2]))
model, how = checkpoint.build(), checkpoint.preprocessing()
steps = T.Compose([T.Grayscale(how.image_channel), T.Resize((how.image_size,) * 2), T.ToTensor()])
started, paths = time.perf_counter(), open(sys.argv[3]).read().split("\\n")
with torch.no_grad():
    for path in paths:
        probs = model(steps(Image.open(path).convert("RGB"))[None]).softmax(1)[0].tolist()
print(len(paths) / (time.perf_counter() - started))
"""


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--model_path", "the trained model", Path("model.pt"), Path, metavar="FILE")
    flag("--images", "a folder of class folders", Path("data/test"), Path, metavar="DIR")
    flag("--count", "of the images, at most", 4000, cli.positive_int, metavar="N")
    flag("--rounds", "of all ways, in turns", 5, cli.positive_int, metavar="N")
    args = parser.parse_args()

    model = args.model_path
    paths = [path for found in scan_class_folders(args.images).values() for path in found][
        : args.count
    ]
    emotion = (ROOT / "emotion.py", "--model_path", model, "--no-gpu", "--img")
    with tempfile.TemporaryDirectory() as folder:
        one, many = Path(folder) / "one.txt", Path(folder) / "many.txt"
        one.write_text(str(paths[0]), encoding="utf-8")
        many.write_text("\n".join(map(str, paths)), encoding="utf-8")
        seconds = in_turns(
            args.rounds,
            {
                "torch and weights": lambda: run("-c", LEAST, model),
                "ours, one photo": lambda: run(*emotion, paths[0]),
                "plain, one photo": lambda: run("-c", PLAIN, ROOT, model, one),
                "ours, all": lambda: run(*emotion, f"@{many}", "--batch_size", 64),
                "plain, all": lambda: run("-c", PLAIN, ROOT, model, many),
            },
        )
    for name, value in seconds.items():
        print(f"{name:18}{value:7.2f} s")
    least, ours = seconds["torch and weights"], seconds["ours, one photo"]
    print(f"one photo, cold: ours / torch and weights {ours / least:.2f}, "
          f"plain / ours {seconds['plain, one photo'] / ours:.2f}")  # fmt: skip
    rates = {}
    for way in ("ours", "plain"):
        rates[way] = len(paths) / (seconds[f"{way}, all"] - seconds[f"{way}, one photo"])
    print(f"{len(paths)} images, {cores()} cores, after the start:")
    print(f"ours {rates['ours']:.0f}, plain {rates['plain']:.0f} images/s, ours / plain "
          f"{rates['ours'] / rates['plain']:.2f}")  # fmt: skip
    return cli.OK


def in_turns(rounds: int, ways: dict) -> dict[str, float]:
    """The median seconds of each way."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def run(*words: object) -> None:
    subprocess.run([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    cli.run(main)
