"""ServerGroup: which Instances share a node and which must not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    ApiModel,
    DisplayName,
    Name,
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

# Reasons.
ACCEPTED = "Accepted"
ID_TAKEN = "IDTaken"

Policy = Literal["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"]


class ServerGroupSpec(ApiModel):
    """What the owner wants."""

    model_config = rules(
        fixed("id"),
        fixed("maxServersPerHost"),
        Rule(
            "!has(self.maxServersPerHost) || self.policy == 'anti-affinity'",
            "spec.maxServersPerHost needs spec.policy: anti-affinity",
        ),
    )

    id: Uuid | None = None
    """OpenStack id; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    policy: Annotated[Policy, immutable("spec.policy")]
    max_servers_per_host: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Of anti-affinity; absent: 1."""
    user_id: Annotated[str, Field(max_length=255)] | None = None


class ServerGroupMember(ApiModel):
    """An Instance in the group."""

    name: Name
    uid: Uuid
    id: Annotated[str, Field(max_length=36)] = ""
    node: Annotated[str, Field(max_length=253)] | None = None


class ServerGroupStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""
    member_count: Annotated[int, Field(ge=0)] = 0
    """All members; ``members`` names 1024 of them at most."""
    members: Annotated[list[ServerGroupMember], Field(max_length=1024)] = Field(
        default_factory=list
    )
    pinned_hosts: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=1024)] = (
        Field(default_factory=list)
    )
    """The node an affinity group is bound to by its members; empty for other policies."""


SERVERGROUP = Kind(
    kind="ServerGroup",
    plural="servergroups",
    spec=ServerGroupSpec,
    status=ServerGroupStatus,
    description="Which Instances share a node and which must not.",
    short_names=("svg",),
    status_default={"observedGeneration": -1},
    columns=(
        Column("Policy", ".spec.policy"),
        Column("MaxPerHost", ".spec.maxServersPerHost", "integer", priority=1),
        Column("Members", ".status.memberCount", "integer"),
        Column("PinnedHosts", ".status.pinnedHosts"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("ID", ".status.id", priority=1),
        Column("Nodes", ".status.members[*].node", priority=1),
    ),
    selectable=(".status.id",),
)
