"""Router: joins Subnets and leads them to an external Network."""

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
    rules,
)
from novakube_crds.kind import Column, Kind
from novakube_crds.v1alpha1.subnet import Route

# Condition types.
READY = "Ready"
STALLED = "Stalled"

# Reasons.
NOT_SUPPORTED_YET = "NotSupportedYet"
NOT_FOUND = "NotFound"
ID_TAKEN = "IDTaken"


class RouterInterface(ApiModel):
    """One leg: a Subnet (the router takes its gateway address) or a Port."""

    model_config = rules(
        Rule(
            "has(self.subnet) != has(self.port)",
            "an interface of spec.interfaces takes either subnet or port",
        ),
    )

    subnet: Reference | None = None
    port: LocalReference | None = None


class RouterSpec(ApiModel):
    """What the owner wants."""

    model_config = rules(fixed("id"))

    id: Uuid | None = None
    """OpenStack id; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    description: Annotated[str, Field(max_length=255)] | None = None
    external_network: Reference | None = None
    """External Network its default route leads to."""
    enable_snat: bool = True
    """Whether guests without a floating address reach the outside by NAT."""
    interfaces: Annotated[list[RouterInterface], Field(max_length=64)] = Field(default_factory=list)
    routes: Annotated[list[Route], Field(max_length=32)] = Field(default_factory=list)


class RouterStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""
    external_addresses: Annotated[list[Address], Field(max_length=8)] = Field(default_factory=list)


ROUTER = Kind(
    kind="Router",
    plural="routers",
    spec=RouterSpec,
    status=RouterStatus,
    description="Joins Subnets and leads them outside.",
    status_default={"observedGeneration": -1},
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("External", ".spec.externalNetwork.name"),
        Column("Address", ".status.externalAddresses[0]"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("ID", ".status.id", priority=1),
    ),
    selectable=(".spec.externalNetwork.name", ".status.id"),
)
