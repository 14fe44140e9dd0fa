"""What an Instance asks of the scheduler: its hints resolved, its group, its limits."""

from __future__ import annotations

from typing import Any

from novakube_crds.v1alpha1.guest import GuestServerGroup
from novakube_crds.v1alpha1.instance import SCHEDULED
from novakube_kit.objects import Object
from novakube_operator.core.accept import Accepted, NotAcceptable
from novakube_operator.core.guest_spec import amounts
from novakube_operator.core.instance_status import newest
from novakube_operator.core.scheduling.hosts import GroupView, Request
from novakube_operator.instances.context import Context

AnyObject = Object[Any, Any]


def request_of(
    context: Context, obj: AnyObject, accepted: Accepted, forced_host: str | None
) -> Request:
    """The request of a placement.

    Raises:
        NotAcceptable: a hint names a server group that is not there (pending, woken by it).
    """
    hints = obj.spec.scheduler_hints
    rule = server_group(context, obj)
    same = hints.get("same_host")
    query, near = hints.get("query"), hints.get("build_near_host_ip")
    cidr = hints.get("cidr")
    return Request(
        wanted=amounts(accepted),
        zone=obj.spec.availability_zone,
        forced_host=forced_host,
        refused=frozenset(obj.status.refused_nodes),
        tenant=context.project(obj.namespace) or obj.namespace,
        flavor=accepted.flavor.name,
        extra_specs=accepted.flavor.extra_specs,
        image=accepted.image.id,
        image_properties=accepted.image.properties,
        group=None if rule is None else GroupView(rule, context.capacity.members(rule.uid)),
        same_host=None if same is None else _nodes(context, obj, same),
        different_host=_nodes(context, obj, hints.get("different_host", ())),
        query=query[0] if query else None,
        near_host_ip=near[0] if near else None,
        near_cidr=cidr[0] if cidr else "/24",
        now=context.clock.now().timestamp(),
    )


def server_group(context: Context, obj: AnyObject) -> GuestServerGroup | None:
    """The group's rule: of hint ``group`` at creation, of the status ever after."""
    if obj.status.launched_at is not None:
        joined: GuestServerGroup | None = obj.status.server_group
        return joined
    wanted = obj.spec.scheduler_hints.get("group")
    if not wanted:
        return None
    group = _find(context, "servergroups", obj.namespace, wanted[0])
    if group is None or group.deleting:
        where = f"{obj.namespace}/{wanted[0]}"
        message = f"spec.schedulerHints.group: server group {where} does not exist"
        raise NotAcceptable(SCHEDULED, "NotFound", message, pending=True)
    return GuestServerGroup(
        uid=group.uid,
        name=group.name,
        policy=group.spec.policy,
        max_servers_per_host=group.spec.max_servers_per_host or 1,
    )


def _nodes(context: Context, obj: AnyObject, wanted: Any) -> frozenset[str]:
    """Nodes of the Instances that a hint names, as far as they are placed."""
    found = set()
    for value in wanted:
        other = _find(context, "instances", obj.namespace, value)
        guest = newest(context.by("guests", "instance", other.uid)) if other else None
        if guest is not None:
            found.add(guest.spec.hypervisor)
    return frozenset(found)


def _find(context: Context, plural: str, namespace: str, wanted: str) -> AnyObject | None:
    """An object of the namespace by its name or its OpenStack id."""
    named = context.get(plural, namespace, wanted)
    if named is not None:
        return named
    by_id = (context.stores.of(plural).by_uid(wanted), *context.by(plural, "id", wanted))
    return next((one for one in by_id if one is not None and one.namespace == namespace), None)


def breaks_affinity(context: Context, guest: AnyObject) -> bool:
    """Whether a guest that has not run yet stands apart from its affinity group.

    Nodes settle anti-affinity by themselves; that two leaders placed two first members on
    different nodes only who sees both can tell, before the older epoch's boots.
    """
    group = guest.spec.server_group
    if group is None or group.policy != "affinity":
        return False
    return any(
        other.spec.hypervisor != guest.spec.hypervisor
        and other.spec.instance.uid != guest.spec.instance.uid
        and other.spec.teardown is None
        and other.status.phase not in ("Rejected", "Failed", "Gone")
        for other in context.by("guests", "group", group.uid)
    )
