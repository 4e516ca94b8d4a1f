"""Make model files small enough to ship: weights in half precision, and other class names.

Half precision (float16) halves the file and changes probabilities only by rounding. Loading makes
float32 of it again. --classes renames the classes, in their order. The model is written twice, for
torch and as .onnx beside it.

  python -m pretrained.make model.pt
  python -m pretrained.make model.pt --classes 분노 경멸 혐오 공포 기쁨 중립 슬픔 놀람
  python -m pretrained.make model.pt --face_shape square --tta flip --output small.pt
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
from utils.files import atomic_file
from utils.imaging.geometry import SHAPES, FaceGeometry
from utils.imaging.preprocess import TTA
from utils.inference.checkpoint import Checkpoint
from utils.inference.export import to_half, to_onnx
from utils.inference.model_path import BUNDLED_MODEL, ONNX_SUFFIX


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument("model", help="model file of train.py", type=cli.path)
    parser.flag("--classes", "new names of the classes, in their order", None, str, nargs="+")
    shape = "what the network sees of a detected face (default: the model's own)"
    parser.flag("--face_shape", shape, None, str, choices=SHAPES)
    tta = "test-time augmentation (default: the model's own)"
    parser.flag("--tta", tta, None, str, choices=TTA)
    parser.flag("--output", "file to write", BUNDLED_MODEL, cli.path, metavar="FILE")
    return parser


def main() -> int:
    """Write the small model, and print its size and checksum. Return the exit status."""
    args = make_parser().parse_args()
    model = Checkpoint.load(args.model)
    classes = args.classes or model.classes
    if not len(set(classes)) == len(classes) == len(model.classes):
        raise StageError(f"--classes: give {len(model.classes)} different names")
    weights = {key: halve(weight) for key, weight in model.weights.items()}
    face = FaceGeometry(args.face_shape).to_dict() if args.face_shape else model.face
    small = replace(
        model, classes=classes, weights=weights, training=None, face=face, tta=args.tta or model.tta
    )
    small.save(args.output)
    onnx = args.output.with_suffix(ONNX_SUFFIX)
    with atomic_file(onnx) as file:
        file.write(to_half(to_onnx(Checkpoint.load(args.output))))
    print(f"{small.info().describe()}; {small.info().describe_input()}")
    print(" ".join(f"{old} -> {new}" for old, new in zip(model.classes, classes, strict=True)))
    for path in (args.output, onnx):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        print(f"{path}: {len(content) / 2**20:.1f} MB, sha256 {digest}")
    return cli.OK


def halve(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight in half precision; a counter stays a whole number."""
    return weight.half() if weight.is_floating_point() else weight


if __name__ == "__main__":
    cli.run(main)
