"""Crop the faces out of the photos: stage 2 of 5.

The face region is the consensus of the three annotators' boxes, and the class is their majority
vote. The face goes to <output>/<majority>/<name>; if all three differ, <majority> is UNKNOWN.
Existing crops are skipped. Invalid rows go to parse.error.log, and rows whose photo cannot be
cropped to crop.error.log. Both logs are annotation tables too: give one as --input to retry only
its rows.

AI-Hub's own files go in as they were downloaded, zipped or unpacked, all or some: nothing is
unpacked to disk. Which crops are of Training and of Validation stands in <output>.parts.tsv.

  python cropImages.py                                # original/ -> crop/
  python cropImages.py --input AI-Hub                 # AI-Hub's ZIPs in that folder -> crop/
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
from utils.console import SHOWN_FAILURES, ProgressBar, info
from utils.data.agreement import Agreement
from utils.data.aihub import LabelFiles
from utils.data.annotations import ANNOTATORS, Annotations, Row, RowError, Table, find_file
from utils.data.archives import ArchiveError
from utils.data.boxes import consensus
from utils.data.downloads import Downloads, is_aihub, label_files
from utils.data.error_log import ErrorLog, write_file_errors
from utils.data.official import PartsManifest
from utils.data.photo_index import MAX_PHOTO_BYTES, Photo
from utils.data.photo_source import PhotoSource, part_of
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
    has_photo: bool = True  # whether the photo was found
    part: str = ""  # AI-Hub's, Training or Validation


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    flag = parser.flag
    parser.section("files")
    table = "annotation table, parse.error.log or crop.error.log; or AI-Hub's folder, ZIP or JSON"
    flag("--input", table, TABLE, cli.path, metavar="PATH")
    photos = "folders and ZIPs of photos (default: original; with AI-Hub's folder: that folder)"
    flag("--original", photos, None, cli.path, metavar="PATH", nargs="+")
    flag("--output", "folder for the faces", Path("crop"), cli.path, metavar="DIR")
    sheet = "also draw up to 12 faces of each class into this .jpg or .png"
    flag("--contact_sheet", sheet, None, cli.path, metavar="FILE")
    parser.log_dir_flag()
    parser.section("crop")
    flag("--quality", "JPEG quality of the faces, 1 to 100", 95, cli.percent, metavar="Q")
    max_size = "longest side of the faces, for less time and space; existing crops are kept "
    max_size += "(default: full size)"
    flag("--max_size", max_size, None, cli.positive_int, metavar="PIXELS")
    workers = "worker processes; ignored with --ray (default: one per core)"
    flag("--workers", workers, None, cli.positive_int, metavar="N")
    add_distribution_flags(parser)
    return parser


def main() -> int:
    """Crop the missing faces. Return the exit status."""
    args = make_parser().parse_args()
    table, photos = open_sources(args)
    for label in LABELS:
        make_folder(args.output / label)

    agreement, missing = Agreement(), Counter[str]()
    row_log = ErrorLog(args.shard.log_path(args.log_dir, "parse", table), table)
    photo_log = ErrorLog(args.shard.log_path(args.log_dir, "crop", table), table)
    parts = PartsManifest(args.output, args.shard.suffix)
    with row_log, photo_log, parts, ProgressBar(None, "crop") as bar:
        stage = TableStage(table, args.shard, bar, row_log, photo_log)
        jobs = stage.plan_jobs(partial(plan, args=args, photos=photos))
        jobs = survey(jobs, agreement, missing, photos.are_optional, bar)
        workers = start_workers(args.ray, 1, ProcessPool, args.workers or cores())
        failures = (ImageError, BoxError, WorkerKilledError)
        stage.run_jobs(jobs, crop, workers, AHEAD, failures, after=partial(finish, parts=parts))

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
    if missing and photos.are_optional:
        records = counts.total() + failed + missing.total() + stage.repeated_rows
        print(f"{missing.total():,} of {records:,} records have no photo among the archives given")
    elif missing:
        print(f"{missing.total()} photos are not downloaded: {download_command(args)}")
    if photos.without_row and args.shard.total == 1:  # one shard does not ask for all photos
        print(f"{photos.without_row:,} photos have no record in the label files given")
    failed += log_problems(args, table, photos)
    if args.contact_sheet:
        draw_sheet(args.output, args.contact_sheet)
        print(f"faces of each class: {args.contact_sheet}")
    return cli.SOME_FAILED if failed else cli.OK


def check_folders(args: argparse.Namespace) -> None:
    """Raise StageError if the folders or the contact sheet's path cannot be used.

    Set `args.original` if it is not given.
    """
    is_labels = is_aihub(args.input)
    if args.original is None:
        beside = args.input if args.input.is_dir() else args.input.parent
        args.original = [beside if is_labels and not has_own_photos(args.input) else ORIGINAL]
    for original in args.original:
        if not original.exists():
            advice = "; python downloadImage.py fills it, or name the photos with --original"
            advice = "" if is_labels else advice
            raise StageError(f"{original}: no such folder{advice}")
        if original.resolve() == args.output.resolve():
            raise StageError("--original and --output are the same folder: name another --output")
    if args.contact_sheet:
        if args.contact_sheet.suffix.lower() not in SHEET_SUFFIXES:
            raise StageError(
                f"--contact_sheet {args.contact_sheet}: its name must end in .jpg or .png"
            )
        make_folder(args.contact_sheet.parent)


def has_own_photos(labels: Path) -> bool:
    """Return whether the photos of a single label file are those in ORIGINAL."""
    return labels.is_file() and ORIGINAL.is_dir()


def open_sources(args: argparse.Namespace) -> tuple[Annotations, PhotoSource]:
    """Open the annotations, and what finds their photos. Raise StageError if they are not there."""
    if not is_aihub(args.input):
        columns = [f"{who}_{what}" for what in ("emotion", "result") for who in ANNOTATORS]
        table = Table(args.input, ("name", *columns))
        check_folders(args)
        return table, PhotoSource(args.original, args.output)
    check_folders(args)
    found = Downloads([args.input], args.output)
    labels = label_files(found, args.input)
    if args.original != [args.input]:
        problems = found.problems
        found = Downloads(args.original, args.output)
        found.problems[:0] = problems
    if not found.photos and not found.problems:
        places = " ".join(map(str, args.original))
        raise StageError(f"{places}: no photo is in it; name ZIPs or folders with --original")
    found.report()
    return labels, PhotoSource(args.original, args.output, found)


def plan(row: Row, args: argparse.Namespace, photos: PhotoSource) -> CropJob:
    """Return the crop of a row's face. Raise RowError if the row is invalid."""
    name = row.photo_name()
    try:
        answers, boxes = row.answers(), row.boxes()
    except RowError:
        if photos.are_optional and photos.find(row, name) is None:
            return CropJob(row, args.output / UNKNOWN / name, False, None, (), has_photo=False)
        raise
    label, box = majority_vote(answers), consensus(boxes)
    existing = find_file(args.output / label, name)
    source = photos.find_used(name) if existing else photos.find(row, name)
    target = existing or args.output / label / name
    photo = source or photos.expected_path(name)
    arguments = (photo, target, box, args.quality, args.max_size)
    return CropJob(
        row, target, existing is not None, (label, box), arguments,
        answers=tuple(answers), boxes=tuple(boxes), has_photo=source is not None,
        part=row.part() or part_of(source),
    )  # fmt: skip


def survey(
    jobs: Iterable[CropJob],
    agreement: Agreement,
    missing: Counter[str],
    are_optional: bool,
    bar: ProgressBar,
) -> Iterator[CropJob]:
    """Yield the jobs. Count how well their annotators agree, and the photos that are missing.

    If photos are optional, leave out the jobs without one.
    """
    for job in jobs:
        if not (job.exists or job.has_photo):
            missing[job.label] += 1
            if are_optional:
                bar.update()
                continue
        agreement.add(job.answers, job.boxes)
        yield job


def log_problems(args: argparse.Namespace, table: Annotations, photos: PhotoSource) -> int:
    """Write and print the files that could not be read. Return how many there are."""
    of_labels = table.problems if isinstance(table, LabelFiles) else []
    problems = list(dict.fromkeys([*photos.problems, *of_labels]))
    path = args.shard.log_path(args.log_dir, "archive", table)
    write_file_errors(path, problems)
    for file, reason in problems[:SHOWN_FAILURES]:
        info(f"failed: {file}: {reason}")
    if problems:
        print(f"{len(problems)} files or entries were not read, with their reasons: {path}")
    return len(problems)


def download_command(args: argparse.Namespace) -> str:
    """Return the command that downloads the photos of this table."""
    given = (("--input", args.input, TABLE), ("--output", args.original[0], ORIGINAL))
    flags = [f"{flag} {path}" for flag, path, default in given if path != default]
    return " ".join(["python downloadImage.py", *flags])


def finish(job: CropJob, parts: PartsManifest) -> None:
    """Note the part of a face that is cropped, and remove crops that its row made earlier."""
    parts.add(nfc(job.target.name), job.part)
    remove_other_labels(job)


def remove_other_labels(job: CropJob) -> None:
    """Remove a face's crops in other classes, which were made before its row changed."""
    for other in LABELS:
        if other != job.label:
            for path in unicode_variants(job.target.parent.parent / other, nfc(job.target.name)):
                if is_stored(path):
                    path.unlink()


def crop(source: Photo, target: Path, box: Box, quality: int, max_size: int | None = None) -> None:
    """Crop the box out of the photo as displayed, into a file without metadata.

    A face whose longer side has more than `max_size` pixels is shrunk to that.

    Raise ImageError or BoxError if the photo cannot be cropped, and OSError if the disk is full.
    """
    try:
        content = source if isinstance(source, Path) else source.read(MAX_PHOTO_BYTES)
        face = open_region(content, partial(face_region, box), max_size)
    except (ImageError, ArchiveError) as error:
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
