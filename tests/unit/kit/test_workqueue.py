import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from novakube_kit.errors import ApiUnavailable, Conflict, Forbidden, InvalidSpec, NovakubeError
from novakube_kit.workqueue import BACKOFF_MAX_S, CONFLICTS_AT_ONCE, WorkQueue
from tests.waiting import pass_time

pytestmark = pytest.mark.looptime

Key = tuple[str, str]
A, B = ("ns", "a"), ("ns", "b")


async def running(
    queue: WorkQueue[Key], reconcile: Callable[[Key], Awaitable[float | None]], for_s: float
) -> None:
    """Runs the queue for so many (virtual) seconds."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(for_s):
            await queue.run(reconcile)


class Passes:
    """Records when which key was looked at."""

    def __init__(self, *outcomes: Exception | float | None, lasting_s: float = 0.0) -> None:
        self.at: list[tuple[float, Key]] = []
        self.outcomes = list(outcomes)
        self.lasting_s = lasting_s
        self.now = 0
        self.most = 0

    async def __call__(self, key: Key) -> float | None:
        self.at.append((asyncio.get_running_loop().time(), key))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await pass_time(self.lasting_s)
        finally:
            self.now -= 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_a_key_in_line_is_looked_at_once():
    queue, passes = WorkQueue[Key]("t"), Passes()
    for _ in range(5):
        queue.add(A)
    assert len(queue) == 1
    await running(queue, passes, 1)
    assert [key for _, key in passes.at] == [A]
    assert queue.idle


async def test_a_key_never_has_two_passes_and_is_seen_again_when_added_meanwhile():
    queue, passes = WorkQueue[Key]("t", workers=4), Passes(lasting_s=2)
    queue.add(A)
    asyncio.get_running_loop().call_later(1, queue.add, A)
    await running(queue, passes, 10)
    assert [round(at) for at, _ in passes.at] == [0, 2]
    assert passes.most == 1


async def test_workers_bound_the_passes_at_a_time():
    queue, passes = WorkQueue[Key]("t", workers=2), Passes(lasting_s=1)
    for number in range(6):
        queue.add(("ns", str(number)))
    await running(queue, passes, 10)
    assert len(passes.at) == 6
    assert passes.most == 2


async def test_the_earliest_of_several_delays_holds():
    queue, passes = WorkQueue[Key]("t"), Passes()
    queue.add_after(A, 5)
    queue.add_after(A, 2)
    queue.add_after(A, 9)
    await running(queue, passes, 20)
    assert [round(at) for at, _ in passes.at] == [2]


async def test_a_pass_says_when_it_wants_to_be_looked_at_again():
    queue, passes = WorkQueue[Key]("t"), Passes(7.0, None)
    queue.add(A)
    await running(queue, passes, 20)
    assert [round(at) for at, _ in passes.at] == [0, 7]


async def test_forget_drops_delays():
    queue, passes = WorkQueue[Key]("t"), Passes()
    queue.add_after(A, 5)
    queue.forget(A)
    await running(queue, passes, 20)
    assert passes.at == []


async def test_failures_back_off_from_one_second_to_five_minutes():
    queue, passes = WorkQueue[Key]("t"), Passes(*[RuntimeError("x")] * 14)
    queue.add(A)
    await running(queue, passes, 3600)
    times = [at for at, _ in passes.at]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert 0.75 <= gaps[0] <= 1
    assert 1.5 <= gaps[1] <= 2
    assert all(225 <= gap <= BACKOFF_MAX_S for gap in gaps[9:])


async def test_success_forgets_the_backoff():
    queue, passes = WorkQueue[Key]("t"), Passes(*[RuntimeError("x")] * 4, 100.0, RuntimeError("x"))
    queue.add(A)
    await running(queue, passes, 200)
    times = [at for at, _ in passes.at]
    assert times[6] - times[5] <= 1


@pytest.mark.parametrize(
    ("error", "want_s"),
    [
        (ApiUnavailable("slow down", after_s=17), (17, 17)),
        (ApiUnavailable("no answer"), (0.75, 1)),
        (Conflict("changed"), (0, 0)),
        (Forbidden("no right"), (0.75, 1)),
        (InvalidSpec("impossible"), (BACKOFF_MAX_S, BACKOFF_MAX_S)),
        (NovakubeError("odd"), (0.75, 1)),
        (KeyError("bug"), (0.75, 1)),
    ],
)
async def test_each_sort_of_error_has_its_delay(error: Exception, want_s: tuple[float, float]):
    queue, passes = WorkQueue[Key]("t"), Passes(error)
    queue.add(A)
    await running(queue, passes, 400)
    first, second = (at for at, _ in passes.at)
    assert want_s[0] - 0.01 <= second - first <= want_s[1] + 0.01


async def test_conflicts_in_a_row_are_bounded():
    dropped: list[Key] = []
    queue = WorkQueue[Key]("t", conflict=dropped.append)
    passes = Passes(*[Conflict("changed")] * (CONFLICTS_AT_ONCE + 1))
    queue.add(A)
    await running(queue, passes, 60)
    times = [at for at, _ in passes.at]
    assert times[CONFLICTS_AT_ONCE] == pytest.approx(0, abs=0.01)
    assert times[CONFLICTS_AT_ONCE + 1] >= 0.75
    assert dropped == [A] * (CONFLICTS_AT_ONCE + 1)


async def test_a_pass_over_its_deadline_backs_off_and_others_go_on():
    queue, passes = WorkQueue[Key]("t", workers=1, pass_deadline_s=10), Passes(lasting_s=30)
    queue.add(A)
    queue.add(B)
    await running(queue, passes, 19)
    assert [key for _, key in passes.at] == [A, B]


@pytest.mark.parametrize(
    ("outcome", "nudged_after_s", "passes_at"),
    [
        (None, 0.5, [0, 1.2]),  # while it is under way, and it succeeds
        (ApiUnavailable("x"), 0.5, [0, 2]),  # and it fails: its backoff holds
        (ApiUnavailable("x"), 1.2, [0, 2]),  # what comes late is its own doing as well
        (None, 1.2, [0, 1.4]),
    ],
)
async def test_a_passes_own_events_do_not_end_its_backoff(
    outcome: Exception | None, nudged_after_s: float, passes_at: list[float]
):
    queue, passes = WorkQueue[Key]("t"), Passes(outcome, lasting_s=1)
    queue.add(A)
    asyncio.get_running_loop().call_later(nudged_after_s, queue.nudge, A, 0.2)
    await running(queue, passes, 2.9)
    assert [at for at, _ in passes.at] == pytest.approx(passes_at, abs=0.3)


async def test_an_event_from_outside_ends_a_long_backoff():
    queue, passes = WorkQueue[Key]("t"), Passes(*[ApiUnavailable("x")] * 6)
    queue.add(A)
    asyncio.get_running_loop().call_later(40, queue.nudge, A, 0.2)
    await running(queue, passes, 41)
    assert [at for at, _ in passes.at][-1] == pytest.approx(40.2)
