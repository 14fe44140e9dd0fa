"""A real VM on the local cloud, against libvirt alone with the same domain in the same run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measures import api_writes, leases_apart, ledger
from benchmarks.node import BOOT_S, POLL_S, Node, Raw, first_line
from benchmarks.results import Figure, Result, median, percentile
from novakube_crds.v1alpha1.image import IMAGE
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.network import NETWORK
from novakube_crds.v1alpha1.subnet import SUBNET
from novakube_kit.access import from_kubeconfig
from novakube_kit.errors import AlreadyExists, NotFound
from novakube_kit.kube import Json, Resource, WatchEvent
from novakube_kit.kube_aio import AioKube
from novakube_kit.reflector import Reflector
from novakube_kit.resources import NAMESPACES, resource_of
from novakube_local import binaries
from novakube_local.down import down
from novakube_local.kubectl import run_kubectl
from novakube_local.layout import Layout
from novakube_local.up import Up

NAMESPACE = "bench-vm"
NODE = "n1"
"""Where all run, however many nodes there are: the raw domain needs the same one."""
FLAVOR = "hello"
"""Of ``make up``'s first machine: 128 MiB, 1 vCPU, 1 GiB."""
ROOT_BYTES = 1 << 30
IMAGE_URL = "http://192.0.2.10/"
GUEST_IMAGE = "novakube-guest.qcow2"
COLD = 5
AGENT_METRICS = "http://127.0.0.1:8082/metrics"
SETTLE_S = 2.0
WAIT_S = 180.0
TARGET_RATIO = 1.3


@dataclass(slots=True)
class Seen:
    """Raw samples, in seconds."""

    novakube: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    cold_network: list[float] = field(default_factory=list)
    cold_image: list[float] = field(default_factory=list)
    deleted: list[float] = field(default_factory=list)
    writes: Counter[str] = field(default_factory=Counter)
    events: int = 0


class Cloud:
    """The local cloud's API as its administrator, and what a watch saw of our Instances."""

    def __init__(self, kube: AioKube, node: Node) -> None:
        self.kube = kube
        self.node = node
        self._states: dict[str, str] = {}
        self._running_at: dict[str, float] = {}
        self._moved = asyncio.Event()

    def see(self, event: WatchEvent) -> None:
        """An event of the watch."""
        name = event.object["metadata"]["name"]
        gone = event.type == "DELETED"
        self._states[name] = "" if gone else event.object["status"]["state"]
        if self._states[name] == "Running":
            self._running_at.setdefault(name, time.perf_counter())
        self._moved.set()

    async def until(self, name: str, state: str) -> None:
        """Waits for an Instance's state; "": gone."""
        async with asyncio.timeout(WAIT_S):
            while self._states.get(name) != state:
                self._moved.clear()
                await self._moved.wait()

    async def make(self, resource: Resource, kind: str, name: str, spec: Json) -> Json:
        """An object in our namespace, or the one that is there."""
        body = {"apiVersion": "novakube.dev/v1alpha1", "kind": kind, "metadata": {"name": name}}
        with contextlib.suppress(AlreadyExists):
            return await self.kube.create(resource, {**body, "spec": spec}, NAMESPACE)
        return await self.kube.get(resource, name, NAMESPACE)

    async def network(self, name: str, number: int) -> None:
        """A Network with its Subnet, ready."""
        await self.make(resource_of(NETWORK), "Network", name, {})
        subnet = {"network": {"name": name}, "cidr": f"10.90.{number}.0/24"}
        await self.make(resource_of(SUBNET), "Subnet", name, subnet)
        await self._ready(resource_of(SUBNET), name)
        await self._ready(resource_of(NETWORK), name)

    async def image(self, name: str, file: str) -> None:
        """An Image of the cloud's own server, ready; a node fetches it at its first use."""
        spec = {"diskFormat": "qcow2", "source": {"url": IMAGE_URL + file}}
        await self.make(resource_of(IMAGE), "Image", name, spec)
        await self._ready(resource_of(IMAGE), name)

    async def _ready(self, resource: Resource, name: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await self.kube.get(resource, name, NAMESPACE)
                conditions = found.get("status", {}).get("conditions", [])
                if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                    return
                await asyncio.sleep(0.1)

    async def boot(self, name: str, image: str, network: str) -> tuple[float, float, str]:
        """Creates an Instance; seconds to its first console line and to Running, its Guest."""
        spec = {
            "flavor": {"name": FLAVOR},
            "image": {"name": image},
            "networks": [{"network": {"name": network}}],
            "forcedHost": NODE,
        }
        started = time.perf_counter()
        made = await self.make(resource_of(INSTANCE), "Instance", name, spec)
        guest = f"{made['metadata']['uid']}-1"
        async with asyncio.timeout(BOOT_S):
            while not first_line(self.node.console(guest)):  # noqa: ASYNC110 - a file
                await asyncio.sleep(POLL_S)
        spoke = time.perf_counter() - started
        await self.until(name, "Running")
        return spoke, self._running_at[name] - started, guest

    async def delete(self, name: str) -> float:
        """Seconds from the call to gone."""
        started = time.perf_counter()
        with contextlib.suppress(NotFound):
            await self.kube.delete(resource_of(INSTANCE), name, NAMESPACE)
            await self.until(name, "")
        return time.perf_counter() - started

    async def end(self) -> None:
        """Everything of ours goes with the namespace."""
        await self.kube.delete(NAMESPACES, NAMESPACE)
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(NotFound):
                while await self.kube.get(NAMESPACES, NAMESPACE):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)


def run(pairs: int, quick: bool, say: Callable[[str], None]) -> Result:
    """Pairs of a machine of ours and a raw one."""
    with local_cloud() as layout:
        seen = asyncio.run(_measure(layout, pairs, 1 if quick else COLD, say))
    return _result(pairs, seen)


@contextlib.contextmanager
def local_cloud() -> Iterator[Layout]:
    """The local cloud that is up, else one that is started and ended here.

    Raises:
        PermissionError: not root.
        RuntimeError: the one that is up has simulated nodes.
    """
    if os.geteuid() != 0:
        raise PermissionError("the local cloud needs root: sudo make bench")
    layout = Layout()
    own = not layout.load().members
    if own:
        with layout.lock():
            Up(layout, 1, "libvirt", 3600).run()
    elif layout.load().driver != "libvirt":
        raise RuntimeError("the cloud that is up has simulated nodes: make down first")
    try:
        yield layout
    finally:
        if own:
            with layout.lock():
                down(layout)


async def _measure(layout: Layout, pairs: int, cold: int, say: Callable[[str], None]) -> Seen:
    seen = Seen()
    async with cloud_of(layout) as cloud:
        await cloud.image("guest", GUEST_IMAGE)
        await cloud.network("warm", 0)
        raw = await _donor(cloud)
        say("warm: image and network on the node")
        for number in range(pairs):
            await _pair(layout, cloud, raw, number, seen)
            say(f"pair {number + 1}: {seen.novakube[-1]:.2f} s, raw {seen.raw[-1]:.2f} s")
        for number in range(cold):
            await cloud.network(f"cold{number}", 1 + number)
            spoke, _, _ = await cloud.boot(f"cold-network-{number}", "guest", f"cold{number}")
            seen.cold_network.append(spoke)
            await cloud.delete(f"cold-network-{number}")
            await _cold_image(layout, cloud, number, seen)
        say("cold networks and images done")
    return seen


@contextlib.asynccontextmanager
async def cloud_of(layout: Layout) -> AsyncIterator[Cloud]:
    """The cloud with a namespace of ours, which goes with all that is in it."""
    node = Node(layout, NODE)
    async with AioKube(from_kubeconfig(layout.kubeconfig), user_agent="novakube-bench") as kube:
        with contextlib.suppress(AlreadyExists):
            await kube.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        cloud = Cloud(kube, node)
        reflector = Reflector(kube, resource_of(INSTANCE), cloud.see, namespace=NAMESPACE)
        watching = asyncio.create_task(reflector.run())
        try:
            await reflector.synced.wait()
            yield cloud
            await cloud.end()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            node.forget_raw()


async def _donor(cloud: Cloud) -> Raw:
    """An Instance that lends its tap, bridge and XML to the raw domain: off, and kept."""
    _, _, guest = await cloud.boot("donor", "guest", "warm")
    cloud.node.run("virsh", "--quiet", "destroy", f"novakube-{guest}")
    await cloud.until("donor", "Stopped")
    return cloud.node.raw(guest, ROOT_BYTES)


async def _pair(layout: Layout, cloud: Cloud, raw: Raw, number: int, seen: Seen) -> None:
    """One of each; which comes first alternates."""
    if number % 2:
        seen.raw.append(await asyncio.to_thread(cloud.node.boot_raw, raw))
    before = await _writes(layout, cloud.node)
    spoke, running, _ = await cloud.boot(f"vm{number}", "guest", "warm")
    await asyncio.sleep(SETTLE_S)
    made = ledger(before, await _writes(layout, cloud.node))
    seen.novakube.append(spoke)
    seen.running.append(running)
    seen.writes.update(made.objects)
    seen.events += made.events
    seen.deleted.append(await cloud.delete(f"vm{number}"))
    if not number % 2:
        seen.raw.append(await asyncio.to_thread(cloud.node.boot_raw, raw))


async def _cold_image(layout: Layout, cloud: Cloud, number: int, seen: Seen) -> None:
    """The same guest with other bytes at the file's end, which no table of the image names."""
    file = f"bench-{number}.qcow2"
    copy = layout.images / file
    await asyncio.to_thread(_other_bytes, layout.images / GUEST_IMAGE, copy)
    try:
        await cloud.image(f"cold{number}", file)
        spoke, _, _ = await cloud.boot(f"cold-image-{number}", f"cold{number}", "warm")
        seen.cold_image.append(spoke)
        await cloud.delete(f"cold-image-{number}")
    finally:
        copy.unlink()


def _other_bytes(source: Path, copy: Path) -> None:
    shutil.copyfile(source, copy)
    with copy.open("ab") as file:
        file.write(os.urandom(1 << 16))  # one cluster


async def _writes(layout: Layout, node: Node) -> Counter[str]:
    kubectl = binaries.require("kubectl")
    arguments = ("get", "--raw", "/metrics")
    text = await asyncio.to_thread(run_kubectl, kubectl, layout.kubeconfig, arguments)
    agent = await asyncio.to_thread(node.run, "curl", "-sf", AGENT_METRICS)
    return leases_apart(api_writes(text), agent)


def _result(pairs: int, seen: Seen) -> Result:
    result = Result("vm", {"pairs": pairs, "cold": len(seen.cold_network), "driver": "libvirt"})
    result.samples = {
        "novakube-first-line-s": seen.novakube,
        "novakube-running-s": seen.running,
        "raw-first-line-s": seen.raw,
        "cold-network-first-line-s": seen.cold_network,
        "cold-image-first-line-s": seen.cold_image,
        "delete-s": seen.deleted,
    }
    figures = result.figures
    ratio = median(seen.novakube) / median(seen.raw)
    lines = f"{median(seen.novakube):.2f} s and {median(seen.raw):.2f} s"
    figures["vm-ratio-to-raw-libvirt"] = Figure(
        round(ratio, 3),
        "",
        f"<= {TARGET_RATIO}",
        f"p50 of {pairs} alternating pairs, {lines}",
        most=TARGET_RATIO,
    )
    more = median([a - b for a, b in zip(seen.novakube, seen.raw, strict=True)])
    figures["vm-more-than-raw-libvirt"] = Figure(round(more, 3), "s", "", "p50 of differences")
    for name, samples in (("vm-first-line", seen.novakube), ("vm-raw-first-line", seen.raw)):
        for share in (0.5, 0.95):
            figures[f"{name}-p{share * 100:g}"] = Figure(round(percentile(samples, share), 3), "s")
    figures["vm-running-p50"] = Figure(round(percentile(seen.running, 0.5), 3), "s")
    figures["vm-cold-network-p50"] = Figure(
        round(percentile(seen.cold_network, 0.5), 3), "s", "", "first guest of a network"
    )
    figures["vm-cold-image-p50"] = Figure(
        round(percentile(seen.cold_image, 0.5), 3), "s", "", "26 MiB fetched and inspected first"
    )
    figures["vm-delete-p50"] = Figure(round(percentile(seen.deleted, 0.5), 3), "s")
    each = ", ".join(f"{what} {n / pairs:.3g}" for what, n in sorted(seen.writes.items()))
    writes = sum(seen.writes.values()) / pairs
    figures["vm-writes-per-create"] = Figure(round(writes, 2), "", "<= 9", each, most=9)
    figures["vm-events-per-create"] = Figure(round(seen.events / pairs, 2), "", "<= 3", most=3)
    return result
