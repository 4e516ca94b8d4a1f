"""Cut the faces out of the downloaded photos: stage 2 of 5.

The face region is the consensus of the three annotators' boxes, the class the majority of what
they saw: <output>/<majority>/<name>, or <output>/UNKNOWN/<name> where all three differ. Rows that
cannot be read go to parse.error.log, photos that cannot be cut to crop.error.log; either log is a
table that can be given as --input to try just those again. Crops that are there are not made again.

  python cropImages.py                                     # original/ -> crop/
  python cropImages.py --input crop.error.log              # only what failed
  python cropImages.py --original photos --output faces --workers 4
  python cropImages.py --contact_sheet faces.jpg           # and a picture of some, to look at
  python cropImages.py --shard 3/16                        # the third of 16 machines' parts
  python cropImages.py --ray auto                          # on all machines of a Ray cluster

Next: python dataPreparation.py
"""

from __future__ import annotations

import argparse
import os
import random
from functools import partial
from pathlib import Path

from utils import cli
from utils.cli import Bar, StageError
from utils.data.agreement import Agreement
from utils.data.annotations import ANNOTATORS, Row, Table
from utils.data.boxes import Box, BoxError, consensus, pixels
from utils.data.error_log import ErrorLog
from utils.data.stage import Job, Work, machine_flags
from utils.emotions import EMOTIONS, UNKNOWN, majority, nfc
from utils.files import existing, prepare_folder, spellings, stops_the_stage
from utils.imaging.image_io import ImageError, open_region, save_image, to_srgb
from utils.parallel import ProcessPool, WorkerKilledError, bounded_map, cores
from utils.ray_executor import RayExecutor

LABELS = (*EMOTIONS, UNKNOWN)
AHEAD = 16  # photos handed out for each worker, so that none waits for the next
SHEETS = (".jpg", ".jpeg", ".png")
ON_A_SHEET = 12  # faces of each class


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    tsv = Path("metadata/emotions.tsv")
    flag("--input", "annotation table, or an error log of this script", tsv, Path, metavar="TSV")
    flag("--original", "the downloaded photos", Path("original"), Path, metavar="DIR")
    flag("--output", "where the faces go", Path("crop"), Path, metavar="DIR")
    flag("--quality", "JPEG quality of the faces, 1 to 100", 95, cli.per_cent, metavar="Q")
    flag("--workers", "processes, without --ray", cores(), cli.positive, metavar="N")
    sheet = "also draw some of the faces of each class, as they are now, into this picture"
    flag("--contact_sheet", sheet, None, Path, metavar="FILE")
    parser.log_dir_flag()
    machine_flags(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    columns = [f"{who}_{what}" for what in ("emotion", "result") for who in ANNOTATORS]
    table = Table(args.input, required=("name", *columns))
    if not args.original.is_dir():
        raise StageError(f"{args.original}: no such folder; python downloadImage.py fills it")
    if args.original.resolve() == args.output.resolve():
        raise StageError("--original and --output are the same folder")
    if args.contact_sheet and args.contact_sheet.suffix.lower() not in SHEETS:
        raise StageError(
            f"--contact_sheet {args.contact_sheet}: its name should end in .jpg or .png"
        )
    for label in LABELS:
        prepare_folder(args.output / label)
    if args.contact_sheet:
        prepare_folder(args.contact_sheet.parent)

    agreement = Agreement()
    bad_rows = ErrorLog(args.shard.log(args.log_dir, "parse", table), table)
    bad_photos = ErrorLog(args.shard.log(args.log_dir, "crop", table), table)
    with bad_rows, bad_photos, Bar(None, "crop") as bar:
        work = Work(table, args.shard, bar, bad_rows)
        jobs = work.missing(
            partial(plan, args=args),
            new=lambda job: agreement.add(*job.annotations),
            found=drop_relabelled,
        )
        if args.ray:
            pool = RayExecutor(args.ray, cores=1)
            window = AHEAD * pool.slots
        else:
            pool = ProcessPool(args.workers)
            window = AHEAD * args.workers
        for (row, job), future in bounded_map(pool, crop, jobs, window):
            try:
                future.result()
                drop_relabelled(job)
                work.done(job)
            except (ImageError, BoxError, WorkerKilledError) as error:
                work.failed(row, error, bad_photos)

    failures = bad_rows.failures + bad_photos.failures
    print(work.summary("cropped", failures, args.output))
    print("  ".join(f"{label} {work.made[label] + work.there[label]}" for label in LABELS))
    print(agreement)
    if pool.killed:
        print(f"{pool.killed} workers were killed, perhaps for want of memory, and replaced")
    for log in (bad_rows, bad_photos):
        if log.failures:
            print(f"{log.failures} rows with their reasons: {log.path}")
    if args.contact_sheet:
        draw_sheet(args.output, args.contact_sheet)
        print(f"faces of each class: {args.contact_sheet}")
    return cli.SOME_FAILED if failures else cli.OK


def plan(row: Row, args: argparse.Namespace) -> Job:
    """Which face is to be cut out of which photo, for which class. Raises RowError."""
    name, answers, boxes = row.name, row.answers, row.boxes
    label, box = majority(answers), consensus(boxes)
    source = existing(args.original / row.asked, name)
    target = existing(args.output / label, name)
    return Job(target, (label, box), (source, target, box, args.quality), (answers, boxes))


def drop_relabelled(job: Job) -> None:
    """Remove a face's crops of other classes than its own: its annotations have changed since."""
    for other in LABELS:
        if other != job.label:
            for path in spellings(job.target.parent.parent / other, nfc(job.target.name)):
                path.unlink(missing_ok=True)


def crop(source: Path, target: Path, box: Box, quality: int) -> None:
    """Cut the box out of a photo as it is displayed, into a file without metadata.

    Raises ImageError or BoxError for what is this photo's fault.
    """
    try:
        face = open_region(source, partial(pixels, box))
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from None
    # The colour profile belongs to the pixels and goes with them; place and time do not.
    profile = face.info.get("icc_profile")
    if face.mode not in ("L", "RGB"):
        face, profile = to_srgb(face), None
    face.info = {}
    try:
        save_image(face, target, quality=quality, icc_profile=profile)
    except OSError as error:
        if stops_the_stage(error):
            raise
        raise ImageError(f"the face cannot be written: {cli.describe(error)}") from None


def draw_sheet(crops: Path, path: Path) -> None:
    """Draw a few faces of each class, the same ones as long as the crops are the same."""
    from utils.imaging.plots import draw_contact_sheet  # which takes its time to import

    faces = {}
    for label in LABELS:
        found = sorted(entry.path for entry in os.scandir(crops / label))
        chosen = random.Random(0).sample(found, min(ON_A_SHEET, len(found)))
        faces[label] = [Path(face) for face in chosen]
    draw_contact_sheet(faces, path)


if __name__ == "__main__":
    cli.run(main)
