"""IPAddress: the claim that makes an address of a Network unique.

In the Network's namespace, named from the Network's UID and the address, so that two claims
of one address are one name. Without owner references; it goes when its claimant does.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    Address,
    ApiModel,
    LocalReference,
    Name,
    NamespaceName,
    Rule,
    Uuid,
    immutable,
)
from novakube_crds.kind import Column, Kind


class AddressClaim(ApiModel):
    """Who holds the address."""

    kind: Literal["Instance", "Port", "FloatingIP", "Router", "Gateway"]
    """Instance: its operator-made Port; Port: a user's."""
    namespace: NamespaceName
    name: Name
    uid: Uuid
    nic: Annotated[int, Field(ge=0, le=15)] | None = None
    """Index in the Instance's ``spec.networks``."""


class IPAddressSpec(ApiModel):
    """The claim; it never changes hands."""

    network: Annotated[LocalReference, immutable("spec.network")]
    """Network of the same namespace."""
    network_uid: Annotated[Uuid, immutable("spec.networkUID")]
    subnet: Annotated[LocalReference, immutable("spec.subnet")]
    """Subnet of the same namespace."""
    address: Annotated[
        Address,
        Rule("!isIP(self) || ip.isCanonical(self)", "spec.address must be in canonical form"),
        immutable("spec.address"),
    ]
    """In canonical form, so that equal addresses have equal names."""
    claim: Annotated[AddressClaim, immutable("spec.claim")]


IPADDRESS = Kind(
    kind="IPAddress",
    plural="ipaddresses",
    spec=IPAddressSpec,
    status=None,
    description="The claim that makes an address unique (internal).",
    internal=True,
    # Kubernetes has ipaddresses of its own (networking.k8s.io), which kubectl prefers.
    short_names=("nkip",),
    columns=(
        Column("Address", ".spec.address"),
        Column("Network", ".spec.network.name"),
        Column("Kind", ".spec.claim.kind"),
        Column("Namespace", ".spec.claim.namespace"),
        Column("Name", ".spec.claim.name"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable=(".spec.networkUID", ".spec.claim.uid", ".spec.address"),
)
