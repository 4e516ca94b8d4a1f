"""Download the photos of an annotation table: stage 1 of 5.

Each photo goes to <output>/<posed emotion>/<name>. Existing files are skipped, so the script can be
interrupted and run again. Rows that fail go to download.error.log with the reason and the time. The
log is an annotation table too: give it as --input to retry only those rows.

  python downloadImage.py                                # metadata/emotions.tsv -> original/
  python downloadImage.py --input download.error.log     # retry the rows that failed
  python downloadImage.py --input my.tsv --output photos --per_host 8
  python downloadImage.py --shard 3/16                   # part 3 of 16, on one of 16 machines
  python downloadImage.py --ray auto                     # on all machines of a Ray cluster

Next: python cropImages.py
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from utils import cli
from utils.console import ProgressBar
from utils.data.annotations import Row, RowError, Table, find_file
from utils.data.downloads import is_aihub
from utils.data.error_log import ErrorLog
from utils.data.stage import Job, TableStage, add_distribution_flags, start_workers
from utils.download import (
    DownloadError,
    DownloadLimits,
    allow_open_files,
    check_settings,
    download,
    host_of,
)
from utils.emotions import EMOTIONS
from utils.errors import StageError, describe_os_error, is_fatal_os_error
from utils.files import atomic_file, make_folder
from utils.imaging.image_io import load_decoders, verify

OUTPUT = Path("original")
AHEAD = 64  # rows planned per worker, so that a slow host does not hold up the others
CORES_PER_DOWNLOAD = 0.25  # in a Ray cluster, where each download is a process


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    flag = parser.flag
    parser.section("files")
    table = Path("metadata/emotions.tsv")
    flag("--input", "annotation table, or download.error.log", table, cli.path, metavar="TSV")
    flag("--output", "folder for the photos", OUTPUT, cli.path, metavar="DIR")
    parser.log_dir_flag()
    parser.section("download")
    workers = "simultaneous downloads; ignored with --ray"
    flag("--workers", workers, 64, cli.positive_int, metavar="N")
    flag("--per_host", "simultaneous downloads per host", 32, cli.positive_int, metavar="N")
    flag("--retries", "retries after a transient error", 3, cli.non_negative_int, metavar="N")
    timeout = "time to wait for a connection, and for each next part of the answer"
    flag("--timeout", timeout, 30.0, cli.positive_float, metavar="SECONDS")
    deadline = "time for one photo in all, retries and pauses included"
    flag("--deadline", deadline, 300.0, cli.positive_float, metavar="SECONDS")
    flag("--max_mb", "maximum size of a photo", 64.0, cli.positive_float, metavar="MB")
    add_distribution_flags(parser)
    return parser


def main() -> int:
    """Download the missing photos. Return the exit status."""
    args = make_parser().parse_args()
    check_settings()
    load_decoders()
    if is_aihub(args.input):
        kind = "a directory" if args.input.is_dir() else "an archive or JSON"
        raise StageError(
            f"{args.input} is {kind}, not a table of addresses: there is nothing to download; "
            f"AI-Hub's files are cropped as they are: python cropImages.py --input {args.input}"
        )
    table = Table(args.input, required=("name", "url"))
    allow_open_files(1024 + 4 * args.workers)
    for emotion in EMOTIONS:
        make_folder(args.output / emotion)

    log = ErrorLog(args.shard.log_path(args.log_dir, "download", table), table)
    with log, ProgressBar(None, "download") as bar:
        stage = TableStage(table, args.shard, bar, row_log=log, job_log=log)
        limits = DownloadLimits(args.timeout, args.deadline, int(args.max_mb * 2**20), args.retries)
        jobs = stage.plan_jobs(partial(plan, output=args.output, limits=limits))
        workers = start_workers(args.ray, CORES_PER_DOWNLOAD, ThreadPoolExecutor, args.workers)
        stage.run_jobs(jobs, download_photo, workers, AHEAD, (DownloadError,), args.per_host)

    print(stage.summary("downloaded", log.failures, args.output))
    if log.failures:
        output = f" --output {args.output}" if args.output != OUTPUT else ""
        retry = f"python downloadImage.py --input {log.path}{output}"
        print(f"reasons: {log.path}; to retry these rows: {retry}")
    return cli.SOME_FAILED if log.failures else cli.OK


def plan(row: Row, output: Path, limits: DownloadLimits) -> Job:
    """Return the download of a row's photo. Raise RowError if the row is invalid."""
    url = row["url"]
    try:
        host = host_of(url)
    except ValueError as error:
        raise RowError(str(error) if url else "no url") from None
    folder, name = output / row.posed_emotion(), row.photo_name()
    existing = find_file(folder, name)
    target = existing or folder / name
    return Job(row, target, existing is not None, (target, url), (url, target, limits), host)


def download_photo(url: str, target: Path, limits: DownloadLimits) -> None:
    """Download a photo to `target`, and check that it is a complete image.

    Raise DownloadError if it cannot be downloaded, and OSError if the disk is full.
    """
    try:
        with atomic_file(target) as file:
            download(url, file, limits, verify)
    except OSError as error:
        if is_fatal_os_error(error):
            raise
        raise DownloadError(describe_os_error(error)) from None


if __name__ == "__main__":
    cli.run(main)
