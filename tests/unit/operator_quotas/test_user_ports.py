"""Ports that users made get a verdict; those that the operator made cost no write."""

from __future__ import annotations

from typing import Any

import pytest

from novakube_crds.v1alpha1.network import NETWORK
from novakube_crds.v1alpha1.port import PORT
from novakube_kit.kube import Json
from novakube_kit.resources import resource_of
from novakube_operator.core.naming import port_name
from novakube_operator.quotas.controller import UserPortController
from novakube_operator.quotas.ledger import Ledger
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube
from tests.kstatus import kstatus

UID = "00000000-0000-4000-8000-000000000001"
KEY = ("demo", "web")


class World:
    """Stores, what is on the API server, and the controller between them."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.stores = Stores(lambda *_: None)
        ledger = Ledger(self.stores)
        self.controller = UserPortController(ledger, self.stores, self.kube, ManualClock())

    async def make(self, kind: Any, name: str, spec: Json, **metadata: Any) -> None:
        body = {"metadata": {"name": name, **metadata}, "spec": spec}
        made = await self.kube.create(resource_of(kind), body, "demo")
        self.stores.of(kind.plural).observe(made)

    async def port(self) -> Json:
        return await self.kube.get(resource_of(PORT), "web", "demo")


@pytest.fixture
def world() -> World:
    return World()


async def test_accepted_and_there_for_kstatus(world: World) -> None:
    await world.make(NETWORK, "net", {})
    await world.make(PORT, "web", {"network": {"name": "net"}})
    await world.controller.reconcile(KEY)
    port = await world.port()
    assert kstatus(port) == "Current"
    assert port["status"]["id"] == port["metadata"]["uid"]
    version = port["metadata"]["resourceVersion"]
    await world.controller.reconcile(KEY)
    assert (await world.port())["metadata"]["resourceVersion"] == version


async def test_it_waits_for_its_network_and_is_woken(world: World) -> None:
    await world.make(PORT, "web", {"network": {"name": "net"}})
    await world.controller.reconcile(KEY)
    port = await world.port()
    assert kstatus(port) == "InProgress"
    assert port["status"]["conditions"][0]["message"] == "network demo/net does not exist"
    await world.make(NETWORK, "net", {})
    network = world.stores.of("networks").get("demo", "net")
    assert list(world.controller.wakes("networks", None, network)) == [(KEY, 0.0)]
    await world.controller.reconcile(KEY)
    assert kstatus(await world.port()) == "Current"


async def test_one_that_the_operator_made_is_not_written(world: World) -> None:
    owner = {"apiVersion": "v1", "kind": "Instance", "name": "web", "uid": UID}
    name = port_name(UID, 0)
    await world.make(PORT, name, {"network": {"name": "net"}}, ownerReferences=[owner])
    before = await world.kube.get(resource_of(PORT), name, "demo")
    await world.controller.reconcile(("demo", name))
    assert await world.kube.get(resource_of(PORT), name, "demo") == before
    assert world.controller.keys() == []
