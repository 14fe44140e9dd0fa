"""Simulated hosts, any number in one process.

Only ``drivers/`` and ``hostops/`` are replaced: Lease, admission, journal, status
writes and watches stay real.
"""

from __future__ import annotations

from pathlib import Path

from novakube_agent.drivers.fake.ports import (
    FakeDisks,
    FakeDriver,
    FakeImages,
    FakeLeases,
    FakeNetwork,
)
from novakube_agent.drivers.fake.state import FakeState, Outside
from novakube_agent.host import HostPorts
from novakube_agent.settings import FakeSettings
from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity

__all__ = ["FakeState", "Outside", "fake_ports", "fake_state"]


def fake_state(node: str, settings: FakeSettings, state_dir: Path) -> FakeState:
    """The simulated host of a node as configured."""
    return FakeState(
        node,
        delays_s=settings.delays_s,
        failures=settings.failures,
        flaky=settings.flaky,
        acpi=settings.acpi,
        file=state_dir / "fake" / f"{node}.json" if settings.persist else None,
    )


def fake_ports(state: FakeState, settings: FakeSettings, state_dir: Path) -> HostPorts:
    """All five ports of it."""
    capacity = NodeCapacity(
        vcpus=settings.vcpus,
        memory_mib=settings.memory_mib,
        disk_gib=settings.disk_gib,
        disk_free_gib=settings.disk_gib,
    )
    return HostPorts(
        driver=FakeDriver(state, capacity),
        images=FakeImages(state, state_dir / "images"),
        disks=FakeDisks(state, state_dir / "guests"),
        network=FakeNetwork(state),
        leases=FakeLeases(),
    )
