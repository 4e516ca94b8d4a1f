"""Cut the faces out of the downloaded photos: stage 2 of 5.

The face region is the consensus of the three annotators' boxes, the class the majority of what
they saw: <output>/<majority>/<name>, or <output>/UNKNOWN/<name> where all three differ. Rows that
cannot be read go to parse.error.log, photos that cannot be cut to crop.error.log; either log is a
table that can be given as --input to try just those again. Crops that are there are not made again.

  python cropImages.py                                     # original/ -> crop/
  python cropImages.py --input crop.error.log              # only what failed
  python cropImages.py --original photos --output faces --workers 4

Next: python dataPreparation.py
"""

from __future__ import annotations

import argparse
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from PIL import Image

from utils import cli
from utils.annotations import ANNOTATORS, Row, Table
from utils.boxes import Box, BoxError, pixels
from utils.cli import Bar, StageError
from utils.emotions import EMOTIONS, UNKNOWN
from utils.errorlog import ErrorLog
from utils.files import atomic_file, existing, prepare_folder, stops_the_stage
from utils.images import ImageError, open_image, to_channels
from utils.parallel import bounded_map, cores, process_pool
from utils.work import Job, Work

LABELS = (*EMOTIONS, UNKNOWN)


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    tsv = Path("metadata/emotions.tsv")
    flag("--input", "annotation table, or an error log of this script", tsv, Path, metavar="TSV")
    flag("--original", "the downloaded photos", Path("original"), Path, metavar="DIR")
    flag("--output", "where the faces go", Path("crop"), Path, metavar="DIR")
    flag("--quality", "JPEG quality of the faces", 95, int, choices=range(1, 101), metavar="1-100")
    flag("--workers", "processes, by default one for each core", cores(), cli.positive, metavar="N")
    parser.log_dir_flag()
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    columns = [f"{who}_{what}" for what in ("emotion", "result") for who in ANNOTATORS]
    table = Table(args.input, required=("name", *columns))
    if not args.original.is_dir():
        raise StageError(f"{args.original}: no such folder; python downloadImage.py fills it")
    if args.original.resolve() == args.output.resolve():
        raise StageError("--original and --output are the same folder")
    for label in LABELS:
        prepare_folder(args.output / label)

    bad_rows = ErrorLog(args.log_dir / "parse.error.log", table)
    bad_photos = ErrorLog(args.log_dir / "crop.error.log", table)
    with bad_rows, bad_photos, Bar(table.count(), "crop") as bar:
        work = Work(table, bar, bad_rows)
        jobs = work.missing(partial(plan, args=args), found=drop_relabelled)
        pool = process_pool(args.workers)
        try:
            for (row, job), future in bounded_map(pool, crop, jobs, 16 * args.workers):
                try:
                    future.result()
                    drop_relabelled(job)
                    work.done(job)
                except (ImageError, BoxError) as error:
                    work.failed(row, error, bad_photos)
        except BrokenProcessPool:
            raise StageError(
                "a worker process was killed, perhaps for want of memory: run this again to do "
                "what is left, with fewer --workers"
            ) from None

    failures = bad_rows.failures + bad_photos.failures
    print(work.summary("cropped", failures, args.output))
    print("  ".join(f"{label} {work.made[label] + work.there[label]}" for label in LABELS))
    for log in (bad_rows, bad_photos):
        if log.failures:
            print(f"{log.failures} rows with their reasons: {log.path}")
    return cli.SOME_FAILED if failures else cli.OK


def plan(row: Row, args: argparse.Namespace) -> Job:
    """Which face is to be cut out of which photo, for which class. Raises RowError."""
    name, label, box = row.name, row.seen, row.box
    source = existing(args.original / row.asked, name)
    target = existing(args.output / label, name)
    return Job(target, (label, box), (source, target, box, args.quality))


def drop_relabelled(job: Job) -> None:
    """Remove a face's crops of other classes than its own: its annotations have changed since."""
    crops, label = job.target.parent.parent, job.target.parent.name
    for other in LABELS:
        if other != label:
            (crops / other / job.target.name).unlink(missing_ok=True)


def crop(source: Path, target: Path, box: Box, quality: int) -> None:
    """Cut the box out of a photo as it is displayed, into a file without metadata.

    Raises ImageError or BoxError for what is this photo's fault.
    """
    try:
        photo = open_image(source)
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from None
    face = photo.crop(pixels(box, *photo.size))
    # The colour profile belongs to the pixels and goes with them; place and time do not.
    profile = photo.info.get("icc_profile")
    if face.mode not in ("L", "RGB"):
        face, profile = to_channels(face, 3), None
    face.info = {}
    try:
        with atomic_file(target) as file:
            kind = Image.registered_extensions()[target.suffix.lower()]
            face.save(file, kind, quality=quality, icc_profile=profile)
    except Exception as error:  # an encoder can refuse a face's shape with anything
        if isinstance(error, OSError) and stops_the_stage(error):
            raise
        raise ImageError(f"the face cannot be written: {error}") from None


if __name__ == "__main__":
    cli.run(main)
