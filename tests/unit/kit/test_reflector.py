import asyncio
import copy
from contextlib import asynccontextmanager

import pytest

from novakube_kit.errors import ApiUnavailable, StateRolledBack
from novakube_kit.kube import Resource, WatchEvent
from novakube_kit.reflector import Reflector
from tests.fakes.kube import FakeKube
from tests.waiting import pass_time

pytestmark = pytest.mark.looptime
THINGS = Resource("example.com", "v1", "things")


def a_thing(name: str, size: int = 1) -> dict:
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"size": size}}


class Told:
    def __init__(self) -> None:
        self.events: list[WatchEvent] = []

    def __call__(self, event: WatchEvent) -> None:
        self.events.append(event)

    def take(self) -> list[tuple[str, str]]:
        taken = [(event.type, event.object["metadata"]["name"]) for event in self.events]
        self.events.clear()
        return taken


@asynccontextmanager
async def following(reflector: Reflector):
    task = asyncio.create_task(reflector.run())
    try:
        async with asyncio.timeout(30):
            await reflector.synced.wait()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_there_and_what_changes_is_told():
    kube, told = FakeKube(), Told()
    kube.seed(THINGS, a_thing("a"))
    async with following(Reflector(kube, THINGS, told)):
        assert told.take() == [("ADDED", "a")]
        await kube.create(THINGS, a_thing("b"), "ns")
        await kube.patch(THINGS, "a", {"spec": {"size": 2}}, "ns")
        await kube.delete(THINGS, "b", "ns")
        await pass_time(0.1)
    assert told.take() == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


async def test_a_gap_is_told_as_deleted_modified_added_and_nothing_twice():
    kube, told = FakeKube(), Told()
    for name in ("kept", "changed", "gone", "replaced"):
        kube.seed(THINGS, a_thing(name))
    listed: list[tuple[frozenset, str]] = []
    reflector = Reflector(
        kube, THINGS, told, keep_objects=True, listed=lambda *args: listed.append(args)
    )
    async with following(reflector):
        told.take()
        kube.cut_watches()
        await pass_time(0)
        kube.errors = [ApiUnavailable("restarting")] * 2
        await pass_time(0.1)
        await kube_gap(kube)
        await pass_time(60)
    assert sorted(told.take()) == [
        ("ADDED", "new"),
        ("ADDED", "replaced"),
        ("DELETED", "gone"),
        ("DELETED", "replaced"),
        ("MODIFIED", "changed"),
    ]
    assert {key[1] for key in listed[-1][0]} == {"kept", "changed", "replaced", "new"}


async def kube_gap(kube: FakeKube) -> None:
    kube.errors, held = [], kube.errors
    await kube.patch(THINGS, "changed", {"spec": {"size": 2}}, "ns")
    await kube.delete(THINGS, "gone", "ns")
    await kube.delete(THINGS, "replaced", "ns")
    await kube.create(THINGS, a_thing("replaced"), "ns")
    await kube.create(THINGS, a_thing("new"), "ns")
    kube.errors = held
    kube.compact()


async def test_vanished_objects_carry_the_last_object_when_kept():
    kube, told = FakeKube(), Told()
    kube.seed(THINGS, a_thing("gone", size=7))
    async with following(Reflector(kube, THINGS, told, keep_objects=True)):
        told.take()
        kube.errors = [ApiUnavailable("away")]
        kube.cut_watches()
        await pass_time(0.01)
        kube.errors = []
        await kube.delete(THINGS, "gone", "ns")
        kube.compact()
        await pass_time(60)
    (event,) = told.events
    assert (event.type, event.object["spec"]["size"]) == ("DELETED", 7)


async def test_a_server_that_asks_to_wait_is_waited_for():
    kube, told = FakeKube(), Told()
    kube.errors = [ApiUnavailable("storage is (re)initializing", after_s=7)]
    loop = asyncio.get_running_loop()
    async with following(Reflector(kube, THINGS, told)):
        assert loop.time() == pytest.approx(7, abs=0.01)


@pytest.mark.parametrize(("after_s", "level"), [(None, "WARNING"), (1, "INFO")])
async def test_one_that_says_when_to_come_back_is_no_warning(
    after_s: float | None, level: str, caplog: pytest.LogCaptureFixture
):
    """As the first watch of a fresh CRD is answered."""
    kube = FakeKube()
    kube.errors = [ApiUnavailable("storage is (re)initializing", after_s=after_s)]
    with caplog.at_level("INFO", "novakube_kit.reflector"):
        async with following(Reflector(kube, THINGS, Told())):
            pass
    assert [record.levelname for record in caplog.records] == [level]


async def test_failures_back_off_and_are_shown():
    kube, told = FakeKube(), Told()
    kube.errors = [ApiUnavailable("away")] * 5
    reflector = Reflector(kube, THINGS, told)
    loop = asyncio.get_running_loop()
    async with following(reflector):
        assert 0.75 * 15.5 <= loop.time() <= 15.5
        assert reflector.failure is None


async def test_a_silent_watch_is_given_up_and_opened_again():
    kube, told = FakeKube(), Told()
    async with following(Reflector(kube, THINGS, told, inactivity_s=100)):
        await pass_time(110)
        assert kube.calls.count(("watch", "things")) == 2
        assert kube.calls.count(("list", "things")) == 2


async def test_watches_that_end_at_once_are_not_asked_in_a_hot_loop():
    kube, told = FakeKube(), Told()
    async with following(Reflector(kube, THINGS, told)):
        for _ in range(600):
            await pass_time(0.1)
            kube.cut_watches()
    assert kube.calls.count(("watch", "things")) < 10


async def test_a_handler_that_raises_does_not_stop_the_others(caplog: pytest.LogCaptureFixture):
    kube, seen = FakeKube(), []

    def handler(event: WatchEvent) -> None:
        seen.append(event.object["metadata"]["name"])
        if seen[-1] == "a":
            raise RuntimeError("bug")

    kube.seed(THINGS, a_thing("a"))
    kube.seed(THINGS, a_thing("b"))
    async with following(Reflector(kube, THINGS, handler)):
        assert seen == ["a", "b"]
    assert "handler of things failed at ns/a" in caplog.text


async def a_reflector_of_one_thing() -> tuple[FakeKube, asyncio.Task[None]]:
    kube = FakeKube()
    kube.seed(THINGS, a_thing("a"))
    reflector = Reflector(kube, THINGS, Told())
    task = asyncio.create_task(reflector.run())
    await reflector.synced.wait()
    return kube, task


async def test_a_store_that_was_restored_from_a_backup_ends_the_reflector():
    """Versions begin anew: nothing that is held can be compared with what there is."""
    kube, task = await a_reflector_of_one_thing()
    kube.version -= 50
    kube.history.clear()
    kube.cut_watches()
    await pass_time(60)
    assert task.done()
    with pytest.raises(StateRolledBack, match="restored from a backup"):
        task.result()


async def test_a_restored_store_in_whose_future_a_watch_would_begin_is_noticed():
    """It would be silent, not Expired: the outage alone makes the reflector list again."""
    kube, task = await a_reflector_of_one_thing()
    kube.version -= 50  # the history stays: no watch is refused
    kube.outage = ApiUnavailable("connection refused")
    kube.cut_watches()
    await pass_time(5)
    kube.outage = None
    await pass_time(60)
    assert task.done()
    with pytest.raises(StateRolledBack, match="restored from a backup"):
        task.result()


async def test_a_server_that_is_behind_for_a_moment_does_not():
    kube = FakeKube()
    kube.seed(THINGS, a_thing("a"))
    async with following(Reflector(kube, THINGS, told := Told())):
        told.take()
        kube.cut_watches()
        kube.errors = [ApiUnavailable("behind", reason="ResourceVersionTooLarge")]
        await pass_time(10)
        await kube.create(THINGS, a_thing("b"), "ns")
        await pass_time(60)
    assert told.take() == [("ADDED", "b")]


async def test_a_restored_store_that_has_newer_versions_already_is_noticed_by_an_older_object():
    """Whoever else writes makes the versions grow again before we look."""
    kube, task = await a_reflector_of_one_thing()
    backup = copy.deepcopy(kube.objects)
    await kube.patch(THINGS, "a", {"spec": {"size": 2}}, "ns")
    await pass_time(1)
    kube.objects = backup
    kube.version += 50
    kube.compact()
    kube.cut_watches()
    await pass_time(60)
    assert task.done()
    with pytest.raises(StateRolledBack, match=r"things ns/a: .* restored from a backup"):
        task.result()
