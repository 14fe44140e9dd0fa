"""Power as a level: what is ordered, what happens without an order, what follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from novakube_agent.drivers.fake import FakeState
from tests.fakes.host import ID, Agent, StatusSink, a_guest, restarted, revised


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


async def test_a_failed_order_is_told_and_not_repeated(agent: Agent) -> None:
    guest = a_guest()
    await agent.settle(guest)
    agent.state.failures["save"] = "no space"
    status = await agent.settle(revised(guest, power_state="Suspended", power_sequence=2))
    assert (status.phase, status.power_state, status.power_sequence) == ("Ready", "Running", 2)
    assert "no space" in status.power_error
