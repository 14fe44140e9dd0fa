"""What a growing number of objects costs: a create, memory, and the operator's restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.controlplane import AT_A_TIME, REST_S
from benchmarks.load import Load, loading, prepare
from benchmarks.measures import MEMORY_KIB, Usage
from benchmarks.plane import Plane
from benchmarks.results import Figure, Result, median

EACH = 4
"""Objects of a create with one NIC: Instance, Guest, Port, IPAddress."""
SAMPLES = 40
RATE = 5.0
"""Creates a second while cost is measured: the machine is not full."""
NODES = 8
QUIET_S = 10.0


@dataclass(slots=True)
class Level:
    """What a create costs with so many objects there."""

    objects: int
    cpu_s: float
    """Of the leading operator, per create."""
    latencies: list[float]


@dataclass(slots=True)
class Run:
    """What was seen."""

    levels: list[Level] = field(default_factory=list)
    empty: Usage | None = None
    rested: Usage | None = None
    agent: Usage | None = None
    instances: int = 0
    restart_s: float = 0.0


def run(count: int, say: Callable[[str], None]) -> Result:
    """Args: count: objects at the end; a create makes ``EACH``."""
    say(f"up to {count} objects on {NODES} simulated nodes")
    with Plane(NODES) as plane:
        prepare(plane.admin, NODES)
        seen = asyncio.run(_measure(plane, count, say))
    return _result(count, seen)


async def _measure(plane: Plane, count: int, say: Callable[[str], None]) -> Run:
    seen = Run()
    async with loading(plane.control.kubeconfig, NODES) as load:
        warm = await load.at_once("warm", 2 * NODES, AT_A_TIME)
        await load.delete(warm, AT_A_TIME)
        await asyncio.sleep(REST_S)
        seen.empty = (await asyncio.to_thread(plane.usages))["operator"]
        for objects in (count // 100, count // 10, count):
            await _fill(load, seen, objects // EACH - SAMPLES)
            await asyncio.sleep(QUIET_S)
            seen.levels.append(await _level(plane, load, objects, seen))
            level = seen.levels[-1]
            say(f"{objects} objects: {level.cpu_s * 1000:.1f} ms of the operator per create, "
                f"p50 {median(level.latencies):.3f} s")  # fmt: skip
        await asyncio.sleep(REST_S)
        usages = await asyncio.to_thread(plane.usages)
        seen.rested, seen.agent = usages["operator"], usages["agent"]
        seen.restart_s = await _restart(plane, load)
        say(f"first decision {seen.restart_s:.1f} s after the operator's start")
    return seen


async def _fill(load: Load, seen: Run, instances: int) -> None:
    missing = instances - seen.instances
    if missing > 0:
        await load.at_once(f"fill{seen.instances}x", missing, AT_A_TIME)
        seen.instances += missing


async def _level(plane: Plane, load: Load, objects: int, seen: Run) -> Level:
    before = await asyncio.to_thread(plane.usages)
    names = await load.at_rate(f"at{objects}x", SAMPLES, RATE)
    after = await asyncio.to_thread(plane.usages)
    seen.instances += SAMPLES
    cpu_s = (after["operator"].cpu_s - before["operator"].cpu_s) / SAMPLES
    return Level(objects, cpu_s, load.latencies(names))


async def _restart(plane: Plane, load: Load) -> float:
    """From the start of the only operator to the Running of an Instance made before."""
    for operator in plane.operators:
        await asyncio.to_thread(operator.end)
    await load.create("late", 0)
    began = time.perf_counter()
    plane.operators[0].start()
    await load.all_in(["late"], load.running_at)
    return time.perf_counter() - began


def _result(count: int, seen: Run) -> Result:
    assert seen.empty is not None
    assert seen.rested is not None
    assert seen.agent is not None
    result = Result("scale", {"objects": count, "nodes": NODES, "operators": 2})
    figures = result.figures
    for level in seen.levels:
        result.samples[f"create-to-running-s-at-{level.objects}"] = level.latencies
        figures[f"cpu-per-create-at-{level.objects}"] = Figure(
            round(level.cpu_s * 1000, 1), "ms", "flat",
            f"of the leader; p50 {median(level.latencies):.3f} s at {RATE:g}/s",
        )  # fmt: skip
    first, last = seen.levels[0].cpu_s, seen.levels[-1].cpu_s
    figures["cpu-per-create-growth"] = Figure(
        round(last / first, 2),
        "",
        "flat",
        f"{count} objects against {seen.levels[0].objects}",
        most=1.25,
    )
    grown = seen.rested.rss_bytes - seen.empty.rss_bytes
    figures["operator-memory-per-instance-at-scale"] = Figure(
        round(grown / seen.instances / 1024, 1), "KiB", "<= 50 KB",
        f"{seen.rested.rss_bytes >> 20} MiB at {seen.instances} Instances",
        most=MEMORY_KIB,
    )  # fmt: skip
    figures["agent-memory-at-scale"] = Figure(
        round(seen.agent.rss_bytes / (1 << 20), 1), "MiB", "",
        f"one process, {NODES} nodes, {seen.instances} Guests",
    )  # fmt: skip
    figures["restart-to-first-decision"] = Figure(
        round(seen.restart_s, 1), "s", "<= 15 s", f"with {count} objects", most=15
    )
    return result
