"""The data stages on a stand-in for the full set: 503,221 rows, their counts, time and memory.

The table has all eleven columns: 2,500 subjects, some names in NFD, some cells quoted, the boxes of
three annotators some pixels apart. All photos are one tiny picture under as many names; their boxes
all differ, so that every crop is another file, which is checked. downloadImage.py finds all photos
there and only passes over the table. Memory is the peak of what is resident: of a stage's first
process, of the largest that this one started, and of all at one moment, where what they share
counts in each.

The exit status is 1 where a count is not what the table must give. The full size takes some 4 GB of
disk and 2 million file names.

  python -m benchmarks.full_size
  python -m benchmarks.full_size --rows 3000               # a trial, in about the same proportions
  python -m benchmarks.full_size --folder /big/disk/full --keep
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image
from stages import Run, megabytes, run

from utils import cli
from utils.console import ProgressBar
from utils.data.annotations import COLUMNS
from utils.data.boxes import CORNERS
from utils.data.image_folder import SPLITS
from utils.emotions import EMOTIONS, UNKNOWN
from utils.errors import StageError
from utils.parallel import cores

ROWS = 503_221
# A tenth of each class, rounded down: the test photos of the full set. A class has ten times as
# many and one; the other 73,264 rows are UNKNOWN.
TENTHS = dict(zip(EMOTIONS, (7504, 6949, 5932, 4017, 2234, 7612, 8747), strict=True))
PHOTOS_EACH = 201  # of one subject, about
LINKS = 50_000  # to one file; ext4 allows 65,000
PLACES = ("실내", "도심 환경", "숙박 및 거주공간", "자연 환경", "학교")
SIDE, STEPS = 96, 32  # pixels of the picture, and places for each edge of a face
FAR_EDGE = SIDE - 2 - STEPS  # where the places of the right and lower edges begin


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--rows", "of the table", ROWS, cli.positive_int, metavar="N")
    flag("--folder", "to work in, new or empty; unset: a temporary one", None, Path, metavar="DIR")
    parser.switch("--keep", "leave the folder as it is at the end", False)
    args = parser.parse_args()

    tenths = {label: max(1, tenth * args.rows // ROWS) for label, tenth in TENTHS.items()}
    crops = {label: 10 * tenth + 1 for label, tenth in tenths.items()}
    crops[UNKNOWN] = args.rows - sum(crops.values())
    if crops[UNKNOWN] < 0:
        raise StageError("--rows 100 is the least")
    root = args.folder or Path(tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise StageError(f"--folder {root} is not empty")
    try:
        make_set(root, crops)
        return measure(root, crops, tenths)
    finally:
        if not args.keep:
            shutil.rmtree(root)


def measure(root: Path, crops: dict[str, int], tenths: dict[str, int]) -> int:
    """Run the stages, and print what they took and made."""
    table, original, crop = (root / name for name in ("table.tsv", "original", "crop"))
    rows, log = sum(crops.values()), ("--log_dir", root / "log")
    print(f"{rows:,} rows, a table of {megabytes(table.stat().st_size)}, {cores()} cores\n")
    print("| stage | seconds | first process | largest other | all together | rows/s |")
    print("|---|---|---|---|---|---|")

    def stage(title: str, script: str, *words: object) -> Run:
        taken = run(script, *words, *log)
        memory = [megabytes(peak) for peak in (taken.own, taken.worker, taken.together)]
        cells = [f"{script}, {title}", f"{taken.seconds:.1f}", *memory]
        print("| " + " | ".join([*cells, f"{rows / taken.seconds:,.0f}"]) + " |", flush=True)
        return taken

    stage("all there", "downloadImage.py", "--input", table, "--output", original)
    cropping = ("--input", table, "--original", original, "--output", crop)
    cropped = stage("first run", "cropImages.py", *cropping)
    crops_again = stage("second run", "cropImages.py", *cropping)
    splitting = ("--input", crop, "--output", root / "data")
    prepared = stage("first run", "dataPreparation.py", *splitting)
    prepared_again = stage("second run", "dataPreparation.py", *splitting)

    sets = {
        "train": {label: 8 * tenth + 1 for label, tenth in tenths.items()},
        "validation": tenths,
        "test": tenths,
    }
    check = Check()
    for run_of_it in (cropped, crops_again):
        check.same("crops, as printed", printed(run_of_it, crops), crops)
    check.same("crops, as files", files(crop), crops)
    check.same("crops that differ", different(crop), rows)
    for run_of_it in (prepared, prepared_again):
        check.same("sets, as printed", printed_sets(run_of_it), sets)
    check.same("sets, as files", {name: files(root / "data" / name) for name in SPLITS}, sets)

    by_subject = root / "by-subject"
    words = ("--input", crop, "--output", by_subject, "--group", "subject")
    stage("by subject", "dataPreparation.py", *words)
    found = {name: files(by_subject / name) for name in SPLITS}
    for label in EMOTIONS:
        together = sum(counts.get(label, 0) for counts in found.values())
        check.same(f"{label} by subject", together, crops[label])
    check.same("subjects in two sets", shared_subjects(by_subject), 0)
    totals = " / ".join(f"{sum(counts.values()):,}" for counts in found.values())
    print(f"\nby subject: {totals}", end="")

    print(f"\n{UNKNOWN} {files(crop)[UNKNOWN]:,}")
    found = {name: files(root / "data" / name) for name in SPLITS}
    print(" / ".join(f"{name} {sum(counts.values()):,}" for name, counts in found.items()))
    print("test: " + "  ".join(f"{label} {n:,}" for label, n in found["test"].items()))
    return check.status()


class Check:
    """Compares what was found with what must be."""

    def __init__(self) -> None:
        self._wrong: list[str] = []

    def same(self, what: str, found: object, must: object) -> None:
        if found != must:
            self._wrong.append(f"{what}: {found} and not {must}")

    def status(self) -> int:
        print("\n".join(self._wrong) or "all counts are what the table must give")
        return cli.SOME_FAILED if self._wrong else cli.OK


def make_set(root: Path, crops: dict[str, int]) -> None:
    """The table, and a photo for each of its rows in the folder where downloads are put."""
    chance = np.random.default_rng(0)
    soft = Image.fromarray(chance.integers(40, 216, (6, 6, 3), dtype=np.uint8))
    pixels = np.asarray(soft.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
    pixels = (pixels + chance.normal(0, 4, (SIDE, SIDE, 1)).astype(np.int16)).clip(0, 255)
    picture = root / "picture.jpg"
    Image.fromarray(pixels.astype(np.uint8)).save(picture, quality=90)
    for emotion in EMOTIONS:
        (root / "original" / emotion).mkdir(parents=True)
    with (
        (root / "table.tsv").open("w", encoding="utf-8", newline="\n") as table,
        ProgressBar(sum(crops.values()), "make", "row") as bar,
    ):
        table.write("\t".join(COLUMNS) + "\n")
        for number, (asked, row) in enumerate(make_rows(crops)):
            if number % LINKS == 0:
                source = shutil.copy(picture, root / f"picture-{number}.jpg")
            os.link(source, root / "original" / asked / row[0])
            table.write("\t".join(row) + "\n")
            bar.update()


def make_rows(crops: dict[str, int]) -> Iterator[tuple[str, list[str]]]:
    """The emotion that each row's subject was asked to show, and the row's cells."""
    chance = random.Random(0)
    labels = [label for label, count in crops.items() for _ in range(count)]
    chance.shuffle(labels)
    subjects = max(10, len(labels) // PHOTOS_EACH)
    for number, label in enumerate(labels):
        answers = chance.sample(EMOTIONS, 3)
        if label != UNKNOWN:
            answers = [label, label, chance.choice((label, *EMOTIONS))]
            chance.shuffle(answers)
        asked = chance.choice(answers)
        name = make_name(number % subjects, number // subjects, asked)
        if number % 50 == 0:
            name = unicodedata.normalize("NFD", name)
        place = chance.choice(PLACES)
        cells = [json.dumps({"boxes": [dict(zip(CORNERS, box, strict=True))]})
                 for box in make_boxes(number, chance)]  # fmt: skip
        if number % 5 == 0:
            cells = ['"' + cell.replace('"', '""') + '"' for cell in cells]
        # Nobody listens there: a photo that is asked for fails, and the stage with it.
        url = f"http://127.0.0.1:9/emotions/{number:06d}.jpg"
        yield asked, [name, url, *answers, place, place, place, *cells]


def make_name(subject: int, number: int, asked: str) -> str:
    """The name of a subject's photo, no two alike."""
    who = hashlib.sha256(str(subject).encode()).hexdigest()
    sex, age, place = "여남"[subject % 2], 10 * (1 + subject % 6), PLACES[number % len(PLACES)]
    time = datetime(2020, 11, 1) + timedelta(minutes=7 * number)
    return f"{who}_{sex}_{age}_{asked}_{place}_{time:%Y%m%d%H%M%S}-{number:03d}-001.jpg"


def make_boxes(number: int, chance: random.Random) -> list[list[float]]:
    """Three annotators' boxes, whose consensus is, in whole pixels, like that of no other number.

    Two lie close to it, at equal distances on opposite sides; the third, whichever it is, lies
    further off.
    """
    place = number * 700_001 % STEPS**4  # an odd factor: as many places as numbers
    edges = []
    for first in (2, 2, FAR_EDGE, FAR_EDGE):
        place, step = divmod(place, STEPS)
        edges.append(first + step + chance.uniform(-0.4, 0.4))
    apart = [chance.uniform(-1, 1) for _ in edges]
    boxes = [
        [edge + shift for edge, shift in zip(edges, apart, strict=True)],
        [edge - shift for edge, shift in zip(edges, apart, strict=True)],
        [edge + chance.choice((-1, 1)) * chance.uniform(4, 8) for edge in edges],
    ]
    chance.shuffle(boxes)
    return [[round(value, 3) for value in box] for box in boxes]


def printed(taken: Run, labels: dict[str, int]) -> dict[str, int]:
    """The count that the stage printed beside each label."""
    found = {}
    for label in labels:
        match = re.search(rf"\b{label}\s+([\d,]+)", taken.output)
        found[label] = int(match[1].replace(",", "")) if match else -1
    return found


def printed_sets(taken: Run) -> dict[str, dict[str, int]]:
    """The counts of the table that dataPreparation.py printed, a line for each class."""
    found: dict[str, dict[str, int]] = {name: {} for name in SPLITS}
    for label in EMOTIONS:
        match = re.search(rf"^{label}\t(\d+)\t(\d+)\t(\d+)$", taken.output, re.MULTILINE)
        for name, count in zip(SPLITS, match.groups() if match else (), strict=bool(match)):
            found[name][label] = int(count)
    return found


def files(folder: Path) -> dict[str, int]:
    """How many files are in each of the folder's folders."""
    labels = (*EMOTIONS, UNKNOWN)
    return {
        label: sum(1 for _ in os.scandir(folder / label))
        for label in labels
        if (folder / label).is_dir()
    }


def different(folder: Path) -> int:
    """How many different photos there are below the folder."""
    return len({hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.jpg")})


def shared_subjects(folder: Path) -> int:
    """How many subjects have photos in more than one set."""
    sets = [{path.name.split("_")[0] for path in (folder / name).rglob("*.jpg")} for name in SPLITS]
    return sum(count > 1 for count in Counter(who for people in sets for who in people).values())


if __name__ == "__main__":
    cli.run(main)
