"""Control plane with simulated nodes: latency, writes, memory and CPU of a create."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.load import Load, loading, prepare
from benchmarks.measures import MEMORY_KIB, Ledger, Usage, api_writes, ledger
from benchmarks.plane import Plane
from benchmarks.results import Figure, Result, median, percentile

SETTLE_S = 3.0
"""After the last Running: Events and rollups are written with a delay."""
REST_S = 60.0
QUICK_REST_S = 5.0
AT_A_TIME = 32
BURST = 100
WARM = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """What is run."""

    rate: float
    """Creates a second."""
    count: int
    nodes: int
    quick: bool


@dataclass(slots=True)
class Run:
    """What was seen."""

    latencies: list[float] = field(default_factory=list)
    lag: list[float] = field(default_factory=list)
    made: Ledger | None = None
    burst_s: float = 0.0
    burst_cpu: dict[str, float] = field(default_factory=dict)
    delete_s: float = 0.0
    empty: dict[str, Usage] = field(default_factory=dict)
    """Of each process before the first create of the run."""
    full: dict[str, Usage] = field(default_factory=dict)
    """After the last one ran."""
    rested: dict[str, Usage] = field(default_factory=dict)
    """At rest with all objects there."""


def run(settings: Settings, say: Callable[[str], None]) -> Result:
    """Starts the cloud, measures, ends it."""
    say(f"control plane with {settings.nodes} simulated nodes")
    with Plane(settings.nodes) as plane:
        prepare(plane.admin, settings.nodes)
        seen = asyncio.run(_measure(plane, settings, say))
    return _result(settings, seen)


async def _measure(plane: Plane, settings: Settings, say: Callable[[str], None]) -> Run:
    seen = Run()
    async with loading(plane.control.kubeconfig, settings.nodes) as load:
        warm = await load.at_once("warm", WARM * settings.nodes, AT_A_TIME)
        await load.delete(warm, AT_A_TIME)
        load.lag_s.clear()
        await asyncio.sleep(_rest_s(settings))
        say(f"{settings.count} creates at {settings.rate:g}/s")
        seen.empty = await asyncio.to_thread(plane.usages)
        before = await _writes(plane)
        names = await load.at_rate("at", settings.count, settings.rate)
        seen.full = await asyncio.to_thread(plane.usages)
        seen.latencies, seen.lag = load.latencies(names), list(load.lag_s)
        await asyncio.sleep(SETTLE_S)
        seen.made = ledger(before, await _writes(plane), settings.count)
        say(f"p50 {median(seen.latencies):.3f} s; at rest for {_rest_s(settings):g} s")
        await asyncio.sleep(_rest_s(settings))
        seen.rested = await asyncio.to_thread(plane.usages)
        await _burst(plane, load, settings, seen, say)
    return seen


async def _burst(
    plane: Plane, load: Load, settings: Settings, seen: Run, say: Callable[[str], None]
) -> None:
    """As many as it takes, then all of them gone."""
    count = min(settings.count, BURST)
    say(f"{count} creates as fast as they go")
    before = await asyncio.to_thread(plane.usages)
    started = time.perf_counter()
    names = await load.at_once("burst", count, AT_A_TIME)
    seen.burst_s = (time.perf_counter() - started) / count
    after = await asyncio.to_thread(plane.usages)
    seen.burst_cpu = {part: (after[part].cpu_s - before[part].cpu_s) / count for part in after}
    say(f"{1 / seen.burst_s:.1f} creates/s; deletes")
    started = time.perf_counter()
    await load.delete(names, AT_A_TIME)
    seen.delete_s = (time.perf_counter() - started) / count


def _rest_s(settings: Settings) -> float:
    return QUICK_REST_S if settings.quick else REST_S


async def _writes(plane: Plane) -> Counter[str]:
    text = await asyncio.to_thread(plane.admin.call, "GET", "/metrics")
    return api_writes(text["text"])


def _result(settings: Settings, seen: Run) -> Result:
    made, count = seen.made, settings.count
    assert made is not None
    result = Result(
        "control-plane",
        {"rate": settings.rate, "count": count, "nodes": settings.nodes, "operators": 2},
    )
    result.samples = {"create-to-running-s": seen.latencies, "load-lag-s": seen.lag}
    setting = f"{settings.rate:g}/s, {count} objects, {settings.nodes} nodes"
    figures = result.figures
    for share, target in ((0.5, "<= 0.1 s"), (0.95, ""), (0.99, "<= 0.5 s")):
        key = f"create-to-running-p{share * 100:g}"
        most = float(target.split()[1]) if target else None
        figures[key] = Figure(
            round(percentile(seen.latencies, share), 4), "s", target, setting, most
        )
    writes = sum(made.objects.values()) / count
    figures["writes-per-create"] = Figure(
        round(writes, 2), "", "<= 8", _writes_note(made, count), most=8
    )
    figures["events-per-create"] = Figure(round(made.events / count, 2), "", "<= 3", most=3)
    rollups = sum(made.rollups.values()) / count
    figures["rollups-per-create"] = Figure(
        round(rollups, 2), "", "", f"{_short(made.rollups)} in all; {made.leases} of Leases"
    )
    figures["creates-per-second"] = Figure(
        round(1 / seen.burst_s, 1), "/s", ">= 15/s", "everything on one machine, 32 at a time",
        least=15,
    )  # fmt: skip
    figures["deletes-per-second"] = Figure(round(1 / seen.delete_s, 1), "/s")
    _usage_figures(seen, count, figures)
    return result


def _usage_figures(seen: Run, count: int, figures: dict[str, Figure]) -> None:
    grown = seen.rested["operator"].rss_bytes - seen.empty["operator"].rss_bytes
    note = f"{seen.rested['operator'].rss_bytes >> 20} MiB at {count} objects"
    figures["operator-memory-per-object"] = Figure(
        round(grown / count / 1024, 1), "KiB", "<= 50 KB", note, most=MEMORY_KIB
    )
    agent = seen.rested["agent"].rss_bytes / (1 << 20)
    figures["agent-memory"] = Figure(
        round(agent, 1), "MiB", "<= 100 MiB", "one process simulates all nodes", most=100
    )
    for part in seen.full:
        spent = (seen.full[part].cpu_s - seen.empty[part].cpu_s) / count
        figures[f"cpu-per-create-{part}"] = Figure(
            round(spent * 1000, 1), "ms", "", f"{seen.burst_cpu[part] * 1000:.1f} ms in the burst"
        )


def _writes_note(made: Ledger, count: int) -> str:
    each = ((what, round(n / count, 2)) for what, n in sorted(made.objects.items()))
    return ", ".join(f"{what} {n:g}" for what, n in each if n >= 0.01)


def _short(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {n}" for what, n in sorted(counts.items())) or "none"
