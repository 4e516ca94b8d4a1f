"""Crop a stand-in for AI-Hub's whole set out of its ZIPs: time, memory, time to the first crop.

490,000 records in 14 label files, and as many tiny photos in 35 archives: for each of the seven
emotions four parts of Training and one of Validation, with names in CP949. All photos are the same
picture, but the boxes of an emotion are all different, and so are its crops. A twentieth of the
records has no majority.

It is cropped three times: everything; everything again, when all crops exist; and into another
folder with the first archive of each emotion alone, as most people fetch it. The peak memory is
that of the first process, of the largest other process, and of all together, where shared memory
counts in each.

The exit status is 1 if a count is wrong. The full size takes some 4 GB of disk and 700,000 file
names.

  python -m benchmarks.aihub
  python -m benchmarks.aihub --records 3000                # a trial, in the same proportions
  python -m benchmarks.aihub --folder /big/disk/full --keep
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.full_size import Check, count_files
from benchmarks.stages import StageRun, megabytes, run
from utils import cli
from utils.console import ProgressBar
from utils.data.official import read_parts
from utils.emotions import EMOTIONS, UNKNOWN
from utils.errors import StageError
from utils.parallel import cores

RECORDS = 490_000
VALIDATION = 0.11  # of the records, about as published
PARTS = 4  # photo archives of an emotion in Training
PHOTOS_PER_SUBJECT = 200
EVERY = 20  # which record has no majority
SIDE, STEPS = 96, 22  # pixels of the picture; positions of each edge of a face
PLACES = ("숙박 및 거주공간", "교통&이동수단(엘리베이터 포함)", "오락&공연시설", "도심 환경")


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--records", "records in all", RECORDS, cli.positive_int, metavar="N")
    text = "new or empty folder to work in (default: a temporary one)"
    flag("--folder", text, None, cli.path, metavar="DIR")
    parser.switch("--keep", "keep the folder at the end", False)
    args = parser.parse_args()
    if args.records < len(EMOTIONS) * 100:
        raise StageError(f"--records: the minimum is {len(EMOTIONS) * 100}")
    root = args.folder or Path(tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise StageError(f"--folder {root} is not empty: name a new folder")
    try:
        started = time.perf_counter()
        make_downloads(root / "AI-Hub", args.records // len(EMOTIONS))
        print(f"the stand-in was made in {time.perf_counter() - started:.0f} s")
        return measure(root, args.records // len(EMOTIONS))
    finally:
        if not args.keep:
            shutil.rmtree(root)


def measure(root: Path, per_emotion: int) -> int:
    """Crop the stand-in, print time and memory, and check the counts. Return the exit status."""
    downloads, crop, part = root / "AI-Hub", root / "crop", root / "part"
    total = per_emotion * len(EMOTIONS)
    size = sum(path.stat().st_size for path in downloads.rglob("*.zip"))
    print(f"{total:,} records, {megabytes(size)} of ZIPs, {cores()} cores\n")
    print("| cropImages.py | seconds | first crop | first process | largest other | all together |")
    print("|---|---|---|---|---|---|")

    def crop_into(title: str, output: Path, *words: object) -> StageRun:
        log = ("--log_dir", root / "log")
        with FirstFile(output) as first:
            result = run("cropImages.py", "--input", downloads, "--output", output, *log, *words)
        peaks = (result.main_memory, result.worker_memory, result.total_memory)
        cells = [title, f"{result.seconds:.1f}", first.text(), *map(megabytes, peaks)]
        print("| " + " | ".join(cells) + " |", flush=True)
        return result

    first = crop_into("everything", crop)
    again = crop_into("everything again", crop)
    archives = sorted(downloads.rglob("*TRAIN_01.zip"))
    partial = crop_into("first archives alone", part, "--original", *archives)

    check = Check()
    unknown = sum(1 for number in range(per_emotion) if not has_majority(number))
    expected = dict.fromkeys(EMOTIONS, per_emotion - unknown)
    expected[UNKNOWN] = unknown * len(EMOTIONS)
    check.equal("files of crops", count_files(crop), expected)
    for result, made in ((first, total), (again, 0)):
        line = f"{made} cropped, {total - made} already there, 0 failed"
        check.equal("the summary", line in result.output, True)
    validation = int(per_emotion * VALIDATION)
    parts = read_parts(crop)
    check.equal("parts", len(parts), total)
    in_validation = sum(name == "Validation" for name in parts.values())
    check.equal("parts of Validation", in_validation, validation * len(EMOTIONS))
    photos = len(range(0, per_emotion - validation, PARTS)) * len(EMOTIONS)
    line = f"{total - photos:,} of {total:,} records have no photo among the archives given"
    check.equal("the records without a photo", line in partial.output, True)
    check.equal("files of the first archives", sum(count_files(part).values()), photos)
    return check.status()


class FirstFile:
    """Watches a folder of class folders for its first picture, in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seconds: float | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> FirstFile:
        self._started = time.perf_counter()
        self._existed = self._exists()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def text(self) -> str:
        """Return the seconds from the start to the first picture; a dash if it existed before."""
        return "-" if self._seconds is None else f"{self._seconds:.1f} s"

    def _exists(self) -> bool:
        return any(True for _ in self._folder.glob("*/*.jpg"))

    def _watch(self) -> None:
        while not self._existed and not self._end.wait(0.05):
            if self._exists():
                self._seconds = time.perf_counter() - self._started
                return


def make_downloads(root: Path, per_emotion: int) -> None:
    """Write the ZIPs of labels and photos."""
    picture = make_picture()
    with ProgressBar(per_emotion * len(EMOTIONS), "make", "photo") as bar:
        for emotion in EMOTIONS:
            validation = int(per_emotion * VALIDATION)
            numbers = {
                "Training": range(per_emotion - validation),
                "Validation": range(per_emotion - validation, per_emotion),
            }
            for part, some in numbers.items():
                tag = {"Training": "TRAIN", "Validation": "VALID"}[part]
                (root / part).mkdir(parents=True, exist_ok=True)
                labels = root / part / f"[라벨]EMOIMG_{emotion}_{tag}.zip"
                name = f"img_emotion_{part.lower()}_data({emotion}).json"
                write_labels(labels, name, (make_record(emotion, number) for number in some))
                shares = {"": some}
                if part == "Training":
                    shares = {f"_{i + 1:02}": some[i::PARTS] for i in range(PARTS)}
                for share, photos in shares.items():
                    path = root / part / f"[원천]EMOIMG_{emotion}_{tag}{share}.zip"
                    names = (make_record(emotion, number)["filename"] for number in photos)
                    write_photos(path, names, picture, bar.update)


def make_picture() -> bytes:
    """Return a JPEG with a soft pattern and some noise."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(40, 216, (6, 6, 3), dtype=np.uint8))
    pixels = np.asarray(soft.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
    pixels = (pixels + rng.normal(0, 4, (SIDE, SIDE, 1)).astype(np.int16)).clip(0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=80)
    return file.getvalue()


def has_majority(number: int) -> bool:
    """Return whether two annotators of a record agree."""
    return number % EVERY != 0


def make_record(emotion: str, number: int) -> dict[str, object]:
    """Return a record. Its box depends on the number, and differs from those of others."""
    subject = hashlib.sha256(f"{emotion}{number // PHOTOS_PER_SUBJECT}".encode()).hexdigest()
    place = PLACES[number % len(PLACES)]
    stamp = f"20210102{number % 1_000_000:06d}-{number // 1000:03d}-{number % 1000:03d}"
    steps = [number // STEPS**i % STEPS for i in range(4)]
    far = SIDE - 2 - STEPS
    corners = (steps[0], steps[1], far + steps[2], far + steps[3])
    others = [other for other in EMOTIONS if other != emotion]
    answers = (emotion, emotion if has_majority(number) else others[0], others[number % 5 + 1])
    record: dict[str, object] = {
        "filename": f"{subject}_여_20_{emotion}_{place}_{stamp}.jpg",
        "gender": "여", "age": 20, "isProf": "일반인",
        "faceExp_uploader": emotion, "bg_uploader": place,
    }  # fmt: skip
    for i, (letter, answer) in enumerate(zip("ABC", answers, strict=True)):
        moved = [corner + (20 if i == 2 else 0) for corner in map(float, corners)]
        box = dict(zip(("minX", "minY", "maxX", "maxY"), moved, strict=True))
        record[f"annot_{letter}"] = {"boxes": box, "faceExp": answer, "bg": place}
    return record


class Cp949Entry(zipfile.ZipInfo):
    """An entry whose name is stored in CP949 without the flag of UTF-8, as in AI-Hub's ZIPs."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - the name that zipfile calls
        return self.filename.encode("cp949"), self.flag_bits & ~0x800


def write_labels(path: Path, name: str, records: Iterator[dict[str, object]]) -> None:
    """Write a ZIP with one label file, as it is written: ASCII with escapes."""
    entry = Cp949Entry(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive, archive.open(entry, "w") as file:
        file.write(b"[")
        for number, record in enumerate(records):
            file.write((", " if number else "").encode() + json.dumps(record).encode())
        file.write(b"]")


def write_photos(
    path: Path, names: Iterator[str], picture: bytes, done: Callable[[], object]
) -> None:
    """Write a ZIP with one picture under many names."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(Cp949Entry(name), picture)
            done()


if __name__ == "__main__":
    cli.run(main)
