"""Quota: what the project of a namespace may use. One object, named ``quota``, per namespace."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from novakube_crds.base import ApiModel, Name, Status, Timestamp, Uuid, list_map
from novakube_crds.kind import Column, Kind

QUOTA_NAME = "quota"

# Condition types.
READY = "Ready"

# Reasons.
COUNTED = "Counted"
COUNTING = "Counting"
QUOTA_EXCEEDED = "QuotaExceeded"
"""Also the reason in the Ready condition of an object that is beyond a limit."""

Limit = Annotated[int, Field(ge=-1, le=2147483647)]
Amount = Annotated[int, Field(ge=0)]


class QuotaLimits(ApiModel):
    """Limits; -1 is unlimited, absent takes the default of QuotaClass ``default``."""

    instances: Limit | None = None
    cores: Limit | None = None
    memory_mib: Limit | None = None
    key_pairs: Limit | None = None
    """Per user. A KeyPair belongs to no project: what holds is ``users[].hard.keyPairs`` (the
    largest of all Quotas that name the user), else the QuotaClass."""
    server_groups: Limit | None = None
    server_group_members: Limit | None = None
    """Per group."""
    metadata_items: Limit | None = None
    """Per Instance."""
    injected_files: Limit | None = None
    """Files per Instance."""
    injected_file_content_bytes: Limit | None = None
    """Bytes per file, decoded."""
    injected_file_path_bytes: Limit | None = None
    """Bytes of a file's path."""
    networks: Limit | None = None
    subnets: Limit | None = None
    ports: Limit | None = None
    routers: Limit | None = None
    floating_ips: Limit | None = None
    security_groups: Limit | None = None
    security_group_rules: Limit | None = None
    images: Limit | None = None


class QuotaUsage(ApiModel):
    """Amounts in use."""

    instances: Amount = 0
    cores: Amount = 0
    memory_mib: Amount = 0
    key_pairs: Amount = 0
    server_groups: Amount = 0
    networks: Amount = 0
    subnets: Amount = 0
    ports: Amount = 0
    routers: Amount = 0
    floating_ips: Amount = 0
    security_groups: Amount = 0
    security_group_rules: Amount = 0
    images: Amount = 0


class UserQuota(ApiModel):
    """Limits of one user inside the project's."""

    user_id: Annotated[str, Field(min_length=1, max_length=255)]
    hard: QuotaLimits = QuotaLimits()


class QuotaSpec(ApiModel):
    """What the administrator allows."""

    hard: QuotaLimits = QuotaLimits()
    users: Annotated[
        list[UserQuota],
        Field(max_length=256, json_schema_extra=list_map("userID")),
    ] = Field(default_factory=list)


class UserUsage(ApiModel):
    """What one user uses."""

    user_id: Annotated[str, Field(max_length=255)]
    used: QuotaUsage = QuotaUsage()


class QuotaPending(ApiModel):
    """Written ahead of a create, dropped when its Guest is counted in ``used``."""

    instance_uid: Uuid
    incarnation: Annotated[int, Field(ge=1)] = 1
    """Number of the Guest it is for; an older Guest does not end it."""
    instance_name: Name
    user_id: Annotated[str, Field(max_length=255)] | None = None
    cores: Amount = 0
    memory_mib: Amount = 0
    ports: Amount = 0
    epoch: Amount = 0
    """``leaseTransitions`` of the leader that wrote it."""
    since: Timestamp


class QuotaStatus(Status):
    """The operator's count."""

    hard: QuotaLimits = QuotaLimits()
    """Limits in force, defaults filled in."""
    used: QuotaUsage = QuotaUsage()
    used_by_user: Annotated[list[UserUsage], Field(max_length=1024)] = Field(default_factory=list)
    pending: Annotated[list[QuotaPending], Field(max_length=1024)] = Field(default_factory=list)
    counted_to: Annotated[str, Field(max_length=64)] = ""
    """Newest Guest resourceVersion that ``used`` counts."""
    counted_by: Amount = 0
    """``leaseTransitions`` of the leader that dropped entries last: another one looks afresh."""


QUOTA = Kind(
    kind="Quota",
    plural="quotas",
    spec=QuotaSpec,
    status=QuotaStatus,
    description="What the project of a namespace may use.",
    # kubectl takes the word quota for Kubernetes' ResourceQuota.
    short_names=("nkquota",),
    status_default={"observedGeneration": -1},
    columns=(
        Column("Instances", ".status.used.instances", "integer"),
        Column("MaxInstances", ".status.hard.instances", "integer"),
        Column("Cores", ".status.used.cores", "integer"),
        Column("MaxCores", ".status.hard.cores", "integer"),
        Column("MemoryMiB", ".status.used.memoryMiB", "integer"),
        Column("MaxMemoryMiB", ".status.hard.memoryMiB", "integer"),
        Column("Ports", ".status.used.ports", "integer", priority=1),
        Column("MaxPorts", ".status.hard.ports", "integer", priority=1),
        Column("FloatingIPs", ".status.used.floatingIPs", "integer", priority=1),
        Column("MaxFloatingIPs", ".status.hard.floatingIPs", "integer", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    rules=(("self.metadata.name == 'quota'", "a namespace has one Quota and its name is quota"),),
)
