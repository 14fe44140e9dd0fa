"""Networks and Subnets: segments, sizes, gateways, pools."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable
from itertools import pairwise

from novakube_crds.v1alpha1.network import NetworkSpec, Segment
from novakube_crds.v1alpha1.subnet import EUI64_PREFIX, NO_GATEWAY, SubnetSpec, address_mode
from novakube_kit.errors import InvalidSpec

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
FIRST_VXLAN_ID = 4097
"""Above every VLAN tag, so that a number names one kind of segment only."""
LAST_VXLAN_ID = 2**24 - 1
VXLAN_OVERHEAD = 50
"""Outer Ethernet, IPv4, UDP and VXLAN headers. Source: RFC 7348, section 4.3 and 5."""
ETHERNET_MTU = 1500
COUNT_MAX = 2**63 - 1


def pick_segment(uid: str, spec: NetworkSpec, taken: Callable[[str, int], bool]) -> Segment:
    """The segment in force: the wanted one, else a VXLAN with the next free identifier.

    The search starts at a number derived from the UID, so that two leaders pick alike.

    Raises:
        InvalidSpec: every identifier is taken, or the wanted one is.
    """
    wanted = spec.segment or Segment(type="vxlan")
    if wanted.type == "flat":
        return wanted
    if wanted.id is not None:
        if taken(wanted.type, wanted.id):
            raise InvalidSpec(
                f"spec.segment.id {wanted.id} ({wanted.type}) belongs to an older network",
                reason="SegmentTaken",
            )
        return wanted
    first, last = (1, 4094) if wanted.type == "vlan" else (FIRST_VXLAN_ID, LAST_VXLAN_ID)
    count = last - first + 1
    start = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8]) % count
    for step in range(count):
        candidate = first + (start + step) % count
        if not taken(wanted.type, candidate):
            return wanted.model_copy(update={"id": candidate})
    raise InvalidSpec(f"every {wanted.type} identifier is taken", reason="SegmentTaken")


def mtu(spec: NetworkSpec, segment: Segment) -> int:
    """The largest packet in bytes."""
    if spec.mtu is not None:
        return spec.mtu
    return ETHERNET_MTU - (VXLAN_OVERHEAD if segment.type == "vxlan" else 0)


def gateway(spec: SubnetSpec) -> Ip | None:
    """The gateway in force: the given one, none, or the first address."""
    if spec.gateway == NO_GATEWAY:
        return None
    if spec.gateway is not None:
        return ipaddress.ip_address(spec.gateway)
    network = ipaddress.ip_network(spec.cidr)
    return network[1] if network.num_addresses > 2 else None


def pools(spec: SubnetSpec) -> list[tuple[int, int]]:
    """Ranges of addresses given out, as numbers, both ends included, gateway not removed.

    Without ``spec.pools``: the whole range but its first and (IPv4) last address.
    """
    if spec.pools:
        return [
            (int(ipaddress.ip_address(p.start)), int(ipaddress.ip_address(p.end)))
            for p in spec.pools
        ]
    network = ipaddress.ip_network(spec.cidr)
    first, last = int(network[0]), int(network[-1])
    if network.num_addresses > 2:
        first, last = first + 1, last - (1 if network.version == 4 else 0)
    return [(first, last)]


def capacity(spec: SubnetSpec) -> int:
    """How many addresses a Subnet can give out."""
    way = gateway(spec)
    ranges = pools(spec)
    total = sum(last - first + 1 for first, last in ranges)
    if way is not None and any(first <= int(way) <= last for first, last in ranges):
        total -= 1
    return min(total, COUNT_MAX)


def _check_pools(spec: SubnetSpec) -> None:
    ranges = sorted(pools(spec))
    for first, last in ranges:
        if first > last:
            raise InvalidSpec("a pool of spec.pools ends before it starts", reason="InvalidPools")
    for (_, last), (first, _) in pairwise(ranges):
        if first <= last:
            raise InvalidSpec("pools of spec.pools overlap", reason="InvalidPools")


def check_subnet(spec: SubnetSpec, siblings: Iterable[tuple[str, SubnetSpec]]) -> None:
    """What the schema cannot check.

    Args:
        spec: the Subnet.
        siblings: names and specs of the older Subnets of the same Network.

    Raises:
        InvalidSpec: bad pools, or a range that overlaps a sibling's; names field and sibling.
    """
    try:
        mine = ipaddress.ip_network(spec.cidr)
    except ValueError as error:
        raise InvalidSpec(f"spec.cidr: {error}", reason="InvalidCIDR") from error
    mode = address_mode(spec)
    if mine.version == 6 and mode != "dhcpv6-stateful" and mine.prefixlen != EUI64_PREFIX:
        raise InvalidSpec(
            f"spec.cidr {spec.cidr}: {mode} needs a prefix of {EUI64_PREFIX} bits",
            reason="InvalidCIDR",
        )
    _check_pools(spec)
    for name, other in siblings:
        theirs = ipaddress.ip_network(other.cidr)
        if mine.version == theirs.version and mine.overlaps(theirs):
            raise InvalidSpec(
                f"spec.cidr {spec.cidr} overlaps {other.cidr} of subnet {name}", reason="Overlap"
            )
