"""FloatingIP: an address of an external Network, led to a Port."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from novakube_crds.base import (
    Address,
    ApiModel,
    DisplayName,
    LocalReference,
    Reference,
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

# Reasons.
NOT_SUPPORTED_YET = "NotSupportedYet"
NOT_FOUND = "NotFound"
NETWORK_FULL = "NetworkFull"
ADDRESS_IN_USE = "AddressInUse"
ID_TAKEN = "IDTaken"


class FloatingIPSpec(ApiModel):
    """What the owner wants."""

    model_config = rules(
        fixed("id"),
        fixed("address"),
        Rule("!has(self.fixedAddress) || has(self.port)", "spec.fixedAddress needs spec.port"),
    )

    id: Uuid | None = None
    """OpenStack id; default: the object's UID."""
    display_name: DisplayName | None = None
    description: Annotated[str, Field(max_length=255)] | None = None
    external_network: Annotated[Reference, immutable("spec.externalNetwork")]
    address: Address | None = None
    """Absent: any free one."""
    port: LocalReference | None = None
    """Port it leads to; absent: reserved and unused."""
    fixed_address: Address | None = None
    """Which of the Port's addresses; absent: its first IPv4 address."""


class FloatingIPStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""
    address: Address | None = None
    fixed_address: Address | None = None


FLOATINGIP = Kind(
    kind="FloatingIP",
    plural="floatingips",
    spec=FloatingIPSpec,
    status=FloatingIPStatus,
    description="An external address, led to a Port.",
    short_names=("fip",),
    status_default={"observedGeneration": -1},
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Address", ".status.address"),
        Column("Port", ".spec.port.name"),
        Column("Fixed", ".status.fixedAddress"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("ID", ".status.id", priority=1),
    ),
    selectable=(".spec.port.name", ".status.address", ".status.id"),
)
