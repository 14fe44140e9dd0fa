"""Deletion wins from any state: order the teardown, wait for Gone, release, let go."""

from __future__ import annotations

from typing import Any

from novakube_crds.base import FINALIZER
from novakube_kit.errors import NotFound, Retryable
from novakube_kit.objects import Object
from novakube_kit.resources import CRDS
from novakube_operator.core.instance_status import Draft
from novakube_operator.instances.adopt import strays
from novakube_operator.instances.claims import Claims
from novakube_operator.instances.context import RESOURCES, Context
from novakube_operator.instances.records import deleted

AnyObject = Object[Any, Any]
CRD_CHECK_S = 30.0
STRAY_CHECK_S = 2.0


async def delete(context: Context, obj: AnyObject, guests: tuple[AnyObject, ...]) -> float | None:
    """One pass over an Instance that is being deleted."""
    if FINALIZER not in obj.finalizers:
        return None
    if guests:
        if not all(_ordered(guest) for guest in guests):
            await refuse_while_crd_goes(context)
        if obj.status.state != "Deleting":
            draft = Draft(obj, context.clock.now())
            draft.working("Deleting", "Deleting", "its guest is being taken down")
            obj = await context.report(obj, draft.set(task_state="deleting").done())
        for guest in guests:
            await _end(context, guest)
        return None
    if await _fence_strays(context, obj):
        return STRAY_CHECK_S
    await Claims(context, obj).release()
    context.accepted.pop(obj.uid, None)
    context.fencing.pop(obj.uid, None)
    # With the finalizer goes the last object that could tell.
    await context.history.keep(deleted(obj, context.project(obj.namespace), context.clock.now()))
    await context.release(obj)
    context.event(obj, "Deleted", "gone, with every trace on its node")
    return None


def _ordered(guest: AnyObject) -> bool:
    """Whether its end was ordered before: then nothing is left to refuse, nor to ask for."""
    return guest.spec.teardown is not None or guest.status.phase == "Gone"


async def _end(context: Context, guest: AnyObject) -> None:
    if guest.status.phase == "Gone":
        await context.remove(guest)
        return
    hypervisor = context.get("hypervisors", None, guest.spec.hypervisor)
    if hypervisor is not None and hypervisor.spec.forced_down:
        # The administrator vouches that the node is dead; should it come back, its agent
        # destroys what stands in ``fenced``.
        await context.fence(hypervisor, guest.uid)
        await context.remove(guest)
        return
    if guest.spec.teardown is None:
        await context.patch(guest, {"spec": {"teardown": "Destroy"}})


async def _fence_strays(context: Context, obj: AnyObject) -> bool:
    """The Instance's deletion is an order also for a VM whose Guest object is gone.

    True while a node that is not declared dead has yet to say that nothing is left.
    """
    wanted = {(stray.node, stray.guest_uid) for stray in strays(context, obj)}
    guest = context.vanished.pop(obj.uid, None)
    if guest is not None:
        context.fencing.setdefault(obj.uid, set()).add((guest.spec.hypervisor, guest.uid))
    pending = False
    for node, guest_uid in wanted | context.fencing.get(obj.uid, set()):
        hypervisor = context.get("hypervisors", None, node)
        if hypervisor is None:
            continue
        asked = guest is not None and guest.uid == guest_uid
        if asked or (node, guest_uid) in wanted:
            await refuse_while_crd_goes(context)
            hypervisor = await context.fence(hypervisor, guest_uid)
        # The node controller takes the UID out when the agent reports it gone.
        under_way = guest_uid in hypervisor.status.fenced or (node, guest_uid) in wanted
        pending = pending or (under_way and not hypervisor.spec.forced_down)
    return pending


async def refuse_while_crd_goes(context: Context) -> None:
    """Instances that vanish because their CRD is being deleted are no order to destroy.

    Raises:
        Retryable: the CRD is Terminating; finalizers stay.
    """
    name = f"{RESOURCES['instances'].plural}.{RESOURCES['instances'].group}"
    try:
        crd = await context.kube.get(CRDS, name)
    except NotFound:
        crd = {"metadata": {"deletionTimestamp": "gone"}}
    if crd["metadata"].get("deletionTimestamp"):
        raise Retryable(
            f"CRD {name} is being deleted: no guest is destroyed for that",
            reason="CRDTerminating",
            after_s=CRD_CHECK_S,
        )
