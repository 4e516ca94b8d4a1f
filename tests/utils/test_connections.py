"""Connections: heads that Python's http.client would not understand, and certificates."""

from __future__ import annotations

import http.client
import io
import re

import certifi
import pytest

from utils import connections
from utils.connections import PatientResponse, tls_context
from utils.errors import StageError


class Wire:
    """A socket that has received some bytes."""

    def __init__(self, received: bytes) -> None:
        self.received = received

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self.received))


def answer(text: str) -> PatientResponse:
    response = PatientResponse(Wire(text.replace("\n", "\r\n").encode()), method="GET")
    response.begin()
    return response


def test_an_answer_is_read_after_interim_ones():
    response = answer(
        "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nContent-Length: 9\nBad line\n\n"
        "HTTP/1.1 200 OK\nContent-Length: 4\n\nbody and more"
    )
    assert (response.status, response.read()) == (200, b"body")


@pytest.mark.parametrize(
    "line",
    ["X-Powered-By PHP", "제목: x", ": x", "X Y: z", "X: a\rb", " x", "=", "X: a\n b", "Bad\n\tb"],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_odd_line_ends_no_head(line, first):
    lines = [line, "Content-Length: 4"] if first else ["Content-Length: 4", line]
    response = answer("\n".join(["HTTP/1.1 200 OK", *lines, "X-Last: 1", "", "body and more"]))
    assert response.headers["X-Last"] == "1"
    assert response.headers["Content-Length"].split()[0] == "4" and not response.msg.get_payload()


def test_empty_lines_before_an_answer_do_not_count():
    response = answer("\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\nbody and more")
    assert (response.status, response.read()) == (200, b"body")


def test_a_connection_that_ends_before_the_answer_is_lost():
    for text in ("", "\n", "HTTP/1.1 103 Early Hints\n\n", "HTTP/1.1 103 Early Hints\n\n\n"):
        with pytest.raises(http.client.RemoteDisconnected):
            answer(text)


def test_a_head_keeps_its_headers():
    response = answer("HTTP/1.1 200 OK\nA : 1\nB:2\nb: 3 \nC: x\n y\n\n")
    assert response.headers.items() == [("A", "1"), ("B", "2"), ("b", "3 "), ("C", "x\r\n y")]


@pytest.fixture
def certificates(monkeypatch):
    """Set a variable that names certificates. The machine's own are forgotten."""
    for name in connections.CERTIFICATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    tls_context.cache_clear()
    yield lambda variable, path: monkeypatch.setenv(variable, str(path))
    tls_context.cache_clear()


def test_certificates_are_trusted_from_the_file_of_a_variable(tmp_path, certificates):
    one = re.search("-----BEGIN.*?END CERTIFICATE-----", certifi.contents(), re.DOTALL)
    (tmp_path / "one.pem").write_text(one[0])
    default = len(tls_context().get_ca_certs())
    for variable in reversed(connections.CERTIFICATE_VARIABLES):
        tls_context.cache_clear()
        certificates(variable, tmp_path / "one.pem")
        assert len(tls_context().get_ca_certs()) == 1 < default


def test_certificates_may_be_in_a_folder(tmp_path, certificates):
    certificates("REQUESTS_CA_BUNDLE", tmp_path)
    assert tls_context().get_ca_certs() == []  # they are read when a server names their issuer


@pytest.mark.parametrize("variable", connections.CERTIFICATE_VARIABLES)
def test_certificates_that_cannot_be_read_are_named_with_their_variable(
    tmp_path, certificates, variable
):
    certificates(variable, tmp_path / "none.pem")
    with pytest.raises(StageError, match=rf"{variable}=.*none\.pem: No such file or directory; "):
        tls_context()
    (tmp_path / "none.pem").write_text("text")
    with pytest.raises(StageError, match=rf"{variable}=.*none\.pem: holds no certificates; "):
        tls_context()
