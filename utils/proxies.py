"""The proxy of an address, from the environment or from the system's settings."""

from __future__ import annotations

import ipaddress
import os
import re
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

from utils.errors import StageError
from utils.urls import PORTS, Address, ascii_host, decode_credentials, port_of

SYSTEM = "the system's settings"
_EXAMPLE = "http://name:password@proxy.example.org:3128"


class Proxy(NamedTuple):
    """A web proxy."""

    url: str  # scheme, host and port
    source: str  # the environment variable that names it, or SYSTEM
    credentials: bytes | None = None  # `name:password`

    def __str__(self) -> str:
        """Describe the proxy for a message, without its password."""
        return f"the proxy {self.url.partition('://')[2]} ({self.source})"


class DirectHosts(NamedTuple):
    """The hosts of one entry of no_proxy, which are reached without a proxy."""

    pattern: str  # of their names; "" if `network` is given
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    port: int | None = None  # None: any

    @classmethod
    def parse(cls, entry: str) -> DirectHosts:
        """Parse `*`, `example.org`, `.example.org:8080`, `10.0.0.0/8`, `[::1]:80` and the like."""
        if bracketed := re.fullmatch(r"\[([^\[\]]+)\](.*)", entry):  # an IPv6 address
            address, rest = bracketed.groups()
            mask, _, port = rest.partition(":")
            hosts = cls.parse(f"{address}{mask}")
            return hosts._replace(port=int(port)) if port.isdecimal() else hosts
        with suppress(ValueError):
            return cls("", ipaddress.ip_network(entry, strict=False))
        name, colon, port = entry.rpartition(":")
        if colon and port.isdecimal():
            return cls.parse(name)._replace(port=int(port))
        name = entry.removeprefix("*").strip(".") or "*"
        with suppress(ValueError):  # for example of a name with a star
            name = ascii_host(name)
        return cls(name)

    def hold(self, address: Address) -> bool:
        """Return whether the address is on one of these hosts."""
        if self.port not in (None, address.port):
            return False
        host = address.host.rstrip(".")
        if not self.network:
            return fnmatchcase(host, self.pattern) or fnmatchcase(host, f"*.{self.pattern}")
        with suppress(ValueError):  # a name
            return ipaddress.ip_address(host) in self.network
        return False


class ProxySettings:
    """The proxies that this process uses: those of the environment, else those of the system."""

    def __init__(self) -> None:
        """Raise StageError if a proxy cannot be used."""
        proxies = getproxies()
        self._proxies = {scheme: _read_proxy(proxies, scheme) for scheme in PORTS}
        environment = getproxies_environment()
        self._from_environment = bool(environment)
        entries = re.split(r"[,\s]+", environment.get("no", "").lower())
        self._direct = [DirectHosts.parse(entry) for entry in entries if entry]

    def proxy_for(self, address: Address) -> Proxy | None:
        """Return the proxy for an address, or None if it is reached directly."""
        proxy = self._proxies[address.scheme]
        return None if not proxy or self._is_direct(address) else proxy

    def _is_direct(self, address: Address) -> bool:
        if self._from_environment:
            return any(hosts.hold(address) for hosts in self._direct)
        return bool(proxy_bypass(address.host))


proxy_settings = cache(ProxySettings)


def _read_proxy(proxies: dict[str, str], scheme: str) -> Proxy | None:
    """Return the proxy for addresses of a scheme. Raise StageError if it cannot be used."""
    key = scheme if proxies.get(scheme) else "all"
    value = proxies.get(key)
    if not value:
        return None
    source = _variable_of(f"{key}_proxy", value)
    kind, separator, rest = value.strip().partition("://")
    if not separator:
        kind, rest = "http", value.strip()
    kind = kind.lower()
    credentials, _, server = rest.rpartition("@")
    if kind not in PORTS:
        raise StageError(f"{source}: {kind} proxies are not supported, but those like {_EXAMPLE}")
    with suppress(ValueError):
        parts = urlsplit(f"{kind}://{server}")
        port = port_of(parts, PORTS[kind])
        if parts.hostname and port:
            host = ascii_host(parts.hostname)
            host = f"[{host}]" if ":" in host else host
            return Proxy(f"{kind}://{host}:{port}", source, decode_credentials(credentials))
    raise StageError(f"{source} holds no address of a proxy, like {_EXAMPLE}")


def _variable_of(name: str, value: str) -> str:
    """Return the environment variable that holds the value, in the case that the user wrote."""
    written = (key for key, held in os.environ.items() if key.lower() == name and held == value)
    return min(written, key=str.isupper, default=SYSTEM)
