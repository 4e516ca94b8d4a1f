"""Train networks on FER2013 or FER+ with several recipes, and print a table of their accuracy.

`default` is the recipe of the reference implementation, `ours` the best for FER2013's labels, and
`votes` that of the small bundled model, which learns FER+'s votes. Finished runs are skipped and
stopped runs are resumed: start it as often as needed, until the table is complete. Training and the
choice of the best epoch use only train and validation.

  python -m benchmarks.fer2013 --data_path fer2013                        # everything: needs a GPU
  python -m benchmarks.fer2013 --data_path fer2013 --networks emotionnet --recipes ours --seeds 0
  python -m benchmarks.fer2013 --data_path fer2013 --only_print           # the table so far
  python -m benchmarks.fer2013 --data_path ferplus --annotations fer2013new.csv \
      --recipes default votes --output ferplus-runs                       # the same on FER+
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
from utils.files import CSV_ENCODING

TRAIN_IMAGES = 28_707  # of FER2013; FER+ has 28,386 with votes
LEARN_VOTES = ["--votes_min", "2", "--unknown", "soft"]  # as FER+'s paper
ROOT = Path(__file__).resolve().parent.parent

NETWORKS = {
    "emotionnet": "",
    "resemotionnet": "",
    "resnet18": "",
    "resnet29": "",
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
    "--crop 0.08 --rotation 12 --erase 0.25 --brightness 0.2 --amp bf16",
    "votes": "--optimizer adamw --lr 0.001 --weight_decay 0.05 --schedule cosine --warmup 1 "
    "--epochs 36 --mixup 0.2 --ema 0.998 "
    "--crop 0.08 --rotation 12 --erase 0.2 --brightness 0.2 --amp bf16",
}
LABEL_RECIPES = ["default", "ours"]


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    text = "FER2013 as folders: train and validation, each with class folders"
    flag("--data_path", text, Path("fer2013"), cli.path, metavar="DIR")
    flag("--output", "folder for the runs", Path("fer2013-runs"), cli.path, metavar="DIR")
    flag("--networks", "networks to train", list(NETWORKS), str, nargs="+", choices=NETWORKS)
    text = "FER+'s fer2013new.csv: every recipe learns its votes"
    flag("--annotations", text, None, cli.path, metavar="FILE")
    flag("--recipes", "recipes to train them with", LABEL_RECIPES, str, nargs="+", choices=RECIPES)
    flag("--seeds", "seeds: one training for each", [0, 1, 2], int, nargs="+")
    parser.switch("--only_print", "train nothing, print the table so far", False)
    args = parser.parse_args()

    print("| network | parameters | file | recipe | validation (%) | seeds | an epoch |")
    print("|---|---|---|---|---|---|---|")
    for network in args.networks:
        for recipe in args.recipes:
            words = f"{flags(network)} {RECIPES[recipe]}".split()
            if args.annotations:
                words += ["--annotations", str(args.annotations), *LEARN_VOTES]
            folders = [args.output / f"{network}-{recipe}-{seed}" for seed in args.seeds]
            if not args.only_print:
                for seed, folder in zip(args.seeds, folders, strict=True):
                    train(words, args.data_path, seed, folder)
            finished = [folder for folder in folders if is_finished(folder)]
            cells = [f"`{flags(network)}`", *size(network), recipe, *figures(finished)]
            print("| " + " | ".join(cells) + " |", flush=True)
    for recipe in args.recipes:
        print(f"\n{recipe}: `train.py {RECIPES[recipe]} --seed S`")
    return cli.OK


def flags(network: str) -> str:
    """Return the flags of train.py for a network of the table."""
    options = NETWORKS[network]
    return options if "--model" in options else f"--model {network} {options}".strip()


def size(network: str) -> tuple[str, str]:
    """Return two cells of the table: parameters, and size of the file in float32."""
    name = network.removesuffix("-large")
    with torch.device("meta"):
        model = models.NETWORKS[name].build(num_classes=7, image_channel=1)
    parameters = sum(p.numel() for p in model.parameters())
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    return f"{parameters:,}", f"{4 * numbers / 2**20:.0f} MB"


def train(words: list[str], data: Path, seed: int, folder: Path) -> None:
    """Train, or resume a stopped run, unless it is finished. Raise CalledProcessError."""
    if is_finished(folder):
        return
    paths = ["--data_path", data, "--runs_path", folder, "--model_path", folder / "model.pt"]
    command = [sys.executable, ROOT / "train.py", *words, *paths, "--seed", seed]
    # Only the table goes to stdout.
    subprocess.run([*map(str, command), "--resume", "auto"], check=True, stdout=sys.stderr)


def history(folder: Path) -> list[dict[str, str]]:
    """Return the rows of results.csv of the run in the folder; none if there is no run."""
    tables = sorted(folder.glob("*/results.csv"))
    if not tables:
        return []
    with tables[-1].open(encoding=CSV_ENCODING, newline="") as file:
        return list(csv.DictReader(file))


def is_finished(folder: Path) -> bool:
    """Return whether the run in the folder has trained all its epochs."""
    epochs = history(folder)
    if not epochs:
        return False
    [options] = sorted(folder.glob("*/options.json"))[-1:]
    return len(epochs) == json.loads(options.read_text(encoding="utf-8"))["epochs"]


def figures(folders: list[Path]) -> tuple[str, str, str]:
    """Return three cells of the table for the finished runs of one network and recipe.

    Validation accuracy (mean and standard deviation), number of seeds, time of an epoch.
    """
    if not folders:
        return "not run", "", ""
    best = [100 * max(float(epoch["val_accuracy"]) for epoch in history(f)) for f in folders]
    spread = f" ± {statistics.stdev(best):.2f}" if len(best) > 1 else ""
    rate = statistics.median(float(epoch["images_per_second"]) for epoch in history(folders[0]))
    return f"{statistics.mean(best):.2f}{spread}", f"{len(best)}", f"{TRAIN_IMAGES / rate:.0f} s"


if __name__ == "__main__":
    cli.run(main)
