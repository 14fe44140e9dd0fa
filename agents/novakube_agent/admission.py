"""Admission: serial, against the node's real capacity, counting what the journals admitted.

Whatever schedulers believed, the node answers for itself: two leaders at once cannot fill it
twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from novakube_agent.journal import Journals
from novakube_agent.model import Desired, Journal, Resources, Verdict
from novakube_agent.ports import DomainFacts
from novakube_crds.v1alpha1.hypervisorreport import HypervisorReportSpec, NodeCapacity

CPU_RATIO = 4.0
MEMORY_RATIO = 1.0
DISK_RATIO = 1.0
RESERVED_MEMORY_MIB = 512
"""Used until the operator says otherwise. Source: nova.conf initial_cpu_allocation_ratio,
initial_ram_allocation_ratio, initial_disk_allocation_ratio, reserved_host_memory_mb."""
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """What Guests may take together."""

    vcpus: int
    memory_mib: int
    disk_bytes: int


def limits(capacity: NodeCapacity, orders: HypervisorReportSpec) -> Limits:
    """Capacity times ratio, less what is reserved, as the operator's scheduler counts."""

    def share(total: int, reserved: int | None, default: int, ratio: float | None, usual: float
              ) -> int:  # fmt: skip
        kept = default if reserved is None else reserved
        return max(0, int((total - kept) * (usual if ratio is None else ratio)))

    return Limits(
        share(capacity.vcpus, orders.reserved_vcpus, 0, orders.cpu_allocation_ratio, CPU_RATIO),
        share(
            capacity.memory_mib,
            orders.reserved_memory_mib,
            RESERVED_MEMORY_MIB,
            orders.memory_allocation_ratio,
            MEMORY_RATIO,
        ),
        GIB
        * share(
            capacity.disk_gib,
            orders.reserved_disk_gib,
            0,
            orders.disk_allocation_ratio,
            DISK_RATIO,
        ),
    )


def shortage(wanted: Resources, taken: Resources, most: Limits) -> tuple[str, str] | None:
    """Reason and sentence when it does not fit; None when it does. Pure."""
    checks = (
        ("InsufficientMemory", "MiB memory", wanted.memory_mib, taken.memory_mib, most.memory_mib),
        ("InsufficientCPU", "vcpus", wanted.vcpus, taken.vcpus, most.vcpus),
        (
            "InsufficientDisk",
            "GiB disk",
            _gib(wanted.disk_bytes),
            _gib(taken.disk_bytes),
            _gib(most.disk_bytes),
        ),
    )
    for reason, unit, need, used, total in checks:
        if used + need > total:
            short = used + need - total
            free = max(0, total - used)
            sentence = f"{short:g} {unit} short: {need:g} wanted, {free:g} of {total:g} free"
            return reason, sentence
    return None


def crowded(desired: Desired, journals: Iterable[Journal]) -> tuple[str, str] | None:
    """Reason and sentence when a server group forbids one more of it here. Pure.

    Source: nova's compute manager, ``_validate_instance_group_policy``: the last word on
    anti-affinity is the node's, however many placed at once. Other incarnations of the same
    Instance are no other members.
    """
    group = desired.spec.server_group
    if group is None or group.policy != "anti-affinity":
        return None
    members = {
        journal.instance_id
        for journal in journals
        if journal.admitted is not None
        and journal.group is not None
        and journal.group.uid == group.uid
        and journal.instance_id != desired.spec.instance.id
    }
    if len(members) < group.max_servers_per_host:
        return None
    return (
        "ServerGroupPolicy",
        f"server group {group.name} (anti-affinity) has {len(members)} of "
        f"{group.max_servers_per_host} members here already",
    )


def _gib(size_bytes: int) -> float:
    return round(size_bytes / GIB, 3)


class Admission:
    """The gate of one node."""

    def __init__(self, journals: Journals) -> None:
        self._journals = journals
        self._gate = asyncio.Lock()

    async def admit(
        self,
        desired: Desired,
        journal: Journal,
        capacity: NodeCapacity,
        orders: HypervisorReportSpec,
        domains: Iterable[DomainFacts],
    ) -> Journal:
        """The journal with the answer, on disk: ``admitted``, or a final ``Rejected``."""
        async with self._gate:
            taken = self._taken(desired.uid, domains)
            no = crowded(desired, self._journals) or shortage(
                desired.resources, taken, limits(capacity, orders)
            )
            if no is None:
                answer = replace(
                    journal,
                    admitted=desired.resources,
                    group=desired.spec.server_group,
                    nics=tuple(desired.spec.nics),
                )
            else:
                verdict = Verdict("Rejected", no[0], no[1], desired.generation)
                answer = replace(journal, verdict=verdict)
            await self._journals.save(answer)
            return answer

    def _taken(self, guest_uid: str, domains: Iterable[DomainFacts]) -> Resources:
        """Journals' sum, plus domains of ours that no journal knows."""
        parts = [
            journal.admitted
            for journal in self._journals
            if journal.admitted is not None and journal.guest_uid != guest_uid
        ]
        parts += [
            Resources(facts.vcpus, facts.memory_mib, facts.disks_bytes)
            for facts in domains
            if self._journals.get(facts.identity.guest_uid) is None
        ]
        return Resources(
            sum(part.vcpus for part in parts),
            sum(part.memory_mib for part in parts),
            sum(part.disk_bytes for part in parts),
        )
