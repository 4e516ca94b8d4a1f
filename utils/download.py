"""Download one file from the web, within limits of size and time, with retries."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead
from http.cookiejar import CookieJar
from typing import BinaryIO, NamedTuple
from urllib.parse import quote_from_bytes, urljoin
from urllib.request import Request

try:
    import resource
except ImportError:  # Windows, which has no limit of open files
    resource = None  # type: ignore[assignment]

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    InvalidHeader,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from utils.connections import HEADERS, DeadlineGuard, basic_auth, connections, tls_context
from utils.console import one_line
from utils.proxies import Proxy, proxy_settings
from utils.urls import Address, hide_credentials, parse_address

CHUNK_BYTES = 1 << 18  # read at a time
MAX_REDIRECTS = 10
RETRY_STATUSES = (408, 425, 429)  # HTTP statuses below 500 that are transient
EMPTY_STATUSES = (204, 205)  # of success, but without a file
MIN_PAUSE, MAX_PAUSE = 0.5, 30.0  # seconds before a retry; doubled each time
MAX_DRAIN_BYTES = 1 << 16  # of an unused body that is read, so that its connection can be reused
# Ways to compress a body that urllib3 reads only with a further library. No request asks for them.
COMPRESSIONS = ("br", "zstd", "compress", "x-compress")
_PRINTABLE_ASCII = bytes(range(0x21, 0x7F))


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
    says that all that the server announced has arrived.

    Retry transient errors, with growing random pauses: RETRY_STATUSES and 5xx, timeouts, lost
    connections, truncated answers and those that `check` refuses. Other errors are final: other
    statuses, invalid addresses and certificates, a file that is too large.

    Raise DownloadError if the file is not downloaded, OSError if it cannot be written, and
    StageError if the environment names a proxy or certificates that cannot be used.
    """
    end = time.monotonic() + limits.deadline
    visit = _Visit()
    tries = 0
    while True:
        tries += 1
        try:
            complete = _try_download(url, file, limits, end, visit)
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
    return parse_address(url).host


def check_settings() -> None:
    """Raise StageError if the environment names a proxy or certificates that cannot be used."""
    proxy_settings()
    tls_context()


class _Visit:
    """What the requests for one file share, retries and redirects included.

    A name and a password are sent to the server of the address that holds them, and to no other.
    Cookies go by the usual rules; some servers come to the file only in this way.
    """

    def __init__(self) -> None:
        self._login: Address | None = None  # with credentials
        self._cookies: CookieJar | None = None

    def headers_for(self, address: Address) -> dict[str, str]:
        """Return the headers of a request."""
        headers = dict(HEADERS)
        if address.credentials:
            self._login = address
        if self._login and self._login.credentials and self._login.gives_credentials_to(address):
            headers["Authorization"] = basic_auth(self._login.credentials)
        if self._cookies:
            request = Request(address.url)
            self._cookies.add_cookie_header(request)
            if cookie := request.get_header("Cookie"):
                headers["Cookie"] = cookie
        return headers

    def keep_cookies(self, response: urllib3.BaseHTTPResponse, address: Address) -> None:
        """Keep the cookies of an answer for the requests that follow."""
        if "Set-Cookie" in response.headers:
            if self._cookies is None:
                self._cookies = CookieJar()
            self._cookies.extract_cookies(response, Request(address.url))  # type: ignore[arg-type]


def _try_download(
    url: str, file: BinaryIO, limits: DownloadLimits, end: float, visit: _Visit
) -> bool:
    """Request the URL and follow redirects. Return whether the file is known to be complete."""
    address = _parse(url)
    for _ in range(MAX_REDIRECTS + 1):
        location, complete = _request(address, file, limits, end, visit)
        if not location:
            return complete
        address = _redirected_address(address, location)
    raise DownloadError(f"more than {MAX_REDIRECTS} redirects", retryable=False)


def _parse(url: str, origin: str = "") -> Address:
    """Return the address. Raise DownloadError, which begins with `origin`, if it is invalid."""
    try:
        return parse_address(url)
    except ValueError as error:
        raise DownloadError(f"{origin}{error}", retryable=False) from None


def _redirected_address(address: Address, location: str) -> Address:
    raw = location.encode("latin-1", "replace")  # headers are decoded as Latin-1
    try:
        location = raw.decode()  # most hold UTF-8
    except UnicodeError:
        location = quote_from_bytes(raw, safe=_PRINTABLE_ASCII)
    try:
        location = urljoin(address.url, location)
    except ValueError:
        reason = f"redirected to {hide_credentials(location)!r}, which is not an address"
        raise DownloadError(reason, retryable=False) from None
    return _parse(location, "redirected: ")


def _request(
    address: Address, file: BinaryIO, limits: DownloadLimits, end: float, visit: _Visit
) -> tuple[str | None, bool]:
    """Send one request and write the body of its answer to the file.

    Return (the address that the answer redirects to, False), or (None, whether the file is known
    to be complete). Raise DownloadError for every other answer.
    """
    error: Exception | None = None
    proxy = proxy_settings().proxy_for(address)
    with DeadlineGuard(end) as guard:
        try:
            answer = _send(address, file, limits, end, visit, proxy)
        except (HTTPError, ValueError, DownloadError) as problem:
            error = problem
    if guard.expired:  # the shut connection can look like any error, or like the end of the body
        reason = f"not complete after {limits.deadline:g} seconds: {file.tell():,} bytes"
        raise DownloadError(reason, retryable=False)
    if error:
        raise _to_download_error(error, file.tell(), limits.timeout, proxy)
    return answer


def _send(
    address: Address,
    file: BinaryIO,
    limits: DownloadLimits,
    end: float,
    visit: _Visit,
    proxy: Proxy | None,
) -> tuple[str | None, bool]:
    """Do what `_request` describes. Raise urllib3's errors as they are."""
    seconds = min(limits.timeout, max(end - time.monotonic(), 0.1))
    with connections(proxy).request(
        "GET",
        address.url,
        headers=visit.headers_for(address),
        redirect=False,
        retries=False,
        preload_content=False,
        timeout=urllib3.Timeout(connect=seconds, read=seconds),
        enforce_content_length=False,  # _receive checks it, and says how much has arrived
    ) as response:
        visit.keep_cookies(response, address)
        location = response.get_redirect_location() or None
        if not location and not _holds_file(response):
            _drain(response)
            raise _refusal(response, proxy)
        complete = False if location else _receive(response, file, limits)
        _drain(response)
        return location, complete


def _holds_file(response: urllib3.BaseHTTPResponse) -> bool:
    """Return whether the status says that the body is the file."""
    return 200 <= response.status < 300 and response.status not in EMPTY_STATUSES


def _refusal(response: urllib3.BaseHTTPResponse, proxy: Proxy | None) -> DownloadError:
    """Return the reason why an answer holds no file."""
    status = response.status
    reason = f"HTTP status {status} {one_line(response.reason or '')}".rstrip()
    if status in response.REDIRECT_STATUSES:
        reason += ", but no address to go to"
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and proxy:
        reason += f": {_login_advice(proxy)}"
    return DownloadError(
        reason,
        retryable=status in RETRY_STATUSES or status >= 500,
        retry_after=_retry_after(response),
    )


def _login_advice(proxy: Proxy) -> str:
    if proxy.credentials:
        return f"{proxy} refuses the name and the password"
    return f"{proxy} wants a name and a password, as in http://name:password@host:port"


def _receive(response: urllib3.BaseHTTPResponse, file: BinaryIO, limits: DownloadLimits) -> bool:
    """Write the body to the file. Return whether it is known to be complete."""
    length = _announced_length(response)
    whole = _check_range(response)
    too_large = DownloadError(f"larger than {limits.max_bytes / 2**20:g} MB", retryable=False)
    if length and length > limits.max_bytes:
        raise too_large
    for chunk in _body_chunks(response, file):
        file.write(chunk)
        if file.tell() > limits.max_bytes:
            raise too_large
    received = response.tell()  # before decompression, if the server compresses
    if length is not None and received != length:
        raise DownloadError(f"truncated: {received:,} of {length:,} bytes")
    return whole and (length is not None or _is_chunked(response))


def _body_chunks(response: urllib3.BaseHTTPResponse, file: BinaryIO) -> Iterator[bytes]:
    """Yield the body, decompressed if the server compresses, though no request asks for it."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in COMPRESSIONS and coding not in response.CONTENT_DECODERS:
        reason = f"the server sends it compressed with {coding}, which was not asked for"
        raise DownloadError(reason, retryable=False)
    transfer = response.headers.get("Transfer-Encoding", "identity").strip().lower()
    if transfer not in ("identity", "chunked"):
        reason = f"the server sends it with the transfer coding {one_line(transfer)!r}"
        raise DownloadError(f"{reason}, which was not asked for", retryable=False)
    try:
        while chunk := response.read1(CHUNK_BYTES):
            yield chunk
    except DecodeError as error:
        if file.tell() or "incorrect data check" in _root_cause(error):
            raise DownloadError(
                f"the {coding} data is broken after {file.tell():,} bytes"
            ) from None
        reason = f"the server says that the body is {coding}, which it is not"
        raise DownloadError(reason, retryable=False) from None


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read the rest of an unused body, if it is short."""
    length = _announced_length(response)
    if length is not None and length <= MAX_DRAIN_BYTES:
        response.drain_conn()


def _is_chunked(response: urllib3.BaseHTTPResponse) -> bool:
    """Return whether the body comes in chunks, of which the last one says that it is the last."""
    return response.headers.get("Transfer-Encoding", "").strip().lower() == "chunked"


def _announced_length(response: urllib3.BaseHTTPResponse) -> int | None:
    """Return the length of the body in bytes, or None if the server does not announce it.

    Chunks count more than a length, as the standard says: proxies that change a body forget it.
    """
    length = response.headers.get("Content-Length", "").partition(",")[0].strip()
    is_valid = length.isdecimal() and len(length) < 20 and not _is_chunked(response)
    return int(length) if is_valid else None


def _check_range(response: urllib3.BaseHTTPResponse) -> bool:
    """Return whether the body is known to be the whole file, and not a range of its bytes.

    Raise DownloadError if it is known to be a part.
    """
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return True
    content_range = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes +(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", content_range.strip())
    if not found:
        return False
    first, last, total = found.groups()
    if int(first) or (total != "*" and int(last) + 1 != int(total)):
        reason = f"HTTP status 206: only the bytes {first} to {last} of {total}"
        raise DownloadError(reason, retryable=False)
    return total != "*"


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Return the seconds that the server asks to wait before a retry; 0 if it does not ask."""
    try:
        return max(urllib3.Retry(0).get_retry_after(response) or 0, 0)
    except (InvalidHeader, ValueError, OverflowError):  # for example the year 99999
        return 0


def _to_download_error(
    error: Exception, received: int, timeout: float, proxy: Proxy | None
) -> DownloadError:
    """Translate an error of urllib3 that came after `received` bytes of the body."""
    if isinstance(error, DownloadError):
        return error
    if proxy and (problem := _proxy_problem(error, proxy)):
        return problem
    if isinstance(error, NewConnectionError):
        return DownloadError(f"connection failed: {_root_cause(error)}")
    if isinstance(error, ConnectTimeoutError):
        return DownloadError(f"no connection in {timeout:g} seconds")
    if isinstance(error, ReadTimeoutError):
        if received:
            return DownloadError(f"stalled after {received:,} bytes")
        return DownloadError(f"no answer for {timeout:g} seconds")
    return _protocol_problem(error, received)


def _proxy_problem(error: Exception, proxy: Proxy) -> DownloadError | None:
    """Return what a proxy has done wrong, if it is the proxy's fault."""
    reason = _root_cause(error)
    answer = reason.removeprefix("Tunnel connection failed: ")  # to a request for an https address
    if answer == reason:
        if not isinstance(error, ProxyError):
            return None
        if isinstance(error.original_error, SSLError):  # of the way to a proxy like https://host
            return DownloadError(f"no safe connection to {proxy}: {reason}", retryable=False)
        return DownloadError(f"{proxy} does not answer: {reason}")
    if answer.startswith(str(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED.value)):
        return DownloadError(f"HTTP status {answer}: {_login_advice(proxy)}", retryable=False)
    is_transient = answer.startswith(("5", *map(str, RETRY_STATUSES)))
    return DownloadError(f"{proxy} refuses the connection: {answer}", is_transient)


def _protocol_problem(error: Exception, received: int) -> DownloadError:
    """Translate an error in what was sent, rather than in the connection."""
    cause = _innermost(error)
    if isinstance(error, (SSLError, ValueError)):
        return DownloadError(f"the request failed: {_root_cause(error)}", retryable=False)
    if isinstance(error, InvalidHeader):
        return DownloadError(f"not a valid answer: {_root_cause(error)}", retryable=False)
    if received or isinstance(cause, IncompleteRead):
        return DownloadError(f"connection lost after {received:,} bytes")
    if isinstance(cause, HTTPException) and not isinstance(cause, ConnectionError):
        return DownloadError(f"not a valid answer: {_root_cause(error)}")
    return DownloadError(f"connection failed: {_root_cause(error)}")


def _innermost(error: BaseException) -> BaseException:
    """Return the innermost error, which urllib3 wraps."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def _root_cause(error: BaseException) -> str:
    """Return the reason of the innermost error."""
    cause = _innermost(error)
    return one_line(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)
