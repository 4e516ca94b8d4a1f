"""Make a model file small enough to ship: weights in half precision, and other class names.

Half precision (float16) halves the file and changes probabilities only by rounding. Loading makes
float32 of it again. --classes renames the classes, in their order.

  python -m pretrained.make model.pt
  python -m pretrained.make model.pt --classes 분노 혐오 공포 기쁨 중립 슬픔 놀람 --output small.pt
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import hashlib
from dataclasses import replace

import torch

from utils import cli
from utils.errors import StageError
from utils.inference.checkpoint import BUNDLED_MODEL, Checkpoint


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument("model", help="model file of train.py", type=cli.path)
    parser.flag("--classes", "new names of the classes, in their order", None, str, nargs="+")
    parser.flag("--output", "file to write", BUNDLED_MODEL, cli.path, metavar="FILE")
    return parser


def main() -> int:
    """Write the small model, and print its size and checksum. Return the exit status."""
    args = make_parser().parse_args()
    model = Checkpoint.load(args.model)
    classes = args.classes or model.classes
    if not len(set(classes)) == len(classes) == len(model.classes):
        raise StageError(f"--classes: give {len(model.classes)} different names")
    weights = {key: to_half(weight) for key, weight in model.weights.items()}
    replace(model, classes=classes, weights=weights, training=None).save(args.output)
    content = args.output.read_bytes()
    print(f"{args.output}: {model.describe()}")
    print(" ".join(f"{old} -> {new}" for old, new in zip(model.classes, classes, strict=True)))
    print(f"{len(content) / 2**20:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")
    return cli.OK


def to_half(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight in half precision; a counter stays a whole number."""
    return weight.half() if weight.is_floating_point() else weight


if __name__ == "__main__":
    cli.run(main)
