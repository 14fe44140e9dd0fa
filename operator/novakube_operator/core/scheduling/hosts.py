"""What the scheduler knows of a node and of a request."""

from __future__ import annotations

from dataclasses import dataclass

from novakube_crds.v1alpha1.hypervisor import HypervisorSpec
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


@dataclass(frozen=True, slots=True)
class Host:
    """A node as the scheduler sees it."""

    name: str
    spec: HypervisorSpec
    capacity: NodeCapacity
    zone: str
    not_schedulable: str | None
    """Why it takes nothing new (disabled, silent, in maintenance); None: it does."""
    used: Amounts = Amounts()

    def free_vcpus(self) -> int:
        """VCPUs that may still be promised."""
        ratio = self.spec.cpu_allocation_ratio or CPU_RATIO
        total = (self.capacity.vcpus - (self.spec.reserved_vcpus or 0)) * ratio
        return int(total) - self.used.vcpus

    def free_memory_mib(self) -> int:
        """Memory that may still be promised."""
        kept = self.spec.reserved_memory_mib
        reserved = RESERVED_MEMORY_MIB if kept is None else kept
        ratio = self.spec.memory_allocation_ratio or MEMORY_RATIO
        return int((self.capacity.memory_mib - reserved) * ratio) - self.used.memory_mib

    def free_disk_bytes(self) -> int:
        """Disk space that may still be promised."""
        ratio = self.spec.disk_allocation_ratio or DISK_RATIO
        total = int((self.capacity.disk_gib - (self.spec.reserved_disk_gib or 0)) * ratio)
        return total * GIB - self.used.disk_bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be placed."""

    wanted: Amounts
    zone: str | None = None
    forced_host: str | None = None
    refused: frozenset[str] = frozenset()
    """Nodes that answered Rejected or Failed for this creation."""
