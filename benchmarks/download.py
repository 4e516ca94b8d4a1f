"""Compare the photos per second of downloadImage.py with other ways to download a list.

downloadImage.py  64 workers
plain             requests.get, one file after the other
threads           16 threads, each with a requests.Session
aria2c            16 downloads at a time, from a list
curl              64 transfers at a time, from a list

The server is another process on this machine. It waits 50 ms before each answer, like a distant
server. The files are different JPEGs of noise, 60 to 100 KB. downloadImage.py, aria2c and curl are
timed as whole processes, start included. After each way every file is compared with the served
one. aria2c and curl are Debian packages of these names; a missing program is reported in its row.

  python -m benchmarks.download
  python -m benchmarks.download --files 200 --plain_files 20 --rounds 1
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import requests
from PIL import Image

from benchmarks.stages import ROOT, spread
from utils import cli
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.parallel import cores

SCRIPT = "downloadImage.py"
HOST = "127.0.0.1"
DELAY = 0.05  # seconds before each answer
SIDES = (258, 327)  # pixels, shortest and longest; noise of these sizes makes 60 to 100 KB
THREADS, ARIA, CURL, WORKERS = 16, 16, 64, 64


class Served(NamedTuple):
    """A file on the server."""

    name: str  # to store it under
    url: str
    size: int  # bytes
    digest: bytes  # SHA-256


class Way(NamedTuple):
    """A way to download files into a folder."""

    title: str
    download: Callable[[list[Served], Path], None]
    connections: int
    files: int  # how many of the files it downloads
    program: str = ""  # that must be installed


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--files", "files to download", 2000, cli.positive_int, metavar="N")
    flag("--plain_files", "files for the plain way, at most", 200, cli.positive_int, metavar="N")
    flag("--rounds", "rounds, each with all ways in turn", 3, cli.positive_int, metavar="N")
    args = parser.parse_args()

    os.environ["no_proxy"] = HOST
    few = min(args.files, args.plain_files)
    ways = [
        Way(f"{SCRIPT} --workers {WORKERS}", run_script, WORKERS, args.files),
        Way(f"plain loop ({few:,} of the files)", download_plainly, 1, few),
        Way(f"{THREADS} threads", download_in_threads, THREADS, args.files),
        Way(f"aria2c -j{ARIA}", run_aria2c, ARIA, args.files, "aria2c"),
        Way(f"curl --parallel-max {CURL}", run_curl, CURL, args.files, "curl"),
    ]
    rates: dict[str, list[float]] = {way.title: [] for way in ways}
    with server(args.files) as served:
        for _ in range(args.rounds):
            for way in ways:
                if not way.program or shutil.which(way.program):
                    rates[way.title].append(measure(way, served[: way.files]))

    sizes = [file.size / 1000 for file in served]
    print(f"{args.files:,} files of {min(sizes):.0f} to {max(sizes):.0f} KB, each answered after "
          f"{1000 * DELAY:.0f} ms, {args.rounds} rounds, {cores()} cores\n")  # fmt: skip
    print(f"| way | files/s | min-max | limit of its connections | {SCRIPT} / it |")
    print("|---|---|---|---|---|")
    script_rate = statistics.median(rates[ways[0].title])
    for way in ways:
        cells = ["not installed", "", "", ""]
        if rates[way.title]:
            ratio = script_rate / statistics.median(rates[way.title])
            cells = [*spread(rates[way.title]), f"{way.connections / DELAY:,.0f}", f"{ratio:.2f}"]
        print("| " + " | ".join([way.title, *cells]) + " |")
    return cli.OK


def measure(way: Way, files: list[Served]) -> float:
    """Download the files into a new folder. Return the files per second.

    Raise StageError if a file is not as served.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        way.download(files, Path(folder))
        seconds = time.perf_counter() - started
        check(way.title, files, Path(folder))
    return len(files) / seconds


def check(title: str, files: list[Served], folder: Path) -> None:
    """Raise StageError unless the folder holds exactly these files, byte for byte."""
    photos = {path.name: path for path in folder.rglob("*.jpg")}
    missing = [file.name for file in files if file.name not in photos]
    if missing or len(photos) != len(files):
        raise StageError(f"{title} stored {len(photos)} files instead of {len(files)}")
    for file in files:
        content = photos[file.name].read_bytes()
        if len(content) != file.size or hashlib.sha256(content).digest() != file.digest:
            raise StageError(f"{title}: {file.name} is not as served")


def run_script(files: list[Served], folder: Path) -> None:
    table = folder / "table.tsv"
    lines = ["name\turl", *(f"{file.name}\t{file.url}" for file in files), ""]
    table.write_text("\n".join(lines), encoding="utf-8")
    flags = ["--input", table, "--output", folder / "original", "--log_dir", folder / "log"]
    flags += ["--workers", WORKERS, "--per_host", WORKERS]
    run_program(sys.executable, ROOT / SCRIPT, *flags)


def download_plainly(files: list[Served], folder: Path) -> None:
    for file in files:
        response = requests.get(file.url, timeout=30)
        response.raise_for_status()
        (folder / file.name).write_bytes(response.content)


def download_in_threads(files: list[Served], folder: Path) -> None:
    thread = threading.local()

    def fetch(file: Served) -> None:
        if not hasattr(thread, "session"):
            thread.session = requests.Session()
        response = thread.session.get(file.url, timeout=30)
        response.raise_for_status()
        (folder / file.name).write_bytes(response.content)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(fetch, files):
            pass


def run_aria2c(files: list[Served], folder: Path) -> None:
    source = folder / "list"
    lines = "".join(f"{file.url}\n  out={file.name}\n" for file in files)
    source.write_text(lines, encoding="utf-8")
    run_program("aria2c", "--no-conf", "-q", f"-j{ARIA}", "-i", source, "-d", folder)


def run_curl(files: list[Served], folder: Path) -> None:
    source = folder / "list"
    lines = "".join(f'url = "{file.url}"\noutput = "{folder / file.name}"\n' for file in files)
    source.write_text(lines, encoding="utf-8")
    # -q must come first: it ignores the user's .curlrc.
    run_program("curl", "-q", "--silent", "--parallel", "--parallel-max", CURL, "--config", source)


def run_program(*words: object) -> None:
    """Run a program. Raise StageError if its exit status is not 0."""
    # The output is captured because curl shows the progress of parallel transfers despite --silent.
    command = list(map(str, words))
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        reason = done.stderr[-500:].decode(errors="replace")
        raise StageError(f"{command[:2]}: exit status {done.returncode}: {reason}")


@contextmanager
def server(count: int) -> Iterator[list[Served]]:
    """Run a server with `count` files in another process. Yield its files."""
    connection, process_end = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(count, process_end), daemon=True
    )
    process.start()
    process_end.close()
    try:
        yield connection.recv()
    finally:
        process.terminate()
        process.join()


def serve(count: int, client: Connection) -> None:
    """Make the files, send their list to the client, and serve them until terminated."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.create_server((HOST, 0), backlog=4096)
    # Room for a whole answer, so that one write sends it. Connections inherit this.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    root = f"http://{HOST}:{listener.getsockname()[1]}"
    rng = np.random.default_rng(0)
    answers, served = {}, []
    for i in range(count):
        content = make_jpeg(rng)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}"
        answers[f"/{i}.jpg".encode()] = f"{head}\r\n\r\n".encode() + content
        name = f"s{i:05d}_여_20_{EMOTIONS[i % 7]}_실내_20200101000000-000-001.jpg"
        digest = hashlib.sha256(content).digest()
        served.append(Served(name, f"{root}/{i}.jpg", len(content), digest))
    client.send(served)
    asyncio.run(answer_all(listener, answers))


def make_jpeg(rng: np.random.Generator) -> bytes:
    """Return a JPEG of noise of 60 to 100 KB."""
    side = int(rng.integers(*SIDES))
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


async def answer_all(listener: socket.socket, answers: dict[bytes, bytes]) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: DelayingProtocol(answers), sock=listener, backlog=4096
    )
    await listening.serve_forever()


class DelayingProtocol(asyncio.Protocol):
    """A connection: requests are answered one after the other, each after the delay."""

    NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._received = b""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Begin with the next request, if none is being answered."""
        self._received += data
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        request, end, rest = self._received.partition(b"\r\n\r\n")
        if end:
            self._received, self._busy = rest, True
            asyncio.get_running_loop().call_later(DELAY, self._answer, request)

    def _answer(self, request: bytes) -> None:
        path = request.split(b" ", 2)[1]
        self._transport.write(self._answers.get(path, self.NOT_FOUND))
        if b"connection: close" in request.lower():
            self._transport.close()
        self._busy = False
        self._begin()


if __name__ == "__main__":
    cli.run(main)
