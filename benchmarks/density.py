"""One real node with a hundred domains at rest: what its agent costs."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import vm
from benchmarks.load import shared
from benchmarks.measures import Usage, parse, usage
from benchmarks.results import Figure, Result
from novakube_crds.v1alpha1.flavor import FLAVOR
from novakube_crds.v1alpha1.hypervisor import HYPERVISOR
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_kit.errors import AlreadyExists, NotFound
from novakube_kit.resources import resource_of
from novakube_local import members
from novakube_local.layout import Layout

BLANK = "bench-blank.qcow2"
AT_A_TIME = 4
REST_S = 120.0
"""Two resyncs."""
RESYNCS = 2
SPEC = {
    "flavor": {"name": "bench-32"},
    "image": {"name": "blank"},
    "networks": [{"network": {"name": "dense"}}],
    "forcedHost": vm.NODE,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """Of the agent's process."""

    empty: Usage
    full: Usage
    rested: Usage
    made_s: float
    reconcile_s: float
    """Spent in passes during the rest."""


def run(count: int, say: Callable[[str], None]) -> Result:
    """Args: count: domains."""
    with vm.local_cloud() as layout:
        seen = asyncio.run(_measure(layout, count, say))
    return _result(count, seen)


async def _measure(layout: Layout, count: int, say: Callable[[str], None]) -> Seen:
    blank = layout.images / BLANK
    create = ("qemu-img", "create", "-q", "-f", "qcow2", str(blank), "1M")
    await asyncio.to_thread(subprocess.run, create, check=True, timeout=30)
    try:
        async with vm.cloud_of(layout) as cloud:
            await _needs(cloud, count)
            empty = usage(agent_pid(layout))
            began = time.perf_counter()
            names = [f"d{number}" for number in range(count)]
            await shared(AT_A_TIME, names, lambda name: _paused(cloud, name))
            made_s = time.perf_counter() - began
            say(f"{count} domains, paused, after {made_s:.0f} s; at rest for {REST_S:g} s")
            full, before = usage(agent_pid(layout)), _reconciled(cloud)
            await asyncio.sleep(REST_S)
            rested, after = usage(agent_pid(layout)), _reconciled(cloud)
            await shared(AT_A_TIME, names, cloud.delete)
            with contextlib.suppress(NotFound):
                await cloud.kube.delete(resource_of(FLAVOR), "bench-32")
            usual = dict.fromkeys(("cpuAllocationRatio", "diskAllocationRatio"))
            await cloud.kube.patch(resource_of(HYPERVISOR), vm.NODE, {"spec": usual})
    finally:
        blank.unlink()
    return Seen(empty, full, rested, made_s, after - before)


async def _needs(cloud: vm.Cloud, count: int) -> None:
    """What the domains refer to, and a node that takes as many."""
    ratios = {"cpuAllocationRatio": float(max(16, count)), "diskAllocationRatio": 100.0}
    await cloud.kube.patch(resource_of(HYPERVISOR), vm.NODE, {"spec": ratios})
    await cloud.image("blank", BLANK)
    await cloud.network("dense", 200)
    body = {"apiVersion": "novakube.dev/v1alpha1", "kind": "Flavor",
            "metadata": {"name": "bench-32"},
            "spec": {"vcpus": 1, "memoryMiB": 32, "rootGiB": 1}}  # fmt: skip
    with contextlib.suppress(AlreadyExists):
        await cloud.kube.create(resource_of(FLAVOR), body)


async def _paused(cloud: vm.Cloud, name: str) -> None:
    await cloud.make(resource_of(INSTANCE), "Instance", name, SPEC)
    await cloud.until(name, "Running")
    wish = {"spec": {"powerState": "Paused"}}
    await cloud.kube.patch(resource_of(INSTANCE), name, wish, vm.NAMESPACE)
    await cloud.until(name, "Paused")


def agent_pid(layout: Layout) -> int:
    """The agent of the node, as this machine numbers it."""
    first = members.alive(layout.load(), vm.NODE)
    space = Path(f"/proc/{first}/ns/pid").readlink()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if b"novakube_agent.main" in command and (folder / "ns" / "pid").readlink() == space:
                return int(folder.name)
    raise RuntimeError(f"node {vm.NODE} has no agent")


def _reconciled(cloud: vm.Cloud) -> float:
    samples = parse(cloud.node.run("curl", "-sf", vm.AGENT_METRICS))
    return sum(value for name, _, value in samples if name == "novakube_reconcile_seconds_sum")


def _result(count: int, seen: Seen) -> Result:
    result = Result("density", {"domains": count, "driver": "libvirt"})
    mib = 1 << 20
    rest = (seen.rested.cpu_s - seen.full.cpu_s) / REST_S
    figures = result.figures
    figures["dense-node-agent-memory"] = Figure(
        round(seen.rested.rss_bytes / mib, 1), "MiB", "<= 100 MiB",
        f"{count} domains; {seen.empty.rss_bytes / mib:.1f} MiB with none", most=100,
    )  # fmt: skip
    figures["dense-node-agent-cpu-at-rest"] = Figure(
        round(rest * 100, 2), "% of a core", "", f"{REST_S:g} s, {RESYNCS} resyncs"
    )
    figures["dense-node-resync"] = Figure(
        round(seen.reconcile_s / RESYNCS, 2), "s", "", "in all passes of one resync"
    )
    figures["dense-node-made-per-second"] = Figure(
        round(count / seen.made_s, 2), "/s", "", f"made and paused, {AT_A_TIME} at a time"
    )
    return result
