import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from novakube_kit.errors import ApiUnavailable, InvalidSpec
from novakube_kit.leader import Deadlines, LeaderElection
from novakube_kit.resources import LEASES
from tests.fakes.clock import LoopClock
from tests.fakes.kube import FakeKube
from tests.waiting import pass_time

pytestmark = pytest.mark.looptime
Stand = Callable[..., LeaderElection]


class Candidates:
    """Elections that run; each may have its own API server connection and clock."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def stand(self, name: str, kube: FakeKube | None = None, **options) -> LeaderElection:
        options.setdefault("clock", LoopClock())
        election = LeaderElection(kube or self.kube, "ns", "lease", name, **options)
        self.tasks[name] = asyncio.create_task(election.run())
        return election

    async def end(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)


@pytest.fixture
async def candidates() -> AsyncIterator[Candidates]:
    async with AsyncExitStack() as stack:
        candidates = Candidates()
        yield candidates
        for name in candidates.tasks:
            stack.push_async_callback(candidates.end, name)


class OwnLink:
    """A link to the same server that can be cut for one candidate."""

    def __init__(self, kube: FakeKube) -> None:
        self.kube = kube
        self.cut = False

    def __getattr__(self, name: str):
        async def call(*args, **kwargs):
            if self.cut:
                raise ApiUnavailable("no route")
            return await getattr(self.kube, name)(*args, **kwargs)

        return call


async def test_one_of_two_leads(candidates: Candidates):
    first = candidates.stand("first")
    await pass_time(0.1)
    second = candidates.stand("second")
    await pass_time(120)
    assert (first.is_leader, second.is_leader) == (True, False)
    assert first.epoch == 1


async def test_a_leader_that_goes_hands_over_at_once(candidates: Candidates):
    candidates.stand("first")
    await pass_time(0.1)
    second = candidates.stand("second")
    await pass_time(5)
    await candidates.end("first")
    await pass_time(2.5)
    assert second.is_leader
    assert second.epoch == 2


async def test_a_process_started_again_in_its_slot_takes_the_lease_at_once(
    candidates: Candidates,
):
    link = OwnLink(candidates.kube)
    candidates.stand("first", kube=link, slot="pod-1")
    await pass_time(0.1)
    link.cut = True
    await candidates.end("first")  # killed: it gives nothing back
    again = candidates.stand("second", slot="pod-1")
    stranger = candidates.stand("third", slot="pod-11")
    await pass_time(0.5)
    assert (again.is_leader, stranger.is_leader) == (True, False)
    assert again.epoch == 2


async def test_a_cut_off_leader_stops_before_another_begins(candidates: Candidates):
    link, changes = OwnLink(candidates.kube), []
    loop = asyncio.get_running_loop()
    first = candidates.stand(
        "first", link, changed=lambda leads: changes.append((loop.time(), leads))
    )
    await pass_time(0.1)
    second = candidates.stand(
        "second", changed=lambda leads: changes.append((loop.time(), not leads))
    )
    await pass_time(20)
    link.cut = True
    await pass_time(9)
    assert not second.is_leader
    await pass_time(3)
    assert not first.is_leader
    await pass_time(8)
    assert second.is_leader
    assert second.epoch == first.epoch + 1
    link.cut = False
    await pass_time(30)
    assert (first.is_leader, second.is_leader) == (False, True)


async def test_a_stopped_process_knows_at_once_that_it_leads_no_more(candidates: Candidates):
    """SIGSTOP: no code runs, the clock goes on; the first look after it must say no."""
    clock = LoopClock()
    first = candidates.stand("first", clock=clock)
    await pass_time(1)
    assert first.is_leader
    asleep_s = asyncio.get_running_loop().time() + 11
    clock.monotonic = lambda: asleep_s  # type: ignore[method-assign]
    assert not first.is_leader


async def test_jumps_of_the_wall_clock_change_nothing(candidates: Candidates):
    first_clock, second_clock = LoopClock(), LoopClock()
    first = candidates.stand("first", clock=first_clock)
    await pass_time(0.1)
    second = candidates.stand("second", clock=second_clock)
    await pass_time(10)
    first_clock.set_wall_clock(-86400)
    second_clock.set_wall_clock(86400)
    await pass_time(60)
    assert (first.is_leader, second.is_leader) == (True, False)


async def test_a_lost_answer_does_not_cost_the_leadership(candidates: Candidates):
    """The renewal worked, its repetition conflicts: still ours."""
    changes: list[bool] = []
    first = candidates.stand("first", changed=changes.append)
    await pass_time(0.1)
    lease = await candidates.kube.get(LEASES, "lease", "ns")
    patch = {"metadata": {"labels": {"touched": "by-somebody"}}}
    await candidates.kube.patch(LEASES, "lease", patch, "ns")
    await pass_time(10)
    assert lease["spec"]["holderIdentity"] == "first"
    assert (first.is_leader, changes) == (True, [True])


async def test_a_deleted_lease_is_made_again_with_a_higher_epoch(candidates: Candidates):
    first = candidates.stand("first")
    await pass_time(3)
    await candidates.kube.delete(LEASES, "lease", "ns")
    await pass_time(6)
    assert first.is_leader
    assert first.epoch == 2


async def test_a_short_outage_is_survived(candidates: Candidates):
    changes: list[bool] = []
    first = candidates.stand("first", changed=changes.append)
    await pass_time(0.1)
    candidates.kube.outage = ApiUnavailable("restarting")
    await pass_time(7)
    candidates.kube.outage = None
    await pass_time(20)
    assert (first.is_leader, changes) == (True, [True])


def test_deadlines_that_make_no_sense_are_refused():
    with pytest.raises(InvalidSpec, match=r"lease 5 s > renew 10\.0 s"):
        Deadlines(lease_s=5)
