"""One file from the web, within limits of size and time."""

from __future__ import annotations

import threading
import time
from typing import BinaryIO

import requests

from utils import __version__
from utils.cli import describe
from utils.files import stops_the_stage

USER_AGENT = f"facial-emotion-recognition/{__version__} (dataset download)"
MAX_BYTES = 64 << 20  # of one file; an endless answer ends here
DEADLINE = 300  # seconds for one file, however slowly it trickles
CHUNK = 1 << 16


class FetchError(Exception):
    """Why a file did not arrive."""


def fetch(url: str, file: BinaryIO, timeout: float) -> None:
    """Write what the URL holds to the file.

    `timeout`: seconds to wait for an answer, or for its next bytes. Raises FetchError, and OSError
    where the disk is full.
    """
    try:
        with session().get(url, timeout=timeout, stream=True) as response:
            if response.status_code != 200:
                raise FetchError(f"HTTP status {response.status_code} {response.reason}")
            _receive(response, file)
    except requests.Timeout:
        raise FetchError(f"no answer for {timeout:g} seconds") from None
    except requests.ConnectionError as error:
        raise FetchError(f"connection failed: {_root_cause(error)}") from None
    except (requests.RequestException, ValueError) as error:
        raise FetchError(f"the request failed: {error}") from None
    except OSError as error:
        if stops_the_stage(error):
            raise
        raise FetchError(describe(error)) from None


def session() -> requests.Session:
    """This thread's session: its connections are kept alive from file to file."""
    if not hasattr(_thread, "session"):
        _thread.session = requests.Session()
        # Uncompressed, so that Content-Length is the length of the file.
        _thread.session.headers.update(
            {"User-Agent": USER_AGENT, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        )
    return _thread.session


def _receive(response: requests.Response, file: BinaryIO) -> None:
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
                raise FetchError(f"larger than {MAX_BYTES >> 20} MB")
            if time.monotonic() > end:
                raise FetchError(f"not complete after {DEADLINE} seconds")
    except requests.ConnectionError:  # what requests makes of a read that timed out
        raise FetchError(f"stalled after {received:,} bytes") from None
    except requests.exceptions.ChunkedEncodingError:
        raise FetchError(f"broken off after {received:,} bytes") from None
    plain = "Content-Encoding" not in response.headers  # else it is another length
    if plain and announced.isdecimal() and received != int(announced):
        raise FetchError(f"truncated: {received:,} of {int(announced):,} bytes")


def _root_cause(error: BaseException) -> str:
    """The innermost reason of a connection error, which requests wraps several times."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


_thread = threading.local()
