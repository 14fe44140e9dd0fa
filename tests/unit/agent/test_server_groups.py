"""The node's last word on anti-affinity: serial, from its own memory, however many ask at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from novakube_agent.drivers.fake import FakeState
from novakube_crds.v1alpha1.guest import GuestServerGroup
from tests.fakes.host import Agent, StatusSink, a_guest, revised, uid


def group(policy: Any = "anti-affinity", most: int = 1, number: int = 1) -> GuestServerGroup:
    return GuestServerGroup(
        uid=uid(700 + number), name=f"g{number}", policy=policy, max_servers_per_host=most
    )


async def an_agent(path: Path, state: FakeState | None = None) -> Agent:
    agent = Agent(state or FakeState("n1"), path, StatusSink(), {})
    await agent.start()
    return agent


async def test_one_member_per_node_whoever_comes_first(tmp_path: Path) -> None:
    agent = await an_agent(tmp_path)
    guests = [a_guest(instance=number, server_group=group()) for number in (1, 2, 3)]
    statuses = await asyncio.gather(*(agent.settle(guest) for guest in guests))
    assert sorted(status.phase for status in statuses) == ["Ready", "Rejected", "Rejected"]
    said = {(s.reason, s.message) for s in statuses if s.phase == "Rejected"}
    assert said == {
        ("ServerGroupPolicy", "server group g1 (anti-affinity) has 1 of 1 members here already")
    }


@pytest.mark.parametrize(
    "second",
    [group(most=2), group("affinity"), group("soft-anti-affinity"), group(number=2), None],
    ids=["room for two", "affinity", "soft", "another group", "no group"],
)
async def test_what_the_rule_does_not_forbid_is_admitted(
    tmp_path: Path, second: GuestServerGroup | None
) -> None:
    agent = await an_agent(tmp_path)
    first = second if second is not None and second.uid == uid(701) else group()
    await agent.settle(a_guest(instance=1, server_group=first))
    assert (await agent.settle(a_guest(instance=2, server_group=second))).phase == "Ready"


async def test_a_restarted_agent_remembers_its_members(tmp_path: Path) -> None:
    agent = await an_agent(tmp_path)
    await agent.settle(a_guest(instance=1, server_group=group()))
    later = await an_agent(tmp_path, agent.state)
    status = await later.settle(a_guest(instance=2, server_group=group()))
    assert (status.phase, status.reason) == ("Rejected", "ServerGroupPolicy")


async def test_a_member_that_ended_makes_room(tmp_path: Path) -> None:
    agent = await an_agent(tmp_path)
    first = a_guest(instance=1, server_group=group())
    await agent.settle(first)
    await agent.settle(revised(first, teardown="Destroy"))
    assert (await agent.settle(a_guest(instance=2, server_group=group()))).phase == "Ready"


async def test_another_incarnation_of_a_member_is_no_other_member(tmp_path: Path) -> None:
    agent = await an_agent(tmp_path)
    await agent.settle(a_guest(instance=1, server_group=group()))
    status = await agent.settle(a_guest(2, instance=1, server_group=group()))
    assert status.reason != "ServerGroupPolicy"
