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
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests

from utils import __version__, cli
from utils.annotations import Row, RowError, Table
from utils.cli import Bar
from utils.emotions import EMOTIONS
from utils.errorlog import ErrorLog
from utils.files import atomic_file, existing, prepare_folder, stops_the_stage
from utils.images import ImageError, open_header
from utils.parallel import bounded_map
from utils.work import Job, Work

USER_AGENT = f"facial-emotion-recognition/{__version__} (dataset download)"
MAX_BYTES = 64 << 20  # of one photo; an endless answer ends here
DEADLINE = 300  # seconds for one photo, however slowly it trickles
CHUNK = 1 << 16


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
        with (
            session().get(url, timeout=timeout, stream=True) as response,
            atomic_file(target) as file,
        ):
            if response.status_code != 200:
                raise DownloadError(f"HTTP status {response.status_code} {response.reason}")
            receive(response, file)
            file.flush()
            open_header(Path(file.name)).close()
    except ImageError as error:
        raise DownloadError(error) from None
    except requests.Timeout:
        raise DownloadError(f"no answer for {timeout:g} seconds") from None
    except requests.ConnectionError as error:
        raise DownloadError(f"connection failed: {root_cause(error)}") from None
    except (requests.RequestException, ValueError) as error:
        raise DownloadError(f"the request failed: {error}") from None
    except OSError as error:
        if stops_the_stage(error):
            raise
        raise DownloadError(cli.describe(error)) from None


def receive(response: requests.Response, file: BinaryIO) -> None:
    """Write the answer's body to the file, within the byte cap and the deadline."""
    # Its own check would not say how much arrived.
    response.raw.enforce_content_length = False
    announced = response.headers.get("Content-Length", "")
    end = time.monotonic() + DEADLINE
    received = 0
    try:
        for chunk in response.iter_content(CHUNK):
            received += file.write(chunk)
            if received > MAX_BYTES:
                raise DownloadError(f"larger than {MAX_BYTES >> 20} MB")
            if time.monotonic() > end:
                raise DownloadError(f"not complete after {DEADLINE} seconds")
    except requests.ConnectionError:  # what requests makes of a read that timed out
        raise DownloadError(f"stalled after {received:,} bytes") from None
    except requests.exceptions.ChunkedEncodingError:
        raise DownloadError(f"broken off after {received:,} bytes") from None
    plain = "Content-Encoding" not in response.headers  # else it is another length
    if plain and announced.isdecimal() and received != int(announced):
        raise DownloadError(f"truncated: {received:,} of {int(announced):,} bytes")


def session() -> requests.Session:
    """This thread's session: its connections are kept alive from photo to photo."""
    if not hasattr(_thread, "session"):
        _thread.session = requests.Session()
        # Uncompressed, so that Content-Length is the length of the file.
        _thread.session.headers.update(
            {"User-Agent": USER_AGENT, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        )
    return _thread.session


def root_cause(error: BaseException) -> str:
    """The innermost reason of a connection error, which requests wraps several times."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


_thread = threading.local()

if __name__ == "__main__":
    cli.run(main)
