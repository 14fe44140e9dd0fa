"""Hosts and requests for tests of the scheduler."""

from __future__ import annotations

from typing import Any

from novakube_crds.v1alpha1.guest import GuestServerGroup
from novakube_crds.v1alpha1.hypervisor import HypervisorSpec, HypervisorStatus
from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity, NodeCpu
from novakube_operator.core.scheduling.hosts import (
    GIB,
    Amounts,
    GroupView,
    Host,
    Load,
    Request,
    Unschedulable,
    limits,
)

UID = "11111111-2222-3333-4444-555555555555"
STATUS = HypervisorStatus(
    capacity=NodeCapacity(vcpus=4, memory_mib=4608, disk_gib=100),
    cpu=NodeCpu(arch="x86_64", model="Skylake", vendor="Intel", sockets=2),
    hypervisor_type="QEMU",
    virt_type="kvm",
    version="8.2.1",
    traits=["HW_CPU_X86_AVX2"],
)
SMALL = Request(Amounts(1, 512, 10 * GIB))


def a_host(name: str = "n1", **change: Any) -> Host:
    """A node of 4 CPUs, 4096 MiB to give away and 100 GiB."""
    load = {key: change.pop(key) for key in list(change) if key in Load.__dataclass_fields__}
    metadata = {key: frozenset(text.split(",")) for key, text in change.pop("metadata", {}).items()}
    why = change.pop("why", None)
    spec = change.setdefault("spec", HypervisorSpec())
    status = change.setdefault("status", STATUS)
    return Host(
        name,
        limits(spec, status.capacity),
        load=Load(**load),
        metadata=metadata,
        unschedulable=Unschedulable("Disabled", why) if why else None,
        **change,
    )


def a_group(policy: Any, members: dict[str, int], most: int = 1) -> GroupView:
    """A server group ``g`` with members on these nodes."""
    rule = GuestServerGroup(uid=UID, name="g", policy=policy, max_servers_per_host=most)
    return GroupView(rule, members)
