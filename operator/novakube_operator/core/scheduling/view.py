"""From a Hypervisor, its Aggregates and its load to the Host that the scheduler sees. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.hypervisor import (
    AGENT_ALIVE,
    BUILD_FAILURES,
    DISABLED,
    FORCED_DOWN,
    HEARTBEAT_LOST,
    MAINTENANCE,
    SCHEDULABLE,
    HypervisorStatus,
)
from novakube_kit.objects import Object
from novakube_operator.core.nodes import DEFAULT_ZONE, SILENT_AFTER_S
from novakube_operator.core.scheduling.hosts import Host, Load, Unschedulable, limits

AnyObject = Object[Any, Any]


def by_age(aggregates: Iterable[AnyObject]) -> list[AnyObject]:
    """The oldest first: of two that contradict each other it holds."""
    return sorted(aggregates, key=lambda one: (one.created_at, one.uid))


def zone_of(aggregates: Iterable[AnyObject]) -> str:
    """The zone of a node that is in these Aggregates: the oldest one's that names a zone."""
    zones = (one.spec.availability_zone for one in by_age(aggregates))
    return next((zone for zone in zones if zone), DEFAULT_ZONE)


def metadata_of(aggregates: Iterable[AnyObject]) -> dict[str, frozenset[str]]:
    """Every key's values in all Aggregates. Source: nova's aggregate_metadata_get_by_host."""
    found: dict[str, set[str]] = {}
    for one in aggregates:
        for key, text in one.spec.metadata.items():
            found.setdefault(key, set()).update(part.strip() for part in text.split(","))
    return {key: frozenset(values) for key, values in found.items()}


def unschedulable(status: HypervisorStatus, deleting: bool) -> Unschedulable | None:
    """Why a node takes nothing new, in words that do not change while the cause stands."""
    if deleting:
        return Unschedulable("Deleting", "being removed")
    condition = get_condition(status.conditions, SCHEDULABLE)
    if condition is None:
        return Unschedulable("NoReport", "without a report yet")
    if condition.status == "True":
        return None
    if condition.reason == HEARTBEAT_LOST:
        return _silent(status)
    texts = {
        MAINTENANCE: "disabled (maintenance)",
        FORCED_DOWN: "declared dead (spec.forcedDown)",
        DISABLED: condition.message,
        BUILD_FAILURES: condition.message,
    }
    text = texts.get(condition.reason, f"not ready ({condition.message})")
    return Unschedulable(condition.reason, text)


def _silent(status: HypervisorStatus) -> Unschedulable:
    """The age is counted from our own condition: clocks of nodes are not believed."""
    alive = get_condition(status.conditions, AGENT_ALIVE)
    if status.heartbeat_at is None or alive is None:
        return Unschedulable(HEARTBEAT_LOST, "never heard")
    since = datetime.fromisoformat(alive.last_transition_time).timestamp() - SILENT_AFTER_S
    return Unschedulable(HEARTBEAT_LOST, "heartbeat", since)


def host_of(hypervisor: AnyObject, aggregates: Iterable[AnyObject], load: Load) -> Host:
    """The node as the scheduler sees it."""
    aggregates = tuple(aggregates)
    return Host(
        name=hypervisor.name,
        limit=limits(hypervisor.spec, hypervisor.status.capacity),
        zone=zone_of(aggregates),
        unschedulable=unschedulable(hypervisor.status, hypervisor.deleting),
        load=load,
        metadata=metadata_of(aggregates),
        status=hypervisor.status,
        spec=hypervisor.spec,
    )
