"""What becomes of an Instance whose Guest object goes while its VM is kept. Pure.

A Guest's deletion orders nothing: the VM goes on. The Instance gets its next incarnation on the
same node, which takes over the domain and the disks; it is never built anew beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.guest import GuestSpec
from novakube_crds.v1alpha1.hypervisorreport import OrphanDomain, OrphanNic
from novakube_crds.v1alpha1.instance import GUEST_READY, InstanceStatus
from novakube_kit.clock import parse_timestamp
from novakube_kit.objects import Object
from novakube_operator.core.instance_status import Draft
from novakube_operator.core.nodes import node_of_namespace

AnyObject = Object[Any, Any]
GUEST_MISSING = "GuestMissing"
REPORTED_WITHIN_S = 60.0
"""An agent that is heard has told by then which domains have no Guest: it looks at once when a
Guest goes, and at the latest every NOVAKUBE_RESYNC_S."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A domain of an Instance that no Guest stands for, as its node reports it."""

    node: str
    domain: OrphanDomain

    @property
    def guest_uid(self) -> str:
        """Of the Guest that is gone."""
        return str(self.domain.guest_uid)


@dataclass(frozen=True, slots=True)
class Adopt:
    """Make the next incarnation on ``node`` with ``adopt: guest_uid``."""

    node: str
    guest_uid: str
    incarnation: int
    """Of the one that is taken over."""
    spec: GuestSpec | None = None
    """Its spec, where it is still known; else it is made from the Instance's copies."""
    domain: OrphanDomain | None = None
    """What the node reports of it, where that is all there is."""


@dataclass(frozen=True, slots=True)
class Await:
    """The node has to say first what it has."""

    node: str


def strays_of(obj: AnyObject, reports: Iterable[AnyObject]) -> tuple[Stray, ...]:
    """Domains of this Instance without a Guest, by UID or, in its namespace, by id."""
    id = obj.spec.id or obj.uid
    found = []
    for report in reports:
        node = node_of_namespace(report.namespace)
        for item in report.status.orphans if node else ():
            same_id = item.instance_id == id and item.instance_namespace == obj.namespace
            if node and item.guest_uid and (item.instance_uid == obj.uid or same_id):
                found.append(Stray(node, item))
    return tuple(found)


def heir(
    obj: AnyObject,
    guest: AnyObject | None,
    vanished: AnyObject | None,
    strays: tuple[Stray, ...],
) -> Adopt | Await | None:
    """What follows the newest Guest; None: it stays, or there never was one.

    ``vanished``: the Guest as it was when its object went without having been Gone.
    """
    if guest is not None:
        return _after(guest) if guest.deleting and _takes_over(guest) else None
    if vanished is not None and _takes_over(vanished):
        return _after(vanished)
    if strays:
        last = max(strays, key=lambda stray: stray.domain.incarnation)
        return Adopt(last.node, last.guest_uid, last.domain.incarnation, domain=last.domain)
    if obj.status.guest is not None and obj.status.node is not None:
        return Await(obj.status.node)
    return None


def _takes_over(guest: AnyObject) -> bool:
    """Whether there is a VM under this Guest's own name to take over."""
    status = guest.status
    ran = status.started_at is not None and status.phase in ("Ready", "Failed")
    return ran and guest.spec.teardown is None


def _after(guest: AnyObject) -> Adopt:
    spec = guest.spec
    return Adopt(spec.hypervisor, guest.uid, spec.incarnation, spec)


def successor(
    heir: Adopt, spec: GuestSpec, status: InstanceStatus, number: int, epoch: int
) -> GuestSpec:
    """The next incarnation's spec: the same guest under the orders that stand now."""
    wanted = status.wanted_power_state or spec.power_state
    return spec.model_copy(
        update={
            "incarnation": number,
            "adopt": heir.guest_uid,
            "epoch": max(epoch, spec.epoch),
            "request": None,
            "teardown": None,
            "power_state": wanted,
            "power_sequence": max(1, status.power_sequence),
        }
    )


def addresses_of(domain: OrphanDomain) -> set[tuple[str, str]]:
    """(Network UID, address) of all its NICs."""
    return {(nic.network_uid, address) for nic in domain.nics for address in nic.addresses}


def as_plumbed(spec: GuestSpec, nics: Sequence[OrphanNic]) -> GuestSpec:
    """The spec with NICs named as the node has them: the taps that QEMU holds stay its taps.

    A NIC is known again by its MAC, whatever Port it belongs to now.
    """
    taps = {nic.mac: nic.port_uid for nic in nics}
    kept = [
        nic.model_copy(update={"port_uid": taps.get(nic.mac, nic.port_uid)}) for nic in spec.nics
    ]
    return spec.model_copy(update={"nics": kept})


def lost_addresses(spec: GuestSpec, nics: Sequence[OrphanNic]) -> list[str]:
    """Addresses that the machine had and that its next incarnation has not."""
    kept = {item.address for nic in spec.nics for item in nic.addresses}
    return [address for nic in nics for address in nic.addresses if address not in kept]


def waiting(
    obj: AnyObject, node: str, now: datetime, silent: str | None, deadline_s: float
) -> tuple[InstanceStatus, float | None]:
    """The status of an Instance without a Guest, and when to look again.

    One that never ran begins anew once its node, which is heard, had time to report a domain;
    one that ran ends in Error after the build deadline, and is still adopted should the node
    report it later.
    """
    draft = Draft(obj, now)
    age_s = _missing_for_s(obj, now)
    message = f"its Guest object is gone; waiting for node {node} to report the domain"
    if silent is not None:
        message = f"{message} ({silent})"
    if obj.status.launched_at is None and silent is None and age_s >= REPORTED_WITHIN_S:
        draft.set(guest=None, node=None, addresses=[])
        return draft.anew().done(), 0.0
    found = get_condition(obj.status.conditions, GUEST_READY)
    if found is not None and found.reason != GUEST_MISSING:
        draft.drop(GUEST_READY)  # Its time counts from now, whatever it said before.
    draft.condition(GUEST_READY, "False", GUEST_MISSING, message)
    if obj.status.launched_at is not None and age_s >= deadline_s:
        draft.error("Lost", f"its Guest object is gone and node {node} reports no domain of it")
        return draft.done(), None
    draft.working(obj.status.state, GUEST_MISSING, message)
    limit_s = deadline_s if obj.status.launched_at is not None else REPORTED_WITHIN_S
    return draft.done(), max(1.0, limit_s - age_s)


def _missing_for_s(obj: AnyObject, now: datetime) -> float:
    found = get_condition(obj.status.conditions, GUEST_READY)
    if found is None or found.reason != GUEST_MISSING:
        return 0.0
    return (now - parse_timestamp(found.last_transition_time)).total_seconds()


def done_with(old: AnyObject, kept: AnyObject) -> bool:
    """Whether a superseded Guest may be ended: not while its VM is being taken over."""
    if kept.spec.adopt != old.uid:
        return True
    return bool(kept.status.phase == "Ready" and kept.status.adopted == old.uid)
