"""Addresses: hosts of any script, ports, credentials that no message shows."""

from __future__ import annotations

import re
import unicodedata

import pytest

from utils.urls import Address, ascii_host, hide_credentials, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://a.b", ("http://a.b", "http", "a.b", 80, None)),
        (" HTTP://A.B:80/x?q=1#top ", ("http://a.b/x?q=1", "http", "a.b", 80, None)),
        ("https://a.b:8443/x", ("https://a.b:8443/x", "https", "a.b", 8443, None)),
        ("https://a.b:/x", ("https://a.b/x", "https", "a.b", 443, None)),
        ("http://[::1]:8080/x", ("http://[::1]:8080/x", "http", "::1", 8080, None)),
        ("http://ann:p%40s@a.b/x", ("http://a.b/x", "http", "a.b", 80, b"ann:p@s")),
        ("http://ann:p@s@a.b/x", ("http://a.b/x", "http", "a.b", 80, b"ann:p@s")),
        ("http://ann@a.b/x", ("http://a.b/x", "http", "a.b", 80, b"ann:")),
        ("http://@a.b/x", ("http://a.b/x", "http", "a.b", 80, None)),
        ("http://a.b/%/%2F?5%&%z", ("http://a.b/%25/%2F?5%25&%25z", "http", "a.b", 80, None)),
        ("http://사진.kr/가", ("http://xn--vf4bi0o.kr/가", "http", "xn--vf4bi0o.kr", 80, None)),
    ],
)  # fmt: skip
def test_parse_address(text, expected):
    assert tuple(parse_address(text)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is not an http or https address"),
        ("a.b/c", "'a.b/c' is not an http or https address"),
        ("ftp://a.b/", "'ftp://a.b/' is not an http or https address"),
        ("http:///x", "'http:///x' is not an http or https address"),
        ("http://[::1/", "'http://[::1/' is not an http or https address"),
        ("http://a.b:99999/", "'http://a.b:99999/' has a port that is not a number from 1 to"),
        ("http://a.b:0/", "'http://a.b:0/' has a port that is not a number from 1 to 65535"),
        ("http://a.b:x/", "'http://a.b:x/' has a port that is not a number from 1 to 65535"),
        ("http://ann:pw@a.b:x/", "'http://…@a.b:x/' has a port"),
        ("http://a b/", "'a b' is not a host name"),
        ("http://a..b/", "'a..b' is not a host name"),
        (f"http://{'a' * 64}.kr/", "is not a host name"),
        (f"http://{'가' * 64}.kr/", "is not a host name"),
        ("http://a%2Fb/", "'a%2Fb' is not a host name"),
    ],
)  # fmt: skip
def test_parse_address_refuses_other_texts(text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("Photos.Example.ORG.", "photos.example.org."),
        ("사진.한국", "xn--vf4bi0o.xn--3e0b707e"),
        (unicodedata.normalize("NFD", "사진.한국"), "xn--vf4bi0o.xn--3e0b707e"),
        ("사진。한국", "xn--vf4bi0o.xn--3e0b707e"),
        ("XN--VF4BI0O.xn--3e0b707e", "xn--vf4bi0o.xn--3e0b707e"),
        ("%EC%82%AC%EC%A7%84.%ED%95%9C%EA%B5%AD", "xn--vf4bi0o.xn--3e0b707e"),
        ("写真.日本", "xn--g7qs82g.xn--wgv71a"),
        ("faß.de", "xn--fa-hia.de"),  # not fass.de, which is another host
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        ("💩.la", "xn--ls8h.la"),
        ("사진_1.kr", "xn--_1-2q4jm41a.kr"),
        ("under_score.example", "under_score.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_ascii_host(host, expected):
    assert ascii_host(host) == expected


@pytest.mark.parametrize("host", ["", ".", "a b", "가..나", "::x", "a<b", "x\0"])
def test_ascii_host_refuses_other_texts(host):
    with pytest.raises(ValueError, match="is not a host name"):
        ascii_host(host)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a.b/x", "http://a.b/x"),
        ("http://ann:pw@a.b/x", "http://…@a.b/x"),
        ("http://ann:p/w#1@a.b/x", "http://…@a.b/x"),
        ("http://ann:p@w@a.b/x", "http://…@a.b/x"),
        ("ann:pw@a.b", "ann:…@a.b"),
        ("http:/ann:pw\n@a.b", "http:/…@a.b"),
    ],
)
def test_hide_credentials(text, shown):
    assert hide_credentials(text) == shown


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("http://a.b/1", "http://a.b/2", True),
        ("http://a.b/", "http://a.b:80/", True),
        ("http://a.b/", "https://a.b/", True),
        ("https://a.b/", "http://a.b/", False),
        ("http://a.b/", "http://a.b:8080/", False),
        ("http://a.b:8080/", "https://a.b/", False),
        ("http://a.b/", "https://a.b:8443/", False),
        ("http://a.b/", "http://b.a.b/", False),
        ("http://a.b/", "https://b/", False),
    ],
)
def test_credentials_are_for_one_server(first, second, same):
    first_address: Address = parse_address(first)
    assert first_address.gives_credentials_to(parse_address(second)) is same
