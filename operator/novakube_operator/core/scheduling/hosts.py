"""What the scheduler knows of a node and of a request. Pure values, made once per change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from novakube_crds.v1alpha1.guest import GuestServerGroup
from novakube_crds.v1alpha1.hypervisor import HypervisorSpec, HypervisorStatus
from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity

CPU_RATIO = 4.0
MEMORY_RATIO = 1.0
DISK_RATIO = 1.0
RESERVED_MEMORY_MIB = 512
"""Source: nova.conf initial_cpu_allocation_ratio, initial_ram_allocation_ratio,
initial_disk_allocation_ratio, reserved_host_memory_mb."""
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Amounts:
    """Virtual CPUs, memory and disk, wanted or used."""

    vcpus: int = 0
    memory_mib: int = 0
    disk_bytes: int = 0

    def plus(self, other: Amounts) -> Amounts:
        """The sum."""
        return Amounts(
            self.vcpus + other.vcpus,
            self.memory_mib + other.memory_mib,
            self.disk_bytes + other.disk_bytes,
        )

    def minus(self, other: Amounts) -> Amounts:
        """The difference."""
        return Amounts(
            self.vcpus - other.vcpus,
            self.memory_mib - other.memory_mib,
            self.disk_bytes - other.disk_bytes,
        )


def limits(spec: HypervisorSpec, capacity: NodeCapacity) -> Amounts:
    """What a node may promise: capacity less reservation, times ratio; the agent's own formula."""
    kept = spec.reserved_memory_mib
    reserved_mib = RESERVED_MEMORY_MIB if kept is None else kept
    vcpus = (capacity.vcpus - (spec.reserved_vcpus or 0)) * (spec.cpu_allocation_ratio or CPU_RATIO)
    memory = (capacity.memory_mib - reserved_mib) * (spec.memory_allocation_ratio or MEMORY_RATIO)
    disk = (capacity.disk_gib - (spec.reserved_disk_gib or 0)) * (
        spec.disk_allocation_ratio or DISK_RATIO
    )
    return Amounts(int(vcpus), int(memory), int(disk) * GIB)


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """Why a node takes nothing new."""

    reason: str
    """CamelCase, the Schedulable condition's."""
    text: str
    """As it stands in the sentence; equal texts are counted together."""
    silent_since: float | None = None
    """Seconds since the epoch of the last sign of life, when silence is the reason."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is placed on a node, kept up to date by changes of Guests."""

    used: Amounts = Amounts()
    instances: int = 0
    io_ops: int = 0
    """Guests that are being built."""
    build_failures: int = 0
    """In a row, until the next success."""


@dataclass(frozen=True, slots=True)
class Host:
    """A node as the scheduler sees it."""

    name: str
    limit: Amounts
    zone: str = "nova"
    unschedulable: Unschedulable | None = None
    load: Load = Load()
    metadata: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of all its Aggregates; a value with commas is several values, as in Nova."""
    status: HypervisorStatus = field(default_factory=HypervisorStatus)
    spec: HypervisorSpec = field(default_factory=HypervisorSpec)

    @property
    def free_vcpus(self) -> int:
        """VCPUs that may still be promised."""
        return self.limit.vcpus - self.load.used.vcpus

    @property
    def free_memory_mib(self) -> int:
        """Memory that may still be promised."""
        return self.limit.memory_mib - self.load.used.memory_mib

    @property
    def free_disk_bytes(self) -> int:
        """Disk space that may still be promised."""
        return self.limit.disk_bytes - self.load.used.disk_bytes


@dataclass(frozen=True, slots=True)
class GroupView:
    """A server group's rule, and its members by node at this moment."""

    rule: GuestServerGroup
    members: Mapping[str, int] = field(default_factory=dict)
    """Node -> members there, creates under way included; nodes without any are left out."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be placed."""

    wanted: Amounts
    zone: str | None = None
    forced_host: str | None = None
    refused: frozenset[str] = frozenset()
    """Nodes that answered Rejected or Failed for this creation."""
    tenant: str = ""
    """The project's id; of a namespace that is bound to none, the namespace's name."""
    flavor: str = ""
    """The flavor's name."""
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    """The flavor's."""
    image: str = ""
    """The Image's OpenStack id."""
    image_properties: Mapping[str, str] = field(default_factory=dict)
    group: GroupView | None = None
    same_host: frozenset[str] | None = None
    """Nodes of the Instances of hint ``same_host``; None: no such hint."""
    different_host: frozenset[str] = frozenset()
    query: str | None = None
    """JSON of hint ``query``."""
    near_host_ip: str | None = None
    """Hint ``build_near_host_ip``: an address of the nodes' network."""
    near_cidr: str = "/24"
    """Hint ``cidr``: the prefix length that goes with it. Source of the default: nova's
    affinity_filter.py."""
    now: float = 0.0
    """Seconds since the epoch, for ages in the sentence."""
