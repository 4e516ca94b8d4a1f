"""Images per second in decoding a set for the first time: ours, and the plain way.

plain   one image after the other with Pillow: open, convert, resize
ours    what train.py does to fill its store: all cores, JPEGs decoded at reduced size

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
    flag("--data_path", "a folder of class folders", Path("data/train"), Path, metavar="DIR")
    flag("--image_size", "pixels", 48, cli.positive_int, metavar="PIXELS")
    flag("--image_channel", "1 grey, 3 colour", 1, int, choices=(1, 3))
    flag("--images", "of the set, at most", 4096, cli.positive_int, metavar="N")
    flag("--rounds", "of both ways, in turns", 3, cli.positive_int, metavar="N")
    args = parser.parse_args()

    paths = [path for found in scan_class_folders(args.data_path).values() for path in found]
    paths = paths[: args.images]
    how = Preprocess(args.image_size, args.image_channel)
    ways: dict[str, Callable[[list[Path], Preprocess], None]] = {"plain": plain, "ours": ours}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(paths, how)
            rates[name].append(len(paths) / (time.perf_counter() - started))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{len(paths)} images to {how.image_size} pixels, {cores()} cores")
    for name, rate in middle.items():
        print(f"{name:6}{rate:9,.0f} images/s  ({min(rates[name]):,.0f}-{max(rates[name]):,.0f})")
    print(f"ours / plain {middle['ours'] / middle['plain']:.2f}")
    return cli.OK


def plain(paths: list[Path], how: Preprocess) -> None:
    mode = "L" if how.image_channel == 1 else "RGB"
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert(mode).resize((how.image_size, how.image_size)))


def ours(paths: list[Path], how: Preprocess) -> None:
    for _ in decode_chunks(chunked(paths), how, len(paths), cores()):
        pass


if __name__ == "__main__":
    cli.run(main)
