"""The next incarnation of an Instance whose VM runs on without its Guest object."""

from __future__ import annotations

from typing import Any

from novakube_crds.v1alpha1.guest import GuestSpec
from novakube_crds.v1alpha1.instance import GUEST_READY
from novakube_kit.objects import Object
from novakube_operator.core.accept import (
    LOOK_AGAIN_S,
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
    as_plumbed,
    heir,
    lost_addresses,
    strays_of,
    successor,
    waiting,
)
from novakube_operator.core.guest_spec import guest_spec
from novakube_operator.core.instance_status import Draft
from novakube_operator.core.naming import guest_name
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.instances.claims import Claims, release_vanished
from novakube_operator.instances.context import Context
from novakube_operator.instances.create import make_guest, user_data_of
from novakube_operator.instances.follow import silence

AnyObject = Object[Any, Any]
NAMESPACE_S = 2.0
"""How soon a node's namespace that is being deleted is looked at again."""


def strays(context: Context, obj: AnyObject) -> tuple[Stray, ...]:
    """Domains of the Instance that no Guest stands for."""
    ids = {obj.uid, obj.spec.id or obj.uid}
    reports = {r.uid: r for id in ids for r in context.by("hypervisorreports", "orphan", id)}
    return strays_of(obj, reports.values())


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
        return await _not_yet(context, obj, found, problem)
    spec = successor(found, spec, obj.status, number, context.epoch())
    name = guest_name(obj.uid, number)
    await make_guest(context, spec, name)
    context.vanished.pop(obj.uid, None)
    context.event(obj, "Adopting", f"{name} takes over the guest on {found.node}")
    lost = lost_addresses(spec, found.domain.nics) if found.domain is not None else []
    if lost:
        message = f"the machine had {', '.join(lost)}, which others hold or no subnet has now"
        context.event(obj, "AddressChanged", message, warning=True)
    return None


async def _not_yet(
    context: Context, obj: AnyObject, found: Adopt, problem: NotAcceptable
) -> float | None:
    """What is missing stands in the status; the VM goes on meanwhile."""
    message = f"the machine on {found.node} is not taken over: {problem.message}"
    draft = Draft(obj, context.clock.now())
    draft.condition(GUEST_READY, "False", problem.reason, message)
    state = obj.status.state if obj.status.launched_at is not None else "Pending"
    await context.report(obj, draft.working(state, problem.reason, message).done())
    context.event(obj, "NotAdopted", f"{problem.reason}: {problem.message}", warning=True)
    return LOOK_AGAIN_S


async def _spec(context: Context, obj: AnyObject, found: Adopt, number: int) -> GuestSpec:
    """As it was accepted; what is not copied into the status is resolved again."""
    nics_there = found.domain.nics if found.domain is not None else []
    if found.domain is not None and found.domain.instance_uid != obj.uid:
        await release_vanished(context, found.domain)
    accepted = _accepted(context, obj)
    claims = Claims(context, obj, nics_there)
    nics = [await claims.nic(index, nic) for index, nic in enumerate(accepted.nics)]
    hypervisor = context.get("hypervisors", None, found.node)
    zone = hypervisor.status.availability_zone if hypervisor else ""
    spec = guest_spec(
        obj, accepted, nics, node=found.node, zone=zone, incarnation=number,
        user_data=await _user_data(context, obj), epoch=context.epoch(),
    )  # fmt: skip
    # It is in some state already: no first boot comes before the wish.
    wish = {"power_state": obj.spec.power_state or spec.power_state}
    return as_plumbed(spec.model_copy(update=wish), nics_there)


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
