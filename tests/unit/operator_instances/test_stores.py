"""The stores that reflectors feed: nothing is lost in a gap, nothing is kept that vanished."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from novakube_crds.v1alpha1.flavor import FLAVOR
from novakube_crds.v1alpha1.port import PORT
from novakube_kit.errors import StateRolledBack
from novakube_kit.kube import Json
from novakube_kit.resources import resource_of
from novakube_operator.stores import FOLLOWED, Stores
from tests.fakes.kube import FakeKube
from tests.unit.operator_instances.contexts import body
from tests.waiting import pass_time

pytestmark = pytest.mark.looptime
PORTS, FLAVORS = resource_of(PORT), resource_of(FLAVOR)
SYNC_S = 30


def a_port(name: str) -> Json:
    obj = body("Port", name, "t", {"network": {"name": "net"}})
    del obj["metadata"]["finalizers"]
    return obj


@asynccontextmanager
async def followed(kube: FakeKube, stores: Stores) -> AsyncIterator[None]:
    reflectors = stores.reflectors(kube)
    assert len(reflectors) == len(FOLLOWED)
    tasks = [asyncio.create_task(reflector.run()) for reflector in reflectors]
    try:
        async with asyncio.timeout(SYNC_S):
            for reflector in reflectors:
                await reflector.synced.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_vanished_in_a_gap_is_told() -> None:
    told: list[tuple[str, bool]] = []
    kube, stores = FakeKube(), Stores(lambda plural, _, new: told.append((plural, new is None)))
    kube.seed(PORTS, a_port("gone"))
    async with followed(kube, stores):
        assert told == [("ports", False)]
        assert stores.listed_at == kube.version
        kube.cut_watches()
        await kube.delete(PORTS, "gone", "t")
        kube.compact()
        await pass_time(SYNC_S)
    assert told == [("ports", False), ("ports", True)]
    assert len(stores.of("ports")) == 0


async def test_our_own_write_that_vanished_unwatched_goes_with_the_next_list() -> None:
    """The watch never told of it, so no watch tells of its end."""
    kube, stores = FakeKube(), Stores(lambda *_: None)
    async with followed(kube, stores):
        kube.cut_watches()
        stores.of("ports").observe(await kube.create(PORTS, a_port("ours"), "t"))
        await kube.delete(PORTS, "ours", "t")
        kube.compact()
        await pass_time(SYNC_S)
    assert len(stores.of("ports")) == 0


async def test_a_relist_that_has_an_object_older_than_it_was_tells_of_a_restored_backup() -> None:
    kube, stores = FakeKube(), Stores(lambda *_: None)
    kube.seed(FLAVORS, body("Flavor", "f", "", {"vcpus": 1, "memoryMiB": 64, "rootGiB": 1}))
    await stores.load(kube)
    backup = copy.deepcopy(kube.objects)
    written = await kube.patch(FLAVORS, "f", {"spec": {"description": "changed"}})
    stores.of("flavors").observe(written)
    await stores.relist(kube)
    kube.objects = backup
    kube.version += 10
    with pytest.raises(StateRolledBack, match="flavors f is older than it was"):
        await stores.relist(kube)


async def test_a_relist_finds_what_changed_and_came_while_nobody_watched() -> None:
    kube, stores = FakeKube(), Stores(lambda *_: None)
    kube.seed(FLAVORS, body("Flavor", "f", "", {"vcpus": 1, "memoryMiB": 64, "rootGiB": 1}))
    await stores.load(kube)
    await kube.patch(FLAVORS, "f", {"spec": {"description": "changed"}})
    kube.seed(FLAVORS, body("Flavor", "g", "", {"vcpus": 1, "memoryMiB": 64, "rootGiB": 1}))
    kube.calls.clear()
    await stores.relist(kube)
    changed = stores.of("flavors").get(None, "f")
    assert changed is not None
    assert changed.spec.description == "changed"
    assert stores.of("flavors").get(None, "g") is not None
    assert kube.calls.count(("get", "flavors")) == 2
    await stores.relist(kube)
    assert kube.calls.count(("get", "flavors")) == 2
