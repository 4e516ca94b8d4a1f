"""Compare the photos per second of cropImages.py with the plain way, and measure its memory.

cropImages.py   as a user runs it, all cores, its start included
plain           one process, one photo after the other with Pillow: open, turn, crop, save (95)
floor           all cores, each of which only decodes the rows down to a face and encodes the face
... small       with --max_size 512: the plain way shrinks with Pillow's thumbnail, and the floor
                decodes at reduced scale

The photos have 12 megapixels (4000×3000), soft colours and noise, 2 to 4 MB; every second one is
stored on its side, with an EXIF orientation. The faces are 1300 pixels wide and high, anywhere in
the photo. A few different photos have many names, and each name has another face. After each round
every crop is compared with the plain one: pixel for pixel, or those of --max_size by their mean
difference.

  python -m benchmarks.crop
  python -m benchmarks.crop --photos 20 --rounds 1
"""

from __future__ import annotations

import io
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
from utils.imaging.image_io import ORIENTATION, to_stored_box
from utils.imaging.partial_jpeg import dct_factor, decode_down_to
from utils.parallel import ProcessPool, cores

WIDTH, HEIGHT, FACE = 4000, 3000, 1300  # pixels
SMALL = 512  # pixels, the --max_size of the second part
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
    flag("--photos", "photos to crop", 400, cli.positive_int, metavar="N")
    flag("--rounds", "rounds, each with all ways in turn", 3, cli.positive_int, metavar="N")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        faces = make_photos(root / "original", args.photos)
        write_table(root / "table.tsv", faces)
        size = statistics.mean(face.path(root / "original").stat().st_size for face in faces)
        rounds = [Round(root, faces) for _ in range(args.rounds)]
    print(f"{args.photos} photos of {WIDTH}×{HEIGHT} pixels and {size / 1e6:.1f} MB, faces of "
          f"{FACE}×{FACE}, {args.rounds} rounds, {cores()} cores\n")  # fmt: skip
    print_rates([round.seconds for round in rounds], args.photos)
    last = rounds[-1]
    difference = max(round.difference for round in rounds)
    print("\nevery crop of full size equals the plain one, pixel for pixel")
    print(f"crops of --max_size {SMALL} take {last.small_bytes / last.bytes:.3f} of the bytes: "
          f"{last.small_bytes / 1e3:.0f} KB, not {last.bytes / 1e3:.0f} KB; they differ from the "
          f"plain ones by {difference:.2f} of 255 in the mean, at most")  # fmt: skip
    print(f"peak memory: {last.memory}; with --max_size {SMALL}: {last.small_memory}")
    return cli.OK


class Round:
    """All ways in turn, once: the seconds of each, and what their crops are like."""

    def __init__(self, root: Path, faces: list[Face]) -> None:
        original = root / "original"
        self.seconds: dict[str, float] = {}
        with tempfile.TemporaryDirectory(dir=root) as folder:
            crops, plain_crops = Path(folder) / "stage", Path(folder) / "plain"
            stage = crop(root, crops)
            self.seconds[SCRIPT] = stage.seconds
            self.seconds["plain"] = crop_plainly(faces, original, plain_crops)
            self.seconds["floor"] = run_floor(faces, original, None)
            self.memory, self.bytes = stage.memory(), mean_size(faces, crops)
            for face in faces:
                compare(face.path(crops), face.path(plain_crops))
        with tempfile.TemporaryDirectory(dir=root) as folder:
            crops, plain_crops = Path(folder) / "stage", Path(folder) / "plain"
            stage = crop(root, crops, "--max_size", SMALL)
            self.seconds[f"{SCRIPT}, small"] = stage.seconds
            self.seconds["plain, small"] = crop_plainly(faces, original, plain_crops, SMALL)
            self.seconds["floor, small"] = run_floor(faces, original, SMALL)
            self.small_memory, self.small_bytes = stage.memory(), mean_size(faces, crops)
            self.difference = max(
                mean_difference(face.path(crops), face.path(plain_crops)) for face in faces
            )


def print_rates(rounds: list[dict[str, float]], photos: int) -> None:
    """Print the table: photos per second, and how they compare with the plain ways."""
    rates = {way: [photos / seconds[way] for seconds in rounds] for way in rounds[0]}
    medians = {way: statistics.median(values) for way, values in rates.items()}
    print("| way | photos/s | min-max | ms per photo | it / plain | it / floor |")
    print("|---|---|---|---|---|---|")
    for way, values in rates.items():
        floor = "floor, small" if way.endswith("small") else "floor"
        ratios = [f"{medians[way] / medians[other]:.2f}" for other in ("plain", floor)]
        print(
            "| " + " | ".join([way, *spread(values), f"{1000 / medians[way]:.0f}", *ratios]) + " |"
        )


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


def crop(root: Path, output: Path, *flags: object) -> StageRun:
    """Run the script."""
    folders = ["--input", root / "table.tsv", "--original", root / "original", "--output", output]
    return run(SCRIPT, *folders, "--log_dir", root / "log", *flags)


def crop_plainly(
    faces: list[Face], original: Path, output: Path, max_size: int | None = None
) -> float:
    """Cut the faces out the plain way. Return the seconds."""
    started = time.perf_counter()
    for face in faces:
        target = face.path(output)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(face.path(original)) as photo:
            crop = ImageOps.exif_transpose(photo).crop(face.box)
            if max_size:
                crop.thumbnail((max_size, max_size))
            crop.save(target, quality=95)
    return time.perf_counter() - started


def run_floor(faces: list[Face], original: Path, max_size: int | None) -> float:
    """Decode the rows down to each face and encode it, on all cores. Return the seconds.

    Processes have started, and nothing else is done: no table, no crop, no file is written.
    """
    shares = [faces[i :: cores()] for i in range(cores())]
    with ProcessPool(len(shares)) as pool:
        jobs = [pool.submit(decode_and_encode, share, original, max_size) for share in shares]
        return statistics.mean(job.result() for job in jobs)


def decode_and_encode(faces: list[Face], original: Path, max_size: int | None) -> float:
    """Do what a single process of `run_floor` does. Return the seconds."""
    side = max_size or FACE
    crop = Image.effect_noise((side, side), NOISE).convert("RGB")
    started = time.perf_counter()
    for face in faces:
        with Image.open(face.path(original)) as photo:
            orientation = photo.getexif().get(ORIENTATION, 1)
            box = to_stored_box(face.box, photo.size, orientation)
            decode_down_to(photo, box.bottom, dct_factor(box, max_size))
        crop.save(io.BytesIO(), "JPEG", quality=95)
    return time.perf_counter() - started


def mean_size(faces: list[Face], crops: Path) -> float:
    """Return the mean of the crops' sizes in bytes."""
    return statistics.mean(face.path(crops).stat().st_size for face in faces)


def compare(crop: Path, plain_crop: Path) -> None:
    """Raise StageError unless the two files hold the same pixels."""
    with Image.open(crop) as first, Image.open(plain_crop) as second:
        if not np.array_equal(np.asarray(first), np.asarray(second)):
            raise StageError(f"the pixels of {crop} and {plain_crop} differ")


def mean_difference(crop: Path, plain_crop: Path) -> float:
    """Return the mean difference of two crops. Raise StageError if their sizes differ."""
    with Image.open(crop) as first, Image.open(plain_crop) as second:
        if first.size != second.size:
            raise StageError(f"{crop} has {first.size} pixels, {plain_crop} has {second.size}")
        difference = np.subtract(first, second, dtype=np.int16)
    return float(np.abs(difference).mean())


if __name__ == "__main__":
    cli.run(main)
