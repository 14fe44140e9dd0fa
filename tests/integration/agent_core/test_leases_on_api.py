"""From dnsmasq's script to ``Guest.status.leases`` on the real API server.

The node's host is simulated; script, FIFO, records, agent and API server are the real ones.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from novakube_agent import dhcpbridge
from novakube_agent.drivers.fake import FakeState, fake_ports
from novakube_agent.hostops.dhcp_leases import DhcpLeases
from novakube_agent.identity import node_namespace
from novakube_agent.metrics import LEASE_EVENTS, LEASE_WRITES
from novakube_agent.node import NodeAgent
from novakube_agent.reconcile import GuestReconciler
from novakube_agent.settings import FakeSettings, Settings
from novakube_agent.status_writer import GUESTS, LEASES_INTERVAL_S
from novakube_crds.base import API_VERSION
from novakube_crds.v1alpha1.guest import GuestAddress, GuestNic, GuestSubnet
from novakube_kit.kube import Json
from novakube_kit.kube_aio import AioKube
from novakube_kit.objects import Key
from novakube_kit.workqueue import WorkQueue
from tests.deadlines import EVENT_S, READY_S
from tests.fakes.host import a_nic, a_spec, uid
from tests.integration.agent_core.test_agent_on_api import node as node
from tests.waiting import wait_until

FOREIGN = "fa:16:3e:99:99:99"


def nic(address: str, number: int = 1) -> GuestNic:
    subnet = GuestSubnet(uid=uid(800), cidr="10.1.0.0/24")
    found = GuestAddress(address=address, subnet=subnet)
    return a_nic(number).model_copy(update={"addresses": [found]})


class Cloud:
    """One node's agent, started and ended at will, and what its dnsmasq would run."""

    def __init__(self, kube: AioKube, node: str, state_dir: Path) -> None:
        self._kube = kube
        self._node = node
        self._state_dir = state_dir
        self._host = FakeState(node)
        self.networks = state_dir / "networks"

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        ports = fake_ports(self._host, FakeSettings(), self._state_dir)
        ports = replace(ports, leases=DhcpLeases(self._state_dir))
        queue: WorkQueue[Key] = WorkQueue("Guest")
        reconcilers: dict[str, GuestReconciler] = {}
        settings = Settings(node=self._node, driver="fake", resync_s=3600)
        agent = NodeAgent(self._node, settings, self._kube, ports, queue, self._state_dir)

        async def reconcile(key: Key) -> float | None:
            return await reconcilers[key[0]](key[1])

        work = [
            asyncio.create_task(queue.run(reconcile)), asyncio.create_task(agent.run(reconcilers)),
        ]  # fmt: skip
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def tells(self, action: str, one: GuestNic, mac: str | None = None) -> None:
        """The script, as dnsmasq runs it."""
        network = self.networks / one.network_uid
        (network / "held").mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", dhcpbridge.__file__, action, mac or one.mac,
            one.addresses[0].address, env={"NOVAKUBE_NETWORK": str(network)},
        )  # fmt: skip
        assert await process.wait() == 0

    async def guest(self, *nics: GuestNic) -> str:
        spec = a_spec(hypervisor=self._node, nics=list(nics))
        name = f"{spec.instance.uid}-1"
        body = {"apiVersion": API_VERSION, "kind": "Guest", "metadata": {"name": name},
                "spec": spec.wire()}  # fmt: skip
        await self._kube.create(GUESTS, body, node_namespace(self._node))
        await self.until(name, lambda status: status.get("phase") == "Ready")
        return name

    async def until(self, name: str, fits: object) -> Json:
        async def reached() -> Json | None:
            found = await self._kube.get(GUESTS, name, node_namespace(self._node))
            status: Json = found.get("status", {})
            return status if fits(status) else None  # type: ignore[operator]

        found = await wait_until(reached, f"{name} as wanted", READY_S)
        assert found is not None
        return found

    async def until_leases(self, name: str, *addresses: str) -> Json:
        def fits(status: Json) -> bool:
            return [one["address"] for one in status.get("leases", [])] == list(addresses)

        return await self.until(name, fits)

    async def versions(self, name: str) -> str:
        found = await self._kube.get(GUESTS, name, node_namespace(self._node))
        return str(found["metadata"]["resourceVersion"])


@pytest.fixture
def cloud(kube: AioKube, node: str, tmp_path: Path) -> Cloud:
    return Cloud(kube, node, tmp_path)


async def test_a_lease_appears_and_ends_in_the_guests_status(cloud: Cloud) -> None:
    first, second = nic("10.1.0.5"), nic("10.1.0.6", 2)
    before, began = LEASE_WRITES._value.get(), monotonic()
    async with cloud.agent():
        name = await cloud.guest(first, second)
        await cloud.tells("add", first)
        await cloud.tells("add", second)
        status = await cloud.until_leases(name, "10.1.0.5", "10.1.0.6")
        assert [one["mac"] for one in status["leases"]] == [first.mac, second.mac]
        assert {one["networkUID"] for one in status["leases"]} == {first.network_uid}
        assert status["phase"] == "Ready"
        # The first is told at once; what comes after it waits out its 5 s and is told together.
        await cloud.tells("del", first)
        await cloud.tells("add", first)
        await cloud.tells("del", first)
        await cloud.until_leases(name, "10.1.0.6")
        most = 1 + (monotonic() - began) / LEASES_INTERVAL_S
        assert 1 <= LEASE_WRITES._value.get() - before <= most


async def test_a_lease_of_no_guest_here_reaches_no_status(cloud: Cloud) -> None:
    """Another's MAC with the Guest's address, and an address of nobody; both are counted."""
    unknown = LEASE_EVENTS.labels("Unknown")._value
    ours = nic("10.1.0.5")
    async with cloud.agent():
        name = await cloud.guest(ours)
        before, version = unknown.get(), await cloud.versions(name)
        await cloud.tells("add", ours, FOREIGN)
        await cloud.tells("add", nic("10.1.0.9"))
        await wait_until(lambda: unknown.get() - before == 2, "both counted", EVENT_S)
        assert await cloud.versions(name) == version
        await cloud.tells("add", ours)
        status = await cloud.until_leases(name, "10.1.0.5")
        assert status["leases"][0]["mac"] == ours.mac


async def test_what_happened_while_no_agent_ran_is_caught_up(cloud: Cloud) -> None:
    first, second = nic("10.1.0.5"), nic("10.1.0.6", 2)
    async with cloud.agent():
        name = await cloud.guest(first, second)
        await cloud.tells("add", first)
        await cloud.until_leases(name, "10.1.0.5")
    await cloud.tells("add", second)
    await cloud.tells("del", first)
    async with cloud.agent():
        await cloud.until_leases(name, "10.1.0.6")
    await cloud.tells("del", second)
    async with cloud.agent():
        await cloud.until_leases(name)
