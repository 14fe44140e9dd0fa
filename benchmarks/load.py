"""The user of a benchmark: creates Instances and sees them run, as one watch tells."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_kit.access import from_kubeconfig
from novakube_kit.kube import Json, WatchEvent
from novakube_kit.kube_aio import AioKube
from novakube_kit.reflector import Reflector
from novakube_kit.resources import NAMESPACES, resource_of
from novakube_local.kubehttp import KubeHttp

NAMESPACE = "bench"
PROJECT = "bench-project"
GROUP = "/apis/novakube.dev/v1alpha1"
INSTANCES = resource_of(INSTANCE)
PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl bench"
)
IMAGE = {
    "diskFormat": "qcow2",
    "source": {"url": "http://192.0.2.10/guest.qcow2", "checksum": f"sha256:{'0' * 64}"},
}
FLAVOR = {"vcpus": 1, "memoryMiB": 128, "rootGiB": 1}
HARD = {"instances": 10**5, "cores": 10**5, "memoryMiB": 10**8, "ports": 10**5, "networks": 10**4,
        "subnets": 10**4}  # fmt: skip
"""Limits that are counted and never met."""
T = TypeVar("T")
STALLED_S = 120.0
"""No object made progress for so long: the run is given up."""


def prepare(admin: KubeHttp, networks: int) -> None:
    """A project's namespace with its Quota and what its Instances refer to.

    A network lives on one node for now, so there is one for each node.
    """
    admin.ensure("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    # Before the project: the operator makes one with the usual limits as soon as it is bound.
    _make(admin, "Quota", "quota", {"hard": HARD}, NAMESPACE)
    label = {"metadata": {"labels": {"novakube.dev/project-id": PROJECT}}}
    admin.call("PATCH", f"/api/v1/namespaces/{NAMESPACE}", label, "application/merge-patch+json")
    _make(admin, "Flavor", "tiny", FLAVOR, None)
    _make(admin, "KeyPair", "bench", {"userID": "bench", "publicKey": PUBLIC_KEY}, None)
    _make(admin, "Image", "guest", IMAGE, NAMESPACE)
    for number in range(networks):
        _make(admin, "Network", f"net{number}", {}, NAMESPACE)
        subnet = {"network": {"name": f"net{number}"}, "cidr": f"10.{number % 250}.0.0/16"}
        _make(admin, "Subnet", f"net{number}", subnet, NAMESPACE)


def _make(admin: KubeHttp, kind: str, name: str, spec: Json, namespace: str | None) -> None:
    body = {"apiVersion": "novakube.dev/v1alpha1", "kind": kind, "metadata": {"name": name}}
    where = f"{GROUP}/namespaces/{namespace}" if namespace else GROUP
    admin.ensure(f"{where}/{kind.lower()}s", {**body, "spec": spec})


def instance(name: str, network: int) -> Json:
    """One Instance: one NIC, a key."""
    return {
        "apiVersion": "novakube.dev/v1alpha1",
        "kind": "Instance",
        "metadata": {"name": name},
        "spec": {
            "flavor": {"name": "tiny"},
            "image": {"name": "guest"},
            "networks": [{"network": {"name": f"net{network}"}}],
            "keys": [{"name": "bench"}],
            "userID": "bench",
        },
    }


class Load:
    """Creates and deletes, with the moment of each change of state a watch saw."""

    def __init__(self, kube: AioKube, networks: int) -> None:
        self._kube = kube
        self._networks = networks
        self._moved = asyncio.Event()
        self.created_at: dict[str, float] = {}
        """Name -> when its create call began."""
        self.running_at: dict[str, float] = {}
        self.gone_at: dict[str, float] = {}
        self.lag_s: list[float] = []
        """By how much each create began after its time: the load's own delay."""

    def see(self, event: WatchEvent) -> None:
        """An event of the watch."""
        name, now = event.object["metadata"]["name"], time.perf_counter()
        if event.type == "DELETED":
            self.gone_at[name] = now
        elif event.object.get("status", {}).get("state") == "Running":
            self.running_at.setdefault(name, now)
        self._moved.set()

    async def create(self, name: str, number: int) -> None:
        """One create call."""
        self.created_at[name] = time.perf_counter()
        await self._kube.create(INSTANCES, instance(name, number % self._networks), NAMESPACE)

    async def at_rate(self, prefix: str, count: int, rate: float) -> list[str]:
        """Creates at a fixed rate, however long each takes; returns when all run."""
        names = [f"{prefix}{number:05d}" for number in range(count)]
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(names):
                due = begin + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                self.lag_s.append(time.perf_counter() - due)
                group.create_task(self.create(name, number))
        await self.all_in(names, self.running_at)
        return names

    async def at_once(self, prefix: str, count: int, at_a_time: int) -> list[str]:
        """Creates as fast as the API server takes them; returns when all run."""
        names = [f"{prefix}{number:05d}" for number in range(count)]
        numbered = list(enumerate(names))
        await shared(at_a_time, numbered, lambda one: self.create(one[1], one[0]))
        await self.all_in(names, self.running_at)
        return names

    async def delete(self, names: list[str], at_a_time: int) -> None:
        """Deletes them all; returns when all are gone."""
        await shared(at_a_time, names, lambda name: self._kube.delete(INSTANCES, name, NAMESPACE))
        await self.all_in(names, self.gone_at)

    async def all_in(self, names: list[str], seen: dict[str, float]) -> None:
        """Waits while there is progress.

        Raises:
            RuntimeError: none for two minutes; names some that are missing.
        """
        while missing := [name for name in names if name not in seen]:
            self._moved.clear()
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._moved.wait()
            except TimeoutError as error:
                raise RuntimeError(f"{len(missing)} make no progress: {missing[:3]}") from error
            await asyncio.sleep(0.02)

    def latencies(self, names: list[str]) -> list[float]:
        """Seconds from each create call to Running."""
        return [self.running_at[name] - self.created_at[name] for name in names]


async def shared(at_a_time: int, items: list[T], deed: Callable[[T], Awaitable[object]]) -> None:
    """Does a deed for every item, so many at a time; ends when all are done."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await deed(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_a_time):
            group.create_task(worker())


@contextlib.asynccontextmanager
async def loading(kubeconfig: Path, networks: int) -> AsyncIterator[Load]:
    """A load with its watch running."""
    async with AioKube(from_kubeconfig(kubeconfig), user_agent="novakube-bench") as kube:
        await kube.get(NAMESPACES, NAMESPACE)
        load = Load(kube, networks)
        reflector = Reflector(kube, INSTANCES, load.see, namespace=NAMESPACE)
        watching = asyncio.create_task(reflector.run())
        await reflector.synced.wait()
        try:
            yield load
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
