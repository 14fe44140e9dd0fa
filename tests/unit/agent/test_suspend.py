"""A suspend that does not succeed: tried again, given up in time, and the guest runs on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from novakube_agent.drivers.fake import FakeState
from novakube_agent.model import Desired, PowerOrder, WriteJournal
from novakube_agent.plan import after_failure, plan
from novakube_agent.power import SUSPEND_GIVEN_UP_S
from novakube_agent.reconcile import BUSY_WAIT_S
from novakube_kit.errors import HostBusy, HostFailure
from tests.deadlines import EVENT_S
from tests.fakes.host import Agent, StatusSink, a_guest, revised
from tests.waiting import wait_until


@pytest.fixture
async def agent(tmp_path: Path) -> Agent:
    return await Agent(FakeState("n1"), tmp_path, StatusSink(), {}).start()


async def a_failed_attempt(agent: Agent, of: int) -> tuple[Desired, Desired]:
    """A guest that ran, and as it is to be suspended, which fails so many times."""
    guest = a_guest()
    await agent.settle(guest)
    agent.state.flaky["save"] = of
    suspended = revised(guest, power_state="Suspended", power_sequence=2)
    agent.guests[guest.name] = suspended
    with pytest.raises(HostBusy):
        await agent.reconciler(guest.name)
    return guest, suspended


async def test_a_failed_attempt_is_told_and_followed_by_another(agent: Agent) -> None:
    guest, suspended = await a_failed_attempt(agent, of=1)
    assert "simulated: save is busy" in agent.sink.statuses[guest.uid].message
    assert (await agent.settle(suspended)).power_state == "Suspended"


async def test_it_is_given_up_and_the_guest_runs_on(agent: Agent) -> None:
    _, suspended = await a_failed_attempt(agent, of=1_000)
    agent.now += suspended.spec.stop_timeout_s + SUSPEND_GIVEN_UP_S
    status = await agent.settle(suspended)
    assert (status.phase, status.power_state, status.power_sequence) == ("Ready", "Running", 2)
    assert "could not be suspended in time" in status.power_error


async def test_a_guest_that_runs_was_built_though_its_first_order_was_never_journaled_as_done(
    agent: Agent,
) -> None:
    """The agent ended between the start and its entry; the next order failed for good."""
    guest = a_guest()
    await agent.settle(guest)
    suspended = revised(guest, power_state="Suspended", power_sequence=2)
    seen = await agent.host.observe(suspended, 0, agent.now)
    order = PowerOrder(sequence=2, wanted="Suspended", origin="Running", deadline=agent.now)
    cut_short = replace(seen, journal=replace(seen.journal, done_sequence=0, order=order))
    journal = after_failure(suspended, cut_short, HostFailure("it cannot be saved"))
    assert journal.verdict is None
    assert (journal.done_state, journal.power_error) == ("Running", "it cannot be saved")
    assert not [
        action
        for action in plan(suspended, replace(cut_short, journal=journal)).actions
        if not isinstance(action, WriteJournal)
    ]


async def test_the_next_incarnation_waits_for_a_pass_over_the_last(tmp_path: Path) -> None:
    """Else that pass, which saw the domain as its own, makes its journal anew: the NICs have two
    owners then, and the next incarnation repairs them without end."""
    state = FakeState("n1", delays_s={"save": 0.2})
    agent = await Agent(state, tmp_path, StatusSink(), {}).start()
    guest = a_guest()
    await agent.settle(guest)
    suspended = revised(guest, power_state="Suspended", power_sequence=2)
    agent.guests[guest.name] = suspended
    saving = asyncio.create_task(agent.reconciler(guest.name))
    await wait_until(lambda: agent.reconciler._busy, "the pass is under way", EVENT_S)
    successor = a_guest(2, adopt=guest.uid, power_state="Suspended", power_sequence=2)
    agent.guests[successor.name] = successor
    assert await agent.reconciler(successor.name) == BUSY_WAIT_S
    assert agent.journals.get(successor.uid) is None
    await saving
    status = await agent.settle(successor)
    assert (status.phase, status.adopted) == ("Ready", guest.uid)
    assert agent.journals.get(guest.uid) is None


async def test_the_last_incarnation_keeps_no_journal_while_the_next_is_not_ready(
    agent: Agent,
) -> None:
    """Its NICs would have two owners, and the next one repair them without end."""
    guest = a_guest()
    await agent.settle(guest)
    agent.state.flaky["save"] = 1
    successor = a_guest(2, adopt=guest.uid, power_state="Suspended", power_sequence=2)
    agent.guests[successor.name] = successor
    with pytest.raises(HostBusy):
        await agent.reconciler(successor.name)
    assert (await agent.settle(guest)).reason == "Superseded"
    assert agent.journals.get(guest.uid) is None
    status = await agent.settle(successor)
    assert (status.phase, status.power_state) == ("Ready", "Suspended")


async def test_a_journal_that_a_crash_left_beside_the_next_ones_claims_no_nic(
    agent: Agent,
) -> None:
    guest = a_guest()
    await agent.settle(guest)
    left = agent.journals.get(guest.uid)
    assert left is not None
    successor = a_guest(2, adopt=guest.uid)
    await agent.settle(successor)
    await agent.journals.save(left)
    assert (await agent.settle(successor)).phase == "Ready"
    assert await agent.reconciler(successor.name) is None


async def test_a_guest_that_a_cut_short_suspend_left_paused_is_suspended(agent: Agent) -> None:
    guest, suspended = await a_failed_attempt(agent, of=1)
    await agent.host.ports.driver.pause(guest.spec.instance.id)
    status = await agent.settle(suspended)
    assert (status.power_state, status.power_error) == ("Suspended", "")
