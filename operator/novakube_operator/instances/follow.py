"""An Instance that has a Guest: observes, has it decided, applies, reports."""

from __future__ import annotations

import contextlib
from typing import Any

from novakube_crds.v1alpha1.hypervisor import AGENT_ALIVE
from novakube_kit.errors import NotFound
from novakube_kit.objects import Object
from novakube_operator.core.accept import Accepted, NotAcceptable, accept
from novakube_operator.core.follow import plan
from novakube_operator.core.outcome import Facts, Outcome
from novakube_operator.instances.context import RESOURCES, Context
from novakube_operator.instances.pinning import pin_image
from novakube_operator.instances.placement import breaks_affinity

AnyObject = Object[Any, Any]


async def follow(context: Context, obj: AnyObject, guest: AnyObject) -> float | None:
    """One pass over an Instance and its newest Guest; returns when to look again."""
    outcome = plan(obj, guest, observe(context, obj, guest))
    await _apply(context, obj, guest, outcome)
    return outcome.look_again_s


def observe(context: Context, obj: AnyObject, guest: AnyObject) -> Facts:
    """The facts beside both objects; references are resolved only where that decides."""
    status = obj.status
    failed_first = status.state == "Error" and status.launched_at is None
    resolved = None
    accepted = context.accepted.get(obj.uid)
    if failed_first or (accepted is None and status.flavor is None):
        resolved = _resolved(context, obj)
    if accepted is None and status.flavor is None:
        # None: what it was made from is gone; the Guest holds the copy.
        accepted = resolved
    epoch = context.epoch()
    return Facts(
        now=context.clock.now(),
        epoch=epoch,
        build_deadline_s=context.build_deadline_s,
        waited_s=context.patience.waited_s(guest.uid, context.clock.monotonic()),
        silent=silence(context, guest.spec.hypervisor),
        accepted=accepted,
        resolved=resolved,
        apart=guest.spec.epoch < epoch and breaks_affinity(context, guest),
    )


def _resolved(context: Context, obj: AnyObject) -> Accepted | None:
    try:
        return accept(obj, context.get, context.by, context.project(obj.namespace))
    except NotAcceptable:
        return None


def silence(context: Context, node: str) -> str | None:
    """Why a node is not heard; None when it is."""
    hypervisor = context.get("hypervisors", None, node)
    if hypervisor is None:
        return f"hypervisor {node} is gone"
    for condition in hypervisor.status.conditions:
        if condition.type == AGENT_ALIVE and condition.status == "False":
            return f"node {hypervisor.name}: {condition.message}"
    return None


async def _apply(context: Context, obj: AnyObject, guest: AnyObject, outcome: Outcome) -> None:
    """In this order; each step is found again by the next pass when the one before was lost."""
    if outcome.delete_instance:
        await _delete(context, obj)
        return
    if outcome.pin_image:
        # Before the write that ends the first time: a Conflict here comes back to it.
        await pin_image(context, outcome.status.image, guest.status)
    if outcome.begins_anew:
        context.accepted.pop(obj.uid, None)
    obj = await context.report(obj, outcome.status)
    if outcome.order:
        await context.patch(guest, {"spec": outcome.order.spec()})
    if outcome.remove_guest:
        await context.remove(guest)
    if outcome.launched:
        context.accepted.pop(obj.uid, None)
    for event in outcome.events:
        context.event(obj, event.reason, event.message, warning=event.warning)


async def _delete(context: Context, obj: AnyObject) -> None:
    with contextlib.suppress(NotFound):
        await context.kube.delete(RESOURCES["instances"], obj.name, obj.namespace, uid=obj.uid)
