"""Export a trained model to a file that other programs run: ONNX or TorchScript.

The file holds the class names, the preprocessing, the geometry of the faces, and the temperature.
emotion.py, video.py and test.py take an .onnx as --model_path and run it without torch. Before it
gets its name, the file is compared with the model on images: probabilities may differ by 0.0001.

--half and --int8 make smaller files. They are written only if they are right on nearly as many
images of --data_path; both accuracies are printed.

  python export.py                                     # model.pt -> model.onnx
  python export.py --model_path runs/3/best.pt --output faces.onnx
  python export.py --format torchscript                # model.pt -> model.torchscript
  python export.py --int8 --data_path data             # a quarter of the size

Next: python emotion.py --img photo.jpg --detect_face --model_path model.onnx
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from utils import cli
from utils.errors import StageError
from utils.files import atomic_file, make_folder
from utils.imaging.preprocess import MAX_SIDE
from utils.inference.model_path import default_model_path, display_path, is_onnx

if TYPE_CHECKING:
    import numpy as np

    from utils.evaluation.export_check import CheckImages
    from utils.inference.checkpoint import Checkpoint

SUFFIXES = {"onnx": ".onnx", "torchscript": ".torchscript"}
MAX_LOSS = 0.01  # of accuracy, for a smaller file


def make_parser() -> cli.Parser:
    """Return the parser of the script's flags."""
    parser = cli.Parser(__doc__)
    flag = parser.flag
    model = "trained model (default: model.pt, or the bundled model if there is none)"
    flag("--model_path", model, None, cli.path, metavar="FILE")
    flag("--format", "onnx or torchscript", "onnx", str, choices=tuple(SUFFIXES))
    output = "exported file (default: <model>.onnx or .torchscript in this folder)"
    flag("--output", output, None, cli.path, metavar="FILE")
    data = "images to compare on: its validation folder, or class folders"
    flag("--data_path", data, Path("data"), cli.path, metavar="DIR")
    parser.switch("--half", "store the weights in 16 bits (ONNX): half the size, as fast", False)
    parser.switch(
        "--int8", "weights and arithmetic of 8 bits (ONNX): a quarter of the size, faster", False
    )
    parser.reference_size_flag(MAX_SIDE)
    return parser


def main() -> int:
    """Export the model. Return the exit status."""
    args = make_parser().parse_args()
    path = args.model_path or default_model_path()
    check_flags(args, path)
    with interrupt.importing():  # torch takes seconds to import
        from utils.evaluation.export_check import load_check_images
        from utils.inference.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(path, args.image_size)
    is_smaller = args.half or args.int8
    images = load_check_images(
        args.data_path, checkpoint.classes, checkpoint.preprocessing(), needs_labels=is_smaller
    )
    output = args.output or Path(f"{path.stem}{SUFFIXES[args.format]}")
    make_folder(output.parent)
    with atomic_file(output) as file:
        file.write(export(args, checkpoint, images))
        file.flush()
        print(compare(Path(file.name), args.format, checkpoint, images, is_smaller), flush=True)
    size = output.stat().st_size / 2**20
    print(f"{display_path(path)}, {checkpoint.info().describe()} -> {output}, {size:.1f} MB")
    return cli.OK


def check_flags(args: argparse.Namespace, path: Path) -> None:
    """Raise StageError if the flags contradict each other."""
    if is_onnx(path):
        raise StageError(f"--model_path {path} is an exported model: name the .pt file")
    if args.int8 and args.half:
        raise StageError("--half and --int8 are two ways to a smaller file: give one of them")
    if (args.int8 or args.half) and args.format != "onnx":
        raise StageError("--half and --int8 are for --format onnx")
    suffix = SUFFIXES[args.format]
    if args.output and args.output.suffix.lower() != suffix:
        raise StageError(f"--output {args.output}: its name must end in {suffix}")


def export(args: argparse.Namespace, checkpoint: Checkpoint, images: CheckImages) -> bytes:
    """Return the content of the exported file."""
    from utils.inference.export import to_half, to_int8, to_onnx, to_torchscript

    if args.format == "torchscript":
        return to_torchscript(checkpoint)
    content = to_onnx(checkpoint)
    if args.half:
        return to_half(content)
    return to_int8(content, images.images, checkpoint.info()) if args.int8 else content


def compare(
    path: Path, file_format: str, checkpoint: Checkpoint, images: CheckImages, is_smaller: bool
) -> str:
    """Return how near the exported file's answers are to the model's, in one line.

    Raise StageError if they are not near enough.
    """
    from utils.inference.export import MAX_DIFFERENCE, exported_probs, largest_difference, probs_of

    expected = probs_of(checkpoint, images.images)
    probs = exported_probs(path, file_format, images.images)
    if is_smaller:
        return compare_accuracies(images, probs, expected)
    difference = largest_difference(probs, expected)
    if difference > MAX_DIFFERENCE:
        raise StageError(
            f"the exported model answers otherwise on {images.source}: a probability differs by "
            f"{difference:.2g}; nothing is written"
        )
    return f"checked on {images.source}: the probabilities differ by {difference:.1g} at most"


def compare_accuracies(images: CheckImages, probs: np.ndarray, expected: np.ndarray) -> str:
    """Return both accuracies. Raise StageError if the smaller file loses more than MAX_LOSS."""
    after, before = images.accuracy(probs), images.accuracy(expected)
    figures = f"accuracy on {images.source}: {after:.2%} instead of {before:.2%}"
    if after < before - MAX_LOSS:
        raise StageError(f"{figures}, which is too low: nothing is written")
    return figures


if __name__ == "__main__":
    cli.run(main)
