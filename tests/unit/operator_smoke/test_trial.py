"""A trial on objects alone: the operator is played by the test, time by the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from novakube_crds.base import FINALIZER
from novakube_crds.v1alpha1.kinds import KINDS
from novakube_kit.errors import NotFound, NovakubeError, Retryable, Terminal
from novakube_kit.kube import Json
from novakube_kit.resources import EVENTS, resource_of
from novakube_operator.smoke.objects import NAME, Wanted
from novakube_operator.smoke.trial import DELETE_S, Trial
from tests.fakes.clock import LoopClock
from tests.fakes.kube import FakeKube
from tests.waiting import pass_time

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
SPACE = "project"
BY_PLURAL = {kind.plural: resource_of(kind) for kind in KINDS}
INSTANCES = BY_PLURAL["instances"]
IMAGE = {"diskFormat": "raw", "source": {"url": "http://192.0.2.1/d"}}
OWN = ["flavors", "images", "networks", "subnets", "instances"]
LIMIT_S = 30.0


class World:
    """A trial, what it said, and the operator's part."""

    def __init__(self, flavor: str = "", cidr: str = "192.0.2.0/28") -> None:
        self.kube = FakeKube()
        self.said: list[str] = []
        wanted = Wanted(flavor, IMAGE, cidr)
        self.trial = Trial(self.kube, LoopClock(), self.said.append, SPACE, wanted, LIMIT_S)
        self.log = ""

    async def console(self) -> str:
        return self.log

    async def run(self) -> Json:
        return await self.trial.run(self.console, "hello")

    async def operate(self, state: str, ready: str, message: str = "") -> None:
        """The operator writes that status two seconds after the create."""
        while ("instances", SPACE, NAME) not in self.kube.objects:
            await pass_time(0.1)
        await pass_time(2)
        condition = {"type": "Ready", "status": ready, "reason": "Told", "message": message,
                     "lastTransitionTime": "2030-01-01T12:00:00Z"}  # fmt: skip
        status = {"state": state, "node": "n1", "conditions": [condition]}
        patch = {"status": status}
        await self.kube.patch(INSTANCES, NAME, patch, SPACE, sub="status")

    def verbs(self, verb: str) -> list[str]:
        """Of which kinds, in order; those that were not there for a delete left out."""
        return [plural for called, plural in self.kube.calls if called == verb]

    def left(self) -> list[str]:
        return [plural for plural, _, _ in self.kube.objects if plural != "events"]


async def outcome(world: World, *operator: Any) -> Json:
    playing = asyncio.gather(*operator)
    try:
        return await world.run()
    finally:
        playing.cancel()


async def test_a_guest_that_runs_and_speaks_is_deleted_with_all_that_was_made_for_it() -> None:
    world = World()
    world.log = "hello\n"
    seen = await outcome(world, world.operate("Running", "True"))
    assert seen["node"] == "n1"
    assert seen["console"] is True
    assert 2 <= seen["runningSeconds"] <= 4
    assert world.verbs("create") == OWN
    assert world.verbs("delete")[-len(OWN) :] == OWN[::-1]
    assert world.left() == []


async def test_without_nic_and_with_a_flavor_that_is_there_only_two_objects_are_made() -> None:
    world = World("small", "")
    world.log = "hello\n"
    await outcome(world, world.operate("Running", "True"))
    assert world.verbs("create") == ["images", "instances"]
    assert "flavors" not in world.verbs("delete")


async def test_a_console_that_cannot_be_reached_is_told_and_no_failure() -> None:
    world = World()

    async def unreachable() -> str:
        raise NotFound("no route")

    world.console = unreachable  # type: ignore[method-assign]
    seen = await outcome(world, world.operate("Running", "True"))
    assert seen["console"] is False
    assert "its console is not read from here: no route" in world.said


@pytest.mark.parametrize(
    ("state", "ready", "log", "error", "words"),
    [
        ("Error", "False", "hello", Terminal, "no host"),
        ("Scheduling", "False", "hello", Retryable, "the Instance is Running"),
        ("Running", "True", "panic", Retryable, "'hello' is on its console"),
    ],
)
async def test_a_guest_that_does_not_run_is_explained_and_deleted(
    state: str, ready: str, log: str, error: type[NovakubeError], words: str
) -> None:
    world = World()
    world.log = log
    event = {"metadata": {"name": "e", "namespace": SPACE}, "involvedObject": {"name": NAME},
             "reason": "NoValidHost", "message": "RamFilter refused n1"}  # fmt: skip
    world.kube.seed(EVENTS, event)
    with pytest.raises(error, match=words):
        await outcome(world, world.operate(state, ready, "no host has room"))
    assert "Instance: Ready=" + ready + " Told: no host has room" in world.said
    assert "Event: NoValidHost: RamFilter refused n1" in world.said
    assert world.left() == []


async def test_what_an_earlier_trial_left_goes_first() -> None:
    world = World()
    world.log = "hello"
    world.kube.seed(INSTANCES, {"metadata": {"name": NAME, "namespace": SPACE}, "spec": {}})
    await outcome(world, world.operate("Running", "True"))
    first = [verb for verb, plural in world.kube.calls if plural == "instances"]
    assert first[0] == "delete"
    assert world.left() == []


async def test_one_that_is_not_let_go_is_a_failure_that_says_who_holds_it() -> None:
    world = World()
    meta = {"name": NAME, "namespace": SPACE, "finalizers": [FINALIZER]}
    world.kube.seed(INSTANCES, {"metadata": meta, "spec": {}})
    with pytest.raises(Retryable, match=f"Instance {NAME} is held by {FINALIZER}"):
        await world.run()
    assert DELETE_S <= asyncio.get_running_loop().time() <= DELETE_S + 1
