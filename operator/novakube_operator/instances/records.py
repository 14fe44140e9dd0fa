"""History rows of an Instance's life."""

from __future__ import annotations

import json
from typing import Any

from novakube_kit.clock import parse_timestamp
from novakube_kit.objects import Object
from novakube_operator.sql.history import Row, naive
from novakube_operator.sql.models import InstanceRecord

AnyObject = Object[Any, Any]


def _row(obj: AnyObject, transition: str, **values: Any) -> Row:
    status, flavor = obj.status, obj.status.flavor
    updated = naive(parse_timestamp(status.updated_at)) if status.updated_at else None
    launched_at = naive(parse_timestamp(status.launched_at)) if status.launched_at else None
    fixed = {
        "uid": obj.uid,
        "id": status.id or obj.uid,
        "namespace": obj.namespace,
        "name": obj.name,
        "display_name": obj.spec.display_name or obj.name,
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
        "updated_at": updated or naive(obj.created_at),
        "launched_at": launched_at,
    }
    return Row(InstanceRecord, obj.uid, transition, fixed | values)


def launched(obj: AnyObject) -> Row:
    """It ran for the first time."""
    return _row(obj, "launched")


def deleted(obj: AnyObject) -> Row:
    """It is gone."""
    at = naive(obj.deleted_at or obj.created_at)
    return _row(obj, "deleted", vm_state="deleted", terminated_at=at, updated_at=at)
