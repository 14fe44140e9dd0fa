"""Instances and Guests for tests of the pure plans, and an agent that obeys at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from novakube_crds.conditions import rfc3339
from novakube_crds.v1alpha1.guest import GUEST
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.instanceaction import INSTANCEACTION
from novakube_kit.kube import Json
from novakube_kit.objects import Object, parse
from novakube_operator.core.follow import plan
from novakube_operator.core.outcome import Facts, GuestOrder, Outcome
from novakube_operator.core.power import refusal

AnyObject = Object[Any, Any]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MADE = NOW - timedelta(seconds=100)
UID = "00000000-0000-4000-8000-000000000001"
GUEST_UID = "00000000-0000-4000-8000-000000000002"
ACTION_UID = "00000000-0000-4000-8000-000000000003"
FACTS = Facts(now=NOW, epoch=3, build_deadline_s=600.0)


def _meta(name: str, namespace: str, uid: str) -> Json:
    made = rfc3339(MADE)
    return {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": "1",
            "generation": 2, "creationTimestamp": made}  # fmt: skip


def an_instance(spec: Json | None = None, status: Json | None = None) -> AnyObject:
    wanted = {"flavor": {"name": "tiny"}, "image": {"name": "guest"}, **(spec or {})}
    body = {"metadata": _meta("web", "demo", UID), "spec": wanted, "status": status or {}}
    return parse(INSTANCE, body)


def a_guest(spec: Json | None = None, status: Json | None = None) -> AnyObject:
    identity = {"namespace": "demo", "name": "web", "uid": UID, "id": UID}
    wanted = {"instance": identity, "incarnation": 1, "hypervisor": "n1", "hostname": "web",
              "vcpus": 1, "memoryMiB": 128, "epoch": 3, **(spec or {})}  # fmt: skip
    name = f"{UID}-1"
    body = {"metadata": _meta(name, "novakube-node-n1", GUEST_UID), "spec": wanted,
            "status": status or {}}  # fmt: skip
    return parse(GUEST, body)


def an_action(spec: Json, status: Json) -> AnyObject:
    body = {"metadata": _meta("act", "demo", ACTION_UID), "spec": spec, "status": status}
    return parse(INSTANCEACTION, body)


def running(**status: Any) -> AnyObject:
    """A Guest that runs as ordered."""
    ran = {"phase": "Ready", "powerState": "Running", "powerSequence": 1,
           "startedAt": rfc3339(MADE), **status}  # fmt: skip
    return a_guest(status=ran)


def ordered(guest: AnyObject, order: GuestOrder) -> AnyObject:
    """The Guest after the operator's patch."""
    spec = guest.spec.model_validate({**guest.spec.wire(), **order.spec()})
    return replace(guest, spec=spec)


def obeyed(guest: AnyObject) -> AnyObject:
    """The Guest after its agent did what can be done at once."""
    spec, status = guest.spec, guest.status
    if spec.teardown is not None:
        return _reporting(guest, phase="Gone", power_state="Unknown")
    if status.phase in ("Pending", "Building"):
        started = rfc3339(NOW) if spec.power_state != "Stopped" else None
        return _reporting(
            guest, phase="Ready", power_state=spec.power_state, started_at=started,
            power_sequence=spec.power_sequence,
        )  # fmt: skip
    if status.phase != "Ready" or status.power_sequence >= spec.power_sequence:
        return guest
    impossible = refusal(status.power_state, spec.power_state)
    state = status.power_state if impossible else spec.power_state
    return _reporting(
        guest, power_sequence=spec.power_sequence, power_error=impossible or "",
        power_state=state, stop_reason="Ordered" if state == "Stopped" else None,
        started_at=status.started_at or rfc3339(NOW),
    )  # fmt: skip


def _reporting(guest: AnyObject, **fields: Any) -> AnyObject:
    return replace(guest, status=guest.status.model_copy(update=fields))


def passes(
    obj: AnyObject, guest: AnyObject, facts: Facts, rounds: int = 12
) -> tuple[AnyObject, AnyObject, Outcome]:
    """Plan, apply and obey in turn until nothing changes any more.

    Raises:
        AssertionError: it does not come to rest.
    """
    for _ in range(rounds):
        outcome = plan(obj, guest, facts)
        after = obeyed(ordered(guest, outcome.order))
        ends = outcome.remove_guest or outcome.delete_instance
        if ends or (outcome.at_rest(obj) and after == guest):
            return obj, guest, outcome
        obj, guest = replace(obj, status=outcome.status), after
    raise AssertionError(f"no rest: {obj.status}, {guest.status}")
