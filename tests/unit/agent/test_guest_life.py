"""A Guest on one node, from admission to Gone: what is reported for what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from novakube_agent.drivers.fake import FakeState
from novakube_agent.model import DESTRUCTIVE
from novakube_agent.settings import FakeSettings
from novakube_crds.v1alpha1.hypervisorreport import HypervisorReportSpec
from tests.fakes.host import ID, Agent, StatusSink, a_guest, restarted, revised, uid


async def test_a_fast_create_is_one_write(agent: Agent) -> None:
    status = await agent.settle(a_guest())
    assert (status.phase, status.power_state, status.power_sequence) == ("Ready", "Running", 1)
    assert len(agent.sink.writes) == 1
    assert status.conditions[0].status == "True"
    assert status.image_sha256
    assert await agent.reconciler(a_guest().name) is None
    assert len(agent.sink.writes) == 1


async def test_teardown_leaves_nothing(agent: Agent) -> None:
    guest = a_guest()
    await agent.settle(guest)
    status = await agent.settle(revised(guest, teardown="Destroy"))
    assert status.phase == "Gone"
    stored = agent.state.stored
    assert not stored.domains
    assert not stored.disks
    assert not stored.nics
    assert not list(agent.journals)


async def test_no_room(tmp_path: Path) -> None:
    settings = FakeSettings(memory_mib=700, vcpus=1)
    orders = HypervisorReportSpec(reserved_memory_mib=500)
    agent = Agent(FakeState("n1"), tmp_path, StatusSink(), {}, settings=settings, orders=orders)
    await agent.start()
    assert (await agent.settle(a_guest(instance=1))).phase == "Ready"
    status = await agent.settle(a_guest(instance=2))
    assert (status.phase, status.reason) == ("Rejected", "InsufficientMemory")
    assert status.message == "56 MiB memory short: 128 wanted, 72 of 200 free"
    await agent.settle(revised(agent.guests[a_guest(instance=1).name], teardown="Destroy"))
    # A refusal is final: the operator has gone elsewhere with it.
    assert (await agent.settle(a_guest(instance=2))).phase == "Rejected"
    assert (await agent.settle(a_guest(instance=3))).phase == "Ready"


async def test_a_restart_counts_nothing_twice(tmp_path: Path) -> None:
    agent = Agent(
        FakeState("n1"), tmp_path, StatusSink(), {}, settings=FakeSettings(memory_mib=512 + 300)
    )
    await agent.start()
    await agent.settle(a_guest(instance=1))
    later = Agent(
        agent.state, tmp_path, agent.sink, {}, settings=FakeSettings(memory_mib=512 + 300)
    )
    await later.start()
    assert (await later.settle(a_guest(instance=2))).phase == "Ready"


async def test_lost_disks_are_never_rebuilt(agent: Agent, tmp_path: Path) -> None:
    guest = a_guest()
    await agent.settle(guest)
    agent.outside.lose_disks(guest.name)
    assert (await agent.settle(guest)).phase == "Ready"  # it still runs
    agent.outside.reboot_host()
    for file in (tmp_path / "journal").iterdir():
        file.unlink()  # the journal is lost too: the status remembers
    status = await (await restarted(agent, tmp_path)).settle(guest)
    assert (status.phase, status.reason) == ("Lost", "DiskMissing")
    assert not agent.state.stored.disks


async def test_a_late_leaders_guest_is_held(agent: Agent) -> None:
    agent.epoch = 3
    guest = a_guest(epoch=2)
    status = await agent.settle(guest)
    assert (status.phase, status.reason) == ("Pending", "StaleEpoch")
    assert not agent.state.stored.disks
    assert (await agent.settle(revised(guest, epoch=3))).phase == "Ready"
    agent.epoch = 4
    assert (await agent.settle(revised(guest, epoch=3))).phase == "Ready"


async def test_the_next_incarnation_waits_for_the_last(agent: Agent) -> None:
    old, new = a_guest(1), a_guest(2)
    await agent.settle(old)
    status = await agent.settle(new)
    assert (status.phase, status.reason) == ("Building", "WaitingForPrevious")
    await agent.settle(revised(old, teardown="Destroy"))
    assert (await agent.settle(new)).power_state == "Running"
    assert agent.state.stored.domains[ID].identity.incarnation == 2


@pytest.mark.parametrize("domain", ["running", "undefined"])
async def test_adoption_keeps_disks_and_domain(agent: Agent, domain: str) -> None:
    old = a_guest(1)
    await agent.settle(old)
    if domain == "undefined":
        agent.outside.undefine(ID)
    new = a_guest(2, adopt=old.uid)
    status = await agent.settle(new)
    assert (status.phase, status.power_state, status.adopted) == ("Ready", "Running", old.uid)
    assert set(agent.state.stored.disks) == {new.name}
    # The end of the old incarnation takes nothing from the new one.
    assert (await agent.settle(revised(old, teardown="Destroy"))).phase == "Gone"
    assert agent.state.stored.domains[ID].state == "Running"
    assert agent.state.stored.nics


async def test_adoption_of_nothing_is_lost(agent: Agent) -> None:
    status = await agent.settle(a_guest(2, adopt=uid(1001)))
    assert (status.phase, status.reason) == ("Lost", "NothingToAdopt")


async def test_a_final_failure_waits_for_a_new_spec(tmp_path: Path) -> None:
    state = FakeState("n1", failures={"image": "checksum differs"})
    agent = await Agent(state, tmp_path, StatusSink(), {}).start()
    guest = a_guest()
    status = await agent.settle(guest)
    assert (status.phase, status.reason) == ("Failed", "HostFailure")
    assert "checksum differs" in status.message
    state.failures.clear()
    assert (await (await restarted(agent, tmp_path)).settle(guest)).phase == "Failed"
    assert (await agent.settle(revised(guest, hostname="other"))).phase == "Ready"


async def test_a_first_start_that_the_node_refused_is_no_start(tmp_path: Path) -> None:
    """Else no other node is tried: what may have run must not be lost."""
    state = FakeState("n1", failures={"start": "no such machine"})
    agent = await Agent(state, tmp_path, StatusSink(), {}).start()
    guest = a_guest()
    status = await agent.settle(guest)
    assert (status.phase, status.started_at) == ("Failed", None)
    state.failures.clear()
    status = await agent.settle(revised(guest, hostname="other"))
    assert status.phase == "Ready"
    assert status.started_at is not None


async def test_gone_is_final(agent: Agent) -> None:
    """Fencing ends when the agent reports it; the Guest object may live on a moment."""
    guest = a_guest()
    await agent.settle(guest)
    await agent.settle(revised(guest, teardown="Destroy"))
    assert (await agent.settle(guest)).phase == "Gone"
    assert not any(isinstance(a, DESTRUCTIVE) for a in agent.host.done[-1:])
    assert not agent.state.stored.domains
