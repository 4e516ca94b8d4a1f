"""Compare the photos per second of cropImages.py with the plain way, and measure its memory.

cropImages.py   as a user runs it, all cores, its start included
plain           one process, one photo after the other with Pillow: open, turn, crop, save (95)
decode          one process that only decodes, the least that one core can do

The photos have 12 megapixels (4000×3000), soft colours and noise, 2 to 4 MB; every second one is
stored on its side, with an EXIF orientation. The faces are 1300 pixels wide and high. A few
different photos have many names, and each name has another face. After each round every crop is
compared with the plain one, pixel for pixel.

  python -m benchmarks.crop
  python -m benchmarks.crop --photos 20 --rounds 1
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from benchmarks.stages import StageRun, run, spread
from utils import cli
from utils.data.annotations import ANNOTATORS
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.imaging.geometry import Box
from utils.imaging.image_io import ORIENTATION
from utils.parallel import cores

WIDTH, HEIGHT, FACE = 4000, 3000, 1300  # pixels
NOISE = 6  # of 255, standard deviation: makes a file of some 3 MB
DIFFERENT = 6  # photos; the others are links to them
ON_ITS_SIDE = 6  # the EXIF orientation of a phone held upright
SCRIPT = "cropImages.py"


class Face(NamedTuple):
    """A face to cut out of a photo."""

    name: str
    emotion: str
    box: Box

    def path(self, root: Path) -> Path:
        """Return the file of its photo or of its crop below `root`."""
        return root / self.emotion / self.name


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--photos", "photos to crop", 200, cli.positive_int, metavar="N")
    flag("--rounds", "rounds, each with all ways in turn", 3, cli.positive_int, metavar="N")
    args = parser.parse_args()

    seconds: dict[str, list[float]] = {SCRIPT: [], "plain": [], "decode": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        faces = make_photos(root / "original", args.photos)
        write_table(root / "table.tsv", faces)
        size = statistics.mean(face.path(root / "original").stat().st_size for face in faces)
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory(dir=root) as output:
                crops, plain_crops = Path(output) / "stage", Path(output) / "plain"
                stage = crop(root, crops)
                seconds[SCRIPT].append(stage.seconds)
                seconds["plain"].append(crop_plainly(faces, root / "original", plain_crops))
                seconds["decode"].append(decode(faces, root / "original"))
                for face in faces:
                    compare(face.path(crops), face.path(plain_crops))

    rates = {way: [args.photos / taken for taken in times] for way, times in seconds.items()}
    medians = {way: statistics.median(values) for way, values in rates.items()}
    print(f"{args.photos} photos of {WIDTH}×{HEIGHT} pixels and {size / 1e6:.1f} MB, faces of "
          f"{FACE}×{FACE}, {args.rounds} rounds, {cores()} cores\n")  # fmt: skip
    print(f"| way | photos/s | min-max | ms per photo | {SCRIPT} / it |\n|---|---|---|---|---|")
    for way, values in rates.items():
        ratio = medians[SCRIPT] / medians[way]
        cells = [way, *spread(values), f"{1000 / medians[way]:.0f}", f"{ratio:.2f}"]
        print("| " + " | ".join(cells) + " |")
    print(f"\nevery crop equals the plain one, pixel for pixel; peak memory: {stage.memory()}")
    return cli.OK


def make_photos(folder: Path, count: int) -> list[Face]:
    """Write photos into class folders. Return the face in each."""
    for emotion in EMOTIONS:
        (folder / emotion).mkdir(parents=True)
    rng = np.random.default_rng(0)
    photos = [
        make_photo(folder / f"{i}.jpg", ON_ITS_SIDE if i % 2 else 1, rng)
        for i in range(min(count, DIFFERENT))
    ]
    faces = []
    for i in range(count):
        name = f"s{i:04d}_여_20_{EMOTIONS[i % 7]}_실내_20200101000000-000-001.jpg"
        photo, (width, height) = photos[i % len(photos)]
        x, y = int(rng.integers(width - FACE)), int(rng.integers(height - FACE))
        faces.append(Face(name, EMOTIONS[i % 7], Box(x, y, x + FACE, y + FACE)))
        os.link(photo, faces[-1].path(folder))
    return faces


def make_photo(
    path: Path, orientation: int, rng: np.random.Generator
) -> tuple[Path, tuple[int, int]]:
    """Write a photo. Return its path and its size as displayed."""
    soft = Image.fromarray(rng.integers(40, 216, (12, 16, 3), dtype=np.uint8))
    soft = soft.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noise = rng.normal(0, NOISE, (HEIGHT, WIDTH, 1)).astype(np.int16)
    pixels = (np.asarray(soft, dtype=np.int16) + noise).clip(0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, quality=90, exif=exif)
    return path, (WIDTH, HEIGHT) if orientation == 1 else (HEIGHT, WIDTH)


def write_table(path: Path, faces: list[Face]) -> None:
    """Write the annotation table. Two annotators agree on the face, the third is slightly off."""
    columns = [f"{who}_{what}" for what in ("emotion", "result") for who in ANNOTATORS]
    lines = ["\t".join(["name", *columns])]
    for face in faces:
        boxes = [face.box, face.box, [value + 9 for value in face.box]]
        cells = [json.dumps([dict(zip(("minX", "minY", "maxX", "maxY"), box, strict=True))])
                 for box in boxes]  # fmt: skip
        lines.append("\t".join([face.name, *[face.emotion] * 3, *cells]))
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def crop(root: Path, output: Path) -> StageRun:
    """Run the script."""
    flags = ["--input", root / "table.tsv", "--original", root / "original", "--output", output]
    return run(SCRIPT, *flags, "--log_dir", root / "log")


def crop_plainly(faces: list[Face], original: Path, output: Path) -> float:
    """Cut the faces out the plain way. Return the seconds."""
    started = time.perf_counter()
    for face in faces:
        target = face.path(output)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(face.path(original)) as photo:
            ImageOps.exif_transpose(photo).crop(face.box).save(target, quality=95)
    return time.perf_counter() - started


def decode(faces: list[Face], original: Path) -> float:
    """Decode the photos. Return the seconds."""
    started = time.perf_counter()
    for face in faces:
        with Image.open(face.path(original)) as photo:
            photo.load()
    return time.perf_counter() - started


def compare(crop: Path, plain_crop: Path) -> None:
    """Raise StageError unless the two files hold the same pixels."""
    with Image.open(crop) as first, Image.open(plain_crop) as second:
        if not np.array_equal(np.asarray(first), np.asarray(second)):
            raise StageError(f"the pixels of {crop} and {plain_crop} differ")


if __name__ == "__main__":
    cli.run(main)
