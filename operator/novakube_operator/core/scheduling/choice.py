"""The choice itself, and one sentence that gives every node's reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from novakube_operator.core.scheduling.filters import FILTERS, Filter
from novakube_operator.core.scheduling.hosts import Host, Request
from novakube_operator.core.scheduling.weighers import WEIGHERS, Weigher

NAMED_MAX = 20
"""Nodes named in the sentence; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The node, or None and why; ``message`` is for the Instance's condition."""

    node: str | None
    message: str


def choose(
    hosts: Sequence[Host],
    request: Request,
    filters: Sequence[Filter] = FILTERS,
    weighers: Sequence[Weigher] = WEIGHERS,
) -> Choice:
    """The best node that no filter leaves out; equal ones by name, so two leaders agree."""
    reasons: list[str] = []
    fit: list[Host] = []
    for host in sorted(hosts, key=lambda host: host.name):
        reason = next((why for one in filters if (why := one(host, request))), None)
        if reason is None:
            fit.append(host)
        else:
            reasons.append(f"{host.name} {reason}")
    if not fit:
        return Choice(None, summary(len(hosts), reasons))
    weights = [0.0] * len(fit)
    for weigher in weighers:
        raw = [weigher(host) for host in fit]
        low, span = min(raw), max(raw) - min(raw)
        for index, weight in enumerate(raw):
            weights[index] += (weight - low) / span if span else 0.0
    best = max(range(len(fit)), key=lambda index: (weights[index], -index))
    return Choice(fit[best].name, f"{len(fit)} of {len(hosts)} nodes fit, {fit[best].name} best")


def summary(count: int, reasons: Sequence[str]) -> str:
    """``3 nodes: n1 short of 512 MiB memory, n2 disabled, n3 heartbeat 40 s old``."""
    if not count:
        return "no nodes: label a Node with novakube.dev/hypervisor=true"
    named = ", ".join(reasons[:NAMED_MAX])
    rest = f", and {len(reasons) - NAMED_MAX} more" if len(reasons) > NAMED_MAX else ""
    return f"{count} node{'s' if count != 1 else ''}: {named}{rest}"
