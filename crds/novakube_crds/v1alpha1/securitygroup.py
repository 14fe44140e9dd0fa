"""SecurityGroup: what traffic the Ports in it may send and receive."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    ApiModel,
    Cidr,
    DisplayName,
    LocalReference,
    Rule,
    Status,
    Uuid,
    fixed,
    rules,
)
from novakube_crds.kind import Column, Kind

# Condition types.
READY = "Ready"
STALLED = "Stalled"

# Reasons.
ACCEPTED = "Accepted"
IN_USE = "InUse"
NOT_SUPPORTED_YET = "NotSupportedYet"
ID_TAKEN = "IDTaken"

PROTOCOLS = (
    "ah", "dccp", "egp", "esp", "gre", "icmp", "icmpv6", "igmp", "ipip", "ipv6-encap",
    "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp",
    "sctp", "tcp", "udp", "udplite", "vrrp",
)  # fmt: skip
"""Names of protocols. Source: Neutron API reference, security group rules, ``protocol``."""
_NAMES = ", ".join(f"'{name}'" for name in PROTOCOLS)

Protocol = Annotated[
    str,
    Field(min_length=1, max_length=16),
    Rule(
        f"self in [{_NAMES}] || (self.matches('^[0-9]{{1,3}}$') && int(self) <= 255)",
        "protocol is a name such as tcp, udp, icmp, or a number from 0 to 255",
    ),
]


class PortRange(ApiModel):
    """Ports, both ends included; of ICMP: type (min) and code (max)."""

    min: Annotated[int, Field(ge=0, le=65535)]
    max: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Absent: the same as ``min``; of ICMP: every code."""


class SecurityGroupRule(ApiModel):
    """One permission; all that no rule permits is dropped."""

    model_config = rules(
        Rule(
            "!(has(self.remoteCidr) && has(self.remoteGroup))",
            "remoteCidr and remoteGroup exclude each other",
        ),
        Rule(
            "!has(self.ports) || (has(self.protocol) && self.protocol in ['tcp', 'udp', 'sctp',"
            " 'dccp', 'udplite', 'icmp', 'icmpv6', 'ipv6-icmp', '6', '17', '132', '33', '136',"
            " '1', '58'])",
            "ports need a protocol that has them: tcp, udp, sctp, dccp, udplite or icmp",
        ),
        Rule(
            "!has(self.ports) || !has(self.ports.max) || self.ports.min <= self.ports.max"
            " || (has(self.protocol)"
            " && self.protocol in ['icmp', 'icmpv6', 'ipv6-icmp', '1', '58'])",
            "ports.min must not be above ports.max",
        ),
        Rule(
            "!has(self.ports) || !has(self.protocol)"
            " || !(self.protocol in ['icmp', 'icmpv6', 'ipv6-icmp', '1', '58'])"
            " || (self.ports.min <= 255 && (!has(self.ports.max) || self.ports.max <= 255))",
            "type and code of ICMP (ports.min, ports.max) are 0 to 255",
        ),
        Rule(
            "!has(self.remoteCidr) || !isCIDR(self.remoteCidr)"
            " || cidr(self.remoteCidr).ip().family() == (self.ethertype == 'IPv4' ? 4 : 6)",
            "remoteCidr must be of the rule's ethertype",
        ),
    )

    direction: Literal["ingress", "egress"]
    ethertype: Literal["IPv4", "IPv6"] = "IPv4"
    protocol: Protocol | None = None
    """Absent: every protocol."""
    ports: PortRange | None = None
    """Absent: every port."""
    remote_cidr: Cidr | None = None
    """The other side's addresses; absent, like ``remoteGroup``: everybody."""
    remote_group: LocalReference | None = None
    """The other side's SecurityGroup, of the same namespace."""
    description: Annotated[str, Field(max_length=255)] | None = None


class SecurityGroupSpec(ApiModel):
    """What the owner wants."""

    model_config = rules(fixed("id"))

    id: Uuid | None = None
    """OpenStack id; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    description: Annotated[str, Field(max_length=255)] | None = None
    rules: Annotated[list[SecurityGroupRule], Field(max_length=128)] = Field(default_factory=list)
    """A rule's OpenStack id is the UUIDv5 of the group and the canonical rule."""


class SecurityGroupStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""


SECURITYGROUP = Kind(
    kind="SecurityGroup",
    plural="securitygroups",
    spec=SecurityGroupSpec,
    status=SecurityGroupStatus,
    description="What traffic the Ports in it may send and receive.",
    short_names=("sg",),
    status_default={"observedGeneration": -1},
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Description", ".spec.description"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("ID", ".status.id", priority=1),
    ),
    selectable=(".status.id",),
)
