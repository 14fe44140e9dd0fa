"""Network: a layer-2 segment Ports are on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    ApiModel,
    DisplayName,
    Reference,
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
EXTERNAL_NETWORK_READY = "ExternalNetworkReady"

# Reasons.
ACCEPTED = "Accepted"
IN_USE = "InUse"
NOT_FOUND = "NotFound"
NOT_SUPPORTED_YET = "NotSupportedYet"
SEGMENT_TAKEN = "SegmentTaken"
ID_TAKEN = "IDTaken"


class Segment(ApiModel):
    """How frames travel between nodes."""

    type: Literal["flat", "vlan", "vxlan"]
    id: Annotated[int, Field(ge=1, le=16777215)] | None = None
    """VLAN tag (1 to 4094) or VXLAN network identifier; absent: the next free one."""
    physical_network: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Name of the nodes' uplink (flat, vlan); a flat network without one stays on its node."""


class NetworkSpec(ApiModel):
    """What the owner wants."""

    model_config = rules(
        fixed("id"),
        fixed("segment"),
        Rule(
            "!has(self.segment) || self.segment.type != 'flat' || !has(self.segment.id)",
            "spec.segment.id has no meaning for a flat network",
        ),
        Rule(
            "!has(self.segment) || self.segment.type != 'vlan' || !has(self.segment.id)"
            " || self.segment.id <= 4094",
            "spec.segment.id of a vlan is 1 to 4094",
        ),
        Rule(
            "!has(self.segment) || self.segment.type != 'vxlan'"
            " || !has(self.segment.physicalNetwork)",
            "spec.segment.physicalNetwork has no meaning for a vxlan network",
        ),
        Rule(
            "!(self.external && has(self.externalNetwork))",
            "an external network is not attached to another by spec.externalNetwork",
        ),
    )

    id: Uuid | None = None
    """OpenStack id; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    description: Annotated[str, Field(max_length=255)] | None = None
    segment: Segment | None = None
    """Absent: the operator picks one, shown in ``status.segment``."""
    mtu: Annotated[int, Field(ge=576, le=9216)] | None = None
    """Largest packet in bytes; absent: what the segment allows."""
    shared: bool = False
    """All namespaces may use it."""
    external: bool = False
    """Leads out of the cloud; floating addresses come from it."""
    port_security: bool = True
    """Default of its Ports: anti-spoofing and security groups."""
    external_network: Reference | None = None
    """External Network its guests reach by NAT, without a Router."""


class NetworkStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""
    segment: Segment | None = None
    mtu: int | None = None
    used_addresses: Annotated[int, Field(ge=0)] = 0
    free_addresses: Annotated[int, Field(ge=0)] = 0
    """Capped at 2^63 - 1."""


NETWORK = Kind(
    kind="Network",
    plural="networks",
    spec=NetworkSpec,
    status=NetworkStatus,
    description="A layer-2 segment.",
    short_names=("nknet",),
    status_default={"observedGeneration": -1},
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Segment", ".status.segment.type"),
        Column("Used", ".status.usedAddresses", "integer"),
        Column("Free", ".status.freeAddresses", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("ID", ".status.id", priority=1),
        Column("SegmentID", ".status.segment.id", "integer", priority=1),
        Column("MTU", ".status.mtu", "integer", priority=1),
    ),
    selectable=(".spec.shared", ".spec.external", ".status.id"),
)
