"""Addresses: which base URLs are allowed, and from where a result may be fetched.

A result URL is text that a server wrote. Followed blindly it would let that server read what only
this machine can reach: cloud metadata, routers, databases. So names are judged by the addresses
that they resolve to, at the moment of connecting, and again after every redirect.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from runner.settings.errors import RequestError
from runner.settings.schema import VariantSettings

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A checked base URL.

    Attributes:
        text: The address, without a slash at its end.
        origin: Scheme, host and port: where the key may go.
        host: Lower case, without brackets.
        loopback: It is this machine.
    """

    text: str
    origin: str
    host: str
    loopback: bool


def check_base_url(
    settings: VariantSettings, default: str | None, variable: str | None = None
) -> BaseUrl:
    """Check ``provider.base_url``, or take the address of the environment, or the vendor's.

    Args:
        settings: The variant.
        default: The vendor's address.
        variable: The environment variable that the vendor documents for the address.

    Raises:
        RequestError: None is given and there is no default; or it is neither https nor http on
            loopback, or carries a user name, a query or a fragment.
    """
    given = settings.provider.base_url
    exported = os.environ.get(variable, "").strip() if variable else ""
    text = given or exported or default
    name = settings.provider.name
    if text is None:
        how = f" with `export {variable}=https://…`, or" if variable else ", for example"
        raise RequestError(
            f"provider.base_url: provider {name} has no address of its own; set it{how} "
            "provider.base_url=http://127.0.0.1:8000/v1"
        )
    place = "provider.base_url" + (f" (from {variable})" if exported and not given else "")
    try:
        parts = urlsplit(text.strip())
        host, readable = (parts.hostname or "").lower(), parts.port != 0
    except ValueError:
        host, readable = "", False
    if not host or not readable or parts.scheme not in {"https", "http"}:
        raise RequestError(f"{place}: this is not an address; write it like https://host/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RequestError(
            f"{place}: a user name, password, query or fragment does not belong here; "
            "keys come from the environment (provider.api_key_env=NAME)"
        )
    loopback = is_loopback(host)
    if parts.scheme == "http" and not loopback:
        raise RequestError(
            f"{place}={text}: plain http would send the key readable for everyone on "
            "the way; use https, or http on loopback (an SSH tunnel: ssh -L 8000:HOST:PORT …)"
        )
    path = parts.path.rstrip("/")
    return BaseUrl(f"{parts.scheme}://{parts.netloc}{path}", origin(text), host, loopback)


@functools.lru_cache(256)
def origin(url: str) -> str:
    """Scheme, host and port of an address, lower case; the port only where it is not the usual.

    What is no address gives a text that is the origin of nothing.
    """
    try:
        parts = urlsplit(url.strip())
        host, number = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return "a broken address"
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    port = "" if number in {None, usual} else f":{number}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine, without asking DNS."""
    if host in _LOCAL_NAMES or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that is really meant: IPv4 inside IPv6 is unwrapped."""
    try:
        found = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        return inner or found
    return found


class Guard:
    """Says from which addresses results may be fetched.

    Public ones always; private ones only where the base URL is one itself; link-local ones, where
    clouds keep their credentials, only where the base URL is link-local.
    """

    def __init__(self, base: BaseUrl) -> None:
        self._base = base
        self._reach: frozenset[str] | None = None

    async def problem(self, url: str) -> str | None:
        """What is wrong with the address of a file, before connecting; ``None``: nothing."""
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if parts.scheme != "https" and not (parts.scheme == "http" and self._base.loopback):
            return f"the file lies at {_shown(url)}, and only https is fetched"
        if (is_loopback(host) or _address(host)) and await self.refuses([host]):
            return f"the file lies at {_shown(url)}, which is a private address"
        return None

    async def refuses(self, addresses: Iterable[str]) -> str | None:
        """The first address that must not be connected to; ``None``: all are fine."""
        for address in addresses:
            kind = _kind(address)
            if kind != "public" and kind not in await self._allowed():
                return address
        return None

    async def _allowed(self) -> frozenset[str]:
        """The kinds of address that are reached beside the public ones."""
        if self._reach is None:
            hosts = [self._base.host]
            if _kind(self._base.host) == "name":
                loop = asyncio.get_running_loop()
                try:
                    found = await loop.getaddrinfo(hosts[0], None, type=socket.SOCK_STREAM)
                except OSError:
                    return frozenset()
                hosts = [str(entry[4][0]) for entry in found]
            kinds = {_kind(host) for host in hosts} - {"public", "name"}
            self._reach = frozenset(kinds | ({"private", "loopback"} if kinds else set()))
        return self._reach


def _kind(host: str) -> str:
    """``public``, ``private``, ``loopback``, ``link-local``; ``name`` for what DNS must tell."""
    address = _address(host)
    if address is None:
        return "loopback" if is_loopback(host) else "name"
    if address.is_link_local:
        return "link-local"
    if address.is_loopback:
        return "loopback"
    return "public" if address.is_global and not address.is_multicast else "private"


def _shown(url: str) -> str:
    """An address without path and query: those of results are often signed."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}"
