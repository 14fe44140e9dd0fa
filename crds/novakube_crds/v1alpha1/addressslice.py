"""AddressSlice: members of a Network or SecurityGroup, at most 256 per object.

Beside its owner and owned by it; written by the operator, read by the nodes, like
EndpointSlices.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import Address, ApiModel, Mac, Name, Uuid, immutable
from novakube_crds.kind import Column, Kind

MAX_MEMBERS = 256


class SliceOwner(ApiModel):
    """Whose members these are; in the same namespace."""

    kind: Literal["Network", "SecurityGroup"]
    name: Name
    uid: Uuid


class SliceMember(ApiModel):
    """A Port's address and where it is."""

    address: Address
    mac: Mac
    port_uid: Uuid
    node: Name | None = None
    """Node whose address leads there."""
    node_address: Address | None = None
    """Where the overlay's frames for it go."""


class AddressSliceSpec(ApiModel):
    """One part of the membership."""

    owner: Annotated[SliceOwner, immutable("spec.owner")]
    members: Annotated[list[SliceMember], Field(max_length=MAX_MEMBERS)] = Field(
        default_factory=list
    )


ADDRESSSLICE = Kind(
    kind="AddressSlice",
    plural="addressslices",
    spec=AddressSliceSpec,
    status=None,
    description="Members of a Network or SecurityGroup (internal).",
    internal=True,
    columns=(
        Column("Kind", ".spec.owner.kind"),
        Column("Owner", ".spec.owner.name"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable=(".spec.owner.uid", ".spec.owner.kind"),
)
