"""Requests to a node: done once, never repeated when interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from novakube_agent.drivers.fake import FakeState
from novakube_agent.model import EnsureNics
from novakube_crds.v1alpha1.guest import GuestRequest
from tests.fakes.host import ID, Agent, Crash, StatusSink, a_guest, restarted, revised, uid


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
