"""Compare what a network sees of faces cropped in full size and with cropImages.py --max_size.

Both folders hold the same faces under the same names; faces that --max_size did not shrink are left
out. Each face is brought to the network's input in three ways:

exact     the face of full size, decoded in full size, and then resized
full      the face of full size as train.py reads it: JPEGs are decoded at reduced scale
small     the face of --max_size as train.py reads it

Printed are how far the pixels of these inputs differ, and how many answers of a trained model.

  python cropImages.py --output crop
  python cropImages.py --output crop512 --max_size 512
  python -m benchmarks.crop_size --crops crop --small crop512
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from utils import cli
from utils.data.image_folder import scan_class_folders
from utils.errors import StageError
from utils.imaging.image_io import open_header, open_image
from utils.inference.checkpoint import Checkpoint
from utils.inference.model_path import default_model_path
from utils.inference.predict import predict_log_probs


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--crops", "faces of full size, in class folders", Path("crop"), cli.path, metavar="DIR")
    flag("--small", "the same faces, shrunk", Path("crop512"), cli.path, metavar="DIR")
    model = "trained model (default: model.pt, or the bundled model if there is none)"
    flag("--model_path", model, None, cli.path, metavar="FILE")
    args = parser.parse_args()

    pairs = list(find_pairs(args.crops, args.small))
    if not pairs:
        raise StageError(f"no face is smaller in {args.small} than in {args.crops}")
    sides = [longer_side(full) for full, _ in pairs]
    print(f"{len(pairs)} faces with a longer side of {min(sides)} to {max(sides)} pixels, "
          f"{np.median(sides):.0f} in the median, and the same in {args.small}")  # fmt: skip
    path = args.model_path or default_model_path()
    checkpoint = Checkpoint.load(path)
    model, preprocess = checkpoint.build(), checkpoint.preprocessing()
    print(f"{path.name}: inputs of {preprocess.image_size} pixels\n")
    inputs = {
        "exact": np.stack([preprocess(open_image(face)) for face, _ in pairs]),
        "full": np.stack([preprocess.read(face) for face, _ in pairs]),
        "small": np.stack([preprocess.read(face) for _, face in pairs]),
    }
    probabilities = {way: predict(model, images) for way, images in inputs.items()}
    print("| inputs | pixels, of 255: mean | worst face | answers that differ | "
          "probability that moves |\n|---|---|---|---|---|")  # fmt: skip
    for first, second in (("exact", "full"), ("exact", "small"), ("full", "small")):
        difference = np.abs(inputs[first].astype(np.int16) - inputs[second])
        pixels = difference.mean(axis=(1, 2, 3))
        one, other = probabilities[first], probabilities[second]
        differ = (one.argmax(1) != other.argmax(1)).sum() / len(pairs)
        moved = (one - other).abs().sum(1).mean() / 2
        print(f"| {first} and {second} | {pixels.mean():.2f} | {pixels.max():.2f} | "
              f"{100 * differ:.1f} % | {100 * moved:.1f} % |")  # fmt: skip
    return cli.OK


def longer_side(face: Path) -> int:
    """Return the longer side of a picture in pixels."""
    with open_header(face) as picture:
        return max(picture.size)


def find_pairs(crops: Path, small: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (full size, shrunk) for each face that is smaller in the second folder."""
    for files in scan_class_folders(crops).values():
        for full in files:
            shrunk = small / full.relative_to(crops)
            if shrunk.is_file():
                with open_header(full) as first, open_header(shrunk) as second:
                    is_shrunk = first.size != second.size
                if is_shrunk:
                    yield full, shrunk


def predict(model: torch.nn.Module, inputs: np.ndarray) -> torch.Tensor:
    """Return the probabilities of all classes, for uint8 inputs (N, C, S, S)."""
    return predict_log_probs(model, torch.from_numpy(inputs).split(32)).exp()


if __name__ == "__main__":
    cli.run(main)
