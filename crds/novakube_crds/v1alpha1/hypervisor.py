"""Hypervisor: a node that runs Instances. Cluster-scoped, named like its Node.

The spec is the administrator's; the operator alone writes the status, from the node's
HypervisorReport and the Guests it placed there.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from novakube_crds.base import LIST_SET, Address, ApiModel, Rule, Status, Timestamp, Uuid, rules
from novakube_crds.kind import Column, Kind
from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity, NodeCpu, OrphanDomain

# Condition types.
READY = "Ready"
AGENT_ALIVE = "AgentAlive"
DRIVER_READY = "DriverReady"
SCHEDULABLE = "Schedulable"
DOMAINS_OWNED = "DomainsOwned"
"""Every domain on the node belongs to an Instance."""

# Reasons.
HEARTBEAT_LOST = "HeartbeatLost"
DISABLED = "Disabled"
FORCED_DOWN = "ForcedDown"
MAINTENANCE = "Maintenance"
BUILD_FAILURES = "BuildFailures"
NO_REPORT = "NoReport"
ORPHAN_DOMAINS = "OrphanDomains"

Ratio = Annotated[float, Field(gt=0, le=1000)]
Reserved = Annotated[int, Field(ge=0, le=2147483647)]


class HypervisorSpec(ApiModel):
    """What the administrator wants of the node."""

    model_config = rules(
        Rule(
            "!has(self.disabledReason) || !self.enabled",
            "spec.disabledReason needs spec.enabled: false",
        ),
    )

    enabled: bool = True
    """Whether new Instances may be placed here."""
    disabled_reason: Annotated[str, Field(max_length=255)] | None = None
    forced_down: bool = False
    """The administrator vouches that the node is dead: its Instances may start elsewhere."""
    maintenance: bool = False
    """Takes nothing new and is drained."""
    destroy_orphans: Annotated[list[Uuid], Field(max_length=1024, json_schema_extra=LIST_SET)] = (
        Field(default_factory=list)
    )
    """Guest UIDs of ``status.orphans`` that the administrator wants destroyed with their disks.
    What belongs to an Instance is never destroyed by it."""
    cpu_allocation_ratio: Ratio | None = None
    """Virtual per real CPUs; absent: 4.0."""
    memory_allocation_ratio: Ratio | None = None
    """Promised per real memory; absent: 1.0."""
    disk_allocation_ratio: Ratio | None = None
    """Promised per real disk space; absent: 1.0."""
    reserved_vcpus: Reserved | None = None
    """CPUs kept for the node itself; absent: 0."""
    reserved_memory_mib: Reserved | None = None
    """Memory kept for the node itself, in MiB; absent: 512."""
    reserved_disk_gib: Reserved | None = None
    """Disk space kept for the node itself, in GiB; absent: 0."""


class Allocated(ApiModel):
    """Sum over the Guests placed here."""

    vcpus: Annotated[int, Field(ge=0)] = 0
    memory_mib: Annotated[int, Field(ge=0)] = 0
    disk_gib: Annotated[int, Field(ge=0)] = 0


class HypervisorStatus(Status):
    """The node as the operator sees it."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack id: the object's UID."""
    capacity: NodeCapacity = NodeCapacity()
    allocated: Allocated = Allocated()
    running: Annotated[int, Field(ge=0)] = 0
    """Guests placed here."""
    fenced: Annotated[list[Uuid], Field(max_length=4096)] = Field(default_factory=list)
    """UIDs of Guests that were started elsewhere: the agent destroys them when it is back."""
    build_failures: Annotated[int, Field(ge=0)] = 0
    """Builds that failed here in a row: back to 0 by a success, or by spec.enabled: false."""
    orphans: Annotated[list[OrphanDomain], Field(max_length=1024)] = Field(default_factory=list)
    """Domains of novakube's here that belong to no Instance: kept until somebody decides."""
    availability_zone: Annotated[str, Field(max_length=255)] = ""
    driver: Annotated[str, Field(max_length=32)] = ""
    hypervisor_type: Annotated[str, Field(max_length=32)] = ""
    version: Annotated[str, Field(max_length=32)] = ""
    agent_version: Annotated[str, Field(max_length=64)] = ""
    virt_type: Annotated[str, Field(max_length=16)] = ""
    cpu: NodeCpu = NodeCpu()
    traits: Annotated[list[Annotated[str, Field(max_length=255)]], Field(max_length=512)] = Field(
        default_factory=list
    )
    address: Address | None = None
    agent_port: int | None = None
    """TCP port of the agent's mutual-TLS server."""
    heartbeat_at: Timestamp | None = None
    """When the agent was last heard, as of the last change of a condition."""


HYPERVISOR = Kind(
    kind="Hypervisor",
    plural="hypervisors",
    spec=HypervisorSpec,
    status=HypervisorStatus,
    description="A node that runs Instances.",
    namespaced=False,
    short_names=("hv",),
    status_default={"observedGeneration": -1},
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Enabled", ".spec.enabled", "boolean"),
        Column("Zone", ".status.availabilityZone"),
        Column("Running", ".status.running", "integer"),
        Column("VCPUs", ".status.capacity.vcpus", "integer"),
        Column("Allocated", ".status.allocated.vcpus", "integer"),
        Column("MemoryMiB", ".status.capacity.memoryMiB", "integer"),
        Column("AllocatedMiB", ".status.allocated.memoryMiB", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Address", ".status.address", priority=1),
        Column("Type", ".status.hypervisorType", priority=1),
        Column("Version", ".status.version", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1),
        Column("Schedulable", '.status.conditions[?(@.type=="Schedulable")].message', priority=1),
    ),
    selectable=(".spec.enabled", ".status.id"),
)
