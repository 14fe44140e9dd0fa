"""The reflector against a real API server that compacts, dies, answers late and wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from novakube_kit.kube import WatchEvent
from novakube_kit.kube_aio import AioKube
from novakube_kit.reflector import Reflector
from novakube_kit.resources import CONFIGMAPS
from tests.deadlines import EVENT_S, READY_S
from tests.integration.apiserver import ApiServer
from tests.integration.conftest import access_to
from tests.integration.proxy import FaultyProxy
from tests.waiting import wait_until


class Told:
    """What the handler was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __call__(self, event: WatchEvent) -> None:
        self.events.append((event.type, event.object["metadata"]["name"]))

    async def until(self, *want: tuple[str, str], deadline_s: float = EVENT_S) -> None:
        """All of these were told; takes everything."""
        await wait_until(lambda: set(want) <= set(self.events), f"{want}", deadline_s)
        self.events.clear()


@asynccontextmanager
async def following(reflector: Reflector) -> AsyncIterator[None]:
    task = asyncio.create_task(reflector.run())
    try:
        await wait_until(reflector.synced.is_set, "first list", EVENT_S)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def a_map(name: str) -> dict:
    return {"metadata": {"name": name}}


async def changed(kube: AioKube, namespace: str, name: str, value: str) -> None:
    await kube.patch(CONFIGMAPS, name, {"data": {"k": value}}, namespace)


@pytest.fixture
async def proxy(apiserver: ApiServer) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(apiserver) as proxy:
        yield proxy


@pytest.fixture
async def through(apiserver: ApiServer, proxy: FaultyProxy) -> AsyncIterator[AioKube]:
    """The API server as its administrator, through the proxy."""
    async with AioKube(replace(access_to(apiserver), server=proxy.url)) as kube:
        yield kube


async def test_changes_are_told(kube: AioKube, namespace: str):
    told = Told()
    await kube.create(CONFIGMAPS, a_map("old"), namespace)
    async with following(Reflector(kube, CONFIGMAPS, told, namespace=namespace)):
        await kube.create(CONFIGMAPS, a_map("new"), namespace)
        await changed(kube, namespace, "old", "1")
        await kube.delete(CONFIGMAPS, "new", namespace)
        await told.until(
            ("ADDED", "old"), ("ADDED", "new"), ("MODIFIED", "old"), ("DELETED", "new")
        )


async def test_deletes_in_a_gap_are_told_after_the_version_expired(
    apiserver: ApiServer, kube: AioKube, through: AioKube, proxy: FaultyProxy, namespace: str
):
    told = Told()
    for name in ("gone", "changed", "kept"):
        await kube.create(CONFIGMAPS, a_map(name), namespace)
    async with following(Reflector(through, CONFIGMAPS, told, namespace=namespace)):
        told.events.clear()
        await proxy.down()
        await kube.delete(CONFIGMAPS, "gone", namespace)
        await changed(kube, namespace, "changed", "1")
        # A fresh watch cache on compacted history: the old version can be served by nobody.
        await asyncio.to_thread(apiserver.restart_server)
        await asyncio.to_thread(apiserver.compact)
        await proxy.up()
        await wait_until(
            lambda: {("DELETED", "gone"), ("MODIFIED", "changed")} <= set(told.events),
            "the gap told",
            READY_S,
        )
    assert sorted(told.events) == [("DELETED", "gone"), ("MODIFIED", "changed")]


async def test_a_restarted_server_is_followed_without_a_new_list_of_known_things(
    apiserver: ApiServer, kube: AioKube, namespace: str
):
    told = Told()
    await kube.create(CONFIGMAPS, a_map("a"), namespace)
    reflector = Reflector(kube, CONFIGMAPS, told, namespace=namespace)
    async with following(reflector):
        told.events.clear()
        await asyncio.to_thread(apiserver.restart_server)
        await changed(kube, namespace, "a", "1")
        await wait_until(lambda: told.events, "the change told", READY_S)
        assert told.events == [("MODIFIED", "a")]
        assert reflector.failure is None


async def test_bookmarks_move_the_version(kube: AioKube, namespace: str):
    """The server sends one two seconds before a watch ends by its timeout."""
    told, versions = Told(), set()
    reflector = Reflector(kube, CONFIGMAPS, told, namespace=namespace, watch_timeout_s=4)
    async with following(reflector):
        versions.add(reflector.resource_version)
        # Progress of others: only a bookmark can carry it to this watch.
        await kube.create(CONFIGMAPS, a_map("elsewhere"), "default")
        await wait_until(lambda: reflector.resource_version not in versions, "a bookmark", READY_S)
        await kube.delete(CONFIGMAPS, "elsewhere", "default")
    assert told.events == []


async def test_a_silent_connection_is_replaced(
    kube: AioKube, through: AioKube, proxy: FaultyProxy, namespace: str
):
    told = Told()
    reflector = Reflector(through, CONFIGMAPS, told, namespace=namespace, inactivity_s=1)
    async with following(reflector):
        proxy.mute()
        await kube.create(CONFIGMAPS, a_map("a"), namespace)
        await told.until(("ADDED", "a"))


async def test_500_and_pages_of_proxies_are_waited_out(
    kube: AioKube, through: AioKube, proxy: FaultyProxy, namespace: str
):
    await kube.create(CONFIGMAPS, a_map("a"), namespace)
    proxy.answers = [b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"] * 2
    told = Told()
    async with following(Reflector(through, CONFIGMAPS, told, namespace=namespace)):
        await told.until(("ADDED", "a"))
    assert proxy.answers == []


async def test_retry_after_is_kept(through: AioKube, proxy: FaultyProxy, namespace: str):
    proxy.answers = [
        b"HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ]
    loop = asyncio.get_running_loop()
    started = loop.time()
    await through.list(CONFIGMAPS, namespace)
    assert loop.time() - started >= 1


async def test_a_watch_that_begins_in_the_future_is_silent(kube: AioKube, namespace: str):
    """What a store restored from a backup makes of every watch: hence a list after an outage."""
    now = int((await kube.list(CONFIGMAPS, namespace))["metadata"]["resourceVersion"])
    events = kube.watch(CONFIGMAPS, namespace, resource_version=str(now + 1000), timeout_s=3)
    watching = asyncio.create_task(_names(events))
    await kube.create(CONFIGMAPS, a_map("unseen"), namespace)
    assert await watching == []


async def _names(events: AsyncIterator[WatchEvent]) -> list[str]:
    return [event.object["metadata"]["name"] async for event in events if event.type != "BOOKMARK"]
