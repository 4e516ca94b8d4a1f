"""downloadImage.py, run as a user runs it, on a real server."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import unicodedata
from http.server import BaseHTTPRequestHandler

import pytest
from PIL import Image

from tests.helpers import (
    ROOT,
    command,
    jpeg,
    name_of,
    one_line_error,
    reasons_in,
    row,
    run,
    tree,
    write_table,
)
from tests.server import (
    FailingFirst,
    announces_too_much,
    compressed,
    endless,
    page,
    reset,
    send,
    silent,
    stalls,
    status,
    trickles,
    trickles_headers,
    truncated,
    truncated_without_length,
)
from utils.data.annotations import Table

pytestmark = pytest.mark.slow


def test_download_sorts_photos_by_posed_emotion_and_skips_existing_ones(tmp_path, server):
    # The last one is a name of 222 bytes, but of 432 when it is decomposed.
    last = f"a b&(c)_{'가' * 60}_분노_실내_2020.jpg"
    names = [name_of("기쁨", 1), name_of("슬픔", 2), last]
    server.files = {f"/{name}": jpeg(colour=(i * 50, 0, 0)) for i, name in enumerate(names)}
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    done = run("downloadImage.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "3 downloaded, 0 already there, 0 failed" in done.stdout
    assert tree(tmp_path / "original") == {
        f"{emotion}/{name}": server.files[f"/{name}"]
        for emotion, name in zip(("기쁨", "슬픔", "분노"), names, strict=True)
    }
    assert all("facial-emotion-recognition" in agent for agent in server.agents)
    again = run("downloadImage.py", "--input", table, cwd=tmp_path)
    assert "0 downloaded, 3 already there, 0 failed" in again.stdout
    assert sum(server.requests.values()) == 3
    assert not (tmp_path / "download.error.log").exists()


def test_download_stores_decomposed_names_composed(tmp_path, server):
    name = name_of("기쁨")
    decomposed = unicodedata.normalize("NFD", name)
    server.files = {f"/{decomposed}": jpeg()}
    table = write_table(tmp_path / "t.tsv", [row(decomposed, f"{server.url}/{decomposed}")])
    assert run("downloadImage.py", "--input", table, cwd=tmp_path).returncode == 0
    assert list(tree(tmp_path / "original")) == [f"기쁨/{name}"]


def test_download_logs_failures_with_reasons_and_retries_the_log(tmp_path, server):
    causes = {
        "gone": (None, "404"),
        "page": (b"<!DOCTYPE html><html>", "HTML page"),
        "empty": (b"", "empty file"),
        "text": (b"sorry", "a text"),
        "short": (truncated, "truncated: 600 of 5,678 bytes"),
        "redirect": (status(302, Location="file:///etc/hostname"), "not an http"),
        "silent": (silent, "no answer for 1 seconds"),
        "stalls": (stalls, "stalled after 65,536 bytes"),
    }
    rows, expected = [], {}
    for cause, (content, reason) in causes.items():
        name = f"{cause}_여_20_기쁨_실내_2020.jpg"
        server.files[f"/{name}"] = content
        rows.append(row(name, f"{server.url}/{name}"))
        expected[name] = reason
    for name, url, reason in (
        ("../../x_기쁨_.jpg", f"{server.url}/x.jpg", "not safe"),
        ("/etc/x_기쁨_.jpg", f"{server.url}/x.jpg", "not safe"),
        ("local_기쁨_.jpg", "file:///etc/passwd", "not an http"),
        ("odd_기쁨_.jpg", "http://[::1/", "not an http"),
        ("plain.jpg", f"{server.url}/x.jpg", "none of the seven"),
        ("closed_기쁨_.jpg", "http://127.0.0.1:9/x.jpg", "connection failed"),
    ):
        rows.append(row(name, url))
        expected[name] = reason
    good = name_of("기쁨")
    server.files[f"/{good}"] = jpeg()
    table = write_table(tmp_path / "t.tsv", [*rows, row(good, f"{server.url}/{good}")])

    done = run("downloadImage.py", "--input", table, "--timeout", 1, "--retries", 1, cwd=tmp_path)
    assert (
        done.returncode == 1 and f"1 downloaded, 0 already there, {len(rows)} failed" in done.stdout
    )
    log = tmp_path / "download.error.log"
    reasons = reasons_in(log)
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name], (name, reasons[name])
    assert list(tree(tmp_path / "original")) == [f"기쁨/{good}"]
    assert {p.name for p in tmp_path.iterdir()} == {"t.tsv", "original", log.name}
    assert not (tmp_path.parent / "x_기쁨_.jpg").exists()

    for cause in causes:
        server.files[f"/{cause}_여_20_기쁨_실내_2020.jpg"] = jpeg()
    asked = server.requests[f"/{good}"]
    done = run("downloadImage.py", "--input", log, "--timeout", 5, cwd=tmp_path)
    assert done.returncode == 1 and f"{len(causes)} downloaded" in done.stdout
    assert len(reasons_in(log)) == 6 and server.requests[f"/{good}"] == asked


def test_download_from_a_server_that_compresses(tmp_path, server):
    name = name_of("기쁨")
    server.files = {f"/{name}": compressed}
    table = write_table(tmp_path / "t.tsv", [row(name, f"{server.url}/{name}")])
    assert run("downloadImage.py", "--input", table, cwd=tmp_path).returncode == 0
    assert tree(tmp_path / "original") == {f"기쁨/{name}": jpeg()}


def test_download_imports_nothing_in_its_threads(tmp_path, server):
    contents = {"bad": page, "zip": compressed, "cut": truncated_without_length}
    for image_format in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        file = io.BytesIO()
        Image.new("RGB", (30, 30)).save(file, image_format)
        contents[image_format] = file.getvalue()
    # Through a proxy, so that the host needs no name server.
    host = "http://사진.한국"
    rows = []
    for kind, content in contents.items():
        server.files[f"http://xn--vf4bi0o.xn--3e0b707e/{kind}"] = content
        rows.append(row(f"{kind}_여_20_기쁨_실내_2020.jpg", f"{host}/{kind}"))
    table = write_table(tmp_path / "t.tsv", rows)
    environment = {
        "http_proxy": server.url,
        "PYTHONPATH": str(ROOT / "tests/robustness/imports"),
        "IN_THREADS": str(tmp_path / "imported"),
    }
    args = ("--input", table, "--retries", 0)
    done = run("downloadImage.py", *args, cwd=tmp_path, env=environment)
    assert "7 downloaded, 0 already there, 2 failed" in done.stdout
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


def test_download_logs_a_photo_that_lacks_its_end(tmp_path, server):
    photo = jpeg((300, 300))
    cuts = {"marker": photo[:-2], "rows": photo[:-500], "head": photo[:300]}
    names = {cut: f"{cut}_여_20_기쁨_실내_2020.jpg" for cut in cuts}
    # The server announces the length that it sends.
    server.files = {f"/{names[cut]}": content for cut, content in cuts.items()}
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names.values()])
    done = run("downloadImage.py", "--input", table, "--retries", 0, cwd=tmp_path)
    assert done.returncode == 1 and not tree(tmp_path / "original")
    reasons = reasons_in(tmp_path / "download.error.log")
    for cut in ("marker", "rows"):
        assert reasons[names[cut]] == "truncated: the JPEG has no end"
    assert names["head"] in reasons


def test_download_shows_the_password_of_an_address_in_its_column_only(tmp_path, server):
    def private(handler: BaseHTTPRequestHandler) -> None:
        # Basic, and ann:s3cret in Base64.
        is_known = handler.headers["Authorization"] == "Basic YW5uOnMzY3JldA=="
        send(handler, 200 if is_known else 401, jpeg())

    names = [name_of("기쁨", i) for i in range(3)]
    login = f"ann:s3cret@{server.url.removeprefix('http://')}"
    server.files = {f"/{names[0]}": private, f"/{names[1]}": status(401)}
    urls = [f"http://{login}/{names[0]}", f"http://{login}/{names[1]}", f"ftp://{login}/x"]
    rows = [row(name, url) for name, url in zip(names, urls, strict=True)]
    done = run("downloadImage.py", "--input", write_table(tmp_path / "t.tsv", rows), cwd=tmp_path)
    assert done.returncode == 1 and list(tree(tmp_path / "original")) == [f"기쁨/{names[0]}"]
    log = tmp_path / "download.error.log"
    reasons = reasons_in(log)
    assert reasons[names[1]] == "HTTP status 401 Unauthorized" and "…@" in reasons[names[2]]
    assert "s3cret" not in done.stdout + done.stderr + "".join(reasons.values())
    assert [failed["url"] for failed in Table(log, ())] == [urls[2], urls[1]]  # for the next try


def test_download_through_a_proxy_with_a_password(tmp_path, server):
    def asking(handler: BaseHTTPRequestHandler) -> None:
        # Basic, and ann:p@ss in Base64.
        is_known = handler.headers["Proxy-Authorization"] == "Basic YW5uOnBAc3M="
        send(handler, 200 if is_known else 407, jpeg())

    urls = ["http://photos.example/a.jpg", "http://사진.한국/b.jpg"]
    server.files = {urls[0]: asking, "http://xn--vf4bi0o.xn--3e0b707e/b.jpg": asking}
    rows = [row(name_of("기쁨", i), url) for i, url in enumerate(urls)]
    args = ("--input", write_table(tmp_path / "t.tsv", rows), "--retries", 0)
    where = server.url.removeprefix("http://")
    for value, reason in {
        f"http://ann:s3cret@{where}": f"the proxy {where} (http_proxy) refuses the name and",
        f"http://{where}": f"the proxy {where} (http_proxy) wants a name and a password",
        "http://ann:s3cret@127.0.0.1:9": "the proxy 127.0.0.1:9 (http_proxy) does not answer",
    }.items():
        environment = {"http_proxy": value, "no_proxy": ""}
        done = run("downloadImage.py", *args, cwd=tmp_path, env=environment)
        log = tmp_path / "download.error.log"
        assert done.returncode == 1 and "s3cret" not in done.stdout + done.stderr + log.read_text()
        assert all(reason in logged for logged in reasons_in(log).values())
    environment = {"http_proxy": f"http://ann:p%40ss@{where}", "no_proxy": ""}
    done = run("downloadImage.py", *args, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and len(tree(tmp_path / "original")) == 2


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SSL_CERT_FILE", "none.pem", ("SSL_CERT_FILE=none.pem", "No such file")),
        ("SSL_CERT_FILE", "t.tsv", ("SSL_CERT_FILE=t.tsv", "holds no certificates")),
        ("http_proxy", "socks5://ann:s3cret@a.b:1", ("http_proxy", "socks5 proxies are not")),
        ("http_proxy", "http://ann:s3cret@a.b:port", ("http_proxy", "no address of a proxy")),
    ],
)
def test_download_names_a_wrong_setting_of_the_network_once(tmp_path, variable, value, words):
    table = write_table(tmp_path / "t.tsv", [row(name_of("기쁨", i)) for i in range(9)])
    done = run("downloadImage.py", "--input", table, cwd=tmp_path, env={variable: value})
    one_line_error(done, *words)
    assert "s3cret" not in done.stderr and list(tmp_path.iterdir()) == [table]


def test_download_retries_transient_errors(tmp_path, server):
    later = status(429, Retry_After="1")
    answers = {
        "busy": [status(503), status(500)],
        "later": [later],
        "reset": [reset, reset],
        "cut": [truncated, truncated_without_length],
        "page": [page],
        "stalls": [stalls],
        "mixed": [later, reset, page],
    }
    rows = []
    for i, (kind, bad) in enumerate(answers.items()):
        path = f"/{kind}_기쁨_.jpg"
        server.files[path] = FailingFirst(jpeg((30 + i, 40)), *bad)
        rows.append(row(path[1:], server.url + path))
    table = write_table(tmp_path / "t.tsv", rows)
    done = run("downloadImage.py", "--input", table, "--timeout", 1, cwd=tmp_path)
    assert done.returncode == 0, (tmp_path / "download.error.log").read_text()
    good = {f"기쁨{path}": file.content for path, file in server.files.items()}
    assert tree(tmp_path / "original") == good
    asked = {kind: server.requests[f"/{kind}_기쁨_.jpg"] for kind in answers}
    assert asked == {kind: 1 + len(bad) for kind, bad in answers.items()}
    first, second = server.files["/later_기쁨_.jpg"].times
    assert second - first >= 1


def test_download_loses_no_photo_to_a_server_that_fails_at_random(tmp_path, server):
    generator = random.Random(0)
    later = status(429, Retry_After="1")
    answers = [status(500), status(503), later, reset, truncated, page, truncated_without_length]
    rows, bad = [], {"gone": status(404), "never": status(500), "html": page}
    for i in range(60):
        path = f"/{i}_기쁨_.jpg"
        server.files[path] = FailingFirst(jpeg((30 + i, 40)), *generator.choices(answers, k=i % 4))
        rows.append(row(path[1:], server.url + path))
    good = {f"기쁨{path}": file.content for path, file in server.files.items()}
    for kind, how in bad.items():
        server.files[f"/{kind}_기쁨_.jpg"] = how
        rows.append(row(f"{kind}_기쁨_.jpg", f"{server.url}/{kind}_기쁨_.jpg"))
    table = write_table(tmp_path / "t.tsv", rows)
    done = run("downloadImage.py", "--input", table, cwd=tmp_path)
    assert done.returncode == 1 and "60 downloaded, 0 already there, 3 failed" in done.stdout
    assert tree(tmp_path / "original") == good
    reasons = reasons_in(tmp_path / "download.error.log")
    assert reasons["gone_기쁨_.jpg"] == "HTTP status 404 Not Found"
    assert reasons["never_기쁨_.jpg"] == "HTTP status 500 Internal Server Error (tried 4 times)"
    assert reasons["html_기쁨_.jpg"] == "an HTML page, not an image (tried 4 times)"


def test_download_does_not_retry_final_errors(tmp_path, server):
    server.files = {
        "/gone_기쁨_.jpg": status(410),
        "/secret_기쁨_.jpg": status(403),
        "/endless_기쁨_.jpg": endless,
        "/announced_기쁨_.jpg": announces_too_much,
        "/loop_기쁨_.jpg": status(302, Location="/loop_기쁨_.jpg".encode().decode("latin-1")),
        "/months_기쁨_.jpg": status(429, Retry_After="9000"),
        "/trickle_기쁨_.jpg": trickles,
        "/headers_기쁨_.jpg": trickles_headers,
    }
    rows = [row(path[1:], server.url + path) for path in server.files]
    table = write_table(tmp_path / "t.tsv", rows)
    limits = ("--deadline", 2, "--max_mb", 1)
    done = run("downloadImage.py", "--input", table, *limits, cwd=tmp_path)
    assert done.returncode == 1 and "0 downloaded" in done.stdout
    reasons = reasons_in(tmp_path / "download.error.log")
    for kind, why in {
        "gone": "HTTP status 410 Gone",
        "secret": "HTTP status 403 Forbidden",
        "endless": "larger than 1 MB",
        "announced": "larger than 1 MB",
        "loop": "more than 10 redirects",
        "months": "asks to wait 9000 seconds",
        "trickle": "not complete after 2 seconds",
        "headers": "not complete after 2 seconds: 0 bytes",
    }.items():
        assert why in reasons[f"{kind}_기쁨_.jpg"]
    assert server.requests.pop("/loop_기쁨_.jpg") == 11 and set(server.requests.values()) == {1}


def test_download_logs_senseless_answers_like_any_failure(tmp_path, server):
    server.files = {
        "/redirect_기쁨_.jpg": status(302, Location="http://[::1"),
        "/later_기쁨_.jpg": status(503, Retry_After="Fri, 31 Dec 99999 23:59:59 GMT"),
        "/talks_기쁨_.jpg": status(403, "no" * 20000),
        "/quotes_기쁨_.jpg": status(404, 'gone"'),
    }
    rows = [row(path[1:], server.url + path, TaskC_result='"a') for path in server.files]
    table = write_table(tmp_path / "t.tsv", rows)
    args = ("--input", table, "--retries", 1)
    assert run("downloadImage.py", *args, cwd=tmp_path).returncode == 1
    log = tmp_path / "download.error.log"
    reasons = reasons_in(log)
    assert "not an address" in reasons["redirect_기쁨_.jpg"]
    assert reasons["later_기쁨_.jpg"] == "HTTP status 503 Service Unavailable (tried 2 times)"
    assert len(reasons["talks_기쁨_.jpg"]) < 1100
    assert {found["TaskC_result"] for found in Table(log, ())} == {'"a'}


def test_download_keeps_connections_and_limits_them_per_host(tmp_path, server):
    names = [name_of("기쁨", i) for i in range(60)]
    server.files = dict.fromkeys((f"/{name}" for name in names), jpeg())
    server.delay = 0.01
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    cap = ("--workers", 20, "--per_host", 3)
    assert run("downloadImage.py", "--input", table, *cap, cwd=tmp_path).returncode == 0
    assert len(tree(tmp_path / "original")) == 60
    assert server.most_at_once == 3 and server.connections == 3


def test_download_reuses_every_connection_of_many_workers(tmp_path, server):
    names = [name_of("기쁨", i) for i in range(200)]
    server.files = dict.fromkeys((f"/{name}" for name in names), jpeg())
    server.delay = 0.1
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    many = ("--workers", 64, "--per_host", 64)
    done = run("downloadImage.py", "--input", table, *many, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "" and len(tree(tmp_path / "original")) == 200
    assert server.connections <= 64


@pytest.mark.skipif(sys.platform != "linux", reason="many names of 127.0.0.1")
def test_download_from_many_hosts_on_a_system_that_allows_few_open_files(tmp_path, server):
    port = server.url.rpartition(":")[2]
    names = [name_of("기쁨", i) for i in range(600)]
    server.files = dict.fromkeys((f"/{name}" for name in names), jpeg())
    hosts = [
        "127.0.0.1",
        "127.0.1",
        "127.1",
        "localhost",
        "0x7f.1",
        "0177.1",
        "2130706433",
        "0x7f.0.1",
        "0x7f000001",
    ]
    rows = [row(n, f"http://{hosts[i // 70]}:{port}/{n}") for i, n in enumerate(names)]
    stage = command("downloadImage.py", "--input", write_table(tmp_path / "t.tsv", rows))
    limited = ["bash", "-c", 'ulimit -Sn 128; exec "$@"', "-", *stage]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(tree(tmp_path / "original")) == 600


def test_download_logs_one_name_with_two_addresses_as_a_conflict(tmp_path, server):
    name = name_of("기쁨")
    server.files = {"/a": jpeg(colour="red"), "/b": jpeg(colour="blue")}
    rows = [row(name, f"{server.url}/{path}") for path in ("a", "b", "a")]
    done = run("downloadImage.py", "--input", write_table(tmp_path / "t.tsv", rows), cwd=tmp_path)
    assert done.returncode == 1 and "(repeated rows skipped: 1)" in done.stdout
    assert "earlier row" in reasons_in(tmp_path / "download.error.log")[name]
    assert tree(tmp_path / "original") == {f"기쁨/{name}": server.files["/a"]}


def test_download_writes_to_the_given_folders(tmp_path, server):
    name = name_of("기쁨")
    table = write_table(tmp_path / "t.tsv", [row(name, f"{server.url}/none")])
    args = ("--input", table, "--output", "a/photos", "--log_dir", "b/logs")
    assert run("downloadImage.py", *args, cwd=tmp_path).returncode == 1
    assert {p.name for p in tmp_path.iterdir()} == {"t.tsv", "a", "b"}
    assert (tmp_path / "b/logs/download.error.log").exists()


def test_download_prints_a_command_that_retries_its_log(tmp_path, server):
    names = [name_of("기쁨", i) for i in range(6)]
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    args = ("--shard", "2/2", "--log_dir", "logs", "--output", "photos")
    done = run("downloadImage.py", "--input", table, *args, cwd=tmp_path)
    log = tmp_path / "logs/download.error.2-of-2.log"
    again = done.stdout.split("to retry these rows: python ")[1].split()
    assert 0 < len(reasons_in(log)) < 6
    good = next(iter(reasons_in(log)))
    server.files = {f"/{good}": jpeg()}
    done = run(*again, cwd=tmp_path)
    assert good not in reasons_in(log) and list(tree(tmp_path / "photos")) == [f"기쁨/{good}"]
    server.files = {f"/{name}": jpeg() for name in names}
    assert run(*again, cwd=tmp_path).returncode == 0
    assert {p.name for p in tmp_path.iterdir()} == {"t.tsv", "logs", "photos"} and not log.exists()


def test_download_that_cannot_start_leaves_the_log(tmp_path, server):
    table = write_table(tmp_path / "t.tsv", [row(name_of("기쁨"), f"{server.url}/none")])
    run("downloadImage.py", "--input", table, cwd=tmp_path)
    before = tree(tmp_path)
    done = run("downloadImage.py", "--input", table, "--ray", "127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 2 and tree(tmp_path) == before


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--input", "."], "directory"),
        (["--workers", "0"], "--workers"),
        (["--timeout", "soon"], "--timeout"),
        (["--shard=4/3"], "--shard"),
    ],
)
def test_download_reports_bad_arguments_in_one_line(tmp_path, args, word):
    one_line_error(run("downloadImage.py", *args, cwd=tmp_path), word)
    assert not any(tmp_path.iterdir())


def test_download_help_shows_examples(tmp_path):
    done = run("downloadImage.py", "--help", cwd=tmp_path, env={"COLUMNS": "100"})
    assert done.returncode == 0 and done.stderr == ""
    assert "python downloadImage.py --input download.error.log" in done.stdout


def test_download_help_for_a_reader_that_leaves_early():
    script = subprocess.Popen(
        command("downloadImage.py", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    script.stdout.close()
    assert b"Traceback" not in script.stderr.read()
    script.wait()
