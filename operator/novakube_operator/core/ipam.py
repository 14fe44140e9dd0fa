"""Which address a NIC gets. Pure; the claim (IPAddress by name) is what makes it unique."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence

from novakube_crds.v1alpha1.port import ADDRESS_IN_USE, ADDRESS_OUTSIDE, NETWORK_FULL
from novakube_crds.v1alpha1.subnet import SubnetSpec, address_mode
from novakube_kit.errors import InvalidSpec
from novakube_operator.core.resources import networks

Taken = Callable[[str], bool]
"""Whether an address (canonical text) is claimed as far as this process knows."""


def claim_name(network_uid: str, address: str) -> str:
    """The IPAddress that claims an address: equal addresses of a Network have equal names.

    Colons and dots become hyphens; an IPv6 address is written in full, so none is ambiguous.
    """
    return f"{network_uid}-{ipaddress.ip_address(address).exploded.translate(_HYPHENS)}"


_HYPHENS = str.maketrans(":.", "--")


def canonical(address: str) -> str:
    """The one text of an address."""
    return str(ipaddress.ip_address(address))


def made_by_guest(subnet: SubnetSpec, mac: str) -> str | None:
    """The address that a guest with this MAC makes of an IPv6 prefix; None where it makes none.

    Source: modified EUI-64, RFC 4291, appendix A; used by SLAAC, RFC 4862.
    """
    net = ipaddress.ip_network(subnet.cidr)
    if net.version == 4 or not subnet.dhcp or address_mode(subnet) == "dhcpv6-stateful":
        return None
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    identifier = bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return str(net[int.from_bytes(identifier)])


def check_explicit(address: str, subnet: SubnetSpec, subnet_name: str, mac: str) -> str:
    """The canonical form of an address somebody asked for.

    Args:
        address: the wanted one.
        subnet: where it shall lie.
        subnet_name: for messages.
        mac: of the NIC that shall have it.

    Raises:
        InvalidSpec: outside the Subnet, or its gateway, network or broadcast address, or not
            the one that the guest will make itself.
    """
    wanted, net = ipaddress.ip_address(address), ipaddress.ip_network(subnet.cidr)
    if wanted not in net:
        raise InvalidSpec(
            f"address {wanted} is outside {subnet.cidr} of subnet {subnet_name}",
            reason=ADDRESS_OUTSIDE,
        )
    if net.num_addresses > 2 and (wanted == net[0] or (net.version == 4 and wanted == net[-1])):
        raise InvalidSpec(
            f"address {wanted} is the network's or broadcast address of {subnet.cidr}",
            reason=ADDRESS_OUTSIDE,
        )
    if wanted == networks.gateway(subnet):
        raise InvalidSpec(
            f"address {wanted} is the gateway of subnet {subnet_name}", reason=ADDRESS_IN_USE
        )
    made = made_by_guest(subnet, mac)
    if made not in (None, str(wanted)):
        raise InvalidSpec(
            f"address {wanted}: guests of subnet {subnet_name} ({address_mode(subnet)}) make "
            f"their own; with MAC {mac} it is {made}"
        )
    return str(wanted)


def next_free(subnet: SubnetSpec, taken: Taken, mac: str, after: str | None = None) -> str | None:
    """The next free address of the pools that is not the gateway; None: full.

    Args:
        subnet: of the address.
        taken: whether an address is in use.
        mac: on a Subnet whose guests make their own addresses, the one of this MAC is meant.
        after: where the search begins: an address given before. So its cost does not grow with
            those in use, and an address that was just freed comes last: neighbours may still
            know its former owner. None: from the lowest on.
    """
    made = made_by_guest(subnet, mac)
    if made is not None:
        return None if taken(made) else made
    version = ipaddress.ip_network(subnet.cidr).version
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    way = networks.gateway(subnet)
    for number in _in_turn(sorted(networks.pools(subnet)), int(make(after)) if after else None):
        address = make(number)
        if address != way and not taken(str(address)):
            return str(address)
    return None


def _in_turn(pools: Sequence[tuple[int, int]], after: int | None) -> Iterator[int]:
    """Every number of the pools once, those above ``after`` first."""
    if after is None:
        after = -1
    for first, last in pools:
        yield from range(max(first, after + 1), last + 1)
    for first, last in pools:
        yield from range(first, min(last, after) + 1)


def full(network: str, subnets: int) -> InvalidSpec:
    """The error of a Network without a free address."""
    where = "its subnet" if subnets == 1 else f"its {subnets} subnets"
    return InvalidSpec(f"network {network} is full: no free address in {where}",
                       reason=NETWORK_FULL)  # fmt: skip
