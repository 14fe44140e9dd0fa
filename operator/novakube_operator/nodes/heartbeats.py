"""Which agents are alive, from the Leases in the nodes' namespaces.

One LIST of all heartbeat Leases each interval, by label, instead of a watch: a watch would
wake the operator once per node and 10 s for nothing. Silence is measured on the operator's
own monotonic clock from the moment a renewal was first seen, so clocks of nodes that differ
or jump make no node look dead (client-go's leader election does the same).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from novakube_kit.clock import Clock, parse_timestamp
from novakube_kit.kube import Json, KubePort
from novakube_kit.resources import LEASES
from novakube_operator.core.nodes import (
    HEARTBEAT_LABEL,
    SILENT_AFTER_S,
    Heartbeat,
    node_of_namespace,
)

INTERVAL_S = 5.0
"""How often the Leases are looked at: half a heartbeat, so silence shows within 45 s."""


@dataclass(frozen=True, slots=True)
class _Seen:
    renew_time: str
    at: datetime
    heard_monotonic: float


class Heartbeats:
    """The last heartbeat of each node."""

    def __init__(self, kube: KubePort, clock: Clock, changed: Callable[[str], None]) -> None:
        """``changed(node)`` is called when a node becomes alive or silent."""
        self._kube = kube
        self._clock = clock
        self._changed = changed
        self._seen: dict[str, _Seen] = {}
        self._alive: dict[str, bool] = {}

    def of(self, node: str) -> Heartbeat:
        """The node's heartbeat as of now."""
        seen = self._seen.get(node)
        if seen is None:
            return Heartbeat(None, None)
        return Heartbeat(self._clock.monotonic() - seen.heard_monotonic, seen.at)

    async def look(self) -> None:
        """Reads all Leases once and tells whose life changed.

        Raises:
            ApiUnavailable: nothing was learnt; ages go on growing only from renewals that
                could have been seen, so the caller shifts them with ``excuse``.
        """
        answer = await self._kube.list(LEASES, label_selector=f"{HEARTBEAT_LABEL}=true")
        for lease in answer.get("items", ()):
            self._take(lease)
        for node in self._seen:
            alive = self.of(node).alive
            if self._alive.get(node) != alive:
                self._alive[node] = alive
                self._changed(node)

    def excuse(self, seconds: float) -> None:
        """The API server was away for so long: no agent could have been heard meanwhile."""
        for node, seen in self._seen.items():
            moved = min(seen.heard_monotonic + seconds, self._clock.monotonic())
            self._seen[node] = _Seen(seen.renew_time, seen.at, moved)

    def _take(self, lease: Json) -> None:
        node = node_of_namespace(lease["metadata"]["namespace"])
        renewed = (lease.get("spec") or {}).get("renewTime")
        if node is None or not renewed:
            return
        old = self._seen.get(node)
        if old is not None and old.renew_time == renewed:
            return
        at, now = parse_timestamp(renewed), self._clock.monotonic()
        if old is None:
            # The first look at an old Lease: its own age counts, as far as it is believable.
            age_s = (self._clock.now() - at).total_seconds()
            now -= min(max(age_s, 0.0), SILENT_AFTER_S + 1.0)
        self._seen[node] = _Seen(renewed, at, now)
