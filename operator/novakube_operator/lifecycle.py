"""Metrics of Instances' lives, taken from changes of the stores: they cost no write and no scan.

Every replica sees the same changes; only the leader counts, so that a sum over replicas is true.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.instance import READY
from novakube_kit.clock import Clock
from novakube_kit.metrics import PHASE_BUCKETS_S
from novakube_kit.objects import Object

AnyObject = Object[Any, Any]
Phase = Literal["accepted", "scheduled", "claimed", "guest-made", "running"]
PHASES: tuple[Phase, ...] = get_args(Phase)
WHOLE_SECONDS_S = 2.0
"""``creationTimestamp`` has whole seconds: what is seen younger than this is new just now."""

CREATE_SECONDS = Histogram(
    "novakube_create_phase_seconds",
    "Seconds from the first sight of an Instance to the end of a phase of its creation.",
    ["phase"],
    buckets=PHASE_BUCKETS_S,
)
DELETE_SECONDS = Histogram(
    "novakube_delete_seconds",
    "Seconds from the first sight of a deletion to the Instance's end.",
    buckets=PHASE_BUCKETS_S,
)
INSTANCES = Gauge("novakube_instances", "Instances by state.", ["state"])
INSTANCE_ERRORS = Counter(
    "novakube_instance_errors_total", "Instances that went to Error, by reason.", ["reason"]
)
# There from the start: a rate does not see the first of a series that begins with it.
INSTANCE_ERRORS.labels("Lost")
CAPACITY = Gauge(
    "novakube_hypervisor_capacity", "What a node has, before ratios.", ["node", "resource"]
)
ALLOCATED = Gauge(
    "novakube_hypervisor_allocated", "What a node's guests were promised.", ["node", "resource"]
)
CONDITION = Gauge(
    "novakube_hypervisor_condition",
    "1 while a condition of a Hypervisor is True, else 0, with its present reason.",
    ["node", "condition", "reason"],
)
RESOURCES = {"vcpus": "vcpus", "memory-mib": "memory_mib", "disk-gib": "disk_gib"}


class Lifecycle:
    """Times and counts; one per process."""

    def __init__(self, clock: Clock, leads: Callable[[], bool]) -> None:
        """Args: leads: whether this replica counts now."""
        self._clock = clock
        self._leads = leads
        self._began: dict[str, float] = {}
        """UID -> monotonic second at which its creation was first seen, until it runs."""
        self._deleted: dict[str, float] = {}
        self._passed: set[Hashable] = set()
        """UID and phase: a second attempt does not count again."""

    def changed(self, plural: str, old: AnyObject | None, new: AnyObject | None) -> None:
        """A change of one of our objects."""
        if plural == "instances":
            self._instance(old, new)
        elif plural == "hypervisors":
            self._hypervisor(old, new)

    def reached(self, uid: str, phase: Phase) -> None:
        """A phase of a creation ended, if the Instance has never run."""
        began = self._began.get(uid)
        if began is None or (uid, phase) in self._passed:
            return
        self._passed.add((uid, phase))
        if self._leads():
            CREATE_SECONDS.labels(phase).observe(self._clock.monotonic() - began)

    def _instance(self, old: AnyObject | None, new: AnyObject | None) -> None:
        before = old.status.state if old is not None else None
        after = new.status.state if new is not None else None
        if before != after:
            if before is not None:
                INSTANCES.labels(before).dec()
            if after is not None:
                INSTANCES.labels(after).inc()
            if new is not None and after == "Error" and old is not None and self._leads():
                INSTANCE_ERRORS.labels(_reason(new)).inc()
        if new is not None:
            self._follow(new)
        elif old is not None:
            self._end(old)

    def _follow(self, new: AnyObject) -> None:
        if new.deleting:
            self._forget(new.uid)
            self._deleted.setdefault(new.uid, self._since(new.deleted_at))
        elif new.status.launched_at is None:
            self._began.setdefault(new.uid, self._since(new.created_at))
        else:
            self.reached(new.uid, "running")
            self._forget(new.uid)

    def _end(self, old: AnyObject) -> None:
        self._forget(old.uid)
        deleted = self._deleted.pop(old.uid, None)
        if deleted is not None and self._leads():
            DELETE_SECONDS.observe(self._clock.monotonic() - deleted)

    def _forget(self, uid: str) -> None:
        self._began.pop(uid, None)
        for phase in PHASES:
            self._passed.discard((uid, phase))

    def _since(self, at: Any) -> float:
        age_s = (self._clock.now() - at).total_seconds()
        return self._clock.monotonic() - (age_s if age_s >= WHOLE_SECONDS_S else 0.0)

    def _hypervisor(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if old is not None:
            for gone in old.status.conditions:
                CONDITION.remove(old.name, gone.type, gone.reason)
        if new is not None:
            for found in new.status.conditions:
                value = float(found.status == "True")
                CONDITION.labels(new.name, found.type, found.reason).set(value)
        for resource, field in RESOURCES.items():
            if new is None:
                assert old is not None
                CAPACITY.remove(old.name, resource)
                ALLOCATED.remove(old.name, resource)
                continue
            CAPACITY.labels(new.name, resource).set(getattr(new.status.capacity, field))
            ALLOCATED.labels(new.name, resource).set(getattr(new.status.allocated, field))


def _reason(obj: AnyObject) -> str:
    ready = get_condition(obj.status.conditions, READY)
    return ready.reason if ready is not None else "Unknown"
