"""A node's facts under the names that Nova's capabilities, queries and images use. Pure."""

from __future__ import annotations

from typing import Any

from novakube_operator.core.scheduling.hosts import GIB, Host

MIB_PER_GIB = 1024
COMPATIBLE_ARCHES = {"x86_64": ("x86_64", "i686"), "aarch64": ("aarch64",)}
"""What QEMU and KVM run on a machine of that kind without emulating another."""


def version_number(version: str) -> int:
    """``8.2.1`` as Nova counts: 8002001. Words that are no numbers end it."""
    numbers: list[int] = []
    for part in version.split(".")[:3]:
        if not part.isdigit():
            break
        numbers.append(int(part))
    numbers += [0] * (3 - len(numbers))
    return (numbers[0] * 1000 + numbers[1]) * 1000 + numbers[2]


def facts(host: Host) -> dict[str, Any]:
    """Names of Nova's HostState, and ours for what it has not (``zone``, ``traits``)."""
    status, spec = host.status, host.spec
    cpu = status.cpu
    return {
        "host": host.name,
        "hypervisor_hostname": host.name,
        "zone": host.zone,
        "vcpus_total": status.capacity.vcpus,
        "vcpus_used": host.load.used.vcpus,
        "total_usable_ram_mb": status.capacity.memory_mib,
        "free_ram_mb": host.free_memory_mib,
        "total_usable_disk_gb": status.capacity.disk_gib,
        "free_disk_mb": host.free_disk_bytes // (GIB // MIB_PER_GIB),
        "disk_mb_used": host.load.used.disk_bytes // (GIB // MIB_PER_GIB),
        "num_instances": host.load.instances,
        "num_io_ops": host.load.io_ops,
        "failed_builds": host.load.build_failures,
        "hypervisor_type": status.hypervisor_type,
        "hypervisor_version": version_number(status.version),
        "virt_type": status.virt_type,
        "cpu_allocation_ratio": spec.cpu_allocation_ratio,
        "ram_allocation_ratio": spec.memory_allocation_ratio,
        "disk_allocation_ratio": spec.disk_allocation_ratio,
        "traits": status.traits,
        "cpu_info": {
            "arch": cpu.arch,
            "model": cpu.model,
            "vendor": cpu.vendor,
            "topology": {"sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads},
        },
    }


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
