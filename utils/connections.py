"""HTTP connections that all threads share: kept alive, patient with odd servers, never endless."""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO, cast

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context

from utils import __version__
from utils.errors import StageError
from utils.proxies import Proxy

HEADERS = {
    "User-Agent": f"facial-emotion-recognition/{__version__} (dataset download)",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",  # so that Content-Length is the length of the file
}
MAX_IDLE_HOSTS = 8  # whose connections are kept alive
MAX_HEADER_LINES = 1000  # Python allows 100, which the cookies of some servers exceed
GUARD_INTERVAL = 0.25  # seconds between checks of the deadlines
# The variables that curl and requests read. Each names a file of certificates, or a folder.
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_HEADER_LINE = re.compile(rb"([!-9;-~]+)[ \t]*(:.*)", re.DOTALL)
_LINE_ENDS = (b"\r\n", b"\n", b"")


def basic_auth(credentials: bytes) -> str:
    """Return the value of the header that holds a name and a password."""
    return f"Basic {b64encode(credentials).decode()}"


@cache
def connections(proxy: Proxy | None) -> urllib3.PoolManager:
    """Return the connections that all threads share and keep alive from file to file."""
    # Python's http.client has no other way to read more header lines; urllib3 logs to the screen
    # where a program has set up logging, as Ray does.
    http.client._MAXHEADERS = MAX_HEADER_LINES  # type: ignore[attr-defined]
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {
        "num_pools": MAX_IDLE_HOSTS,
        "maxsize": 0,  # keep as many connections to a host as were in use at the same time
        "ssl_context": tls_context(),
        "headers": HEADERS,
    }
    pools = urllib3.PoolManager(**options)
    if proxy:
        if proxy.credentials:
            options["proxy_headers"] = {"Proxy-Authorization": basic_auth(proxy.credentials)}
        pools = urllib3.ProxyManager(proxy.url, proxy_ssl_context=tls_context(), **options)
    pools.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return pools


@cache
def tls_context() -> ssl.SSLContext:
    """Return the settings of all https connections, with the certificates that are trusted.

    Raise StageError if the environment names certificates that cannot be read.
    """
    context = create_urllib3_context()
    variable = next((name for name in CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    path = os.environ[variable] if variable else certifi.where()
    kind = "capath" if os.path.isdir(path) else "cafile"  # noqa: PTH112 - "" is no path
    try:
        context.load_verify_locations(**{kind: path})
    except OSError as error:  # ssl.SSLError is one
        reason = "holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        where = f"{variable}={path}" if variable else path
        raise StageError(
            f"{where}: {reason}; let {variable or CERTIFICATE_VARIABLES[0]} name a file of "
            "trusted certificates, or unset it"
        ) from None
    return context


class DeadlineGuard:
    """Shuts down the connection that this thread uses when the deadline has passed.

    The timeout of a socket starts again with each byte: a server that sends one byte at a time, in
    its headers or in the body, could hold a worker for ever.
    """

    def __init__(self, end: float) -> None:
        """`end`: the deadline, as time.monotonic() counts."""
        self.expired = False
        self.connection: socket.socket | None = None
        self._end = end

    def __enter__(self) -> DeadlineGuard:
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


_guards: set[DeadlineGuard] = set()
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


class PatientResponse(http.client.HTTPResponse):
    """An answer that browsers understand, though Python's http.client does not.

    Interim answers (1xx) may come before it, and its head may hold lines that are no headers.
    """

    def begin(self, **options: Any) -> None:
        """Read the head of the answer."""
        file, self.fp = self.fp, cast("Any", _HeadLines(self.fp))
        lines = self.fp
        try:
            super().begin(**options)
            while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
                self.headers = self.msg = cast("Any", None)  # so that the next head is read
                super().begin(**options)
        finally:
            if self.fp is lines:  # and not closed
                self.fp = file


class _HeadLines:
    """The lines of an answer's head. Lines that would end it for Python's parser are left out."""

    def __init__(self, file: BinaryIO) -> None:
        self.close = file.close
        self._file = file
        self._count = 0  # lines of this head, its status line too
        self._kept = False  # the line before, which the next one may continue

    def readline(self, limit: int) -> bytes:
        """Return the next line that matters, at most `limit` bytes of it."""
        while True:
            line = self._file.readline(limit)
            self._count += 1
            if self._count == 1 and line in (b"\r\n", b"\n"):
                self._count = 0  # some servers end a body with a line end that does not count
                continue
            if self._count == 1 or len(line) == limit:
                return line  # the status line, or one that is too long
            if line in _LINE_ENDS:
                self._count = 0  # another head follows if this is an interim answer
                return line
            if self._count > MAX_HEADER_LINES:
                raise http.client.HTTPException(f"got more than {MAX_HEADER_LINES} headers")
            if line := self._repair(line):
                return line

    def _repair(self, line: bytes) -> bytes:
        """Return a header line in a form that Python parses; nothing if it is no header."""
        if not line.startswith((b" ", b"\t")):  # which continue the line before
            header = _HEADER_LINE.match(line)
            self._kept = header is not None
            line = b"".join(header.groups()) if header else b""
        if not self._kept:
            return b""
        return line.rstrip(b"\r\n").replace(b"\r", b" ") + b"\r\n"


class _GuardedHTTPConnection(HTTPConnection):
    response_class = PatientResponse

    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)
        _of_thread.guard.connection = self.sock


class _GuardedHTTPSConnection(HTTPSConnection):
    response_class = PatientResponse

    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)
        _of_thread.guard.connection = self.sock


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _GuardedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _GuardedHTTPSConnection
