"""Download the photos of an annotation table: stage 1 of 5.

Each photo goes to <output>/<emotion asked for>/<name>; what fails goes to download.error.log, each
row with the reason and the time. The log is itself a table: give it as --input to try just those
again. What is already there is not asked for again.

  python downloadImage.py                                  # metadata/emotions.tsv -> original/
  python downloadImage.py --input download.error.log       # only what failed
  python downloadImage.py --input my.tsv --output photos --workers 32

Next: python cropImages.py
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from utils import cli
from utils.annotations import Row, RowError, Table
from utils.cli import Bar
from utils.emotions import EMOTIONS
from utils.errorlog import ErrorLog
from utils.fetch import FetchError, fetch
from utils.files import atomic_file, existing, prepare_folder, stops_the_stage
from utils.images import ImageError, open_header
from utils.parallel import bounded_map
from utils.work import Job, Work


class DownloadError(Exception):
    """Why a photo did not arrive."""


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    tsv = Path("metadata/emotions.tsv")
    flag("--input", "annotation table, or an error log of this script", tsv, Path, metavar="TSV")
    flag("--output", "where the photos go", Path("original"), Path, metavar="DIR")
    flag("--workers", "photos downloaded at a time", 16, cli.positive, metavar="N")
    flag("--timeout", "seconds to wait for an answer", 30.0, cli.positive_float, metavar="S")
    parser.log_dir_flag()
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    table = Table(args.input, required=("name", "url"))
    for emotion in EMOTIONS:
        prepare_folder(args.output / emotion)

    log = ErrorLog(args.log_dir / "download.error.log", table)
    with log, Bar(table.count(), "download") as bar:
        work = Work(table, bar, log)
        jobs = work.missing(partial(plan, output=args.output, timeout=args.timeout))
        pool = ThreadPoolExecutor(args.workers)
        for (row, job), future in bounded_map(pool, download, jobs, 4 * args.workers):
            try:
                future.result()
                work.done(job)
            except DownloadError as error:
                work.failed(row, error, log)

    print(work.summary("downloaded", log.failures, args.output))
    if log.failures:
        print(f"reasons: {log.path}; try those again: python downloadImage.py --input {log.path}")
    return cli.SOME_FAILED if log.failures else cli.OK


def plan(row: Row, output: Path, timeout: float) -> Job:
    """What is to be downloaded for a row, and where to. Raises RowError if it does not say."""
    url = row["url"]
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in ("http", "https") and parts.hostname
    except ValueError:
        usable = False
    if not usable:
        raise RowError(f"the url {url!r} is not an http or https address" if url else "no url")
    target = existing(output / row.asked, row.name)
    return Job(target, (target, url), (url, target, timeout))


def download(url: str, target: Path, timeout: float) -> None:
    """Store what the URL holds under `target`, if it is a whole image. Raises DownloadError."""
    try:
        with atomic_file(target) as file:
            fetch(url, file, timeout)
            file.flush()
            open_header(Path(file.name)).close()
    except (FetchError, ImageError) as error:
        raise DownloadError(error) from None
    except OSError as error:
        if stops_the_stage(error):
            raise
        raise DownloadError(cli.describe(error)) from None


if __name__ == "__main__":
    cli.run(main)
