"""Make a trained model small enough to be shipped: half precision, and its classes' names.

The weights become float16, which halves the file and changes no answer that matters; they are read
as float32 again. The classes can be renamed, in their order.

  python -m pretrained.make model.pt
  python -m pretrained.make model.pt --classes 분노 혐오 공포 기쁨 중립 슬픔 놀람 --output small.pt
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

from utils import cli
from utils.errors import StageError
from utils.inference.checkpoint import BUNDLED_MODEL, Checkpoint


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("model", help="a model that train.py has made", type=Path)
    parser.flag("--classes", "new names of the classes, in their order", None, str, nargs="+")
    parser.flag("--output", "the file to write", BUNDLED_MODEL, Path, metavar="FILE")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    model = Checkpoint.load(args.model)
    classes = args.classes or model.classes
    if not len(set(classes)) == len(classes) == len(model.classes):
        raise StageError(f"--classes: {len(model.classes)} different names, please")
    weights = {key: half(value) for key, value in model.weights.items()}
    replace(model, classes=classes, weights=weights, training=None).save(args.output)
    content = args.output.read_bytes()
    print(f"{args.output}: {model.describe()}")
    print(f"{' '.join(f'{old} -> {new}' for old, new in zip(model.classes, classes, strict=True))}")
    print(f"{len(content) / 2**20:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")
    return cli.OK


def half(weight):
    """The weight in half precision; counters stay whole numbers."""
    return weight.half() if weight.is_floating_point() else weight


if __name__ == "__main__":
    cli.run(main)
