"""Which addresses an image may be fetched from.

The check is on the addresses a name resolves to, and the connection goes to exactly these:
a name that answers differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult

from novakube_kit.errors import ImageRejected, InvalidSpec, Retryable

RESOLVE_DEADLINE_S = 10.0
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Net = ipaddress.IPv4Network | ipaddress.IPv6Network
_SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # Source: RFC 6052
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")  # Source: RFC 1122, 3.2.1.3


def parse_cidrs(setting: str, text: str) -> tuple[Net, ...]:
    """A comma-separated list of networks.

    Raises:
        InvalidSpec: naming the setting and the part that is no network.
    """
    found = []
    for part in filter(None, (item.strip() for item in text.split(","))):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise InvalidSpec(
                f"{setting}: {part!r} is no network in CIDR form", reason="InvalidConfiguration"
            ) from error
    return tuple(found)


def embedded(address: Ip) -> Ip:
    """The IPv4 address a translating IPv6 address really leads to, else the address."""
    if isinstance(address, ipaddress.IPv6Address):
        teredo = address.teredo
        inner = address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Refuses loopback, link-local, unspecified, multicast and the ``refused`` networks."""

    allowed: tuple[Net, ...] = ()
    """``NOVAKUBE_IMAGE_ALLOWED_CIDRS``: exceptions, for sites whose image server is there."""
    refused: tuple[Net, ...] = ()
    """``NOVAKUBE_IMAGE_REFUSED_CIDRS``: networks of the site that tenants must not reach."""

    def problem(self, address: Ip) -> str | None:
        """Why the address is refused; None when it may be used."""
        inner = embedded(address)
        if _within(inner, self.allowed):
            return None
        reasons = {
            "a loopback address": inner.is_loopback,
            "a link-local address": inner.is_link_local,
            "an unspecified address": inner.is_unspecified or _within(inner, (_THIS_NETWORK,)),
            "a multicast address": inner.is_multicast,
            "a broadcast address": str(inner) == "255.255.255.255",
            "in a network this site refuses": _within(inner, self.refused),
        }
        return next((words for words, holds in reasons.items() if holds), None)


def _within(address: Ip, networks: Iterable[Net]) -> bool:
    return any(address.version == net.version and address in net for net in networks)


class CheckedResolver(AbstractResolver):
    """Resolver of one download: hands on checked addresses or raises our own error.

    One bad address among several refuses the name: which one would be used is not ours.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The host's addresses, all of them allowed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_DEADLINE_S):
                found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise Retryable(
                f"host {host} did not resolve within {RESOLVE_DEADLINE_S:g} s",
                reason="ImageUnreachable",
            ) from error
        except (OSError, UnicodeError) as error:
            raise Retryable(
                f"host {host} does not resolve: {error}", reason="ImageUnreachable"
            ) from error
        return [self._checked(host, item) for item in found]

    def _checked(
        self,
        host: str,
        item: tuple[int, int, int, str, _SocketAddress],
    ) -> ResolveResult:
        family, _, proto, _, sockaddr = item
        address, port = str(sockaddr[0]), int(sockaddr[1])
        check(self._policy, host, address)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return ResolveResult(
            hostname=host, host=address, port=port, family=family, proto=proto, flags=flags
        )

    async def close(self) -> None:
        """Holds nothing."""


def check(policy: AddressPolicy, host: str, address: str) -> None:
    """Refuses a forbidden address.

    Raises:
        ImageRejected: ``ImageAddressForbidden``.
    """
    problem = policy.problem(ipaddress.ip_address(address.partition("%")[0]))
    if problem:
        leads = "" if host == address else f" leads to {address}, which"
        raise ImageRejected(
            f"host {host}{leads} is {problem}; images are not fetched from there",
            reason="ImageAddressForbidden",
        )
