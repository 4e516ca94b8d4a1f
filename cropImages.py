"""Crop the faces out of the downloaded photos: stage 2 of 5.

The face region is the consensus of the three annotators' boxes, the class their majority vote:
<output>/<majority>/<name>, or <output>/UNKNOWN/<name> if all three differ. Existing crops are
skipped. Rows that are invalid go to parse.error.log, photos that cannot be cropped go to
crop.error.log. Either log is itself a table: give it as --input to retry only those rows.

  python cropImages.py                                     # original/ -> crop/
  python cropImages.py --input crop.error.log              # only the rows that failed
  python cropImages.py --original photos --output faces --workers 4
  python cropImages.py --contact_sheet faces.jpg           # also draw some faces of each class
  python cropImages.py --shard 3/16                        # part 3 of 16; other machines do the rest
  python cropImages.py --ray auto                          # on all machines of a Ray cluster

Next: python dataPreparation.py
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from utils import cli
from utils.console import ProgressBar
from utils.data.agreement import Agreement
from utils.data.annotations import ANNOTATORS, Row, Table
from utils.data.boxes import consensus
from utils.data.error_log import ErrorLog
from utils.data.stage import Job, TableStage, add_distribution_flags, start_workers
from utils.emotions import EMOTIONS, UNKNOWN, majority_vote
from utils.errors import StageError, describe_os_error, is_fatal_os_error
from utils.filenames import find_existing, nfc, unicode_variants
from utils.files import make_folder
from utils.imaging.geometry import Box, BoxError, to_pixels
from utils.imaging.image_io import ImageError, open_region, save_image, to_srgb
from utils.parallel import ProcessPool, WorkerKilledError, cores

LABELS = (*EMOTIONS, UNKNOWN)
AHEAD = 16  # photos planned per process, so that none waits for the next one
SHEET_SUFFIXES = (".jpg", ".jpeg", ".png")
FACES_PER_CLASS = 12  # on the contact sheet


@dataclass(frozen=True, slots=True)
class CropJob(Job):
    """A face to crop, with what the annotators said about it."""

    answers: tuple[str, ...] = ()
    boxes: tuple[list[Box], ...] = ()


def make_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    table = Path("metadata/emotions.tsv")
    flag("--input", "annotation table, or an error log of this script", table, Path, metavar="TSV")
    flag("--original", "folder with the downloaded photos", Path("original"), Path, metavar="DIR")
    flag("--output", "folder for the faces", Path("crop"), Path, metavar="DIR")
    flag("--quality", "JPEG quality of the faces, 1 to 100", 95, cli.percent, metavar="Q")
    flag("--workers", "processes (without --ray)", cores(), cli.positive_int, metavar="N")
    sheet = "also draw some faces of each class into this picture"
    flag("--contact_sheet", sheet, None, Path, metavar="FILE")
    parser.log_dir_flag()
    add_distribution_flags(parser)
    return parser


def main() -> int:
    args = make_parser().parse_args()
    columns = [f"{who}_{what}" for what in ("emotion", "result") for who in ANNOTATORS]
    table = Table(args.input, required=("name", *columns))
    check_folders(args)
    for label in LABELS:
        make_folder(args.output / label)

    agreement = Agreement()
    row_log = ErrorLog(args.shard.log_path(args.log_dir, "parse", table), table)
    photo_log = ErrorLog(args.shard.log_path(args.log_dir, "crop", table), table)
    with row_log, photo_log, ProgressBar(None, "crop") as bar:
        stage = TableStage(table, args.shard, bar, row_log, photo_log)
        jobs = measure_agreement(stage.plan_jobs(partial(plan, args=args)), agreement)
        workers = start_workers(args.ray, 1, ProcessPool, args.workers)
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
            print(f"{log.failures} rows with their reasons: {log.path}")
    if args.contact_sheet:
        draw_sheet(args.output, args.contact_sheet)
        print(f"faces of each class: {args.contact_sheet}")
    return cli.SOME_FAILED if failed else cli.OK


def check_folders(args: argparse.Namespace) -> None:
    """Raise StageError if the folders or the contact sheet's name cannot be used."""
    if not args.original.is_dir():
        raise StageError(f"{args.original}: no such folder; python downloadImage.py fills it")
    if args.original.resolve() == args.output.resolve():
        raise StageError("--original and --output are the same folder")
    if args.contact_sheet:
        if args.contact_sheet.suffix.lower() not in SHEET_SUFFIXES:
            raise StageError(
                f"--contact_sheet {args.contact_sheet}: its name must end in .jpg or .png"
            )
        make_folder(args.contact_sheet.parent)


def plan(row: Row, args: argparse.Namespace) -> CropJob:
    """Return the face that a row asks for. Raise RowError if the row is invalid."""
    name, answers, boxes = row.photo_name(), row.answers(), row.boxes()
    label, box = majority_vote(answers), consensus(boxes)
    posed = args.original / row.posed_emotion()
    source = find_existing(posed, name) or posed / name
    existing = find_existing(args.output / label, name)
    target = existing or args.output / label / name
    arguments = (source, target, box, args.quality)
    return CropJob(
        row, target, existing is not None, (label, box), arguments,
        answers=tuple(answers), boxes=tuple(boxes),
    )  # fmt: skip


def measure_agreement(jobs: Iterable[CropJob], agreement: Agreement) -> Iterator[CropJob]:
    """Pass the jobs on, and count how far their annotators agree."""
    for job in jobs:
        agreement.add(job.answers, job.boxes)
        yield job


def remove_other_labels(job: CropJob) -> None:
    """Remove a face's crops of other classes, which an earlier version of its row asked for."""
    for other in LABELS:
        if other != job.label:
            for path in unicode_variants(job.target.parent.parent / other, nfc(job.target.name)):
                path.unlink(missing_ok=True)


def crop(source: Path, target: Path, box: Box, quality: int) -> None:
    """Crop a box out of a photo as displayed, into a file without metadata.

    Raise ImageError or BoxError for a photo that cannot be cropped.
    """
    try:
        face = open_region(source, partial(to_pixels, box))
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from None
    # Keep the colour profile, which belongs to the pixels; drop the place and time of the photo.
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
    """Draw a few faces of each class, the same ones as long as the crops are the same."""
    from utils.imaging.grids import draw_contact_sheet  # draws with fonts, slow to import

    faces = {}
    for label in LABELS:
        found = sorted(entry.path for entry in os.scandir(crops / label))
        chosen = random.Random(0).sample(found, min(FACES_PER_CLASS, len(found)))
        faces[label] = [Path(face) for face in chosen]
    draw_contact_sheet(faces, path)


if __name__ == "__main__":
    cli.run(main)
