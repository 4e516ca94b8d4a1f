"""Run the data stages on a stand-in for the full dataset, and check their counts.

The table has 503,221 rows, with all eleven columns: 2,500 subjects, some names in NFD, some cells
quoted, the boxes of three annotators some pixels apart. All photos are links to one tiny picture,
but every box is different, so that every crop is a different file, which is checked. All photos
exist before downloadImage.py starts: it only reads the table.

The time and the peak memory of each stage are printed: of its first process, of the largest other
process, and of all together, where shared memory counts in each.

The exit status is 1 if a count is wrong. The full size takes some 4 GB of disk and 2 million file
names.

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

from benchmarks.stages import StageRun, megabytes, run
from utils import cli
from utils.console import ProgressBar
from utils.data.annotations import COLUMNS
from utils.data.boxes import CORNERS
from utils.data.image_folder import SPLITS
from utils.emotions import EMOTIONS, UNKNOWN
from utils.errors import StageError
from utils.parallel import cores

ROWS = 503_221
# A tenth of each class, rounded down: the test photos of the full dataset. A class has ten times as
# many photos, and one more. The other 73,264 rows are UNKNOWN.
TENTHS = dict(zip(EMOTIONS, (7504, 6949, 5932, 4017, 2234, 7612, 8747), strict=True))
PHOTOS_PER_SUBJECT = 201  # about
MAX_LINKS = 50_000  # to one file; ext4 allows 65,000
PLACES = ("실내", "도심 환경", "숙박 및 거주공간", "자연 환경", "학교")
SIDE = 96  # pixels of the picture
STEPS = 32  # positions of each edge of a face, in pixels
FAR_EDGE = SIDE - 2 - STEPS  # first position of the right and lower edges


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--rows", "rows of the table", ROWS, cli.positive_int, metavar="N")
    text = "new or empty folder to work in (default: a temporary one)"
    flag("--folder", text, None, cli.path, metavar="DIR")
    parser.switch("--keep", "keep the folder at the end", False)
    args = parser.parse_args()

    tenths = {label: max(1, tenth * args.rows // ROWS) for label, tenth in TENTHS.items()}
    crops = {label: 10 * tenth + 1 for label, tenth in tenths.items()}
    crops[UNKNOWN] = args.rows - sum(crops.values())
    if crops[UNKNOWN] < 0:
        raise StageError("--rows: the minimum is 100")
    root = args.folder or Path(tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise StageError(f"--folder {root} is not empty: name a new folder")
    try:
        make_dataset(root, crops)
        return measure(root, crops, tenths)
    finally:
        if not args.keep:
            shutil.rmtree(root)


def measure(root: Path, crops: dict[str, int], tenths: dict[str, int]) -> int:
    """Run the stages, print their time and memory, and check their counts. Return the status.

    `crops`: the rows of each label; `tenths`: the validation and test photos of each class.
    """
    table, original, crop = (root / name for name in ("table.tsv", "original", "crop"))
    rows, log = sum(crops.values()), ("--log_dir", root / "log")
    print(f"{rows:,} rows, a table of {megabytes(table.stat().st_size)}, {cores()} cores\n")
    print("| stage | seconds | first process | largest other | all together | rows/s |")
    print("|---|---|---|---|---|---|")

    def stage(title: str, script: str, *words: object) -> StageRun:
        result = run(script, *words, *log)
        peaks = (result.main_memory, result.worker_memory, result.total_memory)
        cells = [f"{script}, {title}", f"{result.seconds:.1f}", *map(megabytes, peaks)]
        print("| " + " | ".join([*cells, f"{rows / result.seconds:,.0f}"]) + " |", flush=True)
        return result

    stage("all files present", "downloadImage.py", "--input", table, "--output", original)
    words = ("--input", table, "--original", original, "--output", crop)
    cropping = [stage(title, "cropImages.py", *words) for title in ("first run", "second run")]
    # All photos are one picture, cut differently: many of them are near duplicates.
    words = ("--input", crop, "--output", root / "data", "--near_copies", "off")
    splitting = [
        stage(title, "dataPreparation.py", *words) for title in ("first run", "second run")
    ]

    splits = {
        "train": {label: 8 * tenth + 1 for label, tenth in tenths.items()},
        "validation": tenths,
        "test": tenths,
    }
    check = Check()
    for result in cropping:
        check.equal("printed crops", printed_counts(result, crops), crops)
    check.equal("files of crops", count_files(crop), crops)
    check.equal("different crops", count_different(crop), rows)
    for result in splitting:
        check.equal("printed splits", printed_splits(result), splits)
    data = {name: count_files(root / "data" / name) for name in SPLITS}
    check.equal("files of splits", data, splits)

    by_subject = root / "by-subject"
    words = ("--input", crop, "--output", by_subject, "--group", "subject", "--near_copies", "off")
    stage("by subject", "dataPreparation.py", *words)
    grouped = {name: count_files(by_subject / name) for name in SPLITS}
    for label in EMOTIONS:
        total = sum(counts.get(label, 0) for counts in grouped.values())
        check.equal(f"{label} by subject", total, crops[label])
    check.equal("subjects in two splits", shared_subjects(by_subject), 0)
    totals = " / ".join(f"{sum(counts.values()):,}" for counts in grouped.values())
    print(f"\nby subject: {totals}")
    print(f"{UNKNOWN} {count_files(crop)[UNKNOWN]:,}")
    print(" / ".join(f"{name} {sum(counts.values()):,}" for name, counts in data.items()))
    print("test: " + "  ".join(f"{label} {n:,}" for label, n in data["test"].items()))
    return check.status()


class Check:
    """Compares counts with what they must be."""

    def __init__(self) -> None:
        self._errors: list[str] = []

    def equal(self, name: str, actual: object, expected: object) -> None:
        """Note an error if the two differ."""
        if actual != expected:
            self._errors.append(f"{name}: {actual} instead of {expected}")

    def status(self) -> int:
        """Print the errors. Return the exit status."""
        print("\n".join(self._errors) or "all counts are what the table must give")
        return cli.SOME_FAILED if self._errors else cli.OK


def make_dataset(root: Path, crops: dict[str, int]) -> None:
    """Write the table, and a photo for each of its rows into the folder of the downloads."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(40, 216, (6, 6, 3), dtype=np.uint8))
    pixels = np.asarray(soft.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
    pixels = (pixels + rng.normal(0, 4, (SIDE, SIDE, 1)).astype(np.int16)).clip(0, 255)
    picture = root / "picture.jpg"
    Image.fromarray(pixels.astype(np.uint8)).save(picture, quality=90)
    for emotion in EMOTIONS:
        (root / "original" / emotion).mkdir(parents=True)
    with (
        (root / "table.tsv").open("w", encoding="utf-8", newline="\n") as table,
        ProgressBar(sum(crops.values()), "make", "row") as bar,
    ):
        table.write("\t".join(COLUMNS) + "\n")
        for number, (posed, row) in enumerate(make_rows(crops)):
            if number % MAX_LINKS == 0:
                source = shutil.copy(picture, root / f"picture-{number}.jpg")
            os.link(source, root / "original" / posed / row[0])
            table.write("\t".join(row) + "\n")
            bar.update()


def make_rows(crops: dict[str, int]) -> Iterator[tuple[str, list[str]]]:
    """Yield for each row the emotion that its subject was asked to show, and its cells."""
    rng = random.Random(0)
    labels = [label for label, count in crops.items() for _ in range(count)]
    rng.shuffle(labels)
    subjects = max(10, len(labels) // PHOTOS_PER_SUBJECT)
    for number, label in enumerate(labels):
        answers = rng.sample(EMOTIONS, 3)
        if label != UNKNOWN:
            answers = [label, label, rng.choice((label, *EMOTIONS))]
            rng.shuffle(answers)
        posed = rng.choice(answers)
        name = make_name(number % subjects, number // subjects, posed)
        if number % 50 == 0:
            name = unicodedata.normalize("NFD", name)
        place = rng.choice(PLACES)
        cells = [json.dumps({"boxes": [dict(zip(CORNERS, box, strict=True))]})
                 for box in make_boxes(number, rng)]  # fmt: skip
        if number % 5 == 0:
            cells = ['"' + cell.replace('"', '""') + '"' for cell in cells]
        # No server listens there: if a photo is missing, its download fails, and so does the stage.
        url = f"http://127.0.0.1:9/emotions/{number:06d}.jpg"
        yield posed, [name, url, *answers, place, place, place, *cells]


def make_name(subject: int, number: int, posed: str) -> str:
    """Return the file name of a subject's photo; all names are different."""
    who = hashlib.sha256(str(subject).encode()).hexdigest()
    sex, age, place = "여남"[subject % 2], 10 * (1 + subject % 6), PLACES[number % len(PLACES)]
    time = datetime(2020, 11, 1) + timedelta(minutes=7 * number)
    return f"{who}_{sex}_{age}_{posed}_{place}_{time:%Y%m%d%H%M%S}-{number:03d}-001.jpg"


def make_boxes(number: int, rng: random.Random) -> list[list[float]]:
    """Return the boxes of three annotators; each number has another consensus in whole pixels.

    Two boxes lie at equal distances on opposite sides of the consensus. The third, in a random
    position of the list, lies further off.
    """
    position = number * 700_001 % STEPS**4  # an odd factor: every number has another position
    edges = []
    for first in (2, 2, FAR_EDGE, FAR_EDGE):
        position, step = divmod(position, STEPS)
        edges.append(first + step + rng.uniform(-0.4, 0.4))
    shifts = [rng.uniform(-1, 1) for _ in edges]
    boxes = [
        [edge + shift for edge, shift in zip(edges, shifts, strict=True)],
        [edge - shift for edge, shift in zip(edges, shifts, strict=True)],
        [edge + rng.choice((-1, 1)) * rng.uniform(4, 8) for edge in edges],
    ]
    rng.shuffle(boxes)
    return [[round(value, 3) for value in box] for box in boxes]


def printed_counts(result: StageRun, labels: dict[str, int]) -> dict[str, int]:
    """Return the count that the stage printed beside each label; -1 if it printed none."""
    counts = {}
    for label in labels:
        match = re.search(rf"\b{label}\s+([\d,]+)", result.output)
        counts[label] = int(match[1].replace(",", "")) if match else -1
    return counts


def printed_splits(result: StageRun) -> dict[str, dict[str, int]]:
    """Return the counts of the table that dataPreparation.py printed, by split and class."""
    counts: dict[str, dict[str, int]] = {name: {} for name in SPLITS}
    for label in EMOTIONS:
        match = re.search(rf"^{label}\t(\d+)\t(\d+)\t(\d+)$", result.output, re.MULTILINE)
        for name, count in zip(SPLITS, match.groups() if match else (), strict=bool(match)):
            counts[name][label] = int(count)
    return counts


def count_files(folder: Path) -> dict[str, int]:
    """Return the number of files in each label's folder, if it exists."""
    labels = (*EMOTIONS, UNKNOWN)
    return {
        label: sum(1 for _ in os.scandir(folder / label))
        for label in labels
        if (folder / label).is_dir()
    }


def count_different(folder: Path) -> int:
    """Return the number of photos below the folder that differ in content."""
    return len({hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.jpg")})


def shared_subjects(folder: Path) -> int:
    """Return the number of subjects with photos in more than one split."""
    subjects = [
        {path.name.split("_")[0] for path in (folder / name).rglob("*.jpg")} for name in SPLITS
    ]
    splits = Counter(subject for members in subjects for subject in members)
    return sum(count > 1 for count in splits.values())


if __name__ == "__main__":
    cli.run(main)
