"""Download the photos of an annotation table: stage 1 of 5.

Each photo goes to <output>/<emotion asked for>/<name>; what fails goes to download.error.log, each
row with the reason and the time. The log is itself a table: give it as --input to try just those
again. What is already there is not asked for again.

  python downloadImage.py                                  # metadata/emotions.tsv -> original/
  python downloadImage.py --input download.error.log       # only what failed
  python downloadImage.py --input my.tsv --output photos --per_host 8
  python downloadImage.py --shard 3/16                     # the third of 16 machines' parts
  python downloadImage.py --ray auto                       # on all machines of a Ray cluster

Next: python cropImages.py
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from utils import cli
from utils.cli import Bar
from utils.data.annotations import Row, RowError, Table
from utils.data.error_log import ErrorLog
from utils.data.stage import Job, Work, machine_flags
from utils.download import FetchError, Limits, fetch, host_of
from utils.emotions import EMOTIONS
from utils.files import (
    allow_open_files,
    atomic_file,
    existing,
    prepare_folder,
    stops_the_stage,
)
from utils.imaging.image_io import verify
from utils.parallel import bounded_map
from utils.ray_executor import RayExecutor

OUTPUT = Path("original")
WAITING = 64  # rows read ahead for each worker, so that one slow host holds up no other
DOWNLOADS_A_CORE = 4  # of a Ray cluster, where each is a process


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    tsv = Path("metadata/emotions.tsv")
    flag("--input", "annotation table, or an error log of this script", tsv, Path, metavar="TSV")
    flag("--output", "where the photos go", OUTPUT, Path, metavar="DIR")
    flag("--workers", "photos downloaded at a time, without --ray", 64, cli.positive, metavar="N")
    flag("--per_host", "of these, at most so many from one host", 32, cli.positive, metavar="N")
    flag("--retries", "how often what may pass is tried again", 3, cli.whole, metavar="N")
    seconds = "seconds to wait for a connection, and for each next piece of an answer"
    flag("--timeout", seconds, 30.0, cli.positive_float, metavar="S")
    flag("--deadline", "seconds for one photo, all in all", 300.0, cli.positive_float, metavar="S")
    flag("--max_mb", "megabytes of one photo", 64.0, cli.positive_float, metavar="MB")
    parser.log_dir_flag()
    machine_flags(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    table = Table(args.input, required=("name", "url"))
    allow_open_files(1024 + 4 * args.workers)
    for emotion in EMOTIONS:
        prepare_folder(args.output / emotion)

    log = ErrorLog(args.shard.log(args.log_dir, "download", table), table)
    with log, Bar(None, "download") as bar:
        work = Work(table, args.shard, bar, log)
        limits = Limits(args.timeout, args.deadline, int(args.max_mb * 2**20), args.retries)
        jobs = work.missing(partial(plan, output=args.output, limits=limits))
        if args.ray:
            pool = RayExecutor(args.ray, 1 / DOWNLOADS_A_CORE)
            window = WAITING * pool.slots
        else:
            pool = ThreadPoolExecutor(args.workers)
            window = WAITING * args.workers
        for (row, job), future in bounded_map(pool, download, jobs, window, host, args.per_host):
            try:
                future.result()
                work.done(job)
            except FetchError as error:
                work.failed(row, error, log)

    print(work.summary("downloaded", log.failures, args.output))
    if log.failures:
        place = f" --output {args.output}" if args.output != OUTPUT else ""
        again = f"python downloadImage.py --input {log.path}{place}"
        print(f"reasons: {log.path}; try those again: {again}")
    return cli.SOME_FAILED if log.failures else cli.OK


def plan(row: Row, output: Path, limits: Limits) -> Job:
    """What is to be downloaded for a row, and where to. Raises RowError if it does not say."""
    url = row["url"]
    try:
        host_of(url)
    except ValueError as error:
        raise RowError(str(error) if url else "no url") from None
    target = existing(output / row.asked, row.name)
    return Job(target, (target, url), (url, target, limits))


def host(key: tuple[Row, Job]) -> str:
    """The host that a job asks; no more than --per_host of them do at a time."""
    url, *_ = key[1].arguments
    return host_of(url)


def download(url: str, target: Path, limits: Limits) -> None:
    """Store what the URL holds under `target`, if it is a whole image. Raises FetchError."""
    try:
        with atomic_file(target) as file:
            fetch(url, file, limits, verify)
    except OSError as error:
        if stops_the_stage(error):
            raise
        raise FetchError(cli.describe(error)) from None


if __name__ == "__main__":
    cli.run(main)
