"""Web addresses: host names in ASCII, and credentials that stay out of messages."""

from __future__ import annotations

# Python and idna would import these in the first thread that needs them, where two threads can wait
# for each other.
import encodings.idna
import encodings.punycode  # noqa: F401
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urlsplit

import idna
import idna.uts46data

PORTS = {"http": 80, "https": 443}
# What no host name holds (the forbidden host code points of the URL standard).
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f#%/:<>?@\[\\\]^`{|}\"]")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Address(NamedTuple):
    """An http or https address."""

    url: str  # to request: the host in ASCII, without credentials and fragment
    scheme: str
    host: str  # in ASCII and lower case; an IPv6 address without brackets
    port: int
    credentials: bytes | None = None  # `name:password`

    def gives_credentials_to(self, other: Address) -> bool:
        """Return whether the other address is on the same server, so that it may know a password.

        From http to https on the usual ports it stays the same server, but not the other way.
        """
        origin, target = self[1:4], other[1:4]
        upgraded = ("https", self.host, PORTS["https"])
        return origin == target or (origin[::2] == ("http", PORTS["http"]) and target == upgraded)


def parse_address(text: str) -> Address:
    """Return an http or https address in its parts. Raise ValueError for any other text."""
    shown = repr(hide_credentials(text))
    try:
        parts = urlsplit(text.strip())
    except ValueError:  # for example of brackets that do not match
        raise ValueError(f"{shown} is not an http or https address") from None
    scheme = parts.scheme.lower()
    if scheme not in PORTS or not parts.hostname:
        raise ValueError(f"{shown} is not an http or https address")
    port = port_of(parts, PORTS[scheme])
    if not port:
        raise ValueError(f"{shown} has a port that is not a number from 1 to 65535")
    host = ascii_host(parts.hostname)
    server = f"[{host}]" if ":" in host else host
    if port != PORTS[scheme]:
        server += f":{port}"
    # A lone percent sign means itself. Without this, urllib3 would encode every other one as well.
    path = _STRAY_PERCENT.sub("%25", parts.path + (f"?{parts.query}" if parts.query else ""))
    credentials = decode_credentials(parts.netloc.rpartition("@")[0])
    return Address(f"{scheme}://{server}{path}", scheme, host, port, credentials)


def port_of(parts: SplitResult, default: int) -> int | None:
    """Return the port of an address that urlsplit has divided; None if it is not a valid one."""
    try:
        port = parts.port
    except ValueError:
        return None
    return default if port is None else port or None


def ascii_host(host: str) -> str:
    """Return a host name in ASCII and lower case, as the name servers know it.

    Raise ValueError if it is not a host name.
    """
    if ":" in host:
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise ValueError(f"{host!r} is not a host name") from None
        return host
    name = unquote(host).lower()
    if not name.isascii():
        name = _encode_host(name)
    labels = name.removesuffix(".").split(".")
    if _FORBIDDEN.search(name) or not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"{host!r} is not a host name")
    return name


def _encode_host(name: str) -> str:
    """Return a name of any script in ASCII. Raise ValueError if it is not a host name."""
    try:
        # UTS 46 and IDNA 2008, as requests and browsers do. Python's own encoding is IDNA 2003,
        # which leads to another host for some names (fass.de for faß.de).
        return idna.encode(name, uts46=True).decode()
    except UnicodeError:
        with_emoji = name  # or an underscore beside Hangul, which name servers know all the same
    try:
        return with_emoji.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"{name!r} is not a host name") from None


def decode_credentials(text: str) -> bytes | None:
    """Return `name:password` of an address, percent-decoded; None if it holds none."""
    name, _, password = text.partition(":")
    return unquote_to_bytes(name) + b":" + unquote_to_bytes(password) if text else None


def hide_credentials(text: str) -> str:
    """Return the text of an address, valid or not, with `…` for the name and the password."""
    return re.sub(r"^([a-z][a-z0-9+.-]*:/*)?.*@", r"\1…@", text, flags=re.I | re.S)
