"""One file from a real server: limits, retries and reasons.

tests/scripts/test_download_image.py has the answers that take their time.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from itertools import pairwise
from typing import BinaryIO

import pytest

from tests.helpers import ROOT
from tests.server import (
    FailingFirst,
    announces_too_much,
    compressed,
    endless,
    page,
    reset,
    send,
    stalls,
    status,
    trickles,
    truncated,
    truncated_without_length,
)
from utils import download as download_module
from utils.download import DownloadError, DownloadLimits, download, host_of

QUICK = DownloadLimits(timeout=5, deadline=30, max_bytes=1 << 20, retries=2)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(download_module, "MIN_PAUSE", 0.01)


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
    monkeypatch.setattr(
        download_module, "_proxies", lambda: {"http": server.url.removeprefix("http://")}
    )
    assert fetch("http://photos.example/x") == b"by proxy"


def test_download_passes_the_errors_of_the_file_on(server):
    class FullDisk(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    server.files = {"/x": lambda handler: send(handler, 200, b"content")}
    with pytest.raises(OSError, match="No space left"):
        download(f"{server.url}/x", FullDisk(), QUICK)
    assert server.requests["/x"] == 1


@pytest.mark.parametrize("url", ["http://a.b/c", "HTTPS://a.b:8/c"])
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
