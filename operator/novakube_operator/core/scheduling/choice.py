"""The choice itself, and one sentence that gives every node's reason."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from novakube_operator.core.scheduling.hosts import Host, Request
from novakube_operator.core.scheduling.pipeline import Pipeline, Refusal
from novakube_operator.core.scheduling.registry import pipeline
from novakube_operator.core.scheduling.weighers import total_weights

DEFAULT = pipeline()
GROUPS_MAX = 20
"""Reasons named in the sentence; the nodes of the rest are counted."""
_FIGURES = re.compile(r" \(most free -?\d+ on [^)]*\)|(?<=heartbeat )(up to )?\d+ s(?= old)")


@dataclass(frozen=True, slots=True)
class Choice:
    """The node, or None and why; ``message`` is for the Instance's condition."""

    node: str | None
    message: str


def choose(hosts: Collection[Host], request: Request, use: Pipeline = DEFAULT) -> Choice:
    """The best node that no filter leaves out; equal ones by name, so two leaders agree.

    Raises:
        UnusableHint: the request asks for something that no node could ever be checked for.
    """
    checks = [check for one in use.filters if (check := one(request)) is not None]
    refusals: list[tuple[str, Refusal]] = []
    fit: list[Host] = []
    for host in hosts:
        for check in checks:
            refusal = check(host)
            if refusal is not None:
                refusals.append((host.name, refusal))
                break
        else:
            fit.append(host)
    if not fit:
        return Choice(None, summary(len(hosts), refusals))
    weights = total_weights(fit, request, use.weighers)
    best = max(weights)
    node = min(host.name for host, weight in zip(fit, weights, strict=True) if weight == best)
    return Choice(node, f"{len(fit)} of {len(hosts)} nodes fit, {node} best")


def summary(count: int, refusals: Iterable[tuple[str, Refusal]]) -> str:
    """``6 nodes: 3 short of 2048 MiB memory (most free 1536 on n4), 2 disabled (maintenance)``.

    The most frequent reason first.
    """
    if not count:
        return "no nodes: label a Node with novakube.dev/hypervisor=true"
    groups: dict[str, list[tuple[str, Refusal]]] = {}
    for node, refusal in refusals:
        groups.setdefault(refusal.text, []).append((node, refusal))
    ordered = sorted(groups.values(), key=lambda group: (-len(group), group[0][1].text))
    named = ", ".join(_clause(group) for group in ordered[:GROUPS_MAX])
    others = sum(len(group) for group in ordered[GROUPS_MAX:])
    rest = f", and {others} for other reasons" if others else ""
    return f"{count} node{'s' if count != 1 else ''}: {named}{rest}"


def _clause(group: Sequence[tuple[str, Refusal]]) -> str:
    text = f"{len(group)} {group[0][1].text}"
    free = [(refusal.free, node) for node, refusal in group if refusal.free is not None]
    if free:
        most = max(amount for amount, _ in free)
        where = min(node for amount, node in free if amount == most)
        text += f" (most free {max(0, most)} on {where})"
    ages = [refusal.age_s for _, refusal in group if refusal.age_s is not None]
    if ages:
        text += f" {'up to ' if len(ages) > 1 else ''}{max(ages):.0f} s old"
    return text


def same_cause(old: str, new: str) -> bool:
    """Whether two sentences differ in figures only that move by themselves.

    Heartbeats grow older every second and free room changes with every guest; a status that
    followed them would be written for ever. The numbers of nodes and their reasons count.
    """
    return _FIGURES.sub("", old) == _FIGURES.sub("", new)
