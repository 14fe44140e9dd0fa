"""From an accepted Instance to a Guest on a node: choose, claim, make.

Each step is found again after a crash, so that nothing is made twice.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from novakube_crds.base import API_VERSION, FINALIZER
from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.guest import GuestSpec
from novakube_crds.v1alpha1.instance import (
    FLAVOR_READY,
    IMAGE_READY,
    NETWORK_READY,
    READY,
    SCHEDULED,
)
from novakube_kit.errors import AlreadyExists, NotFound
from novakube_kit.objects import Object
from novakube_kit.resources import SECRETS
from novakube_operator.core.accept import (
    LOOK_AGAIN_S,
    Accepted,
    NotAcceptable,
    accept,
    not_supported_yet,
)
from novakube_operator.core.follow import BUILDING_AFTER_S
from novakube_operator.core.guest_spec import guest_spec
from novakube_operator.core.instance_status import Draft
from novakube_operator.core.naming import guest_name
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.core.projects import PROJECT_TAKEN
from novakube_operator.core.scheduling.choice import Choice, choose, same_cause
from novakube_operator.core.scheduling.pipeline import UnusableHint
from novakube_operator.instances.capacity import Reservation
from novakube_operator.instances.claims import Claims
from novakube_operator.instances.context import RESOURCES, Context
from novakube_operator.instances.placement import request_of, server_group

AnyObject = Object[Any, Any]
USER_DATA_MAX_BYTES = 65535


async def create(context: Context, obj: AnyObject) -> float | None:
    """One attempt; what stands in the way becomes the Instance's status.

    The finalizer is written beside the Quota, before anything is claimed.
    """
    finalizing = asyncio.ensure_future(context.finalize(obj))
    try:
        _check_project(context, obj)
        accepted = accept(obj, context.get, context.by, context.project(obj.namespace))
        user_data = await user_data_of(context, obj)
        context.lifecycle.reached(obj.uid, "accepted")
        node = _choose(context, obj, accepted)
        context.lifecycle.reached(obj.uid, "scheduled")
        async with context.quota.admitted(obj, accepted) as room:
            obj = await finalizing
            guest = await _claim(context, obj, accepted, node, user_data)
            room.check()
            await make_guest(context, guest, guest_name(obj.uid, guest.incarnation))
            context.lifecycle.reached(obj.uid, "guest-made")
    except NotAcceptable as problem:
        await _refuse(context, await finalizing, problem)
        return problem.look_again_s
    finally:
        finalizing.cancel()
        await asyncio.gather(finalizing, return_exceptions=True)
        context.capacity.release(obj.uid)
    context.event(obj, "Scheduled", f"placed on {node}")
    return BUILDING_AFTER_S


def _check_project(context: Context, obj: AnyObject) -> None:
    """Raises NotAcceptable in a second namespace of a project; no watch tells when that ends."""
    refusal = context.quota.ledger.refusal(obj.namespace)
    if refusal is not None:
        message = f"namespace {obj.namespace}: {refusal}"
        raise NotAcceptable(READY, PROJECT_TAKEN, message, pending=True, look_again_s=LOOK_AGAIN_S)


async def _claim(
    context: Context, obj: AnyObject, accepted: Accepted, node: str, user_data: str | None
) -> GuestSpec:
    """Claims what the NICs need: the Guest that is to be made."""
    nics = [
        await Claims(context, obj).nic(index, request)
        for index, request in enumerate(accepted.nics)
    ]
    context.lifecycle.reached(obj.uid, "claimed")
    if obj.status.state == "Error":
        # Else the new Guest would be taken for the one that failed before the change.
        obj = await context.report(obj, Draft(obj, context.clock.now()).anew().done())
    zone = context.stores.of("hypervisors").get(None, node).status.availability_zone  # type: ignore[union-attr]
    context.accepted[obj.uid] = accepted
    return guest_spec(
        obj, accepted, nics, node=node, zone=zone, incarnation=obj.status.incarnation + 1,
        user_data=user_data, epoch=context.epoch(), server_group=server_group(context, obj),
    )  # fmt: skip


async def make_guest(context: Context, spec: GuestSpec, name: str) -> None:
    """Makes a Guest in its node's namespace; one of that name is the same incarnation."""
    body = {
        "apiVersion": API_VERSION,
        "kind": "Guest",
        "metadata": {"name": name, "finalizers": [FINALIZER]},
        "spec": spec.wire(),
    }
    namespace = namespace_of_node(spec.hypervisor)
    try:
        made = await context.create("guests", body, namespace)
        context.patience.made(made.uid, context.clock.monotonic())
    except AlreadyExists:
        raw = await context.kube.get(RESOURCES["guests"], name, namespace)
        context.stores.of("guests").observe(raw)


async def user_data_of(context: Context, obj: AnyObject) -> str | None:
    """The user data in base64, from the spec or a Secret of the namespace."""
    reference = obj.spec.user_data_secret_ref
    if reference is None:
        return str(obj.spec.user_data) if obj.spec.user_data is not None else None
    where = f"spec.userDataSecretRef: secret {obj.namespace}/{reference.name}"
    try:
        secret = await context.kube.get(SECRETS, reference.name, obj.namespace)
    except NotFound as error:
        raise _no_user_data(f"{where} does not exist") from error
    value = (secret.get("data") or {}).get(reference.key)
    if value is None:
        raise _no_user_data(f"{where} has no key {reference.key}")
    size = len(base64.b64decode(value))
    if len(value) > USER_DATA_MAX_BYTES:
        message = f"{where}: {size} bytes are more than {USER_DATA_MAX_BYTES} in base64"
        raise NotAcceptable(READY, "UserDataTooLarge", message)
    return str(value)


def _no_user_data(message: str) -> NotAcceptable:
    """Secrets are not watched (rights on none but those named): looked at again by time."""
    return NotAcceptable(READY, "NotFound", message, pending=True, look_again_s=LOOK_AGAIN_S)


def _pinned(context: Context, accepted: Accepted) -> tuple[str, str] | None:
    """The node a Network already has guests on: it cannot span nodes yet."""
    for nic in accepted.nics:
        guest = context.stores.of("guests").any("network", nic.network.uid)
        if guest is not None:
            return guest.spec.hypervisor, nic.network.name
        node = context.capacity.node_of_network(nic.network.uid)
        if node is not None:
            return node, nic.network.name
    return None


def _choose(context: Context, obj: AnyObject, accepted: Accepted) -> str:
    """The node, its room held at once: no other create decides in between."""
    pinned, forced = _pinned(context, accepted), obj.spec.forced_host
    if pinned and forced and pinned[0] != forced:
        field = f"spec.forcedHost {forced}: network {pinned[1]} has guests on {pinned[0]}; "
        raise not_supported_yet("several nodes in one network", SCHEDULED, field)
    target = forced or (pinned[0] if pinned else None)
    request = request_of(context, obj, accepted, target)
    try:
        choice: Choice = choose(context.capacity.hosts(), request, context.pipeline)
    except UnusableHint as error:
        raise NotAcceptable(SCHEDULED, "InvalidHint", str(error)) from error
    if choice.node is not None:
        networks = frozenset(nic.network.uid for nic in accepted.nics)
        group = request.group.rule.uid if request.group else None
        held = Reservation(choice.node, request.wanted, networks, group)
        context.capacity.reserve(obj.uid, held)
        return choice.node
    message = choice.message
    if pinned and not forced:
        message = (
            f"network {pinned[1]} has guests on {pinned[0]} (several nodes in one network: not "
            f"supported yet); {message}"
        )
    raise NotAcceptable(SCHEDULED, "NoValidHost", message, pending=True)


def _standing(obj: AnyObject, problem: NotAcceptable) -> str:
    """The sentence that stands already, when the new one tells the same with other figures.

    Free room and ages move all the time; a status must not.
    """
    old = get_condition(obj.status.conditions, problem.condition)
    same = old is not None and old.reason == problem.reason
    if old is not None and same and same_cause(old.message, problem.message):
        return old.message
    return problem.message


async def _refuse(context: Context, obj: AnyObject, problem: NotAcceptable) -> None:
    """What stands in the way, in the condition it belongs to and in Ready."""
    message = _standing(obj, problem)
    draft = Draft(obj, context.clock.now())
    for type in (FLAVOR_READY, IMAGE_READY, NETWORK_READY, SCHEDULED):
        if type != problem.condition:
            draft.drop(type)
    if problem.condition != READY:
        draft.condition(problem.condition, "False", problem.reason, message)
    if problem.pending:
        draft.working("Pending", problem.reason, message)
        draft.set(vm_state="building", task_state="scheduling", fault=None)
    else:
        draft.error(problem.reason, message, code=400)
    before = obj.status
    await context.report(obj, draft.done())
    if before.state not in ("Pending", "Error") or message not in str(before.conditions):
        context.event(obj, problem.reason, message, warning=True)
