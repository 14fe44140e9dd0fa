"""Entries of history from objects: what is written of a launch, an end, an action, a lease.

Each says everything its object knows, so that an entry that came never is made up for by the
next one. Pure.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from novakube_crds.v1alpha1.guest import GuestLease
from novakube_kit.clock import parse_timestamp
from novakube_kit.objects import Object
from novakube_operator.sql.entries import Entry, entry, naive

AnyObject = Object[Any, Any]
Values = Mapping[str, Any]
LAUNCHED, DELETED = "launched", "deleted"
MOVES = frozenset({"Migrate", "LiveMigrate", "Evacuate"})
"""Actions that move an Instance to another node. ``status.result`` names ``sourceNode`` and
``destinationNode``."""
FINISHED = frozenset({"Succeeded", "Failed"})


def derived(uid: str, *words: str) -> str:
    """The UID of a row that no object of its own stands for: always the same one."""
    return str(uuid.uuid5(uuid.UUID(uid), " ".join(words)))


def _instance(obj: AnyObject, project: str | None, **values: Any) -> tuple[str, Values]:
    status, flavor = obj.status, obj.status.flavor
    fixed = {
        "uid": obj.uid,
        "id": status.id or obj.uid,
        "namespace": obj.namespace,
        "name": obj.name,
        "display_name": obj.spec.display_name or obj.name,
        "project_id": project,
        "user_id": obj.spec.user_id,
        "flavor": obj.spec.flavor.name,
        "vcpus": flavor.vcpus if flavor else 0,
        "memory_mib": flavor.memory_mib if flavor else 0,
        "disk_gib": flavor.root_gib + flavor.ephemeral_gib if flavor else 0,
        "image": obj.spec.image.name,
        "node": status.node,
        "vm_state": status.vm_state,
        "addresses": json.dumps([item.address for item in status.addresses]),
        "created_at": naive(obj.created_at),
        "updated_at": naive(status.updated_at) or naive(obj.created_at),
        "launched_at": naive(status.launched_at),
    }
    return "instances", fixed | values


def _step(
    obj: AnyObject,
    project: str | None,
    action: str,
    started_at: datetime | None,
    finished_at: datetime | None,
    fault: str | None = None,
) -> Iterator[tuple[str, Values]]:
    """Create and Delete: actions that no InstanceAction stands for."""
    uid = derived(obj.uid, action)
    yield (
        "instance_actions",
        {
            "uid": uid,
            "instance_uid": obj.uid,
            "action": action,
            "request_id": "",
            "user_id": obj.spec.user_id,
            "project_id": project,
            "started_at": started_at,
            "finished_at": finished_at,
            "message": fault,
        },
    )
    yield (
        "instance_action_events",
        {
            "action_uid": uid,
            "event": action,
            "started_at": started_at,
            "finished_at": finished_at,
            "result": None if finished_at is None else "Error" if fault else "Success",
            "host": obj.status.node,
            "details": fault,
        },
    )


def _created(obj: AnyObject, project: str | None) -> Iterator[tuple[str, Values]]:
    fault = obj.status.fault.message if obj.status.fault and not obj.status.launched_at else None
    finished = naive(obj.status.launched_at) or (naive(obj.deleted_at) if fault else None)
    yield from _step(obj, project, "Create", naive(obj.created_at), finished, fault)


def launched(obj: AnyObject, project: str | None) -> Entry:
    """It ran for the first time. Living, it can tell so again."""
    at = parse_timestamp(obj.status.launched_at)
    rows = (_instance(obj, project), *_created(obj, project))
    return entry("Instance", obj.uid, LAUNCHED, at, *rows, told_again=True)


def deleted(obj: AnyObject, project: str | None, now: datetime) -> Entry:
    """It is gone; holds what ``launched`` would have said."""
    ended = naive(now)
    last = _instance(
        obj, project, vm_state="deleted", terminated_at=ended, updated_at=ended
    )  # fmt: skip
    asked = naive(obj.deleted_at) or ended
    rows = (last, *_created(obj, project), *_step(obj, project, "Delete", asked, ended))
    return entry("Instance", obj.uid, DELETED, now, *rows)


def finished(action: AnyObject, instance_uid: str, project: str | None) -> Entry:
    """An InstanceAction ended; with its events, and the migration it was, if it was one."""
    status, spec = action.status, action.spec
    fault = status.message or status.reason if status.state == "Failed" else None
    started = naive(status.started_at) or naive(action.created_at)
    ended = naive(status.finished_at)
    common = {"user_id": spec.user_id, "project_id": project}
    row = {
        "uid": action.uid,
        "instance_uid": instance_uid,
        "action": spec.action,
        "request_id": spec.request_id or "",
        "started_at": started,
        "finished_at": ended,
        "message": fault,
    }
    rows: list[tuple[str, Values]] = [("instance_actions", row | common)]
    rows += [("instance_action_events", values) for values in _events(action, started, fault)]
    if spec.action in MOVES and status.started_at is not None:
        rows.append(("migrations", _migration(action, row, fault) | common))
    at = parse_timestamp(status.finished_at) if status.finished_at else action.created_at
    return entry("Action", instance_uid, f"action {action.uid}", at, *rows)


def _events(
    action: AnyObject, started: datetime | None, fault: str | None
) -> Iterator[dict[str, Any]]:
    """The action's steps; one that names none is a single step."""
    for event in action.status.events:
        yield {
            "action_uid": action.uid,
            "event": event.name,
            "started_at": naive(event.started_at),
            "finished_at": naive(event.finished_at),
            "result": event.result,
            "host": event.node,
            "details": event.message or None,
        }
    if not action.status.events:
        yield {
            "action_uid": action.uid,
            "event": action.spec.action,
            "started_at": started,
            "finished_at": naive(action.status.finished_at),
            "result": "Error" if fault else "Success",
            "details": fault,
        }


def _migration(action: AnyObject, row: Values, fault: str | None) -> dict[str, Any]:
    result = action.status.result
    wanted = action.spec.parameters.host if action.spec.parameters else None
    return {
        "uid": action.uid,
        "instance_uid": row["instance_uid"],
        "type": action.spec.action,
        "status": "error" if fault else "completed",
        "source_node": result.get("sourceNode"),
        "dest_node": result.get("destinationNode") or wanted,
        "created_at": row["started_at"],
        "updated_at": row["finished_at"] or row["started_at"],
    }


def lease_taken(guest: AnyObject, lease: GuestLease) -> Entry:
    """A guest took an address by DHCP."""
    return _lease(guest, lease, "taken", parse_timestamp(lease.started_at))


def lease_ended(guest: AnyObject, lease: GuestLease, now: datetime) -> Entry:
    """It holds the address no longer."""
    return _lease(guest, lease, "ended", now, ended_at=naive(now))


def lease_transition(guest: AnyObject, lease: GuestLease, what: str) -> str:
    """The transition of one lease."""
    return f"lease {_lease_uid(guest, lease)} {what}"


def _lease_uid(guest: AnyObject, lease: GuestLease) -> str:
    return derived(guest.uid, lease.mac, lease.address, lease.started_at)


def _lease(guest: AnyObject, lease: GuestLease, what: str, at: datetime, **more: Any) -> Entry:
    values = {
        "uid": _lease_uid(guest, lease),
        "instance_uid": guest.spec.instance.uid,
        "guest_uid": guest.uid,
        "node": guest.spec.hypervisor,
        "network_uid": lease.network_uid or _network(guest, lease.mac),
        "mac": lease.mac,
        "address": lease.address,
        "hostname": lease.hostname,
        "started_at": naive(lease.started_at),
    }
    transition = lease_transition(guest, lease, what)
    return entry("Lease", guest.spec.instance.uid, transition, at, ("dhcp_leases", values | more))


def _network(guest: AnyObject, mac: str) -> str:
    return next((nic.network_uid for nic in guest.spec.nics if nic.mac == mac), "")
