"""Photos per second of downloadImage.py beside other ways to fetch a list, in turns.

plain     requests.get, one file after the other
threads   16 threads, each with a requests.Session
aria2c    16 downloads at a time, from a list
curl      64 transfers at a time, from a list
ours      downloadImage.py with 64 workers

The server is a process of its own on this machine that waits 50 ms before each answer, as one far
away does. The files are JPEGs of noise, 60 to 100 KB, no two alike. Ours, aria2c and curl are timed
as whole processes, start included. After each way every file is compared with what was served.
aria2c and curl are Debian's packages of these names; where one is missing its row says so.

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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import requests
from PIL import Image
from stages import ROOT, spread

from utils import cli
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.parallel import cores

HOST = "127.0.0.1"
DELAY = 0.05  # seconds before each answer
SIDES = (258, 327)  # pixels; noise of these sizes makes 60 to 100 KB
THREADS, ARIA, CURL, WORKERS = 16, 16, 64, 64


class Served(NamedTuple):
    """A file as the server has it."""

    name: str  # under which it is to be stored
    url: str
    size: int
    digest: bytes


class Way(NamedTuple):
    """A way to fetch files into a folder."""

    title: str
    fetch: Callable[[list[Served], Path], None]
    connections: int
    files: int
    program: str = ""  # that has to be installed


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--files", "to be fetched", 2000, cli.positive_int, metavar="N")
    flag("--plain_files", "of them, at most, the plain way", 200, cli.positive_int, metavar="N")
    flag("--rounds", "of all ways, in turns", 3, cli.positive_int, metavar="N")
    args = parser.parse_args()

    os.environ["no_proxy"] = HOST
    few = min(args.files, args.plain_files)
    ways = [
        Way(f"ours, {WORKERS} workers", ours, WORKERS, args.files),
        Way(f"plain loop ({few:,} of the files)", plain, 1, few),
        Way(f"{THREADS} threads", threads, THREADS, args.files),
        Way(f"aria2c -j{ARIA}", aria2c, ARIA, args.files, "aria2c"),
        Way(f"curl --parallel-max {CURL}", curl, CURL, args.files, "curl"),
    ]
    rates: dict[str, list[float]] = {way.title: [] for way in ways}
    with server(args.files) as served:
        for _ in range(args.rounds):
            for way in ways:
                if not way.program or shutil.which(way.program):
                    rates[way.title].append(rate(way, served[: way.files]))

    least, most = (f(file.size for file in served) / 1000 for f in (min, max))
    print(f"{args.files:,} files of {least:.0f} to {most:.0f} KB, each answered after "
          f"{1000 * DELAY:.0f} ms, {args.rounds} rounds, {cores()} cores\n")  # fmt: skip
    print("| way | files/s | least-most | that many connections allow | ours / it |")
    print("|---|---|---|---|---|")
    our_rate = statistics.median(rates[ways[0].title])
    for way in ways:
        cells = ["not installed", "", "", ""]
        if rates[way.title]:
            ratio = our_rate / statistics.median(rates[way.title])
            cells = [*spread(rates[way.title]), f"{way.connections / DELAY:,.0f}", f"{ratio:.2f}"]
        print("| " + " | ".join([way.title, *cells]) + " |")
    return cli.OK


def rate(way: Way, wanted: list[Served]) -> float:
    """Files per second of one way, into a new folder. StageError where a file is not as served."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        way.fetch(wanted, Path(folder))
        seconds = time.perf_counter() - started
        check(way.title, wanted, Path(folder))
    return len(wanted) / seconds


def check(title: str, wanted: list[Served], folder: Path) -> None:
    """Raises StageError unless the folder holds exactly what was wanted, byte for byte."""
    photos = {path.name: path for path in folder.rglob("*.jpg")}
    missing = [file.name for file in wanted if file.name not in photos]
    if missing or len(photos) != len(wanted):
        raise StageError(f"{title}: {len(photos)} files in place of {len(wanted)}")
    for file in wanted:
        content = photos[file.name].read_bytes()
        if len(content) != file.size or hashlib.sha256(content).digest() != file.digest:
            raise StageError(f"{title}: {file.name} is not what was served")


def ours(wanted: list[Served], folder: Path) -> None:
    table = folder / "table.tsv"
    lines = ["name\turl", *(f"{file.name}\t{file.url}" for file in wanted), ""]
    table.write_text("\n".join(lines), encoding="utf-8")
    words = ["--input", table, "--output", folder / "original", "--log_dir", folder / "log"]
    words += ["--workers", WORKERS, "--per_host", WORKERS]
    tell(sys.executable, ROOT / "downloadImage.py", *words)


def plain(wanted: list[Served], folder: Path) -> None:
    for file in wanted:
        response = requests.get(file.url, timeout=30)
        response.raise_for_status()
        (folder / file.name).write_bytes(response.content)


def threads(wanted: list[Served], folder: Path) -> None:
    here = threading.local()

    def fetch(file: Served) -> None:
        if not hasattr(here, "session"):
            here.session = requests.Session()
        response = here.session.get(file.url, timeout=30)
        response.raise_for_status()
        (folder / file.name).write_bytes(response.content)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(fetch, wanted):
            pass


def aria2c(wanted: list[Served], folder: Path) -> None:
    source = folder / "list"
    lines = "".join(f"{file.url}\n  out={file.name}\n" for file in wanted)
    source.write_text(lines, encoding="utf-8")
    tell("aria2c", "--no-conf", "-q", f"-j{ARIA}", "-i", source, "-d", folder)


def curl(wanted: list[Served], folder: Path) -> None:
    source = folder / "list"
    lines = "".join(f'url = "{file.url}"\noutput = "{folder / file.name}"\n' for file in wanted)
    source.write_text(lines, encoding="utf-8")
    # -q, first of all: without the user's own settings.
    tell("curl", "-q", "--silent", "--parallel", "--parallel-max", CURL, "--config", source)


def tell(*words: object) -> None:
    """Run a program. Raises StageError if it does not end well."""
    # curl draws its parallel progress even where it is told to be silent.
    command = list(map(str, words))
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        reason = done.stderr[-500:].decode(errors="replace")
        raise StageError(f"{command[:2]}: exit status {done.returncode}: {reason}")


@contextmanager
def server(count: int):
    """A server that has so many files, in a process of its own, and the list of them."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(count, there), daemon=True
    )
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def serve(count: int, client: Connection) -> None:
    """Make the files, tell what they are, and serve them until the process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.create_server((HOST, 0), backlog=4096)
    # Room for a whole answer, so that it is handed over in one go. Its connections inherit it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    root = f"http://{HOST}:{listener.getsockname()[1]}"
    chance = np.random.default_rng(0)
    answers, served = {}, []
    for i in range(count):
        content = noise(chance)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}"
        answers[f"/{i}.jpg".encode()] = f"{head}\r\n\r\n".encode() + content
        name = f"s{i:05d}_여_20_{EMOTIONS[i % 7]}_실내_20200101000000-000-001.jpg"
        digest = hashlib.sha256(content).digest()
        served.append(Served(name, f"{root}/{i}.jpg", len(content), digest))
    client.send(served)
    asyncio.run(answer_all(listener, answers))


def noise(chance: np.random.Generator) -> bytes:
    """A JPEG of 60 to 100 KB that is like no other."""
    side = chance.integers(*SIDES)
    file = io.BytesIO()
    pixels = chance.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


async def answer_all(listener: socket.socket, answers: dict[bytes, bytes]) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Answering(answers), sock=listener, backlog=4096)
    await listening.serve_forever()


class Answering(asyncio.Protocol):
    """One connection: a GET after the other, each answered after the delay."""

    NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._received = b""
        self._busy = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
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
