"""Download one file from the web, within limits of size and time, with retries."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

try:
    import resource
except ImportError:  # Windows, which has no limit of open files
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
CHUNK_BYTES = 1 << 18  # read at a time
MAX_REDIRECTS = 10
RETRY_STATUSES = (408, 425, 429)  # HTTP statuses below 500 that are transient
MIN_PAUSE, MAX_PAUSE = 0.5, 30.0  # seconds before a retry; doubled each time
MAX_DRAIN_BYTES = 1 << 16  # of an unused body that is read, so that its connection can be reused
MAX_IDLE_CONNECTIONS, MAX_IDLE_HOSTS = 32, 8  # connections per host, and hosts, kept alive
GUARD_INTERVAL = 0.25  # seconds between checks of the deadlines


class DownloadLimits(NamedTuple):
    """Limits of time and size for one file."""

    timeout: float = 30  # seconds for a connection, and for each next part of the answer
    deadline: float = 300  # seconds in all, retries and pauses included
    max_bytes: int = 64 << 20
    retries: int = 3


class DownloadError(Exception):
    """The reason why a file was not downloaded."""

    def __init__(self, reason: str, retryable: bool = True, retry_after: float = 0) -> None:
        """`retryable`: a retry may help, after at least `retry_after` seconds."""
        super().__init__(reason)
        self.retryable, self.retry_after = retryable, retry_after


def allow_open_files(count: int) -> None:
    """Let this process open `count` files and connections, or as many as the system allows.

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
    """Download the URL into the file, which is empty and open for writing.

    `check(file, complete)` raises ValueError if the content is not what it should be; `complete`
    says that the server announced the length and all of it has arrived.

    Retry transient errors, with growing random pauses: RETRY_STATUSES and 5xx, timeouts, lost
    connections, truncated answers and those that `check` refuses. Other errors are final: other
    statuses, invalid addresses and certificates, a file that is too large.

    Raise DownloadError if the file is not downloaded, and OSError if it cannot be written.
    """
    end = time.monotonic() + limits.deadline
    tries = 0
    while True:
        tries += 1
        try:
            complete = _try_download(url, file, limits, end)
            file.flush()
            try:
                check(file, complete)
            except ValueError as error:
                raise DownloadError(str(error)) from None
            return
        except DownloadError as error:
            pause = min(MIN_PAUSE * 2 ** (tries - 1), MAX_PAUSE) * random.uniform(0.5, 1)
            pause = max(pause, error.retry_after)
            if not error.retryable or tries > limits.retries or time.monotonic() + pause > end:
                wish = error.retry_after
                wait = f", the server asks to wait {wish:.0f} seconds" if wish else ""
                count = f" (tried {tries} times)" if tries > 1 else ""
                raise DownloadError(f"{error}{wait}{count}", error.retryable) from None
        file.seek(0)
        file.truncate()
        time.sleep(pause)


def host_of(url: str) -> str:
    """Return the host of an http or https address. Raise ValueError for any other text."""
    with suppress(ValueError):  # for example of brackets that do not match
        parts = urlsplit(url)
        if parts.scheme.lower() in ("http", "https") and parts.hostname:
            return parts.hostname
    raise ValueError(f"{url!r} is not an http or https address")


def _try_download(url: str, file: BinaryIO, limits: DownloadLimits, end: float) -> bool:
    """Request the URL and follow redirects. Return whether the length was announced."""
    for _ in range(MAX_REDIRECTS + 1):
        location, length_announced = _request(url, file, limits, end)
        if not location:
            return length_announced
        url = _redirected_url(url, location)
    raise DownloadError(f"more than {MAX_REDIRECTS} redirects", retryable=False)


def _redirected_url(url: str, location: str) -> str:
    with suppress(UnicodeError):  # headers are decoded as Latin-1, though most hold UTF-8
        location = location.encode("latin-1").decode()
    try:
        return urljoin(url, location)
    except ValueError:
        reason = f"redirected to {location!r}, which is not an address"
        raise DownloadError(reason, retryable=False) from None


def _request(
    url: str, file: BinaryIO, limits: DownloadLimits, end: float
) -> tuple[str | None, bool]:
    """Send one request and write the body of its answer to the file.

    Return (the address that the answer redirects to, False), or (None, whether the length of the
    body was announced). Raise DownloadError for every other answer.
    """
    error: Exception | None = None
    with _DeadlineGuard(end) as guard:
        try:
            answer = _send(url, file, limits, end)
        except (HTTPError, ValueError, DownloadError) as problem:
            error = problem
    if guard.expired:  # the shut connection can look like any error, or like the end of the body
        reason = f"not complete after {limits.deadline:g} seconds: {file.tell():,} bytes"
        raise DownloadError(reason, retryable=False)
    if error:
        raise _to_download_error(error, file.tell(), limits.timeout)
    return answer


def _send(url: str, file: BinaryIO, limits: DownloadLimits, end: float) -> tuple[str | None, bool]:
    """Do what `_request` describes. Raise urllib3's errors as they are."""
    seconds = min(limits.timeout, max(end - time.monotonic(), 0.1))
    with _connections(_proxy(url)).request(
        "GET",
        url,
        redirect=False,
        retries=False,
        preload_content=False,
        timeout=urllib3.Timeout(connect=seconds, read=seconds),
        enforce_content_length=False,  # _receive checks it, and says how much has arrived
    ) as response:
        location = response.get_redirect_location() or None
        length_announced = False if location else _receive(response, file, limits)
        _drain(response)
        return location, length_announced


def _receive(response: urllib3.BaseHTTPResponse, file: BinaryIO, limits: DownloadLimits) -> bool:
    """Write the body to the file. Return whether its length was announced."""
    if response.status != 200:
        _drain(response)
        raise DownloadError(
            f"HTTP status {response.status} {one_line(response.reason or '')}".rstrip(),
            retryable=response.status in RETRY_STATUSES or response.status >= 500,
            retry_after=_retry_after(response),
        )
    length = _announced_length(response)
    too_large = DownloadError(f"larger than {limits.max_bytes / 2**20:g} MB", retryable=False)
    if length and length > limits.max_bytes:
        raise too_large
    while chunk := response.read1(CHUNK_BYTES):
        file.write(chunk)
        if file.tell() > limits.max_bytes:
            raise too_large
    received = response.tell()  # before decompression, if the server compresses
    if length is not None and received != length:
        raise DownloadError(f"truncated: {received:,} of {length:,} bytes")
    return length is not None


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read the rest of an unused body, if it is short."""
    length = _announced_length(response)
    if length is not None and length <= MAX_DRAIN_BYTES:
        response.drain_conn()


def _announced_length(response: urllib3.BaseHTTPResponse) -> int | None:
    """Return the length of the body in bytes, or None if the server does not announce it."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Return the seconds that the server asks to wait before a retry; 0 if it does not ask."""
    try:
        return max(urllib3.Retry(0).get_retry_after(response) or 0, 0)
    except (InvalidHeader, ValueError, OverflowError):  # for example the year 99999
        return 0


def _to_download_error(error: Exception, received: int, timeout: float) -> DownloadError:
    """Translate an error of urllib3 that came after `received` bytes of the body."""
    if isinstance(error, DownloadError):
        return error
    if isinstance(error, NewConnectionError):
        return DownloadError(f"connection failed: {_root_cause(error)}")
    if isinstance(error, ConnectTimeoutError):
        return DownloadError(f"no connection in {timeout:g} seconds")
    if isinstance(error, ReadTimeoutError):
        if received:
            return DownloadError(f"stalled after {received:,} bytes")
        return DownloadError(f"no answer for {timeout:g} seconds")
    if isinstance(error, (SSLError, LocationValueError, ValueError)):
        return DownloadError(f"the request failed: {_root_cause(error)}", retryable=False)
    if received:
        return DownloadError(f"connection lost after {received:,} bytes")
    return DownloadError(f"connection failed: {_root_cause(error)}")


def _root_cause(error: BaseException) -> str:
    """Return the reason of the innermost error, which urllib3 wraps."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)


class _DeadlineGuard:
    """Shuts down the connection that this thread uses when the deadline has passed.

    The timeout of a socket starts again with each byte: a server that sends one byte at a time, in
    its headers or in the body, could hold a worker for ever.
    """

    def __init__(self, end: float) -> None:
        """`end`: the deadline, as time.monotonic() counts."""
        self.expired = False
        self.connection: socket.socket | None = None
        self._end = end

    def __enter__(self) -> _DeadlineGuard:
        _start_guarding()
        _of_thread.guard = self
        _guards.add(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _guards.discard(self)

    def check(self, now: float) -> None:
        """Shut down the connection if the deadline has passed."""
        if now > self._end and self.connection:
            self.expired = True
            with suppress(OSError):  # it may be closed already
                # Not SSLSocket.shutdown, which is not made to be called by another thread.
                socket.socket.shutdown(self.connection, socket.SHUT_RDWR)


_guards: set[_DeadlineGuard] = set()
_of_thread = threading.local()  # .guard: of this thread's request


@cache
def _start_guarding() -> None:
    """Start the one thread that checks all guards."""

    def run() -> None:
        while True:
            time.sleep(GUARD_INTERVAL)
            for guard in _guards.copy():
                guard.check(time.monotonic())

    threading.Thread(target=run, daemon=True).start()


class _GuardedHTTPConnection(HTTPConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)
        _of_thread.guard.connection = self.sock


class _GuardedHTTPSConnection(HTTPSConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)
        _of_thread.guard.connection = self.sock


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _GuardedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _GuardedHTTPSConnection


@cache
def _connections(proxy: str | None) -> urllib3.PoolManager:
    """Return the connections that all threads share and keep alive from file to file."""
    options: dict[str, Any] = {
        "num_pools": MAX_IDLE_HOSTS,
        "maxsize": MAX_IDLE_CONNECTIONS,
        # The variables that requests, curl and pip read.
        "ca_certs": os.environ.get("SSL_CERT_FILE")
        or os.environ.get("REQUESTS_CA_BUNDLE")
        or certifi.where(),
        "headers": {
            "User-Agent": USER_AGENT,
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": "identity",  # so that Content-Length is the length of the file
        },
    }
    pools = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    pools.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return pools


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for the URL, or None.

    Raise DownloadError if the URL is not an http or https address.
    """
    try:
        host = host_of(url)
    except ValueError as error:
        raise DownloadError(str(error), retryable=False) from None
    proxies = _proxies()
    if not proxies or proxy_bypass(host):
        return None
    proxy = proxies.get(urlsplit(url).scheme.lower()) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


_proxies = cache(getproxies)
