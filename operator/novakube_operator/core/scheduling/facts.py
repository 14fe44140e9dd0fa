"""A node's facts under the names that Nova's capabilities, queries and images use. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from novakube_operator.core.scheduling.hosts import CPU_RATIO, DISK_RATIO, MEMORY_RATIO, Host

MIB = 1 << 20
COMPATIBLE_ARCHES = {"x86_64": ("x86_64", "i686"), "aarch64": ("aarch64",)}
"""What QEMU and KVM run on a machine of that kind without emulating another."""


@lru_cache(maxsize=1024)
def version_number(version: str) -> int:
    """``8.2.1`` as Nova counts: 8002001. Words that are no numbers end it."""
    numbers: list[int] = []
    for part in version.split(".")[:3]:
        if not part.isdigit():
            break
        numbers.append(int(part))
    numbers += [0] * (3 - len(numbers))
    return (numbers[0] * 1000 + numbers[1]) * 1000 + numbers[2]


def _cpu_info(host: Host) -> dict[str, Any]:
    cpu = host.status.cpu
    topology = {"sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads}
    return {"arch": cpu.arch, "model": cpu.model, "vendor": cpu.vendor, "topology": topology}


FACTS: dict[str, Callable[[Host], Any]] = {
    "host": lambda host: host.name,
    "hypervisor_hostname": lambda host: host.name,
    "zone": lambda host: host.zone,
    "vcpus_total": lambda host: host.status.capacity.vcpus,
    "vcpus_used": lambda host: host.load.used.vcpus,
    "total_usable_ram_mb": lambda host: host.status.capacity.memory_mib,
    "free_ram_mb": lambda host: host.free_memory_mib,
    "total_usable_disk_gb": lambda host: host.status.capacity.disk_gib,
    "free_disk_mb": lambda host: host.free_disk_bytes // MIB,
    "disk_mb_used": lambda host: host.load.used.disk_bytes // MIB,
    "num_instances": lambda host: host.load.instances,
    "num_io_ops": lambda host: host.load.io_ops,
    "failed_builds": lambda host: host.load.build_failures,
    "hypervisor_type": lambda host: host.status.hypervisor_type,
    "hypervisor_version": lambda host: version_number(host.status.version),
    "virt_type": lambda host: host.status.virt_type,
    "cpu_allocation_ratio": lambda host: host.spec.cpu_allocation_ratio or CPU_RATIO,
    "ram_allocation_ratio": lambda host: host.spec.memory_allocation_ratio or MEMORY_RATIO,
    "disk_allocation_ratio": lambda host: host.spec.disk_allocation_ratio or DISK_RATIO,
    "traits": lambda host: host.status.traits,
    "cpu_info": _cpu_info,
}
"""Names of Nova's HostState, and ours for what it has not (``zone``, ``traits``)."""


def fact(host: Host, path: Sequence[str]) -> Any:
    """A fact by its path, such as ``cpu_info, topology, sockets``; None when there is none."""
    read = FACTS.get(path[0])
    found = None if read is None else read(host)
    for part in path[1:]:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def arches(host: Host) -> tuple[str, ...]:
    """Machines that run here natively."""
    arch = host.status.cpu.arch
    return COMPATIBLE_ARCHES.get(arch, (arch,))


def hypervisor_types(host: Host) -> frozenset[str]:
    """Names an image may ask for; a KVM host is a QEMU one too."""
    types = {host.status.hypervisor_type.lower(), host.status.virt_type.lower()}
    if "kvm" in types:
        types.add("qemu")
    return frozenset(types - {""})
