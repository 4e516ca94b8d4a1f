"""Train networks on FER2013 with the original's recipe and with ours, and print the table.

A run that has ended is not done again, and one that was stopped goes on: this can be started again
and again until all is there. Training and choosing the best epoch see train and validation alone.

  python -m benchmarks.fer2013 --data_path fer2013                        # all of it: GPU work
  python -m benchmarks.fer2013 --data_path fer2013 --networks emotionnet --recipes ours --seeds 0
  python -m benchmarks.fer2013 --data_path fer2013 --only_print           # what is there so far
"""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

import models
from utils import cli

TRAINED_ON = 28_707  # faces
ROOT = Path(cli.__file__).resolve().parent.parent

NETWORKS = {
    "emotionnet": "",
    "resemotionnet": "",
    "resnet18": "",
    "vgg19": "",
    "vgg22": "",
    "vgg24": "--image_size 96",
    "efficientnet-b4": "",
    "efficientnet-b5": "",
    "efficientnet-b5-large": "--model efficientnet-b5 --image_size 224",
}
RECIPES = {
    "default": "",
    "ours": "--optimizer adamw --lr 0.001 --weight_decay 0.05 --schedule cosine --warmup 2 "
    "--epochs 80 --label_smoothing 0.1 --mixup 0.2 --ema 0.999 "
    "--crop 4 --rotation 12 --erase 0.25 --brightness 0.2 --amp bf16",
}


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.flag("--data_path", "FER2013, unpacked", Path("fer2013"), Path, metavar="DIR")
    parser.flag("--output", "where the runs are kept", Path("fer2013-runs"), Path, metavar="DIR")
    parser.flag("--networks", "of the nine", list(NETWORKS), str, nargs="+", choices=NETWORKS)
    parser.flag("--recipes", "of the two", list(RECIPES), str, nargs="+", choices=RECIPES)
    parser.flag("--seeds", "a training for each", [0, 1, 2], int, nargs="+")
    parser.switch("--only_print", "train nothing, print what is there", False)
    args = parser.parse_args()

    print("| network | parameters | file | recipe | validation (%) | seeds | an epoch |")
    print("|---|---|---|---|---|---|---|")
    for network in args.networks:
        for recipe in args.recipes:
            words = f"{flags(network)} {RECIPES[recipe]}".split()
            folders = [args.output / f"{network}-{recipe}-{seed}" for seed in args.seeds]
            if not args.only_print:
                for seed, folder in zip(args.seeds, folders, strict=True):
                    train(words, args.data_path, seed, folder)
            done = [folder for folder in folders if ended(folder)]
            print(
                f"| `{flags(network)}` | {size(network)} | {recipe} | {figures(done)} |", flush=True
            )
    for recipe in args.recipes:
        print(f"\n{recipe}: `train.py {RECIPES[recipe]} --seed S`")
    return cli.OK


def flags(network: str) -> str:
    given = NETWORKS[network]
    return given if "--model" in given else f"--model {network} {given}".strip()


def size(network: str) -> str:
    """Its parameters, and the size of its file in float32, as cells of the table."""
    name = network.removesuffix("-large")
    with torch.device("meta"):
        model = models.NETWORKS[name].build(num_classes=7, image_channel=1)
    parameters = sum(p.numel() for p in model.parameters())
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    return f"{parameters:,} | {4 * numbers / 2**20:.0f} MB"


def train(words: list[str], data: Path, seed: int, folder: Path) -> None:
    """Train once, or go on, unless it has ended. Raises CalledProcessError."""
    if ended(folder):
        return
    where = ["--data_path", data, "--runs_path", folder, "--model_path", folder / "model.pt"]
    command = [sys.executable, ROOT / "train.py", *words, *where, "--seed", seed]
    # stdout is the table's.
    subprocess.run([*map(str, command), "--resume", "auto"], check=True, stdout=sys.stderr)


def history(folder: Path) -> list[dict[str, str]]:
    """The epochs of the run in the folder; none if there is no run."""
    found = sorted(folder.glob("*/results.csv"))
    if not found:
        return []
    with found[-1].open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ended(folder: Path) -> bool:
    epochs = history(folder)
    if not epochs:
        return False
    [options] = sorted(folder.glob("*/options.json"))[-1:]
    return len(epochs) == json.loads(options.read_text(encoding="utf-8"))["epochs"]


def figures(folders: list[Path]) -> str:
    """What ended runs of one network and recipe have come to, as cells of the table."""
    if not folders:
        return "not run | | "
    best = [100 * max(float(epoch["val_accuracy"]) for epoch in history(f)) for f in folders]
    spread = f" ± {statistics.stdev(best):.2f}" if len(best) > 1 else ""
    rate = statistics.median(float(epoch["images_per_second"]) for epoch in history(folders[0]))
    return f"{statistics.mean(best):.2f}{spread} | {len(best)} | {TRAINED_ON / rate:.0f} s"


if __name__ == "__main__":
    cli.run(main)
