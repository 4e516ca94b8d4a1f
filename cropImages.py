"""Crop the faces out of the downloaded photos: stage 2 of 5.

The face region is the consensus of the three annotators' boxes, and the class is their majority
vote. The face goes to <output>/<majority>/<name>; if all three differ, <majority> is UNKNOWN.
Existing crops are skipped. Invalid rows go to parse.error.log, and rows whose photo cannot be
cropped to crop.error.log. Both logs are annotation tables too: give one as --input to retry only
its rows.

  python cropImages.py                                # original/ -> crop/
  python cropImages.py --input crop.error.log         # retry the photos that failed
  python cropImages.py --original photos --output faces --workers 4
  python cropImages.py --contact_sheet faces.jpg      # also draw some faces of each class
  python cropImages.py --shard 3/16                   # part 3 of 16, on one of 16 machines
  python cropImages.py --ray auto                     # on all machines of a Ray cluster

Next: python dataPreparation.py
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import argparse
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from utils import cli
from utils.console import ProgressBar
from utils.data.agreement import Agreement
from utils.data.annotations import ANNOTATORS, Row, Table, find_file
from utils.data.boxes import consensus
from utils.data.error_log import ErrorLog
from utils.data.image_folder import find_elsewhere
from utils.data.stage import Job, TableStage, add_distribution_flags, start_workers
from utils.emotions import EMOTIONS, UNKNOWN, majority_vote
from utils.errors import StageError, describe_os_error, is_fatal_os_error
from utils.filenames import is_stored, nfc, unicode_variants
from utils.files import make_folder
from utils.imaging.geometry import Box, BoxError, face_region
from utils.imaging.image_io import ImageError, open_region, save_image, to_srgb
from utils.parallel import ProcessPool, WorkerKilledError, cores

TABLE, ORIGINAL = Path("metadata/emotions.tsv"), Path("original")
LABELS = (*EMOTIONS, UNKNOWN)
AHEAD = 16  # photos planned per process, so that no process waits for its next one
SHEET_SUFFIXES = (".jpg", ".jpeg", ".png")
FACES_PER_CLASS = 12  # on the contact sheet


@dataclass(frozen=True, slots=True)
class CropJob(Job):
    """A face to crop, with the annotators' answers and boxes."""

    answers: tuple[str, ...] = ()
    boxes: tuple[list[Box], ...] = ()
    has_photo: bool = True  # whether the photo is downloaded


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    flag = parser.flag
    parser.section("files")
    table = "annotation table, or parse.error.log or crop.error.log"
    flag("--input", table, TABLE, cli.path, metavar="TSV")
    flag("--original", "folder of the downloaded photos", ORIGINAL, cli.path, metavar="DIR")
    flag("--output", "folder for the faces", Path("crop"), cli.path, metavar="DIR")
    sheet = "also draw up to 12 faces of each class into this .jpg or .png"
    flag("--contact_sheet", sheet, None, cli.path, metavar="FILE")
    parser.log_dir_flag()
    parser.section("crop")
    flag("--quality", "JPEG quality of the faces, 1 to 100", 95, cli.percent, metavar="Q")
    workers = "worker processes; ignored with --ray (default: one per core)"
    flag("--workers", workers, None, cli.positive_int, metavar="N")
    add_distribution_flags(parser)
    return parser


def main() -> int:
    """Crop the missing faces. Return the exit status."""
    args = make_parser().parse_args()
    columns = [f"{who}_{what}" for what in ("emotion", "result") for who in ANNOTATORS]
    table = Table(args.input, required=("name", *columns))
    check_folders(args)
    for label in LABELS:
        make_folder(args.output / label)

    agreement, missing = Agreement(), Counter[str]()
    row_log = ErrorLog(args.shard.log_path(args.log_dir, "parse", table), table)
    photo_log = ErrorLog(args.shard.log_path(args.log_dir, "crop", table), table)
    with row_log, photo_log, ProgressBar(None, "crop") as bar:
        stage = TableStage(table, args.shard, bar, row_log, photo_log)
        jobs = survey(stage.plan_jobs(partial(plan, args=args)), agreement, missing)
        workers = start_workers(args.ray, 1, ProcessPool, args.workers or cores())
        failures = (ImageError, BoxError, WorkerKilledError)
        stage.run_jobs(jobs, crop, workers, AHEAD, failures, after=remove_other_labels)

    failed = row_log.failures + photo_log.failures
    print(stage.summary("cropped", failed, args.output))
    counts = stage.created + stage.existing
    print("  ".join(f"{label} {counts[label]}" for label in LABELS))
    print(agreement)
    if workers.killed:
        print(f"{workers.killed} workers were killed, perhaps for lack of memory, and replaced")
    for log in (row_log, photo_log):
        if log.failures:
            print(f"{log.failures} rows failed, with their reasons: {log.path}")
    if missing:
        print(f"{missing.total()} photos are not downloaded: {download_command(args)}")
    if args.contact_sheet:
        draw_sheet(args.output, args.contact_sheet)
        print(f"faces of each class: {args.contact_sheet}")
    return cli.SOME_FAILED if failed else cli.OK


def check_folders(args: argparse.Namespace) -> None:
    """Raise StageError if the folders or the contact sheet's path cannot be used."""
    if not args.original.is_dir():
        raise StageError(f"{args.original}: no such folder; python downloadImage.py fills it")
    if args.original.resolve() == args.output.resolve():
        raise StageError("--original and --output are the same folder: name another --output")
    if args.contact_sheet:
        if args.contact_sheet.suffix.lower() not in SHEET_SUFFIXES:
            raise StageError(
                f"--contact_sheet {args.contact_sheet}: its name must end in .jpg or .png"
            )
        make_folder(args.contact_sheet.parent)


def plan(row: Row, args: argparse.Namespace) -> CropJob:
    """Return the crop of a row's face. Raise RowError if the row is invalid."""
    name, answers, boxes = row.photo_name(), row.answers(), row.boxes()
    label, box = majority_vote(answers), consensus(boxes)
    photos = args.original / row.posed_emotion()
    source = find_file(photos, name) or find_elsewhere(args.original, name, args.output)
    existing = find_file(args.output / label, name)
    target = existing or args.output / label / name
    arguments = (source or photos / name, target, box, args.quality)
    return CropJob(
        row, target, existing is not None, (label, box), arguments,
        answers=tuple(answers), boxes=tuple(boxes), has_photo=source is not None,
    )  # fmt: skip


def survey(
    jobs: Iterable[CropJob], agreement: Agreement, missing: Counter[str]
) -> Iterator[CropJob]:
    """Yield the jobs. Count how well their annotators agree, and the photos that are missing."""
    for job in jobs:
        agreement.add(job.answers, job.boxes)
        if not (job.exists or job.has_photo):
            missing[job.label] += 1
        yield job


def download_command(args: argparse.Namespace) -> str:
    """Return the command that downloads the photos of this table."""
    given = (("--input", args.input, TABLE), ("--output", args.original, ORIGINAL))
    flags = [f"{flag} {path}" for flag, path, default in given if path != default]
    return " ".join(["python downloadImage.py", *flags])


def remove_other_labels(job: CropJob) -> None:
    """Remove a face's crops in other classes, which were made before its row changed."""
    for other in LABELS:
        if other != job.label:
            for path in unicode_variants(job.target.parent.parent / other, nfc(job.target.name)):
                if is_stored(path):
                    path.unlink()


def crop(source: Path, target: Path, box: Box, quality: int) -> None:
    """Crop the box out of the photo as displayed, into a file without metadata.

    Raise ImageError or BoxError if the photo cannot be cropped, and OSError if the disk is full.
    """
    try:
        face = open_region(source, partial(face_region, box))
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from None
    # Keep the colour profile, which belongs to the pixels. Drop the photo's place and time.
    profile = face.info.get("icc_profile")
    if face.mode not in ("L", "RGB"):
        face, profile = to_srgb(face), None
    face.info = {}
    try:
        save_image(face, target, quality=quality, icc_profile=profile)
    except OSError as error:
        if is_fatal_os_error(error):
            raise
        raise ImageError(f"the face cannot be written: {describe_os_error(error)}") from None


def draw_sheet(crops: Path, path: Path) -> None:
    """Draw a few faces of each class, always the same ones of the same crops."""
    with interrupt.importing():  # only now, because what draws text is slow to import
        from utils.imaging.grids import draw_contact_sheet

    faces = {}
    for label in LABELS:
        paths = sorted(entry.path for entry in os.scandir(crops / label))
        chosen = random.Random(0).sample(paths, min(FACES_PER_CLASS, len(paths)))
        faces[label] = [Path(face) for face in chosen]
    draw_contact_sheet(faces, path)


if __name__ == "__main__":
    cli.run(main)
