"""The next incarnation of an Instance whose VM runs on without its Guest object."""

from __future__ import annotations

from typing import Any

from novakube_crds.v1alpha1.guest import GuestSpec
from novakube_kit.objects import Object
from novakube_operator.core.accept import (
    Accepted,
    NicResolver,
    NotAcceptable,
    accept,
    disks_of,
    keys_of,
)
from novakube_operator.core.adoption import (
    Adopt,
    Await,
    Stray,
    heir,
    strays_of,
    successor,
    waiting,
)
from novakube_operator.core.guest_spec import guest_spec
from novakube_operator.core.naming import guest_name
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.instances.claims import Claims
from novakube_operator.instances.context import Context
from novakube_operator.instances.create import make_guest, user_data_of
from novakube_operator.instances.follow import silence

AnyObject = Object[Any, Any]
NAMESPACE_S = 2.0
"""How soon a node's namespace that is being deleted is looked at again."""


def strays(context: Context, obj: AnyObject) -> tuple[Stray, ...]:
    """Domains of the Instance that no Guest stands for."""
    ids = {obj.uid, obj.spec.id or obj.uid}
    reports = [item for id in ids for item in context.by("hypervisorreports", "orphan", id)]
    return tuple(dict.fromkeys(strays_of(obj, reports)))


def next_of(context: Context, obj: AnyObject, guest: AnyObject | None) -> Adopt | Await | None:
    """What an Instance needs whose newest Guest is going or gone."""
    return heir(obj, guest, context.vanished.get(obj.uid), strays(context, obj))


async def adopt(context: Context, obj: AnyObject, found: Adopt) -> float | None:
    """Makes the next incarnation where the VM is."""
    if context.stores.terminating(namespace_of_node(found.node)):
        return NAMESPACE_S
    number = max(obj.status.incarnation, found.incarnation) + 1
    try:
        spec = found.spec or await _spec(context, obj, found, number)
    except NotAcceptable as problem:
        context.event(obj, "NotAdopted", f"{problem.reason}: {problem.message}", warning=True)
        return context.build_deadline_s
    spec = successor(found, spec, obj.status, number, context.epoch())
    name = guest_name(obj.uid, number)
    await make_guest(context, spec, name)
    context.vanished.pop(obj.uid, None)
    context.event(obj, "Adopting", f"{name} takes over the guest on {found.node}")
    return None


async def _spec(context: Context, obj: AnyObject, found: Adopt, number: int) -> GuestSpec:
    """As it was accepted; what is not copied into the status is resolved again."""
    accepted = _accepted(context, obj)
    claims = Claims(context, obj)
    nics = [await claims.nic(index, nic) for index, nic in enumerate(accepted.nics)]
    hypervisor = context.get("hypervisors", None, found.node)
    zone = hypervisor.status.availability_zone if hypervisor else ""
    return guest_spec(
        obj, accepted, nics, node=found.node, zone=zone, incarnation=number,
        user_data=await _user_data(context, obj), epoch=context.epoch(),
    )  # fmt: skip


async def _user_data(context: Context, obj: AnyObject) -> str | None:
    """A guest that runs has read it: a Secret that is gone stands in nobody's way."""
    try:
        return await user_data_of(context, obj)
    except NotAcceptable:
        return None


def _accepted(context: Context, obj: AnyObject) -> Accepted:
    status = obj.status
    if status.flavor is None or status.image is None:
        return accept(obj, context.get, context.by, context.project(obj.namespace))
    nics = NicResolver(obj, context.get, context.by).all()
    try:
        keys = keys_of(obj, context.by)
    except NotAcceptable:
        keys = ()
    return Accepted(status.flavor, status.image, nics, keys, disks_of(obj, context.get))


async def wait_for_node(context: Context, obj: AnyObject, found: Await) -> float | None:
    """Says what is waited for."""
    silent = silence(context, found.node)
    now = context.clock.now()
    status, again_s = waiting(obj, found.node, now, silent, context.build_deadline_s)
    await context.report(obj, status)
    return again_s
