"""Real domains whose Guest objects are gone: kept, taken over, destroyed on an order alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from novakube_agent.drivers.fake import FakeState, fake_ports
from novakube_agent.hostops.disks import DiskStore
from novakube_agent.model import Desired
from novakube_agent.remains import Remains, Sweep
from novakube_agent.settings import FakeSettings
from novakube_crds.v1alpha1.guest import GuestDisk
from tests.fakes.host import Agent, StatusSink, a_guest, revised
from tests.integration.libvirt.conftest import Node

BLANK = GuestDisk(role="root", device="vda", size_bytes=1 << 20)


def a_machine(incarnation: int, instance: int, **changes: object) -> Desired:
    """32 MiB, a blank disk, no NIC."""
    return a_guest(incarnation, instance, memory_mib=32, disks=[BLANK], nics=[], **changes)


@pytest.fixture
async def agent(node: Node) -> Agent:
    """Real libvirt and real disks; what these guests have not is simulated."""
    state, directory = FakeState("n1"), node.libvirtd.data / "orphans"
    simulated = fake_ports(state, FakeSettings(), directory)
    ports = replace(simulated, driver=node.driver, disks=DiskStore(directory))
    return await Agent(state, directory, StatusSink(), {}, ports=ports).start()


def pid(node: Node, guest: Desired) -> int:
    """Of QEMU, as libvirtd keeps it."""
    files: Path = node.libvirtd.state / "run" / "libvirt" / "qemu"
    return int((files / f"novakube-{guest.name}.pid").read_text())


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_domain_is_taken_over_and_another_destroyed(node: Node, agent: Agent) -> None:
    kept, doomed = a_machine(1, 1), a_machine(1, 2)
    for guest in (kept, doomed):
        assert (await agent.settle(guest)).power_state == "Running"
    before = pid(node, kept)
    known: set[str] = set()

    async def sweep(*fenced: str) -> Remains:
        return await Sweep(agent.host, lambda: known)(fenced)

    found = await sweep()
    assert [one.guest_uid for one in found.orphans] == [kept.uid, doomed.uid]
    assert {(one.state, one.vcpus, one.memory_mib, one.disk_bytes) for one in found.orphans} == {
        ("Running", 1, 32, 1 << 20)
    }
    heir = a_machine(2, 1, adopt=kept.uid)
    known.add(heir.uid)
    status = await agent.settle(heir)
    assert (status.phase, status.power_state, status.adopted) == ("Ready", "Running", kept.uid)
    found = await sweep(doomed.uid)
    assert (found.orphans, found.fenced_gone) == ((), (doomed.uid,))
    assert list(await node.driver.domains()) == [heir.spec.instance.id]
    assert await agent.host.ports.disks.guests() == {heir.name}
    assert pid(node, kept) == before
    assert lives(before)
    # It is the Instance's again: an order to the new incarnation reaches it.
    assert (await agent.settle(revised(heir, teardown="Destroy"))).phase == "Gone"
    assert not lives(before)
