"""One file from the web, within limits of size and time, tried again where that may help."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import BinaryIO, NamedTuple
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    LocationValueError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from utils import __version__
from utils.console import one_line

USER_AGENT = f"facial-emotion-recognition/{__version__} (dataset download)"
CHUNK = 1 << 18
MOST_REDIRECTS = 10
RETRY_STATUSES = (408, 425, 429)  # statuses below 500 that may pass
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between two tries, doubled each time
SMALL = 1 << 16  # bytes of a refusal that are read to the end, so that its connection can be reused
KEPT_ALIVE, KEPT_HOSTS = 32, 8  # idle connections a host, and hosts that have some


class DownloadLimits(NamedTuple):
    """What one file may cost."""

    timeout: float = 30  # seconds for a connection, and for each next piece of the answer
    deadline: float = 300  # seconds in all, tries and waits together
    max_bytes: int = 64 << 20
    retries: int = 3


class DownloadError(Exception):
    """Why a file did not arrive."""

    def __init__(self, reason: str, may_pass: bool = True, wait: float = 0) -> None:
        """`may_pass`: it can be worth trying again, after `wait` seconds at the earliest."""
        super().__init__(reason)
        self.may_pass, self.wait = may_pass, wait


def allow_open_files(count: int) -> None:
    """Let this process open that many files and connections, as far as the system allows.

    Some systems start with 256, which a download that keeps its connections alive can reach.
    """
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def download(
    url: str,
    file: BinaryIO,
    limits: DownloadLimits,
    check: Callable[[BinaryIO, bool], None] = lambda file, complete: None,
) -> None:
    """Write what the URL holds to the file, which is empty and open for writing.

    `check(file, complete)` raises ValueError if that is not what it should be; `complete` tells
    whether the server had said how long it would be. Tries again, with growing random pauses, what
    may pass: statuses 429 and 5xx, timeouts, connections that break, answers cut short or refused
    by `check`. What will not is tried once: other statuses, bad addresses, too large a file.

    Raises FetchError, and OSError where the file cannot be written.
    """
    end = time.monotonic() + limits.deadline
    tries = 0
    while True:
        tries += 1
        try:
            complete = _try(url, file, limits, end)
            file.flush()
            try:
                check(file, complete)
            except ValueError as error:
                raise DownloadError(str(error)) from None
            return
        except DownloadError as error:
            pause = min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT) * random.uniform(0.5, 1)
            pause = max(pause, error.wait)
            if not error.may_pass or tries > limits.retries or time.monotonic() + pause > end:
                asked = f", asks to wait {error.wait:.0f} seconds" if error.wait else ""
                often = f" (tried {tries} times)" if tries > 1 else ""
                raise DownloadError(f"{error}{asked}{often}", error.may_pass) from None
        file.seek(0)
        file.truncate()
        time.sleep(pause)


def host_of(url: str) -> str:
    """The host that is asked for an http or https address. Raises ValueError for any other."""
    with suppress(ValueError):  # of brackets that do not match, for one
        parts = urlsplit(url)
        if parts.scheme.lower() in ("http", "https") and parts.hostname:
            return parts.hostname
    raise ValueError(f"{url!r} is not an http or https address")


def _try(url: str, file: BinaryIO, limits: DownloadLimits, end: float) -> bool:
    """One request, and those that it is redirected to. Returns whether a length was announced."""
    for _ in range(MOST_REDIRECTS + 1):
        try:
            pool = _pool(_proxy(url))
        except ValueError as error:
            raise DownloadError(str(error), may_pass=False) from None
        seconds = min(limits.timeout, max(end - time.monotonic(), 0.1))
        with _Watch(end) as watch:
            try:
                with pool.request(
                    "GET",
                    url,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    timeout=urllib3.Timeout(connect=seconds, read=seconds),
                    # Its own check would not say how much arrived.
                    enforce_content_length=False,
                ) as response:
                    location = response.get_redirect_location()
                    announced = None if location else _receive(response, file, limits)
                    _finish(response)
                problem = None
            except (HTTPError, ValueError, DownloadError) as error:
                problem = error
        if watch.shut:  # which can look like any problem, or like none
            late = f"not complete after {limits.deadline:g} seconds: {file.tell():,} bytes"
            raise DownloadError(late, may_pass=False)
        if problem:
            translate = not isinstance(problem, DownloadError)
            raise _translated(problem, file.tell(), limits.timeout) if translate else problem
        if not location:
            return announced
        with suppress(UnicodeError):  # headers come as Latin-1, whatever they hold
            location = location.encode("latin-1").decode()
        try:
            url = urljoin(url, location)
        except ValueError:
            told = f"redirected to {location!r}, which is no address"
            raise DownloadError(told, may_pass=False) from None
    raise DownloadError(f"more than {MOST_REDIRECTS} redirects", may_pass=False)


def _receive(response: urllib3.BaseHTTPResponse, file: BinaryIO, limits: DownloadLimits) -> bool:
    if response.status != 200:
        _finish(response)
        raise DownloadError(
            f"HTTP status {response.status} {one_line(response.reason or '')}".rstrip(),
            may_pass=response.status in RETRY_STATUSES or response.status >= 500,
            wait=_retry_after(response),
        )
    announced = _announced(response)
    too_large = DownloadError(f"larger than {limits.max_bytes / 2**20:g} MB", may_pass=False)
    if announced and announced > limits.max_bytes:
        raise too_large
    while chunk := response.read1(CHUNK):
        file.write(chunk)
        if file.tell() > limits.max_bytes:
            raise too_large
    arrived = response.tell()  # on the wire, which counts where the server compresses
    if announced is not None and arrived != announced:
        raise DownloadError(f"truncated: {arrived:,} of {announced:,} bytes")
    return announced is not None


def _finish(response: urllib3.BaseHTTPResponse) -> None:
    """Read the rest of an answer that nobody wants, if it is short."""
    length = _announced(response)
    if length is not None and length <= SMALL:
        response.drain_conn()


def _announced(response: urllib3.BaseHTTPResponse) -> int | None:
    """The bytes that the server says will come; None if it does not."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """The seconds that the server asks to wait before the next try; 0 if it does not."""
    try:
        return max(urllib3.Retry(0).get_retry_after(response) or 0, 0)
    except (InvalidHeader, ValueError, OverflowError):  # the year 99999, say
        return 0


def _translated(error: Exception, received: int, timeout: float) -> DownloadError:
    if isinstance(error, NewConnectionError):
        return DownloadError(f"connection failed: {_root_cause(error)}")
    if isinstance(error, ConnectTimeoutError):
        return DownloadError(f"no connection in {timeout:g} seconds")
    if isinstance(error, ReadTimeoutError):
        if received:
            return DownloadError(f"stalled after {received:,} bytes")
        return DownloadError(f"no answer for {timeout:g} seconds")
    if isinstance(error, (SSLError, LocationValueError, ValueError)):
        return DownloadError(f"the request failed: {_root_cause(error)}", may_pass=False)
    if received:
        return DownloadError(f"broken off after {received:,} bytes")
    return DownloadError(f"connection failed: {_root_cause(error)}")


def _root_cause(error: BaseException) -> str:
    """The innermost reason of a connection error, which urllib3 wraps."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)


class _Watch:
    """Shuts the connection that this thread uses when the deadline has come.

    A timeout of the socket begins anew with each byte: a server that trickles, in its headers or
    in its answer, could hold a worker for ever.
    """

    def __init__(self, end: float) -> None:
        self.end = end
        self.connection: socket.socket | None = None
        self.shut = False

    def __enter__(self) -> _Watch:
        _start_watching()
        _of_thread.watch = self
        _watches.add(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _watches.discard(self)

    def look(self, now: float) -> None:
        """Shut the connection if it is time."""
        if now > self.end and self.connection:
            self.shut = True
            with suppress(OSError):  # it may have been closed already
                # Not the TLS layer's own, which is not made to be called by another thread.
                socket.socket.shutdown(self.connection, socket.SHUT_RDWR)


_watches: set[_Watch] = set()
_of_thread = threading.local()


@cache
def _start_watching() -> None:
    def run() -> None:
        while True:
            time.sleep(0.25)
            for watch in _watches.copy():
                watch.look(time.monotonic())

    threading.Thread(target=run, daemon=True).start()


class _Watched:
    """A connection of urllib3 whose socket is watched while it works."""

    def request(self, *args: object, **kwargs: object) -> None:
        super().request(*args, **kwargs)
        _of_thread.watch.connection = self.sock


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = type("WatchedHTTP", (_Watched, HTTPConnection), {})


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = type("WatchedHTTPS", (_Watched, HTTPSConnection), {})


@cache
def _pool(proxy: str | None) -> urllib3.PoolManager:
    """Connections that all threads share and that are kept alive from file to file."""
    manager = urllib3.ProxyManager if proxy else urllib3.PoolManager
    pool = manager(
        *([proxy] if proxy else []),
        num_pools=KEPT_HOSTS,
        maxsize=KEPT_ALIVE,
        # As requests, curl and pip find them.
        ca_certs=os.environ.get("SSL_CERT_FILE")
        or os.environ.get("REQUESTS_CA_BUNDLE")
        or certifi.where(),
        # Uncompressed, so that Content-Length is the length of the file.
        headers={
            "User-Agent": USER_AGENT,
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": "identity",
        },
    )
    pool.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return pool


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for the address. Raises ValueError for a bad address."""
    host, proxies = host_of(url), _proxies()
    if not proxies or proxy_bypass(host):
        return None
    proxy = proxies.get(urlsplit(url).scheme.lower()) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


_proxies = cache(getproxies)
