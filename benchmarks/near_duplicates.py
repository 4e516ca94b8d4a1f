"""Measure what near duplicates cost dataPreparation.py, on photos of the full number.

The photos are tiny pictures, all different, in seven classes; a hundredth of them is there twice,
the second time smaller and as a JPEG of low quality. The time and memory are those of
dataPreparation.py without near duplicates, with them, and a second time, when it has thumbnails.

The exit status is 1 if a planted copy is not found, or another picture is taken for a copy.

  python -m benchmarks.near_duplicates
  python -m benchmarks.near_duplicates --photos 20000          # a trial
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.stages import StageRun, megabytes, run
from utils import cli
from utils.console import ProgressBar
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.parallel import ProcessPool, bounded_map, cores

PHOTOS = 429_957  # labelled photos of the full dataset
SIDE, SMALL = 64, 40  # pixels
COPIED = 100  # every so many photos is there twice
CHUNK = 500  # photos that a process makes at a time


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--photos", "number of photos", PHOTOS, cli.positive_int, metavar="N")
    text = "new or empty folder to work in (default: a temporary one)"
    flag("--folder", text, None, cli.path, metavar="DIR")
    args = parser.parse_args()

    root = args.folder or Path(tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise StageError(f"--folder {root} is not empty: name a new folder")
    try:
        make_photos(root / "crop", args.photos)
        return measure(root, args.photos)
    finally:
        shutil.rmtree(root)


def measure(root: Path, photos: int) -> int:
    """Run the stage three times and print its cost. Return the exit status."""
    copies = -(-photos // COPIED)
    print(f"{photos:,} photos and {copies:,} copies of them, {cores()} cores\n")
    print("| | seconds | first process | all together |\n|---|---|---|---|")
    results = {}
    for title, words in (("off", ("--near_copies", "off")), ("on", ()), ("on, again", ())):
        paths = ("--input", root / "crop", "--output", root / "data", "--log_dir", root / "log")
        result = run("dataPreparation.py", *paths, *words)
        results[title] = found_copies(result)
        cells = (result.main_memory, result.total_memory)
        row = [f"near duplicates {title}", f"{result.seconds:.1f}", *map(megabytes, cells)]
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"\nfound: {results}")
    is_right = results == {"off": 0, "on": copies, "on, again": copies}
    return cli.OK if is_right else cli.SOME_FAILED


def found_copies(result: StageRun) -> int:
    """Return how many near duplicates the stage reported."""
    match = re.search(r"^(\d+) photos are near duplicates", result.output, re.MULTILINE)
    return int(match[1]) if match else 0


class Chunk:
    """Some photos that a process makes."""

    def __init__(self, root: Path, start: int, stop: int) -> None:
        self.arguments = (root, start, stop)
        self.count = stop - start


def make_photos(root: Path, count: int) -> None:
    """Write the photos and the copies into class folders."""
    for label in EMOTIONS:
        (root / label).mkdir(parents=True)
    chunks = [Chunk(root, i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    with ProgressBar(count, "make") as bar:
        for chunk, future in bounded_map(
            ProcessPool(cores()), make_chunk, chunks, window=4 * cores()
        ):
            future.result()
            bar.update(chunk.count)


def make_chunk(root: Path, start: int, stop: int) -> None:
    """Write the photos of these numbers: soft shapes and some noise, another one for each."""
    for number in range(start, stop):
        rng = np.random.default_rng(number)
        shapes = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
        pixels = np.asarray(shapes.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
        pixels = (pixels + rng.normal(0, 12, (SIDE, SIDE))).clip(0, 255)
        image = Image.fromarray(pixels.astype(np.uint8))
        path = root / EMOTIONS[number % len(EMOTIONS)] / f"{number:06d}.jpg"
        save(image, path, 90)
        if number % COPIED == 0:
            small = image.resize((SMALL, SMALL), Image.Resampling.BILINEAR)
            save(small, path.with_stem(f"{number:06d}-copy"), 75)


def save(image: Image.Image, path: Path, quality: int) -> None:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    with open(path, "wb") as file:  # noqa: PTH123 - it is called half a million times
        file.write(content.getvalue())
        os.utime(file.fileno(), (1e9, 1e9))


if __name__ == "__main__":
    cli.run(main)
