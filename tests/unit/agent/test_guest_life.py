"""A Guest on one node, from admission to Gone: what is reported for what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from novakube_agent.drivers.fake import FakeState
from novakube_agent.model import DESTRUCTIVE, EnsureNics
from novakube_agent.settings import FakeSettings
from novakube_crds.v1alpha1.guest import GuestRequest
from novakube_crds.v1alpha1.hypervisorreport import HypervisorReportSpec
from tests.fakes.host import Agent, Crash, StatusSink, a_guest, revised, uid

ID = uid(101)


@pytest.fixture
async def agent(tmp_path: Path) -> Agent:
    return await Agent(FakeState("n1"), tmp_path, StatusSink(), {}).start()


async def restarted(agent: Agent, tmp_path: Path) -> Agent:
    new = Agent(agent.state, tmp_path, agent.sink, agent.guests, now=agent.now)
    return await new.start()


async def test_a_fast_create_is_one_write(agent: Agent) -> None:
    status = await agent.settle(a_guest())
    assert (status.phase, status.power_state, status.power_sequence) == ("Ready", "Running", 1)
    assert len(agent.sink.writes) == 1
    assert status.conditions[0].status == "True"
    assert status.image_sha256
    assert await agent.reconciler(a_guest().name) is None
    assert len(agent.sink.writes) == 1


@pytest.mark.parametrize(
    ("first", "then", "want_state", "want_error"),
    [
        ("Running", "Stopped", "Stopped", ""),
        ("Running", "Paused", "Paused", ""),
        ("Running", "Suspended", "Suspended", ""),
        ("Paused", "Running", "Running", ""),
        ("Paused", "Stopped", "Stopped", ""),
        ("Suspended", "Running", "Running", ""),
        ("Stopped", "Running", "Running", ""),
        ("Stopped", "Paused", "Stopped", "only a running guest can be paused"),
        ("Stopped", "Suspended", "Stopped", "only a running guest can be suspended"),
        ("Paused", "Suspended", "Paused", "a paused guest cannot be suspended"),
        ("Suspended", "Paused", "Suspended", "a suspended guest cannot be paused"),
        ("Suspended", "Stopped", "Suspended", "a suspended guest cannot be stopped"),
    ],
)
async def test_orders(
    agent: Agent, first: str, then: str, want_state: str, want_error: str
) -> None:
    guest = a_guest()
    await agent.settle(guest)
    guest = revised(guest, power_state=first, power_sequence=2)
    await agent.settle(guest)
    guest = revised(guest, power_state=then, power_sequence=3)
    status = await agent.settle(guest)
    assert (status.power_state, status.power_sequence) == (want_state, 3)
    assert status.power_error.startswith(want_error)
    assert bool(status.power_error) == bool(want_error)
    assert status.stop_reason == ("Ordered" if want_state == "Stopped" else None)


@pytest.mark.parametrize(("wanted", "want_state"), [("Stopped", "Stopped"), ("Paused", "Paused")])
async def test_first_order_other_than_running(agent: Agent, wanted: str, want_state: str) -> None:
    status = await agent.settle(a_guest(power_state=wanted))
    assert (status.phase, status.power_state) == ("Ready", want_state)


async def test_a_guest_that_ignores_the_power_button_is_cut_off(tmp_path: Path) -> None:
    agent = await Agent(FakeState("n1", acpi=False), tmp_path, StatusSink(), {}).start()
    guest = a_guest(stop_timeout_s=25)
    await agent.settle(guest)
    began = agent.now
    guest = revised(guest, power_state="Stopped", power_sequence=2)
    status = await agent.settle(guest)
    assert (status.power_state, status.stop_reason) == ("Stopped", "Ordered")
    assert agent.now - began == pytest.approx(25, abs=1)
    presses = [type(a).__name__ for a in agent.host.done].count("PressPowerButton")
    assert presses == 3


async def test_the_deadline_survives_the_agent(tmp_path: Path) -> None:
    agent = await Agent(FakeState("n1", acpi=False), tmp_path, StatusSink(), {}).start()
    guest = a_guest(stop_timeout_s=25)
    await agent.settle(guest)
    guest = revised(guest, power_state="Stopped", power_sequence=2)
    agent.guests[guest.name] = guest
    await agent.reconciler(guest.name)
    later = await restarted(agent, tmp_path)
    later.now += 30
    await later.reconciler(guest.name)
    assert agent.state.stored.domains[ID].state == "Shutoff"


@pytest.mark.parametrize(
    ("happens", "want_state", "want_reason"),
    [
        ("guest_shuts_down", "Stopped", "GuestShutdown"),
        ("virsh_destroy", "Stopped", "Destroyed"),
        ("crash", "Running", None),
        ("undefine", "Running", None),
    ],
)
async def test_unordered_stops(
    agent: Agent, happens: str, want_state: str, want_reason: str | None
) -> None:
    guest = a_guest()
    await agent.settle(guest)
    getattr(agent.outside, happens)(ID)
    status = await agent.settle(guest)
    assert (status.phase, status.power_state) == ("Ready", want_state)
    assert status.stop_reason == want_reason
    status = await agent.settle(revised(guest, power_sequence=2))
    assert status.power_state == "Running"


async def test_a_stop_reason_outlives_what_the_hypervisor_remembers(
    agent: Agent, tmp_path: Path
) -> None:
    guest = a_guest()
    await agent.settle(guest)
    agent.outside.guest_shuts_down(ID)
    await agent.settle(guest)
    agent.outside.reboot_host()
    status = await (await restarted(agent, tmp_path)).settle(guest)
    assert (status.power_state, status.stop_reason) == ("Stopped", "GuestShutdown")


@pytest.mark.parametrize("state", ["Running", "Paused"])
async def test_a_host_reboot_starts_again(agent: Agent, tmp_path: Path, state: str) -> None:
    guest = a_guest()
    await agent.settle(guest)
    guest = revised(guest, power_state=state, power_sequence=2)
    await agent.settle(guest)
    agent.outside.reboot_host()
    status = await (await restarted(agent, tmp_path)).settle(guest)
    assert (status.power_state, status.restarts) == (state, 0)
    assert status.boot_id == "boot-n1-2"
    assert agent.state.stored.nics


async def test_a_host_going_down_is_no_stop(agent: Agent, tmp_path: Path) -> None:
    guest = a_guest()
    await agent.settle(guest)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "nologin").touch()
    agent.outside.guest_shuts_down(ID)
    await agent.reconciler(guest.name)
    assert agent.sink.statuses[guest.uid].stop_reason == "HostShutdown"
    assert agent.state.stored.domains[ID].state == "Shutoff"
    (tmp_path / "run" / "nologin").unlink()
    agent.outside.reboot_host()
    status = await (await restarted(agent, tmp_path)).settle(guest)
    assert status.power_state == "Running"


async def test_crash_loop(agent: Agent) -> None:
    guest = a_guest()
    await agent.settle(guest)
    for number in range(1, 4):
        agent.outside.crash(ID)
        assert (await agent.settle(guest)).restarts == number
    agent.outside.crash(ID)
    status = await agent.settle(guest)
    assert (status.phase, status.reason, status.power_state) == ("Failed", "CrashLoop", "Stopped")
    status = await agent.settle(revised(guest, power_sequence=2))
    assert (status.phase, status.power_state, status.restarts) == ("Ready", "Running", 0)


def a_reboot(kind: str) -> GuestRequest:
    return GuestRequest(uid=uid(77), type="Reboot", parameters={"type": kind})


@pytest.mark.parametrize(("kind", "acpi"), [("Soft", True), ("Soft", False), ("Hard", False)])
async def test_reboot(tmp_path: Path, kind: str, acpi: bool) -> None:
    agent = await Agent(FakeState("n1", acpi=acpi), tmp_path, StatusSink(), {}).start()
    guest = a_guest()
    first = await agent.settle(guest)
    agent.now += 5
    status = await agent.settle(revised(guest, request=a_reboot(kind)))
    assert status.request is not None
    assert (status.request.state, status.power_state) == ("Succeeded", "Running")
    assert status.started_at != first.started_at


@pytest.mark.parametrize(
    ("state", "kind", "want"),
    [
        ("Stopped", "Soft", "the guest is Stopped; a soft reboot needs a running one"),
        ("Suspended", "Hard", "the guest is Suspended; resume it first"),
        ("Running", "Warm", "parameters.type is 'Warm'; allowed are Soft and Hard"),
    ],
)
async def test_refused_reboots(agent: Agent, state: str, kind: str, want: str) -> None:
    guest = a_guest()
    await agent.settle(guest)
    guest = revised(guest, power_state=state, power_sequence=2)
    await agent.settle(guest)
    status = await agent.settle(revised(guest, request=a_reboot(kind)))
    assert status.request is not None
    assert status.request.state == "Failed"
    assert status.request.message.startswith(want)
    assert status.power_state == state


async def test_an_interrupted_reboot_is_not_repeated(tmp_path: Path) -> None:
    agent = await Agent(FakeState("n1", acpi=False), tmp_path, StatusSink(), {}).start()
    guest = a_guest()
    await agent.settle(guest)
    guest = revised(guest, request=a_reboot("Soft"))
    agent.guests[guest.name] = guest
    await agent.reconciler(guest.name)
    later = await restarted(agent, tmp_path)
    status = await later.settle(guest)
    assert status.request is not None
    assert (status.request.state, status.power_state) == ("Interrupted", "Running")
    agent.outside.guest_shuts_down(ID)  # it obeys the button only now
    status = await later.settle(guest)
    assert status.power_state == "Running"


def a_request(kind: str) -> GuestRequest:
    return GuestRequest.model_validate({"uid": uid(78), "type": kind})


async def test_a_crash_dump_is_one_interrupt(agent: Agent) -> None:
    guest = a_guest()
    await agent.settle(guest)
    asked = revised(guest, request=a_request("CrashDump"))
    for _ in range(2):
        status = await agent.settle(asked)
        assert status.request is not None
        assert (status.request.state, status.power_state) == ("Succeeded", "Running")
    assert agent.state.stored.interrupts == {ID: 1}


async def test_an_interrupted_crash_dump_is_not_repeated(agent: Agent, tmp_path: Path) -> None:
    guest = a_guest()
    await agent.settle(guest)
    asked = revised(guest, request=a_request("CrashDump"))
    agent.host.crash_after = len(agent.host.done) + 2  # taken up, sent, not answered
    with pytest.raises(Crash):
        await agent.settle(asked)
    later = await restarted(agent, tmp_path)
    status = await later.settle(asked)
    assert status.request is not None
    assert status.request.state == "Interrupted"
    assert agent.state.stored.interrupts == {ID: 1}


async def test_a_crash_dump_of_a_guest_that_is_off(agent: Agent) -> None:
    guest = revised(a_guest(), power_state="Running")
    await agent.settle(guest)
    guest = revised(guest, power_state="Stopped", power_sequence=2)
    await agent.settle(guest)
    status = await agent.settle(revised(guest, request=a_request("CrashDump")))
    assert status.request is not None
    assert status.request.state == "Failed"
    assert status.request.message == "the guest is Stopped; only a running one takes an interrupt"


@pytest.mark.parametrize("kind", ["ResetNetwork", "InjectNetworkInfo"])
async def test_plumbing_is_ensured_again(agent: Agent, tmp_path: Path, kind: str) -> None:
    guest = a_guest()
    await agent.settle(guest)
    nic = guest.spec.nics[0].model_copy(update={"mtu": 1400})
    asked = revised(guest, request=a_request(kind), nics=[nic])
    agent.host.crash_after = len(agent.host.done) + 1
    with pytest.raises(Crash):
        await agent.settle(asked)
    later = await restarted(agent, tmp_path)
    status = await later.settle(asked)
    assert status.request is not None
    assert (status.request.state, status.power_state) == ("Succeeded", "Running")
    assert [action for action in later.host.done if isinstance(action, EnsureNics)]
    journal = later.journals.get(guest.uid)
    assert journal is not None
    assert journal.nics == (nic,)


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


async def test_a_failed_order_is_told_and_not_repeated(agent: Agent) -> None:
    guest = a_guest()
    await agent.settle(guest)
    agent.state.failures["save"] = "no space"
    status = await agent.settle(revised(guest, power_state="Suspended", power_sequence=2))
    assert (status.phase, status.power_state, status.power_sequence) == ("Ready", "Running", 2)
    assert "no space" in status.power_error


async def test_gone_is_final(agent: Agent) -> None:
    """Fencing ends when the agent reports it; the Guest object may live on a moment."""
    guest = a_guest()
    await agent.settle(guest)
    await agent.settle(revised(guest, teardown="Destroy"))
    assert (await agent.settle(guest)).phase == "Gone"
    assert not any(isinstance(a, DESTRUCTIVE) for a in agent.host.done[-1:])
    assert not agent.state.stored.domains
