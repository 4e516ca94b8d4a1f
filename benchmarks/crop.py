"""Photos per second of cropImages.py beside the plain way, and the memory that it takes.

plain    one process, one photo after the other with Pillow: open, turn, crop, save at quality 95
decode   one process, nothing but decoding: less than that nobody can do
ours     cropImages.py as a user runs it, all cores, its start included

The photos have 12 megapixels (4000×3000), soft colours and noise, 2 to 4 MB; every other one is
stored on its side, with an EXIF orientation. The faces are 1300 pixels wide and high. A few
different photos stand under many names, each name with a face of its own. After each round every
crop of ours is compared with the plain one, pixel for pixel.

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
from stages import Run, run, spread

from utils import cli
from utils.data.annotations import ANNOTATORS
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.imaging.image_io import ORIENTATION
from utils.parallel import cores

WIDTH, HEIGHT, FACE = 4000, 3000, 1300  # pixels
NOISE = 6  # of 255, standard deviation: makes some 3 MB
DIFFERENT = 6  # photos; the others are the same under other names
ON_ITS_SIDE = 6  # the EXIF orientation of a phone held upright


class Face(NamedTuple):
    """A face to be cut out of a photo."""

    name: str
    emotion: str
    box: tuple[int, int, int, int]

    def path(self, root: Path) -> Path:
        return root / self.emotion / self.name


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--photos", "to be cropped", 200, cli.positive_int, metavar="N")
    flag("--rounds", "of all ways, in turns", 3, cli.positive_int, metavar="N")
    args = parser.parse_args()

    seconds: dict[str, list[float]] = {"ours": [], "plain": [], "decode": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        faces = make_photos(root / "original", args.photos)
        write_table(root / "table.tsv", faces)
        size = statistics.mean(face.path(root / "original").stat().st_size for face in faces)
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory(dir=root) as made:
                ours, by_hand = Path(made) / "ours", Path(made) / "plain"
                stage = crop(root, ours)
                seconds["ours"].append(stage.seconds)
                seconds["plain"].append(plain(faces, root / "original", by_hand))
                seconds["decode"].append(decode(faces, root / "original"))
                for face in faces:
                    compare(face.path(ours), face.path(by_hand))

    rates = {way: [args.photos / taken for taken in times] for way, times in seconds.items()}
    middle = {way: statistics.median(values) for way, values in rates.items()}
    print(f"{args.photos} photos of {WIDTH}×{HEIGHT} pixels and {size / 1e6:.1f} MB, faces of "
          f"{FACE}×{FACE}, {args.rounds} rounds, {cores()} cores\n")  # fmt: skip
    print("| way | photos/s | least-most | ms a photo | ours / it |\n|---|---|---|---|---|")
    for way, values in rates.items():
        ratio = middle["ours"] / middle[way]
        cells = [way, *spread(values), f"{1000 / middle[way]:.0f}", f"{ratio:.2f}"]
        print("| " + " | ".join(cells) + " |")
    print(f"\nevery crop is the plain one, pixel for pixel; peak memory: {stage.memory()}")
    return cli.OK


def make_photos(folder: Path, count: int) -> list[Face]:
    """Photos in their folders, and the face that each holds."""
    for emotion in EMOTIONS:
        (folder / emotion).mkdir(parents=True)
    chance = np.random.default_rng(0)
    photos = [
        make_photo(folder / f"{i}.jpg", ON_ITS_SIDE if i % 2 else 1, chance)
        for i in range(min(count, DIFFERENT))
    ]
    faces = []
    for i in range(count):
        name = f"s{i:04d}_여_20_{EMOTIONS[i % 7]}_실내_20200101000000-000-001.jpg"
        photo, (width, height) = photos[i % len(photos)]
        x, y = int(chance.integers(width - FACE)), int(chance.integers(height - FACE))
        faces.append(Face(name, EMOTIONS[i % 7], (x, y, x + FACE, y + FACE)))
        os.link(photo, faces[-1].path(folder))
    return faces


def make_photo(
    path: Path, orientation: int, chance: np.random.Generator
) -> tuple[Path, tuple[int, int]]:
    """Write a photo; returns its path, and its size as it is displayed."""
    soft = Image.fromarray(chance.integers(40, 216, (12, 16, 3), dtype=np.uint8))
    soft = soft.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noise = chance.normal(0, NOISE, (HEIGHT, WIDTH, 1)).astype(np.int16)
    pixels = (np.asarray(soft, dtype=np.int16) + noise).clip(0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, quality=90, exif=exif)
    return path, (WIDTH, HEIGHT) if orientation == 1 else (HEIGHT, WIDTH)


def write_table(path: Path, faces: list[Face]) -> None:
    """The table: two annotators agree on the face, the third is a little off."""
    columns = [f"{who}_{what}" for what in ("emotion", "result") for who in ANNOTATORS]
    lines = ["\t".join(["name", *columns])]
    for face in faces:
        boxes = [face.box, face.box, [value + 9 for value in face.box]]
        cells = [json.dumps([dict(zip(("minX", "minY", "maxX", "maxY"), box, strict=True))])
                 for box in boxes]  # fmt: skip
        lines.append("\t".join([face.name, *[face.emotion] * 3, *cells]))
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def crop(root: Path, output: Path) -> Run:
    words = ["--input", root / "table.tsv", "--original", root / "original", "--output", output]
    return run("cropImages.py", *words, "--log_dir", root / "log")


def plain(faces: list[Face], original: Path, output: Path) -> float:
    """Cut the faces out the plain way; returns the seconds that it takes."""
    started = time.perf_counter()
    for face in faces:
        target = face.path(output)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(face.path(original)) as photo:
            ImageOps.exif_transpose(photo).crop(face.box).save(target, quality=95)
    return time.perf_counter() - started


def decode(faces: list[Face], original: Path) -> float:
    started = time.perf_counter()
    for face in faces:
        with Image.open(face.path(original)) as photo:
            photo.load()
    return time.perf_counter() - started


def compare(ours: Path, plain: Path) -> None:
    """Raises StageError unless the two files hold the same pixels."""
    with Image.open(ours) as first, Image.open(plain) as second:
        if not np.array_equal(np.asarray(first), np.asarray(second)):
            raise StageError(f"{ours} has other pixels than the plain way's")


if __name__ == "__main__":
    cli.run(main)
