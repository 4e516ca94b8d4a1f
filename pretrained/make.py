"""Make model files small enough to ship: weights in half precision, and other class names.

Half precision (float16) halves the file and changes probabilities only by rounding. Loading makes
float32 of it again. --classes renames the classes, in their order. The model is written twice, for
torch and as .onnx beside it.

  python -m pretrained.make model.pt
  python -m pretrained.make model.pt --classes happy embarrassed angry anxious hurt sad neutral
  python -m pretrained.make model.pt --face_shape square --face_margin 0.1 --output small.pt
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import hashlib
from dataclasses import replace

import torch

from utils import cli
from utils.emotions import emotion_called
from utils.errors import StageError
from utils.files import atomic_file
from utils.imaging.geometry import MAX_MARGIN, SHAPES
from utils.imaging.preprocess import TTA
from utils.inference.checkpoint import Checkpoint
from utils.inference.export import to_half, to_onnx
from utils.inference.model_info import are_class_names
from utils.inference.model_path import ONNX_SUFFIX, is_onnx


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument("model", help="model file of train.py", type=cli.path)
    parser.flag("--classes", "new names of the classes, in their order", None, str, nargs="+")
    shape = "what the network sees of a detected face (default: the model's own)"
    parser.flag("--face_shape", shape, None, str, choices=SHAPES)
    margin = "margin on each side of a detected face (default: the model's own)"
    between = cli.number_between(0, MAX_MARGIN)
    parser.flag("--face_margin", margin, None, between, metavar="X")
    tta = "test-time augmentation (default: the model's own)"
    parser.flag("--tta", tta, None, str, choices=TTA)
    output = "file to write (default: model-half.pt beside model.pt)"
    parser.flag("--output", output, None, cli.path, metavar="FILE")
    return parser


def main() -> int:
    """Write the small model, and print its size and checksum. Return the exit status."""
    args = make_parser().parse_args()
    model = Checkpoint.load(args.model)
    classes = args.classes or model.classes
    check_names(classes, model.classes)
    output = args.output or args.model.with_name(f"{args.model.stem}-half.pt")
    if is_onnx(output):
        raise StageError(f"--output {output}: give the torch file's name; the .onnx is beside it")
    weights = {key: halve(weight) for key, weight in model.weights.items()}
    face = model.info().geometry()
    if args.face_shape is not None:
        face = replace(face, shape=args.face_shape)
    if args.face_margin is not None:
        face = replace(face, margin=args.face_margin)
    small = replace(
        model, classes=classes, weights=weights, training=None, face=face.to_dict(),
        tta=args.tta or model.tta,
    )  # fmt: skip
    content = to_half(to_onnx(small))
    small.save(output)
    onnx = output.with_suffix(ONNX_SUFFIX)
    with atomic_file(onnx) as file:
        file.write(content)
    print(f"{small.info().describe()}; {small.info().describe_input()}")
    print(" ".join(f"{old} -> {new}" for old, new in zip(model.classes, classes, strict=True)))
    for path in (output, onnx):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        print(f"{path}: {len(content) / 2**20:.1f} MB, sha256 {digest}")
    return cli.OK


def check_names(names: list[str], classes: list[str]) -> None:
    """Raise StageError unless the names can be those of the classes, in this order."""
    if len(names) != len(classes) or not are_class_names(names):
        raise StageError(f"--classes: give {len(classes)} different names")
    emotions = list(map(emotion_called, classes))
    for name, old, emotion in zip(names, classes, emotions, strict=True):
        meant = emotion_called(name)
        if meant and meant != emotion and meant in emotions:
            raise StageError(
                f"--classes {' '.join(names)}: {name} stands in the place of {old}; the model's "
                f"order is {' '.join(classes)}"
            )


def halve(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight in half precision; a counter stays a whole number."""
    return weight.half() if weight.is_floating_point() else weight


if __name__ == "__main__":
    cli.run(main)
