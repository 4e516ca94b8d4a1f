"""The proxy of an address: variables, passwords, and the hosts that need none."""

from __future__ import annotations

import os

import pytest

from utils.errors import StageError
from utils.proxies import DirectHosts, Proxy, ProxySettings
from utils.urls import parse_address


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def proxy_for(url: str) -> Proxy | None:
    return ProxySettings().proxy_for(parse_address(url))


@pytest.mark.parametrize(
    ("value", "url", "credentials"),
    [
        ("http://p.example:3128", "http://p.example:3128", None),
        ("p.example:3128", "http://p.example:3128", None),
        (" HTTP://P.Example:3128/ ", "http://p.example:3128", None),
        ("http://p.example", "http://p.example:80", None),
        ("https://p.example", "https://p.example:443", None),
        ("http://[::1]:3128", "http://[::1]:3128", None),
        ("http://프록시.한국:3128", "http://xn--3o2b05qmuo.xn--3e0b707e:3128", None),
        ("http://ann:p%40ss@p.example:3128", "http://p.example:3128", b"ann:p@ss"),
        ("ann:p@ss@p.example:3128", "http://p.example:3128", b"ann:p@ss"),
        ("http://ann:p/s#1?@p.example:3128", "http://p.example:3128", b"ann:p/s#1?"),
        ("http://ann@p.example:3128", "http://p.example:3128", b"ann:"),
        ("http://%EC%82%AC:%EC%A7%84@p.example", "http://p.example:80", "사:진".encode()),
    ],
)
def test_proxy_of_a_variable(monkeypatch, value, url, credentials):
    monkeypatch.setenv("HTTP_PROXY", value)
    assert proxy_for("http://a.b/") == Proxy(url, "HTTP_PROXY", credentials)
    assert proxy_for("https://a.b/") is None


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell the case of variables")
def test_lower_case_and_the_scheme_of_the_address_go_first(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://all.example:1")
    monkeypatch.setenv("HTTP_PROXY", "http://upper.example:2")
    monkeypatch.setenv("http_proxy", "http://lower.example:3")
    assert proxy_for("http://a.b/") == Proxy("http://lower.example:3", "http_proxy")
    assert proxy_for("https://a.b/") == Proxy("http://all.example:1", "ALL_PROXY")


def test_a_proxy_is_described_without_its_password():
    proxy = Proxy("http://p.example:3128", "http_proxy", b"ann:secret")
    assert str(proxy) == "the proxy p.example:3128 (http_proxy)"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("http://", "https_proxy holds no address of a proxy, like http://name:password@"),
        ("http://ann:secret@p.example:port", "https_proxy holds no address of a proxy"),
        ("http://ann:secret@a b:80", "https_proxy holds no address of a proxy"),
        ("http://ann:secret@[::1:80", "https_proxy holds no address of a proxy"),
        ("socks5h://ann:secret@p.example:1", "https_proxy: socks5h proxies are not supported"),
    ],
)
def test_a_value_that_is_no_proxy_is_refused_without_its_password(monkeypatch, value, reason):
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(StageError, match="(?i)" + reason) as caught:
        ProxySettings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "url", "direct"),
    [
        ("*", "http://a.b/", True),
        ("a.b", "http://a.b/", True),
        ("A.B.", "http://a.b./", True),
        ("a.b", "http://x.a.b/", True),
        (".a.b", "http://a.b/", True),
        (".a.b", "http://x.y.a.b/", True),
        ("*.a.b", "http://x.a.b/", True),
        ("a.b", "http://xa.b/", False),
        ("a.b", "http://a.b.c/", False),
        ("a.b:80", "http://a.b/", True),
        ("a.b:443", "https://a.b/", True),
        ("a.b:8080", "http://x.a.b:8080/", True),
        ("a.b:8080", "http://a.b/", False),
        (".a.b:8080", "http://a.b:8080/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.1.2.3/8", "http://10.200.0.1:99/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://10.example/", False),
        ("10.1.2.3", "http://10.1.2.3/", True),
        ("10.1.2.3", "http://110.1.2.3/", False),
        ("10.1.2.3:80", "http://10.1.2.3/", True),
        ("10.1.2.3:81", "http://10.1.2.3/", False),
        ("10.0.0.0/8:81", "http://10.1.2.3:81/", True),
        ("192.168.*", "http://192.168.7.7/", True),
        ("::1", "http://[::1]/", True),
        ("[::1]", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]/", False),
        ("fd00::/8", "http://[fd12::5]/", True),
        ("[fd00::]/8", "http://[fd12::5]/", True),
        ("fd00::/8", "http://[fe80::5]/", False),
        ("fd00::/8", "http://10.1.2.3/", False),
        ("10.0.0.0/8", "http://[fd12::5]/", False),
        ("사진.한국", "http://그.사진.한국/", True),
        ("xn--vf4bi0o.xn--3e0b707e", "http://사진.한국/", True),
        ("10.0.0.0/99", "http://10.0.0.0/", False),
        ("[", "http://a.b/", False),
    ],
)
def test_direct_hosts(entry, url, direct):
    assert DirectHosts.parse(entry.lower()).hold(parse_address(url)) is direct


@pytest.mark.parametrize("separator", [",", " ", ", ", ",,", "\n"])
def test_no_proxy_lists_hosts(monkeypatch, separator):
    monkeypatch.setenv("http_proxy", "http://p.example:3128")
    monkeypatch.setenv(
        "NO_PROXY", separator.join(["localhost", "10.0.0.0/8", "a.b:81"]) + separator
    )
    for url in ("http://localhost/", "http://10.9.9.9/", "http://a.b:81/"):
        assert proxy_for(url) is None
    assert proxy_for("http://a.b/") and proxy_for("http://local.host/")
    monkeypatch.setenv("NO_PROXY", "localhost,*")
    assert proxy_for("http://a.b/") is None
