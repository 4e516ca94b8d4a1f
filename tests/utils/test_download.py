"""One file from a real server: limits, retries and reasons.

tests/scripts/test_download_image.py has the answers that take their time.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from typing import BinaryIO

import pytest

from tests.helpers import ROOT
from tests.server import (
    Answer,
    FailingFirst,
    announces_too_much,
    compressed,
    endless,
    page,
    raw,
    reset,
    send,
    stalls,
    status,
    trickles,
    truncated,
    truncated_without_length,
)
from utils import download as download_module
from utils.download import DownloadError, DownloadLimits, check_settings, download, host_of
from utils.errors import StageError
from utils.proxies import proxy_settings

QUICK = DownloadLimits(timeout=5, deadline=30, max_bytes=1 << 20, retries=2)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(download_module, "MIN_PAUSE", 0.01)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch) -> Iterator[None]:
    """Forget the proxies of the machine, and afterwards those of the test."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    proxy_settings.cache_clear()
    yield
    proxy_settings.cache_clear()


class Check:
    """Refuses a web page, and keeps what it was asked."""

    def __init__(self) -> None:
        self.complete: list[bool] = []

    def __call__(self, file: BinaryIO, complete: bool) -> None:
        self.complete.append(complete)
        file.seek(0)
        if file.read().startswith(b"<html"):
            raise ValueError("a page")


def fetch(url: str, limits: DownloadLimits = QUICK, check=None) -> bytes:
    file = io.BytesIO()
    download(url, file, limits, check or Check())
    return file.getvalue()


def test_download_writes_the_file_and_keeps_the_connection(server):
    server.files = {"/a": b"first", "/b": b""}
    assert fetch(f"{server.url}/a") == b"first"
    assert fetch(f"{server.url}/b") == b""
    assert server.connections == 1
    assert all("facial-emotion-recognition/" in agent for agent in server.agents)


def test_download_says_whether_the_length_was_announced(server):
    check = Check()
    server.files = {"/known": b"x", "/unknown": truncated_without_length}
    fetch(f"{server.url}/known", check=check)
    fetch(f"{server.url}/unknown", check=check)
    assert check.complete == [True, False]


def test_download_understands_a_server_that_compresses(server):
    server.files = {"/x": compressed}
    assert fetch(f"{server.url}/x").startswith(b"\xff\xd8")


def test_download_follows_a_redirect(server):
    server.files = {"/old": status(302, Location="/new%20one"), "/new one": b"found"}
    assert fetch(f"{server.url}/old") == b"found"


@pytest.mark.parametrize("code", [408, 425, 429, 500, 503])
def test_download_retries_a_transient_status(server, code):
    server.files = {"/x": FailingFirst(b"good", status(code), status(code))}
    assert fetch(f"{server.url}/x") == b"good" and server.requests["/x"] == 3


@pytest.mark.parametrize("answer", [reset, truncated, page], ids=["reset", "truncated", "page"])
def test_download_starts_again_after_a_broken_answer(server, answer):
    server.files = {"/x": FailingFirst(b"good", answer)}
    assert fetch(f"{server.url}/x") == b"good" and server.requests["/x"] == 2


def test_download_waits_as_long_as_the_server_asks(server):
    server.files = {"/x": FailingFirst(b"good", status(503, Retry_After="1"))}
    assert fetch(f"{server.url}/x") == b"good"
    first, second = server.files["/x"].times
    assert second - first >= 1


def test_download_pauses_longer_after_each_try_up_to_a_limit(server, monkeypatch):
    monkeypatch.setattr(download_module, "MIN_PAUSE", 0.05)
    monkeypatch.setattr(download_module, "MAX_PAUSE", 0.2)
    server.files = {"/x": FailingFirst(b"good", *[status(500)] * 8)}
    fetch(f"{server.url}/x", QUICK._replace(retries=8))
    times = server.files["/x"].times
    pauses = [later - earlier for earlier, later in pairwise(times)]
    for pause, longest in zip(pauses, (0.05, 0.1, *[0.2] * 6), strict=True):
        assert pause >= longest / 2
    assert times[-1] - times[0] < 6  # doubling eight times would take longer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(404), "HTTP status 404 Not Found"),
        (status(410), "HTTP status 410 Gone"),
        (announces_too_much, "larger than 1 MB"),
        (endless, "larger than 1 MB"),
        (status(429, Retry_After="9000"), "asks to wait 9000 seconds"),
        (status(302, Location="http://[::1"), "is not an address"),
        (status(302, Location="file:///etc/hostname"), "not an http or https address"),
    ],
)
def test_download_gives_up_at_once(server, answer, reason):
    server.files = {"/x": answer}
    with pytest.raises(DownloadError, match=reason):
        fetch(f"{server.url}/x")
    assert server.requests["/x"] == 1


def test_download_gives_up_after_its_retries(server):
    server.files = {"/x": status(500)}
    with pytest.raises(DownloadError) as caught:
        fetch(f"{server.url}/x")
    assert str(caught.value) == "HTTP status 500 Internal Server Error (tried 3 times)"
    assert caught.value.retryable and server.requests["/x"] == 3


def test_download_ignores_a_date_that_no_calendar_has(server):
    later = status(503, Retry_After="Fri, 31 Dec 99999 23:59:59 GMT")
    server.files = {"/x": FailingFirst(b"good", later)}
    assert fetch(f"{server.url}/x") == b"good"


def test_download_follows_ten_redirects_and_no_more(server):
    hops = {f"/{i}": status(302, Location=f"/{i + 1}") for i in range(11)}
    server.files = {**hops, "/11": b"too far", "/10": b"there"}
    assert fetch(f"{server.url}/0") == b"there"
    server.files["/10"] = hops["/10"]
    with pytest.raises(DownloadError, match="more than 10 redirects"):
        fetch(f"{server.url}/0")


def test_download_ends_at_its_deadline(server):
    server.files = {"/x": trickles}
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"not complete after 0\.3 seconds"):
        fetch(f"{server.url}/x", QUICK._replace(deadline=0.3))
    assert time.monotonic() - started < 5


def test_download_ends_when_the_server_stalls(server):
    server.files = {"/x": stalls}
    with pytest.raises(DownloadError, match="stalled after 65,536 bytes"):
        fetch(f"{server.url}/x", QUICK._replace(timeout=0.3, retries=0))


def test_download_names_the_reason_of_a_failed_connection():
    with pytest.raises(DownloadError, match="connection failed: Connection refused"):
        fetch("http://127.0.0.1:9/x", QUICK._replace(retries=0))


def test_download_goes_through_the_proxy_of_the_environment(server, monkeypatch):
    # A proxy is asked for the whole address.
    server.files = {"http://photos.example/x": b"by proxy"}
    monkeypatch.setenv("http_proxy", server.url.removeprefix("http://"))
    assert fetch("http://photos.example/x") == b"by proxy"


def test_download_keeps_as_many_connections_as_were_in_use_at_once(server):
    count = 70
    all_are_here = threading.Barrier(count)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        all_are_here.wait(timeout=30)
        send(handler, 200, b"x")

    server.files = {"/x": answer}
    with ThreadPoolExecutor(count) as threads:
        for _ in range(2):
            assert set(threads.map(fetch, [f"{server.url}/x"] * count)) == {b"x"}
    assert server.connections == count


def test_download_passes_the_errors_of_the_file_on(server):
    class FullDisk(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    server.files = {"/x": lambda handler: send(handler, 200, b"content")}
    with pytest.raises(OSError, match="No space left"):
        download(f"{server.url}/x", FullDisk(), QUICK)
    assert server.requests["/x"] == 1


BODY = bytes(range(256)) * 100
LENGTH = f"Content-Length: {len(BODY)}\n"
OK = "HTTP/1.1 200 OK\nContent-Type: image/jpeg\n"


def chunked(body: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    parts = [body[i : i + 4000] for i in range(0, len(body), 4000)]
    chunks = [b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts]
    return b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


def coded(coding: str, body: bytes) -> Answer:
    head = f"{OK}Content-Encoding: {coding}\nContent-Length: {len(body)}\n\n"
    return raw(head, body)


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


COOKIES = "".join(f"Set-Cookie: c{i}=1\n" for i in range(120))
CHUNKED = f"{OK}Transfer-Encoding: chunked\n"
# Answers of which curl, requests or every browser gets the body.
ODD_ANSWERS = {
    "chunks": raw(f"{CHUNKED}\n", chunked(BODY)),
    "chunks and a wrong length": raw(f"{CHUNKED}Content-Length: 7\n\n", chunked(BODY)),
    "chunks and a longer length": raw(f"{CHUNKED}Content-Length: 99999\n\n", chunked(BODY)),
    "chunks of another case": raw(f"{OK}transfer-encoding: Chunked\n\n", chunked(BODY)),
    "chunks with extensions": raw(f"{CHUNKED}\n", chunked(BODY, b' ;a="b;c"', b"X-Sum: 1\r\n")),
    "103 before": raw(f"HTTP/1.1 103 Early Hints\nLink: </a>\n\n{OK}{LENGTH}\n", BODY),
    "100 and 102 before": raw(
        f"HTTP/1.1 100 Continue\n\nHTTP/1.1 102 Processing\nX: 1\n\n{OK}{LENGTH}\n", BODY
    ),
    "header without a colon": raw(f"HTTP/1.1 200 OK\nX-Powered-By PHP\n more\n{LENGTH}\n", BODY),
    "space before a colon": raw(f"HTTP/1.1 200 OK\nContent-Length : {len(BODY)}\n\n", BODY),
    "header with a Hangul name": raw(f"HTTP/1.1 200 OK\n제목: 사진\n{LENGTH}\n", BODY),
    "header without a name": raw(f"HTTP/1.1 200 OK\n: x\n{LENGTH}\n", BODY),
    "header over two lines": raw(f"HTTP/1.1 200 OK\nX-Long: a\n\tb\n{LENGTH}\n", BODY),
    "lone carriage return": raw(f"HTTP/1.1 200 OK\nX: a\rb\n{LENGTH}\n", BODY),
    "120 cookies": raw(f"{OK}{COOKIES}{LENGTH}\n", BODY),
    "gzip": coded("gzip", gzip.compress(BODY)),
    "gzip of another case": coded(" GZip", gzip.compress(BODY)),
    "x-gzip": coded("x-gzip", gzip.compress(BODY)),
    "gzip in chunks": raw(
        f"{CHUNKED}Content-Encoding: gzip\n\n", chunked(gzip.compress(BODY))
    ),
    "deflate": coded("deflate", zlib.compress(BODY)),
    "deflate without a head": coded("deflate", raw_deflate(BODY)),
    "identity": coded("identity", BODY),
    "a charset as coding": coded("utf-8", BODY),
    "HTTP/1.0": raw("HTTP/1.0 200 OK\n\n", BODY, close=True),
    "no reason": raw(f"HTTP/1.1 200\n{LENGTH}\n", BODY),
    "two equal lengths": raw(f"{OK}{LENGTH}{LENGTH}\n", BODY),
    "status 203": raw(f"HTTP/1.1 203 Non-Authoritative Information\n{LENGTH}\n", BODY),
    "status 201": raw(f"HTTP/1.1 201 Created\n{LENGTH}\n", BODY),
    "status 206 of the whole": raw(
        f"HTTP/1.1 206 Partial Content\nContent-Range: bytes 0-25599/25600\n{LENGTH}\n", BODY
    ),
    "status 206 of an unknown whole": raw(
        f"HTTP/1.1 206 Partial Content\nContent-Range: bytes 0-25599/*\n{LENGTH}\n", BODY
    ),
    "status 206 without a range": raw(f"HTTP/1.1 206 Partial Content\n{LENGTH}\n", BODY),
}  # fmt: skip
NOT_KNOWN_COMPLETE = {"HTTP/1.0", "status 206 of an unknown whole", "status 206 without a range"}


@pytest.mark.parametrize("kind", ODD_ANSWERS)
def test_download_understands_odd_answers(server, kind):
    server.files = {"/x": ODD_ANSWERS[kind], "/next": b"next"}
    check = Check()
    assert fetch(f"{server.url}/x", check=check) == BODY
    assert check.complete == [kind not in NOT_KNOWN_COMPLETE] and server.requests["/x"] == 1
    # Nothing of the answer is left on the connection for the next file.
    assert fetch(f"{server.url}/next") == b"next"
    assert server.connections == (2 if kind == "HTTP/1.0" else 1)


def test_download_understands_lines_without_carriage_returns(server):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"{OK}{LENGTH}\n".encode() + BODY)

    server.files = {"/x": answer}
    assert fetch(f"{server.url}/x") == BODY


REFUSED = {
    "said to be gzip": (coded("gzip", BODY), "the server says that the body is gzip, which it"),
    "said to be deflate": (coded("deflate", BODY), "says that the body is deflate, which it is"),
    "brotli": (coded("br", BODY), "compressed with br, which was not asked for"),
    "transfer coding": (
        raw(f"{OK}Transfer-Encoding: gzip, chunked\n\n", chunked(BODY), close=True),
        "the transfer coding 'gzip, chunked'",
    ),
    "206 of a part": (
        raw(f"HTTP/1.1 206 Partial\nContent-Range: bytes 0-25599/30000\n{LENGTH}\n", BODY),
        "HTTP status 206: only the bytes 0 to 25599 of 30000",
    ),
    "206 of the end": (
        raw(f"HTTP/1.1 206 Partial\nContent-Range: bytes 1-25600/25601\n{LENGTH}\n", BODY),
        "only the bytes 1 to 25600 of 25601",
    ),
    "two lengths": (raw(f"{OK}{LENGTH}Content-Length: 7\n\n", BODY), "not a valid answer: "),
    "no address": (status(302), "HTTP status 302 Found, but no address to go to"),
    "empty address": (status(307, Location=""), "307 Temporary Redirect, but no address"),
    "no content": (status(204), "HTTP status 204 No Content"),
    "switching": (raw("HTTP/1.1 101 Switching Protocols\n\n", close=True), "HTTP status 101"),
    "redirect to a file": (
        status(302, Location="file:///etc/hostname"),
        "redirected: 'file:///etc/hostname' is not an http or https address",
    ),
    "redirect to no port": (status(302, Location="http://a:99999/"), "redirected: .* has a port"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_download_names_the_reason_of_other_answers_and_does_not_retry(server, kind):
    answer, reason = REFUSED[kind]
    server.files = {"/x": answer}
    with pytest.raises(DownloadError, match=reason):
        fetch(f"{server.url}/x")
    assert server.requests["/x"] == 1


TRANSIENT = {
    "no HTTP": (raw("SSH-2.0-OpenSSH\n\n", close=True), "not a valid answer: SSH-2.0"),
    "endless head": (
        raw(f"{OK}{COOKIES * 10}{LENGTH}\n", BODY, close=True),
        "not a valid answer: got more than 1000 headers",
    ),
    "cut in chunks": (raw(f"{CHUNKED}\n", chunked(BODY)[:-9], close=True), "connection lost after"),
    "cut between chunks": (
        raw(f"{CHUNKED}\n", chunked(BODY)[:-5], close=True),
        "connection lost after 25,600 bytes",
    ),
    "103 alone": (raw("HTTP/1.1 103 Early Hints\n\n", close=True), "connection failed"),
    "broken gzip": (
        coded("gzip", gzip.compress(BODY)[:-8] + bytes(8)),
        "the gzip data is broken after",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRANSIENT)
def test_download_retries_an_answer_that_may_be_an_accident(server, kind):
    answer, reason = TRANSIENT[kind]
    server.files = {"/x": FailingFirst(b"good", answer, answer)}
    assert fetch(f"{server.url}/x") == b"good"
    server.files = {"/x": answer}
    with pytest.raises(DownloadError, match=f"{reason}.*tried 3 times"):
        fetch(f"{server.url}/x")


class Wall:
    """Redirects to itself with a cookie until the cookie comes back, as consent pages do."""

    def __init__(self, code: int = 302) -> None:
        self.code = code
        self.seen: list[str | None] = []  # the cookies of the requests

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append(handler.headers["Cookie"])
        if "seen=1" in (self.seen[-1] or ""):
            send(handler, 200, BODY)
        else:
            send(handler, self.code, Set_Cookie="seen=1; Path=/", Location=handler.path)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308, 503])
def test_download_brings_back_the_cookies_of_its_own_answers(server, code):
    wall = Wall(code)
    server.files = {"/x": wall}
    assert fetch(f"{server.url}/x") == BODY and wall.seen == [None, "seen=1"]
    assert fetch(f"{server.url}/x") == BODY and wall.seen[2:] == [None, "seen=1"]


def test_download_keeps_cookies_from_other_hosts_and_paths(server):
    seen = {}

    def hop(location: str, cookie: str) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            seen[handler.path] = handler.headers["Cookie"]
            send(handler, 302, Set_Cookie=cookie, Location=location)

        return answer

    def end(handler: BaseHTTPRequestHandler) -> None:
        seen[handler.path] = handler.headers["Cookie"]
        send(handler, 200, b"end")

    other = server.url.replace("127.0.0.1", "localhost")
    server.files = {
        "/1": hop("/2", "a=1; Path=/"),
        "/2": hop(f"{other}/3", "b=2; Path=/elsewhere"),
        "/3": hop(f"{server.url}/4", "c=3; Path=/"),
        "/4": end,
    }
    assert fetch(f"{server.url}/1") == b"end"
    assert seen == {"/1": None, "/2": "a=1", "/3": None, "/4": "a=1"}


class Login:
    """Wants a name and a password."""

    def __init__(self, credentials: str = "ann:s3 cret") -> None:
        self.wanted = "Basic " + b64encode(credentials.encode()).decode()
        self.given: list[str | None] = []

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.given.append(handler.headers["Authorization"])
        send(handler, 200 if self.given[-1] == self.wanted else 401, b"private")


def with_login(url: str, login: str = "ann:s3%20cret") -> str:
    return url.replace("://", f"://{login}@")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ann:s3%20cret", "ann:s3 cret"),
        ("ann:p@ss:w%2Frd", "ann:p@ss:w/rd"),
        ("%EC%82%AC%EC%A7%84:비밀", "사진:비밀"),
        ("ann", "ann:"),
    ],
)
def test_download_sends_the_name_and_the_password_of_an_address(server, written, meant):
    server.files = {"/x": Login(meant)}
    assert fetch(f"{with_login(server.url, written)}/x") == b"private"


def test_download_gives_a_password_to_its_own_server_only(server):
    other = server.url.replace("127.0.0.1", "localhost")
    login = Login()
    public = Login()
    server.files = {
        "/same": status(302, Location="/private"),
        "/away": status(302, Location=f"{other}/public"),
        "/back": status(302, Location=f"{other}/return"),
        "/return": status(302, Location=f"{server.url}/private"),
        "/named": status(302, Location=f"{with_login(other)}/private"),
        "/private": login,
        "/public": public,
    }
    for path in ("/private", "/same", "/back"):
        assert fetch(f"{with_login(server.url)}{path}") == b"private"
    assert fetch(f"{server.url}/named") == b"private"
    with pytest.raises(DownloadError, match="401"):
        fetch(f"{with_login(server.url)}/away")
    assert public.given == [None] and set(login.given) == {login.wanted}
    with pytest.raises(DownloadError, match="401"):  # the next file knows nothing of it
        fetch(f"{server.url}/private")


@pytest.mark.parametrize(
    "address",
    [
        "http://ann:s3cret@127.0.0.1:9/x",
        "http://ann:s3cret@127.0.0.1:99999/x",
        "http://ann:s3cret@[::1/x",
        "http://ann:s3cret@a b/x",
        "http://ann:s3cret@a..b/x",
        "http://ann:s3/cret@a.b/x",
        "ftp://ann:s3cret@a.b/x",
        "ann:s3cret@a.b/x",
    ],
)
def test_download_shows_no_password(server, address):
    for url in (address, f"{server.url}/x"):
        server.files = {"/x": status(302, Location=address)}
        with pytest.raises(DownloadError) as caught:
            fetch(url, QUICK._replace(retries=0))
        assert "cret" not in str(caught.value) and "s3" not in str(caught.value)


def test_download_asks_for_the_path_as_it_is_written(server):
    paths = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path)
        send(handler, 200, b"x")

    server.files = dict.fromkeys(["/100%/a/b", "/사진 한장?이름=가 나"], answer)
    fetch(f"{server.url}/100%/a%2Fb#anchor")
    fetch(f" {server.url}/사진 한장?이름=가 나#앵커")
    assert paths == [
        "/100%25/a%2Fb",
        "/%EC%82%AC%EC%A7%84%20%ED%95%9C%EC%9E%A5?%EC%9D%B4%EB%A6%84=%EA%B0%80%20%EB%82%98",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_download_follows_a_redirect_with_hangul(server, encoding):
    paths = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path)
        send(handler, 200, b"found")

    location = "/사진.jpg".encode(encoding)
    server.files = {"/x": status(302, Location=location.decode("latin-1"))}
    server.files[location.decode("utf-8", "replace")] = answer
    assert fetch(f"{server.url}/x") == b"found"
    assert paths == ["/" + "".join(f"%{byte:02X}" for byte in location[1:-4]) + ".jpg"]


def test_download_writes_hangul_hosts_as_name_servers_know_them(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    ascii_url = "http://xn--vf4bi0o.xn--3e0b707e/b.jpg"
    server.files = {
        ascii_url: b"photo",
        "http://a.example/x": status(302, Location="http://사진.한국/b.jpg".encode().decode("latin-1")),
    }  # fmt: skip
    for url in ("http://사진.한국/b.jpg", "http://사진。한국:80/b.jpg", "http://a.example/x"):
        assert fetch(url) == b"photo"


class AskingProxy(Login):
    """A proxy that wants a name and a password."""

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.given.append(handler.headers["Proxy-Authorization"])
        send(handler, 200 if self.given[-1] == self.wanted else 407, b"by proxy")


def test_download_gives_its_password_to_the_proxy(server, monkeypatch):
    asking = AskingProxy("ann:p@ss")
    server.files = {"http://photos.example/x": asking}
    for name, login in (("http_proxy", "ann:p%40ss"), ("all_proxy", "ann:p@ss")):
        monkeypatch.setenv(name, with_login(server.url, login))
        proxy_settings.cache_clear()
        assert fetch("http://photos.example/x") == b"by proxy"
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("login", "reason"),
    [("ann:s3cret@", "refuses the name and the password"), ("", "wants a name and a password")],
)
def test_download_names_the_proxy_that_wants_a_password(server, monkeypatch, login, reason):
    server.files = dict.fromkeys(
        ["http://photos.example/x", "photos.example:443"], AskingProxy("x:y")
    )
    where = server.url.removeprefix("http://")
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{login}{where}")
        proxy_settings.cache_clear()
        with pytest.raises(DownloadError) as caught:
            fetch(f"{scheme}://photos.example/x")
        proxy = f"the proxy {where} ({scheme}_proxy) {reason}"
        assert str(caught.value).startswith(
            f"HTTP status 407 Proxy Authentication Required: {proxy}"
        )
        assert "s3cret" not in str(caught.value)
    assert set(server.requests.values()) == {1}


@pytest.mark.parametrize(("code", "tries"), [(403, 1), (502, 3)])
def test_download_names_the_proxy_that_refuses_a_connection(server, monkeypatch, code, tries):
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    server.files = {"photos.example:443": status(code, "Blocked")}
    where = server.url.removeprefix("http://")
    reason = rf"the proxy {where} \(HTTPS_PROXY\) refuses the connection: {code} Blocked"
    with pytest.raises(DownloadError, match=reason):
        fetch("https://photos.example/x")
    assert server.requests["photos.example:443"] == tries


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", ["{}_proxy", "ALL_PROXY"])
def test_download_names_the_proxy_that_does_not_answer(monkeypatch, scheme, name):
    variable = name.format(scheme)
    monkeypatch.setenv(variable, "http://ann:s3cret@127.0.0.1:9")
    with pytest.raises(DownloadError) as caught:
        fetch(f"{scheme}://photos.example/x", QUICK._replace(retries=0))
    if os.name == "nt":  # which knows variables in upper case only
        variable = variable.upper()
    assert str(caught.value).startswith(f"the proxy 127.0.0.1:9 ({variable}) does not answer: ")
    assert "s3cret" not in str(caught.value)


def test_download_reaches_the_hosts_of_no_proxy_directly(server, monkeypatch):
    server.files = {"/x": b"direct"}
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org, 127.0.0.0/8")
    assert fetch(f"{server.url}/x") == b"direct"


def test_check_settings_refuses_a_proxy_that_cannot_be_used(monkeypatch):
    check_settings()
    monkeypatch.setenv("HTTPS_PROXY", "socks5://ann:s3cret@localhost:1080")
    proxy_settings.cache_clear()
    with pytest.raises(StageError, match="HTTPS_PROXY: socks5 proxies are not supported"):
        check_settings()


@pytest.mark.parametrize("url", ["http://a.b/c", "HTTPS://a.b:8/c", "http://ann:x@A.b/"])
def test_host_of(url):
    assert host_of(url) == "a.b"


@pytest.mark.parametrize("url", ["", "a.b/c", "file:///etc/passwd", "http:///x", "http://[::1/"])
def test_host_of_refuses_other_addresses(url):
    with pytest.raises(ValueError, match="is not an http or https address"):
        host_of(url)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_allow_open_files_raises_the_soft_limit_only():
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, 256))\n"
        "from utils.download import allow_open_files\n"
        "for count in 128, 32, 1000: allow_open_files(count); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["128 256", "128 256", "256 256"], done.stderr
