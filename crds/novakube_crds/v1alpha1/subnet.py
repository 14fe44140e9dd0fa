"""Subnet: a range of addresses on a Network."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from pydantic import Field

from novakube_crds.base import (
    Address,
    ApiModel,
    Cidr,
    DisplayName,
    LocalReference,
    Rule,
    Status,
    Uuid,
    fixed,
    immutable,
    rules,
)
from novakube_crds.kind import Column, Kind

# Condition types.
READY = "Ready"
STALLED = "Stalled"
NETWORK_READY = "NetworkReady"

# Reasons.
ACCEPTED = "Accepted"
INVALID_POOLS = "InvalidPools"
IN_USE = "InUse"
NOT_FOUND = "NotFound"
OVERLAP = "Overlap"
ID_TAKEN = "IDTaken"

NO_GATEWAY = "none"
Ipv6Mode = Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]
EUI64_PREFIX = 64
"""Bits of the prefix of addresses made from a MAC. Source: RFC 4291, appendix A."""


class _Modes(Protocol):
    """A Subnet's, or a Guest's copy of them."""

    ipv6_address_mode: Ipv6Mode | None
    ipv6_ra_mode: Ipv6Mode | None


def address_mode(subnet: _Modes) -> Ipv6Mode:
    """How guests of an IPv6 Subnet get their addresses."""
    return subnet.ipv6_address_mode or subnet.ipv6_ra_mode or "dhcpv6-stateful"


def is_announced(subnet: _Modes) -> bool:
    """Whether novakube announces the router of an IPv6 Subnet."""
    return subnet.ipv6_ra_mode is not None or subnet.ipv6_address_mode is None


class Pool(ApiModel):
    """Addresses given out, both ends included."""

    start: Address
    end: Address


class Route(ApiModel):
    """A static route for the guests (DHCP option 121; IPv4 only: DHCPv6 has none)."""

    destination: Cidr
    next_hop: Address


def _number(address: str) -> str:
    """CEL: an IPv4 address as a number; Kubernetes' IP library has no order."""
    octets = (f"int({address}.split('.')[{i}]) * {256 ** (3 - i)}" for i in range(4))
    return f"({' + '.join(octets)})"


_NOT_COMPARABLE = (
    "!has(self.pools) || self.pools.exists(p, !isIP(p.start) || !isIP(p.end)"
    " || ip(p.start).family() != 4 || ip(p.end).family() != 4)"
)


class SubnetSpec(ApiModel):
    """What the owner wants."""

    model_config = rules(
        fixed("id"),
        Rule(
            "!has(self.gateway) || self.gateway == 'none' || !isCIDR(self.cidr)"
            " || !isIP(self.gateway) || cidr(self.cidr).containsIP(self.gateway)",
            "spec.gateway must be inside spec.cidr",
        ),
        Rule(
            "!has(self.pools) || !isCIDR(self.cidr) || self.pools.all(p,"
            " !isIP(p.start) || !isIP(p.end) || (cidr(self.cidr).containsIP(p.start)"
            " && cidr(self.cidr).containsIP(p.end)))",
            "spec.pools must be inside spec.cidr",
        ),
        Rule(
            f"{_NOT_COMPARABLE} || self.pools.all(p, {_number('p.start')} <= {_number('p.end')})",
            "a pool of spec.pools ends before it starts",
        ),
        Rule(
            f"{_NOT_COMPARABLE} || self.pools.all(p, self.pools.exists_one(q,"
            f" {_number('q.start')} <= {_number('p.end')}"
            f" && {_number('p.start')} <= {_number('q.end')}))"
            f" || self.pools.exists(p, {_number('p.start')} > {_number('p.end')})",
            "pools of spec.pools overlap",
        ),
        Rule(
            "!(has(self.ipv6AddressMode) || has(self.ipv6RAMode)) || !isCIDR(self.cidr)"
            " || cidr(self.cidr).ip().family() == 6",
            "spec.ipv6AddressMode and spec.ipv6RAMode need an IPv6 spec.cidr",
        ),
        Rule(
            "!has(self.ipv6AddressMode) || !has(self.ipv6RAMode)"
            " || self.ipv6AddressMode == self.ipv6RAMode",
            "spec.ipv6AddressMode and spec.ipv6RAMode must be equal when both are given",
        ),
    )

    id: Uuid | None = None
    """OpenStack id; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    description: Annotated[str, Field(max_length=255)] | None = None
    network: Annotated[LocalReference, immutable("spec.network")]
    """Network of the same namespace."""
    cidr: Annotated[Cidr, immutable("spec.cidr")]
    gateway: (
        Annotated[
            str,
            Field(max_length=45),
            Rule("self == 'none' || isIP(self)", "spec.gateway must be an address or none"),
        ]
        | None
    ) = None
    """Absent: the first address. ``none``: no gateway."""
    pools: Annotated[list[Pool], Field(max_length=8)] = Field(default_factory=list)
    """Ranges given out; they must not overlap (of IPv6 the operator checks that and says
    InvalidPools). Empty: all of ``cidr`` but its gateway, first and (IPv4) last address."""
    dns: Annotated[list[Address], Field(max_length=8)] = Field(default_factory=list)
    """Name servers for the guests."""
    routes: Annotated[list[Route], Field(max_length=32)] = Field(default_factory=list)
    dhcp: bool = True
    """Whether guests get addresses, and of IPv6 routers, from the network. False: nothing is
    served, addresses are claimed all the same."""
    ipv6_address_mode: Ipv6Mode | None = None
    """How guests get their IPv6 addresses. ``dhcpv6-stateful``: the claimed one by DHCPv6.
    ``slaac`` and ``dhcpv6-stateless``: they make it of prefix (a /64) and MAC, and that one is
    claimed; the latter get name servers by DHCPv6. Absent: ``ipv6RAMode``, else
    ``dhcpv6-stateful``."""
    ipv6_ra_mode: Ipv6Mode | None = None
    """Who announces the router: absent while ``ipv6AddressMode`` is there, somebody else on the
    network; otherwise novakube."""


class SubnetStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""
    gateway: Address | None = None
    """The gateway in force; absent when there is none."""


SUBNET = Kind(
    kind="Subnet",
    plural="subnets",
    spec=SubnetSpec,
    status=SubnetStatus,
    description="A range of addresses on a Network.",
    status_default={"observedGeneration": -1},
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Network", ".spec.network.name"),
        Column("CIDR", ".spec.cidr"),
        Column("Gateway", ".status.gateway"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("ID", ".status.id", priority=1),
    ),
    selectable=(".spec.network.name", ".status.id"),
)
