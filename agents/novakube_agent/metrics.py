"""Metrics of one agent process; ``httpserver`` serves them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity
from novakube_kit.metrics import PHASE_BUCKETS_S
from novakube_kit.store import AnyObject

HOST_SECONDS = Histogram(
    "novakube_host_action_seconds",
    "Seconds of one action on the host, failed ones included.",
    ["action"],
    buckets=PHASE_BUCKETS_S,
)
GUEST_SECONDS = Histogram(
    "novakube_guest_seconds",
    "Seconds from the sight of a Guest, or of the order to destroy it, to Ready or Gone written.",
    ["until"],
    buckets=PHASE_BUCKETS_S,
)
GUEST_FAILURES = Counter(
    "novakube_guest_failures_total", "Passes over a Guest that failed for good.", ["reason"]
)
LEASE_EVENTS = Counter(
    "novakube_dhcp_lease_events_total",
    "What dnsmasq's script told, by what came of it: Guest, Unknown, Malformed.",
    ["outcome"],
)
LEASE_WRITES = Counter(
    "novakube_guest_lease_writes_total", "Writes of a Guest's status that told of leases alone."
)
NODE_CAPACITY = Gauge(
    "novakube_node_capacity", "What the node has, before ratios.", ["node", "resource"]
)


class GuestTimes:
    """When Guests and orders to destroy them were first seen; nothing of settled ones is kept."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Args: monotonic: seconds of a clock that never jumps."""
        self._monotonic = monotonic
        self._began: dict[tuple[str, str], float] = {}

    def seen(self, old: AnyObject | None, new: AnyObject | None) -> None:
        """A change of a Guest, from the watch or from the answer to our own write."""
        if new is None:
            if old is not None:
                self._began.pop((old.uid, "Ready"), None)
                self._began.pop((old.uid, "Gone"), None)
            return
        phase = new.status.phase
        if new.spec.teardown == "Destroy":
            self._began.pop((new.uid, "Ready"), None)
            self._until(new.uid, "Gone", phase)
        elif new.status.started_at is None or (new.uid, "Ready") in self._began:
            self._until(new.uid, "Ready", phase)

    def _until(self, uid: str, wanted: str, phase: str) -> None:
        if phase != wanted:
            self._began.setdefault((uid, wanted), self._monotonic())
            return
        began = self._began.pop((uid, wanted), None)
        if began is not None:
            GUEST_SECONDS.labels(wanted).observe(self._monotonic() - began)


def show_capacity(node: str, capacity: NodeCapacity) -> None:
    """The node's capacity as it reports it."""
    for resource, value in (
        ("vcpus", capacity.vcpus),
        ("memory-mib", capacity.memory_mib),
        ("disk-gib", capacity.disk_gib),
        ("disk-free-gib", capacity.disk_free_gib),
    ):
        NODE_CAPACITY.labels(node, resource).set(value)
