"""Crop the faces out of the photos: stage 2 of 5.

The face region is the consensus of the three annotators' boxes, and the class is their majority
vote. The face goes to <output>/<majority>/<name>; if all three differ, <majority> is UNKNOWN.
With --labels dawid_skene the class is the most probable one, given what each of the annotators
tends to confuse. <output>/index.html shows faces, annotators and failures, and
<output>/annotators.json has the annotators' confusion matrices.

Existing crops are skipped. Invalid rows go to parse.error.log, and rows whose photo cannot be
cropped to crop.error.log. Both logs are annotation tables too: give one as --input to retry only
its rows.

AI-Hub's own files go in as they were downloaded, zipped or unpacked, all or some: nothing is
unpacked to disk. Which crops are of Training and of Validation stands in <output>.parts.tsv.

  python cropImages.py                                # original/ -> crop/
  python cropImages.py --input AI-Hub                 # AI-Hub's ZIPs in that folder -> crop/
  python cropImages.py --input crop.error.log         # retry the photos that failed
  python cropImages.py --original photos --output faces --workers 4
  python cropImages.py --labels dawid_skene           # weigh the annotators by their reliability
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
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from utils import cli
from utils.console import SHOWN_FAILURES, ProgressBar, info, note
from utils.data.aihub import LabelFiles
from utils.data.annotations import ANNOTATORS, Annotations, Row, RowError, Table, find_file
from utils.data.annotators import (
    DAWID_SKENE,
    FEW_ROWS,
    FILE,
    LABELINGS,
    MAJORITY,
    Annotators,
    Labels,
    SavedAnnotators,
    count_answers,
    describe_changes,
    estimate,
)
from utils.data.archives import ArchiveError
from utils.data.boxes import consensus
from utils.data.crop_survey import CropSurvey, Face
from utils.data.downloads import Downloads, is_aihub, label_files
from utils.data.error_log import ErrorLog, write_file_errors
from utils.data.official import PartsManifest
from utils.data.photo_index import MAX_PHOTO_BYTES, Photo
from utils.data.photo_source import PhotoSource, part_of
from utils.data.stage import Job, TableStage, add_distribution_flags, start_workers
from utils.data.votes import VotesTable
from utils.emotions import EMOTIONS, UNKNOWN
from utils.errors import StageError, describe_os_error, is_fatal_os_error
from utils.filenames import is_stored, nfc, unicode_variants
from utils.files import make_folder
from utils.imaging.geometry import Box, BoxError, face_region
from utils.imaging.image_io import ImageError, open_region, save_image, to_srgb
from utils.parallel import ProcessPool, WorkerKilledError, cores

TABLE, ORIGINAL = Path("metadata/emotions.tsv"), Path("original")
PAGE = "index.html"
LABELS = (*EMOTIONS, UNKNOWN)
AHEAD = 16  # photos planned per process, so that no process waits for its next one
SHEET_SUFFIXES = (".jpg", ".jpeg", ".png")
FACES_PER_CLASS = 12  # on the contact sheet


@dataclass(frozen=True, slots=True)
class CropJob(Job):
    """A face to crop, with the annotators' answers and boxes."""

    answers: tuple[str, ...] = ()
    boxes: tuple[list[Box], ...] = ()
    region: Box | None = None
    former: Path | None = None  # where the face lies by another labelling, and is moved from
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
    parser.lang_flag()
    parser.section("crop")
    labels = "a face's class: that of two of three annotators, or the most probable by Dawid and "
    labels += "Skene's model of them (default: majority; of an error log: as the faces beside)"
    flag("--labels", labels, None, str, choices=LABELINGS)
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
    for folder in (args.output, *(args.output / label for label in LABELS)):
        make_folder(folder)
    labels = choose_labels(args, table)

    survey = CropSurvey()
    row_log = ErrorLog(args.shard.log_path(args.log_dir, "parse", table), table)
    photo_log = ErrorLog(args.shard.log_path(args.log_dir, "crop", table), table)
    parts = PartsManifest(args.output, args.shard.suffix)
    with row_log, photo_log, parts, ProgressBar(None, "crop") as bar:
        stage = TableStage(table, args.shard, bar, row_log, photo_log)
        jobs = stage.plan_jobs(partial(plan, args=args, photos=photos, labels=labels))
        jobs = survey_rows(jobs, survey, photos.are_optional, bar)
        workers = start_workers(args.ray, 1, ProcessPool, args.workers or cores())
        failures = (ImageError, BoxError, WorkerKilledError)
        after = partial(finish, parts=parts, survey=survey)
        stage.run_jobs(jobs, crop, workers, AHEAD, failures, after=after)

    failed = row_log.failures + photo_log.failures
    print(stage.summary("cropped", failed, args.output))
    counts = stage.created + stage.existing
    print("  ".join(f"{label} {counts[label]}" for label in LABELS))
    print(survey.agreement)
    if survey.moved:
        print(f"{survey.moved:,} faces were moved to the class of their new label")
    write_results(args, table, photos, labels, survey, counts, (row_log, photo_log))
    if workers.killed:
        print(f"{workers.killed} workers were killed, perhaps for lack of memory, and replaced")
    print_failures((row_log, photo_log))
    print_missing(args, photos, survey, counts.total() + failed + stage.repeated_rows)
    failed += log_problems(args, table, photos)
    if args.contact_sheet:
        draw_sheet(args.output, args.contact_sheet)
        print(f"faces of each class: {args.contact_sheet}")
    return cli.SOME_FAILED if failed else cli.OK


def choose_labels(args: argparse.Namespace, table: Annotations) -> Labels:
    """Return what gives each row its class. Raise StageError if the annotators are unknown.

    The rows of an error log are labelled as those beside which their faces will lie: a few rows
    tell nothing about the annotators.
    """
    saved = SavedAnnotators.load(args.output)
    former = saved.annotators if saved and saved.method == DAWID_SKENE else None
    method = args.labels or (DAWID_SKENE if former and table.is_error_log else MAJORITY)
    if method == MAJORITY:
        if former and not args.labels:
            note(f"{args.output} was labelled by {DAWID_SKENE}, and is now by {MAJORITY}")
        return Labels(None, former)
    if not table.is_error_log:
        return Labels(estimate_annotators(args, table, former), former)
    if not former:
        raise StageError(
            f"{table.path} holds some of the rows, and --labels {DAWID_SKENE} needs all of them: "
            f"crop the whole table so first"
        )
    note(f"labels by {DAWID_SKENE}, as {args.output / FILE} says")
    return Labels(former)


def estimate_annotators(
    args: argparse.Namespace, table: Annotations, former: Annotators | None
) -> Annotators:
    """Estimate the annotators from the whole table, print what changes, and write their file."""
    started = time.monotonic()
    patterns = count_answers(table)
    annotators = estimate(patterns)
    seconds = time.monotonic() - started
    print(f"labels by {DAWID_SKENE}: {describe_changes(patterns, annotators)} ({seconds:.1f} s)")
    print(f"accuracy of the annotators by its estimate: {annotators.describe()}", flush=True)
    if annotators.rows < FEW_ROWS:
        note(f"{annotators.rows} rows are few to estimate the annotators from")
    if former and former.rows > annotators.rows:
        note(
            f"the faces in {args.output} were labelled from {former.rows:,} rows, and these are "
            f"{annotators.rows:,}: name all label files with --input"
        )
    for emotion, other in annotators.mistaken():
        note(f"most answers to faces estimated as {emotion} are {other}: look at these faces")
    SavedAnnotators(DAWID_SKENE, annotators).save(args.output)
    return annotators


def write_results(
    args: argparse.Namespace,
    table: Annotations,
    photos: PhotoSource,
    labels: Labels,
    survey: CropSurvey,
    counts: Counter[str],
    logs: Sequence[ErrorLog],
) -> None:
    """Write the page and the annotators' file, of a run over the whole table."""
    page = args.output / PAGE
    if args.shard.total > 1:
        print(f"a run without --shard, once all parts are done, writes {page}")
        return
    if table.is_error_log:
        if page.exists():
            print(f"{page} stays as it is: a run over the whole table writes it")
        return
    with interrupt.importing():  # only now, because few things need it and it is slow to import
        from utils.data.crop_page import CropResult, FailedRows, write_crop_page

    annotators = labels.annotators
    if not annotators:
        annotators = estimate(survey.patterns)
        SavedAnnotators(MAJORITY, annotators).save(args.output)
    is_to_download = survey.missing and not photos.are_optional
    result = CropResult(
        args.output, args.input, counts, labels.method, annotators,
        [FailedRows(log.path, log.kinds) for log in logs],
        len(all_problems(table, photos)), args.shard.log_path(args.log_dir, "archive", table),
        args.original, download_command(args) if is_to_download else "",
    )  # fmt: skip
    write_crop_page(page, args.lang, result, survey)
    print(f"faces, annotators and failures: {page}")


def print_failures(logs: Sequence[ErrorLog]) -> None:
    """Print how many rows failed, and where their reasons are."""
    for log in logs:
        if log.failures:
            print(f"{log.failures} rows failed, with their reasons: {log.path}")


def print_missing(
    args: argparse.Namespace, photos: PhotoSource, survey: CropSurvey, rows: int
) -> None:
    """Print how many rows have no photo, and photos no row. `rows`: those with a photo."""
    missing = survey.missing.total()
    if missing and photos.are_optional:
        records = f"{missing:,} of {rows + missing:,} records"
        print(f"{records} have no photo among the archives given")
    elif missing:
        print(f"{missing} photos are not downloaded: python {download_command(args)}")
    if photos.without_row and args.shard.total == 1:  # one shard does not ask for all photos
        print(f"{photos.without_row:,} photos have no record in the label files given")


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
        table = open_table(args)
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


def open_table(args: argparse.Namespace) -> Table:
    """Open the annotation table. Raise StageError if it is none."""
    columns = [f"{who}_{what}" for what in ("emotion", "result") for who in ANNOTATORS]
    try:
        return Table(args.input, ("name", *columns))
    except StageError:
        if args.labels != DAWID_SKENE or not holds_votes(args.input):
            raise
    raise StageError(
        f"{args.input} holds counts of votes, and not who gave which vote: --labels {DAWID_SKENE} "
        f"needs an annotation table"
    )


def holds_votes(path: Path) -> bool:
    """Return whether a file is a table of counts of votes."""
    try:
        return bool(VotesTable(path).classes)
    except StageError:
        return False


def plan(row: Row, args: argparse.Namespace, photos: PhotoSource, labels: Labels) -> CropJob:
    """Return the crop of a row's face. Raise RowError if the row is invalid."""
    name = row.photo_name()
    try:
        answers, boxes = row.answers(), row.boxes()
    except RowError:
        if photos.are_optional and photos.find(row, name) is None:
            return CropJob(row, args.output / UNKNOWN / name, False, None, (), has_photo=False)
        raise
    label, region = labels.of(answers), consensus(boxes)
    existing = find_file(args.output / label, name)
    former = None if existing else find_former(args.output, labels.others_of(answers), name)
    is_made = bool(existing or former)
    source = photos.find_used(name) if is_made else photos.find(row, name)
    target = existing or args.output / label / name
    photo = source or photos.expected_path(name)
    arguments = (photo, target, region, args.quality, args.max_size)
    return CropJob(
        row, target, is_made, (label, region), arguments,
        answers=tuple(answers), boxes=tuple(boxes), region=region, former=former,
        has_photo=source is not None, part=row.part() or part_of(source),
    )  # fmt: skip


def find_former(crops: Path, classes: Iterable[str], name: str) -> Path | None:
    """Return the face of this name in one of the classes, or None."""
    return next(filter(None, (find_file(crops / label, name) for label in classes)), None)


def survey_rows(
    jobs: Iterable[CropJob], survey: CropSurvey, are_optional: bool, bar: ProgressBar
) -> Iterator[CropJob]:
    """Yield the jobs, and count their rows. If photos are optional, leave out jobs without one."""
    for job in jobs:
        if not (job.exists or job.has_photo):
            survey.missing[job.label] += 1
            if are_optional:
                bar.update()
                continue
        survey.add_row(job.answers, job.boxes)
        yield job


def log_problems(args: argparse.Namespace, table: Annotations, photos: PhotoSource) -> int:
    """Write and print the files that could not be read. Return how many there are."""
    problems = all_problems(table, photos)
    path = args.shard.log_path(args.log_dir, "archive", table)
    write_file_errors(path, problems)
    for file, reason in problems[:SHOWN_FAILURES]:
        info(f"failed: {file}: {reason}")
    if problems:
        print(f"{len(problems)} files or entries were not read, with their reasons: {path}")
    return len(problems)


def all_problems(table: Annotations, photos: PhotoSource) -> list[tuple[str, str]]:
    """Return the files that could not be read, with the reason."""
    of_labels = table.problems if isinstance(table, LabelFiles) else []
    return list(dict.fromkeys([*photos.problems, *of_labels]))


def download_command(args: argparse.Namespace) -> str:
    """Return the script and flags that download the photos of this table."""
    given = (("--input", args.input, TABLE), ("--output", args.original[0], ORIGINAL))
    flags = [f"{flag} {path}" for flag, path, default in given if path != default]
    return " ".join(["downloadImage.py", *flags])


def finish(job: CropJob, parts: PartsManifest, survey: CropSurvey) -> None:
    """Note a face that is cropped, and remove crops that its row made earlier.

    Move a face that is there, but in the class of another labelling.
    """
    if job.former:
        job.former.replace(job.target)
        survey.moved += 1
    parts.add(nfc(job.target.name), job.part)
    if job.region:
        survey.add_face(job.label, Face(job.target, job.answers), job.region)
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
