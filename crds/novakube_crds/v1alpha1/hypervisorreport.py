"""HypervisorReport: a node's mailbox for what concerns the node itself.

Made by the operator in the node's namespace, named ``node``. The operator writes the spec
(orders and the signed certificate), the node's agent the status (what the node is and has).
The operator makes the cluster's Hypervisor from it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from novakube_crds.base import Address, ApiModel, Status, Text, Timestamp, Uuid
from novakube_crds.kind import Column, Kind

REPORT_NAME = "node"
HEARTBEAT_LEASE = "heartbeat"
HEARTBEAT_INTERVAL_S = 10
ORPHANS_MAX = 1024
"""Domains without a Guest that a node reports; with more it reports so many of them."""


class HypervisorReportSpec(ApiModel):
    """Orders to the node."""

    fenced: Annotated[list[Uuid], Field(max_length=4096)] = Field(default_factory=list)
    """Guest UIDs whose domains this node must destroy (mirror of the Hypervisor's)."""
    certificate: Annotated[str, Field(max_length=16384)] | None = None
    """PEM, signed for ``status.certificateRequest``."""
    ca_bundle: Annotated[str, Field(max_length=65536)] | None = None
    memory_allocation_ratio: float | None = None
    cpu_allocation_ratio: float | None = None
    disk_allocation_ratio: float | None = None
    reserved_memory_mib: int | None = None
    reserved_vcpus: int | None = None
    reserved_disk_gib: int | None = None


class NodeCapacity(ApiModel):
    """What the node has, before ratios and reservations."""

    vcpus: int = 0
    memory_mib: int = 0
    disk_gib: int = 0
    """Size of the file system that holds instances."""
    disk_free_gib: int = 0


class NodeCpu(ApiModel):
    """CPU as libvirt describes it."""

    arch: Annotated[str, Field(max_length=32)] = ""
    model: Annotated[str, Field(max_length=128)] = ""
    vendor: Annotated[str, Field(max_length=64)] = ""
    sockets: int = 0
    cores: int = 0
    threads: int = 0


class OrphanNic(ApiModel):
    """A NIC of a domain without a Guest, as the node plumbed it."""

    port_uid: Uuid
    """What its tap is named after; the Port itself may be gone."""
    mac: Annotated[str, Field(max_length=17)]
    network_namespace: Annotated[str, Field(max_length=63)]
    network_name: Annotated[str, Field(max_length=253)]
    network_uid: Uuid
    addresses: Annotated[list[Annotated[str, Field(max_length=45)]], Field(max_length=8)] = Field(
        default_factory=list
    )
    """In canonical form."""


class OrphanDomain(ApiModel):
    """A domain of ours without a Guest: kept and reported, never destroyed unasked."""

    instance_id: Uuid
    guest_uid: Uuid | None = None
    incarnation: int = 0
    instance_namespace: Annotated[str, Field(max_length=63)] = ""
    instance_name: Annotated[str, Field(max_length=253)] = ""
    instance_uid: Annotated[str, Field(max_length=36)] = ""
    state: Annotated[str, Field(max_length=32)] = ""
    vcpus: int = 0
    memory_mib: int = 0
    disk_bytes: int = 0
    """Sum of its disks' virtual sizes; 0: not known."""
    image_url: Annotated[str, Field(max_length=1024)] = ""
    """Of the root disk's image; empty: not known, or longer than that."""
    image_sha256: Annotated[str, Field(max_length=64)] = ""
    nics_known: bool = False
    """Whether the node remembers its NICs."""
    nics: Annotated[list[OrphanNic], Field(max_length=16)] = Field(default_factory=list)


class HypervisorReportStatus(Status):
    """The node as its agent sees it.

    Conditions: ``StateReady``, ``RightsReady``, ``DriverReady``, ``ImageCacheReady``,
    ``NetworkReady``, ``GuestsResumable``.
    """

    driver: Annotated[str, Field(max_length=32)] = ""
    hypervisor_type: Annotated[str, Field(max_length=32)] = ""
    hypervisor_version: Annotated[str, Field(max_length=32)] = ""
    driver_version: Annotated[str, Field(max_length=32)] = ""
    agent_version: Annotated[str, Field(max_length=64)] = ""
    virt_type: Annotated[str, Field(max_length=16)] = ""
    address: Address | None = None
    agent_port: int | None = None
    """TCP port of the agent's mutual-TLS server."""
    capacity: NodeCapacity = NodeCapacity()
    cpu: NodeCpu = NodeCpu()
    traits: Annotated[list[Annotated[str, Field(max_length=255)]], Field(max_length=512)] = Field(
        default_factory=list
    )
    boot_id: Annotated[str, Field(max_length=64)] = ""
    certificate_request: Annotated[str, Field(max_length=16384)] | None = None
    """PEM CSR for the node's key; the key never leaves the node."""
    certificate_expires_at: Timestamp | None = None
    fenced_gone: Annotated[list[Uuid], Field(max_length=4096)] = Field(default_factory=list)
    """Fenced UIDs of which nothing is left."""
    orphans: Annotated[list[OrphanDomain], Field(max_length=ORPHANS_MAX)] = Field(
        default_factory=list
    )
    message: Text = ""


HYPERVISORREPORT = Kind(
    kind="HypervisorReport",
    plural="hypervisorreports",
    spec=HypervisorReportSpec,
    status=HypervisorReportStatus,
    description="A node's report to the operator, and the operator's orders to it (internal).",
    internal=True,
    columns=(
        Column("Driver", ".status.driver"),
        Column("VCPUs", ".status.capacity.vcpus", "integer"),
        Column("MemoryMiB", ".status.capacity.memoryMiB", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
