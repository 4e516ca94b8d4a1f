"""Compare the images per second of decoding a dataset for the first time with the plain way.

plain     one image after the other with Pillow: open, convert, resize
train.py  how train.py fills its cache: all cores, JPEGs decoded at reduced size

  python -m benchmarks.decode --data_path data/train
  python -m benchmarks.decode --data_path crop --image_size 48 --image_channel 3
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from utils import cli
from utils.data.decode import chunked, decode_chunks
from utils.data.image_folder import scan_class_folders
from utils.imaging.preprocess import Preprocess
from utils.parallel import cores


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--data_path", "a folder of class folders", Path("data/train"), cli.path, metavar="DIR")
    flag("--image_size", "side of the decoded images", 48, cli.positive_int, metavar="PIXELS")
    flag("--image_channel", "1 grey, 3 colour", 1, int, choices=(1, 3))
    flag("--images", "images to decode, at most", 4096, cli.positive_int, metavar="N")
    flag("--rounds", "rounds, each with both ways in turn", 3, cli.positive_int, metavar="N")
    args = parser.parse_args()

    folders = scan_class_folders(args.data_path)
    paths = [path for files in folders.values() for path in files][: args.images]
    preprocess = Preprocess(args.image_size, args.image_channel)
    ways: dict[str, Callable[[list[Path], Preprocess], None]] = {
        "plain": decode_plainly,
        "train.py": decode_as_train,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, decode in ways.items():
            started = time.perf_counter()
            decode(paths, preprocess)
            rates[name].append(len(paths) / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{len(paths)} images to {preprocess.image_size} pixels, {cores()} cores")
    for name, rate in medians.items():
        print(f"{name:9}{rate:9,.0f} images/s  ({min(rates[name]):,.0f}-{max(rates[name]):,.0f})")
    print(f"train.py / plain {medians['train.py'] / medians['plain']:.2f}")
    return cli.OK


def decode_plainly(paths: list[Path], preprocess: Preprocess) -> None:
    mode = "L" if preprocess.image_channel == 1 else "RGB"
    size = (preprocess.image_size, preprocess.image_size)
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert(mode).resize(size))


def decode_as_train(paths: list[Path], preprocess: Preprocess) -> None:
    for _ in decode_chunks(chunked(paths), preprocess, len(paths), cores()):
        pass


if __name__ == "__main__":
    cli.run(main)
