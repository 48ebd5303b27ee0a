# SPDX-License-Identifier: Apache-2.0
"""Decides which addresses images may be fetched from, where a connection is made.

A URL comes from whoever writes a catalog, or from a redirect. Without a check, its author could read through
the worker what only the worker can reach: services of its own network, or a cloud's metadata.

*   The address is checked that is connected to, not the name: each time that a name is resolved, and for each
    redirect. So neither a second answer of a DNS server nor an unusual form of an address gets around it.
*   Through a proxy, the proxy resolves the name and connects. Here, the name is resolved as well if possible,
    and refused if all its addresses are private.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

import requests
from requests.utils import select_proxy
from urllib3.exceptions import NewConnectionError

from airflow_provider_bgrep.transport import HTTP, HTTPS, HTTPPool, HTTPSPool, OneAttemptAdapter

if TYPE_CHECKING:
    from airflow_provider_bgrep.connection import Settings

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        # AWS, Google, Azure and others; ECS; Alibaba Cloud; Oracle; Azure's host; AWS and Google by IPv6
        (
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd20:ce::254",
        ),
    )
)
"""Addresses at which clouds serve the credentials of their machines. They never serve an image."""

PRIVATE_RESULTS: Final = "BGREP_ALLOW_PRIVATE_RESULTS"
"""The environment variable that allows results at private addresses, ``true`` or ``1``."""

_UNICAST: Final = ipaddress.ip_network("2000::/3")
"""The only IPv6 addresses that are in use in the internet."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")


class PrivateAddressError(Exception):
    """A host has no address that images may be fetched from."""


def is_public(address: Address) -> bool:
    """Return whether an address is one of the internet.

    Loopback, link-local, private, shared (CGNAT), multicast, reserved and metadata addresses are not, nor are
    IPv6 addresses that stand for one of them.
    """
    if address in _METADATA:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not address.is_reserved
    embedded = _embedded(address)
    if address in _NAT64 and embedded:
        return is_public(embedded[0])
    return address in _UNICAST and address.is_global and all(map(is_public, embedded))


def _embedded(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def is_no_metadata(address: Address) -> bool:
    """Return whether an address is not one of a cloud's metadata: what is allowed where private ones are."""
    embedded = _embedded(address) if isinstance(address, ipaddress.IPv6Address) else []
    return not any(one in _METADATA for one in (address, *embedded))


class ResultReach:
    """Decides which addresses results may be fetched from: private ones if the API's host has one itself.

    So an emulator or a gateway in a private network works, and the API in the internet cannot make a worker
    read its private network. Where results of the API in the internet come from a private address, such as
    that of a storage's endpoint in one's own cloud network, the environment says so: see
    :data:`PRIVATE_RESULTS`.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, address: Address) -> bool:
        """Return whether results may be fetched from an address."""
        return is_public(address) or (is_no_metadata(address) and self._allows_private)

    @cached_property
    def _allows_private(self) -> bool:
        is_set = os.environ.get(PRIVATE_RESULTS, "").strip().lower() in ("true", "1")
        return is_set or _is_private_host(self._settings.base_url)


def addresses_of(host: str, port: int | None = None) -> list[Address]:
    """Return the addresses of a host, as they would be connected to.

    :raises OSError: if it has none.
    """
    found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    # An IPv6 address may end in its zone.
    return [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]


def _is_private_host(url: str) -> bool:
    """Return whether a URL's host is in a private network, for example on this machine."""
    try:
        return not all(map(is_public, addresses_of(urlsplit(url).hostname or "")))
    except (OSError, ValueError):
        return False


class GuardedAdapter(OneAttemptAdapter):
    """An adapter that connects to allowed addresses only.

    :param may_reach: whether an address is allowed.
    """

    def __init__(self, may_reach: Callable[[Address], bool]) -> None:
        self._may_reach = may_reach
        self._unresolved: set[str] = set()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Override: check the address of each connection. Those to proxies have another manager."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _guarded_pools(self._may_reach)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Override: check a host that a proxy connects to.

        :raises PrivateAddressError: if all its addresses are private.
        """
        proxies = kwargs.get("proxies") or {}
        if request.url and select_proxy(request.url, proxies):
            self._check_for_proxy(urlsplit(request.url).hostname or "")
        return super().send(request, *args, **kwargs)

    def _check_for_proxy(self, host: str) -> None:
        if host in self._unresolved:
            return
        try:
            found = addresses_of(host)
        except (OSError, ValueError):
            self._unresolved.add(host)  # only the proxy can resolve it
            return
        if not any(map(self._may_reach, found)):
            raise PrivateAddressError


def _guarded_pools(may_reach: Callable[[Address], bool]) -> dict[str, Any]:
    class GuardedHTTP(_Guarded, HTTP):
        is_allowed = staticmethod(may_reach)

    class GuardedHTTPS(_Guarded, HTTPS):
        is_allowed = staticmethod(may_reach)

    class GuardedHTTPPool(HTTPPool):
        ConnectionCls = GuardedHTTP

    class GuardedHTTPSPool(HTTPSPool):
        ConnectionCls = GuardedHTTPS

    return {"http": GuardedHTTPPool, "https": GuardedHTTPSPool}


class _Guarded:
    """A connection that is made to an allowed address of its host, or not at all."""

    is_allowed: Callable[[Address], bool]
    _dns_host: str
    port: int

    def _new_conn(self) -> Any:
        """Override: resolve the host once, and connect to one of the addresses that were checked."""
        try:
            found = addresses_of(self._dns_host.strip("[]"), self.port)
        except (OSError, ValueError) as error:
            # Not resolved again, because the next answer would not be checked.
            raise NewConnectionError(self, f"its name cannot be resolved: {error}") from None  # type: ignore[arg-type]
        allowed = list(dict.fromkeys(str(one) for one in found if self.is_allowed(one)))
        if not allowed:
            raise PrivateAddressError
        for address in allowed[:-1]:
            try:
                with self._connecting_to(address):
                    return super()._new_conn()  # type: ignore[misc]
            except Exception:  # noqa: S112 (the next address may answer; the last one's error is raised)
                continue
        with self._connecting_to(allowed[-1]):
            return super()._new_conn()  # type: ignore[misc]

    @contextmanager
    def _connecting_to(self, address: str) -> Iterator[None]:
        """Connect to an address, while the name is still what TLS verifies."""
        name, self._dns_host = self._dns_host, address
        try:
            yield
        finally:
            self._dns_host = name
