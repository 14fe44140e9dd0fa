"""DHCP leases as the node holds them: records, what dnsmasq's script tells, whose they are. Pure.

A lease belongs to a NIC only when network, address and MAC are that NIC's. Everything else is
refused, whoever told it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from novakube_agent.ports import LeaseEvent
from novakube_crds.v1alpha1.guest import GuestLease, GuestNic

RECORD_MAX_BYTES = 4096
EVENT_MAX_BYTES = 256
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ACTIONS = frozenset({"add", "old", "del"})


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A record of ``novakube-dhcpbridge``."""

    mac: str
    """Empty when dnsmasq did not know it."""
    started: int
    """Seconds since the epoch."""
    hostname: str


def parse_record(text: str) -> HeldLease:
    """A record's text.

    Raises:
        ValueError: it is damaged; says how.
    """
    fields = dict(line.partition(" ")[::2] for line in text.splitlines())
    if not {"mac", "started", "hostname"} <= fields.keys():
        raise ValueError("fields are missing")
    started = fields["started"]
    if not started.isdecimal() or len(started) > 10:
        raise ValueError(f"started is {started!r}, not seconds since the epoch")
    return HeldLease(fields["mac"].lower(), int(started), fields["hostname"])


def parse_event(line: str) -> LeaseEvent:
    """One line of the FIFO: ``add|old|del NETWORK-UID ADDRESS MAC`` (``-``: no MAC known).

    Raises:
        ValueError: any other text; says what is wrong with it.
    """
    if len(line.encode(errors="replace")) > EVENT_MAX_BYTES:
        raise ValueError(f"longer than {EVENT_MAX_BYTES} bytes")
    words = line.split(" ")
    if len(words) != 4:
        raise ValueError(f"{len(words)} words, not action, network, address and MAC")
    action, network, address, mac = words
    if action not in _ACTIONS:
        raise ValueError(f"action {action[:16]!r}")
    if not _UID.fullmatch(network):
        raise ValueError(f"{network!r} is no UID of a Network")
    if mac != "-" and not _MAC.fullmatch(mac):
        raise ValueError(f"{mac!r} is no MAC")
    return LeaseEvent(action, network, canonical(address), "" if mac == "-" else mac)


def canonical(address: str) -> str:
    """An address as dnsmasq writes it. Raises ValueError for anything else."""
    return str(ipaddress.ip_address(address))


def leasable(nic: GuestNic) -> Iterator[tuple[str, str]]:
    """Network and address of each lease that the NIC may hold; what is no address holds none."""
    for item in nic.addresses:
        with suppress(ValueError):
            if item.subnet.dhcp:
                yield nic.network_uid, canonical(item.address)


def is_of(event: LeaseEvent, nics: Iterable[GuestNic]) -> bool:
    """Whether one of these NICs has the event's network, address and MAC."""
    place = (event.network_uid, event.address)
    return any(nic.mac == event.mac and place in leasable(nic) for nic in nics)


def guest_lease(nic: GuestNic, address: str, held: HeldLease) -> GuestLease | None:
    """The lease as the Guest's status shows it; None when its MAC is not this NIC's."""
    if held.mac != nic.mac:
        return None
    return GuestLease(
        mac=nic.mac,
        address=address,
        network_uid=nic.network_uid,
        hostname=held.hostname,
        started_at=datetime.fromtimestamp(held.started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
