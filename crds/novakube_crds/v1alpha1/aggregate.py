"""Aggregate: a group of nodes, optionally an availability zone. Cluster-scoped."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from novakube_crds.base import (
    LIST_SET,
    ApiModel,
    DisplayName,
    Name,
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
HOST_NOT_FOUND = "HostNotFound"
ZONE_CONFLICT = "ZoneConflict"
ID_TAKEN = "IDTaken"


class AggregateSpec(ApiModel):
    """What the administrator wants."""

    model_config = rules(fixed("id"))

    id: Uuid | None = None
    """OpenStack UUID; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    availability_zone: (
        Annotated[
            str,
            Field(min_length=1, max_length=255),
            Rule("!self.contains(':')", "spec.availabilityZone must not contain a colon"),
        ]
        | None
    ) = None
    """Zone of its hosts; a node is in one zone at most."""
    hosts: Annotated[
        list[Name],
        Field(max_length=4096, json_schema_extra=LIST_SET),
    ] = Field(default_factory=list)
    """Names of Hypervisors."""
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=255)]], Field(max_length=128)] = (
        Field(default_factory=dict)
    )


class AggregateStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack UUID: ``spec.id`` or the object's UID."""
    host_count: Annotated[int, Field(ge=0)] = 0
    """Of ``spec.hosts``, those that are Hypervisors."""


AGGREGATE = Kind(
    kind="Aggregate",
    plural="aggregates",
    spec=AggregateSpec,
    status=AggregateStatus,
    description="A group of nodes.",
    namespaced=False,
    short_names=("agg",),
    status_default={"observedGeneration": -1},
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Zone", ".spec.availabilityZone"),
        Column("Hosts", ".status.hostCount", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Names", ".spec.hosts", priority=1),
        Column("ID", ".status.id", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1),
    ),
    selectable=(".spec.availabilityZone", ".status.id"),
)
