"""InstanceActions: taken one at a time per Instance, carried out, answered once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from novakube_crds.conditions import rfc3339, set_condition
from novakube_crds.v1alpha1.instance import CurrentAction
from novakube_crds.v1alpha1.instanceaction import COMPLETE, FAILED, InstanceActionStatus
from novakube_kit.clock import parse_timestamp
from novakube_kit.errors import NotFound
from novakube_kit.kube import Json
from novakube_kit.objects import Key, Object
from novakube_operator.core import instance_status as core
from novakube_operator.core.accept import not_supported_yet
from novakube_operator.core.actions import (
    SUPPORTED,
    Ask,
    Ended,
    Refused,
    begin,
    facade_number,
    left_behind,
    proceed,
    refreshed,
    request_of,
    waits,
)
from novakube_operator.core.guest_spec import guest_subnet
from novakube_operator.instances.context import RESOURCES, Context
from novakube_operator.instances.recorder import keep_action

AnyObject = Object[Any, Any]
FINISHED = ("Succeeded", "Failed")


class ActionController:
    """One pass over one InstanceAction."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: Key) -> float | None:
        """One pass."""
        action = self._context.stores.of("instanceactions").get(*key)
        if action is None or action.deleting:
            return None
        instance = self._context.get("instances", action.namespace, action.spec.instance.name)
        if action.status.state in FINISHED:
            return await self._after(action, instance)
        if instance is None or instance.deleting:
            message = f"instance {action.namespace}/{action.spec.instance.name} does not exist"
            return await self._finish(action, Ended("NotFound", message))
        return await self._of(action, instance)

    async def _of(self, action: AnyObject, instance: AnyObject) -> float | None:
        """One pass over an action that is not over, with its Instance."""
        current = instance.status.current_action
        if current is not None and current.uid == action.uid:
            return await self._carry_on(action, instance)
        if action.status.state == "Running":
            # It held the Instance once: an administrator's ResetState has taken it away.
            return await self._finish(action, Ended("Interrupted", "the instance was reset"))
        if current is not None and action.spec.action != "ResetState":
            return await self._meets(action, instance, current)
        return await self._take(action, instance)

    async def _meets(
        self, action: AnyObject, instance: AnyObject, current: CurrentAction
    ) -> float | None:
        """Another one runs: wait behind it, or fail."""
        other = self._context.get("instanceactions", action.namespace, current.name)
        answered = other is not None and other.status.state in FINISHED
        if answered or waits(action.name, current.name, self._id(instance)):
            # An answered one lets go with its next write; whoever read the answer may go on.
            return None
        message = f"action {current.name} ({current.type}) is running"
        return await self._finish(action, Ended("Conflict", message), instance)

    async def _take(self, action: AnyObject, instance: AnyObject) -> float | None:
        kind = action.spec.action
        if kind not in SUPPORTED:
            problem = not_supported_yet(f"{kind}")
            return await self._finish(action, Ended(problem.reason, problem.message), instance)
        now, guest = self._context.clock.now(), self._guest(instance)
        begun = begin(action.spec, instance.status, guest, now, self._context.reclaim_after_s)
        if isinstance(begun, Refused):
            return await self._finish(action, Ended(begun.reason, begun.message), instance)
        taken = CurrentAction(name=action.name, uid=action.uid, type=kind, started_at=rfc3339(now))
        draft = core.Draft(instance, now).set(current_action=taken, **begun.fields)
        draft.set(action_seq=self._sequence(action, instance))
        instance = await self._context.report(instance, draft.done())
        return await self._carry_on(action, instance)

    def _guest(self, instance: AnyObject) -> AnyObject | None:
        return core.newest(self._context.by("guests", "instance", instance.uid))

    @staticmethod
    def _id(instance: AnyObject) -> str:
        return str(instance.spec.id or instance.uid)

    def _sequence(self, action: AnyObject, instance: AnyObject) -> int:
        number = facade_number(action.name, self._id(instance)) or 0
        return int(max(instance.status.action_seq, number))

    async def _carry_on(self, action: AnyObject, instance: AnyObject) -> float | None:
        if action.status.state == "Pending":
            began = instance.status.current_action.started_at
            running = self._status(
                action, state="Running", instance_uid=instance.uid, started_at=began
            )
            action = await self._write(action, running)
        guest = self._guest(instance)
        step = proceed(action, instance, guest, request_of(action))
        if isinstance(step, Ended):
            return await self._finish(action, step, instance)
        if isinstance(step, Ask) and guest is not None:
            await self._context.patch(guest, {"spec": self._asking(action, guest, step)})
        return None

    def _asking(self, action: AnyObject, guest: AnyObject, step: Ask) -> Json:
        """The request, with fresh facts of the Subnets where the action is about them."""
        fields: Json = {"request": step.request}
        if action.spec.action == "InjectNetworkInfo":
            nics = refreshed(guest.spec.nics, self._subnets(guest))
            fields["nics"] = [nic.wire() for nic in nics]
        return fields

    def _subnets(self, guest: AnyObject) -> dict[str, Any]:
        """The Subnets of a Guest's addresses as they are now, by UID; found by its claims."""
        found = {}
        for nic in guest.spec.nics:
            for item in nic.addresses:
                where = (nic.network_uid, item.address)
                for claim in self._context.by("ipaddresses", "address", where):
                    name = claim.spec.subnet.name
                    subnet = self._context.get("subnets", claim.namespace, name)
                    if subnet is not None:
                        found[subnet.uid] = guest_subnet(subnet)
        return found

    def _status(self, action: AnyObject, **fields: Any) -> InstanceActionStatus:
        update = {"observed_generation": action.generation, **fields}
        status: InstanceActionStatus = action.status.model_copy(update=update)
        return status

    async def _write(self, action: AnyObject, status: InstanceActionStatus) -> AnyObject:
        return await self._context.patch(action, {"status": status.wire()}, "status")

    async def _finish(
        self, action: AnyObject, end: Ended, instance: AnyObject | None = None
    ) -> float | None:
        """Ends the action, then lets go of the Instance."""
        now = self._context.clock.now()
        type, state = (FAILED, "Failed") if end.reason else (COMPLETE, "Succeeded")
        conditions = set_condition(
            list(action.status.conditions), type, "True", end.reason or "Succeeded", end.message,
            now=now, observed_generation=action.generation,
        )  # fmt: skip
        status = self._status(
            action, conditions=conditions, state=state, reason=end.reason, message=end.message,
            finished_at=rfc3339(now),
        )  # fmt: skip
        action = await self._write(action, status)
        return await self._after(action, instance)

    async def _after(self, action: AnyObject, instance: AnyObject | None) -> float | None:
        """Lets go of the Instance; deletes the action after its TTL."""
        if instance is not None:
            await self._let_go(action, instance)
        ttl = action.spec.ttl_seconds_after_finished
        if ttl is None or action.status.finished_at is None:
            return None
        end = parse_timestamp(action.status.finished_at) + timedelta(seconds=ttl)
        left = (end - self._context.clock.now()).total_seconds()
        if left > 0:
            return left
        await keep_action(self._context, action)
        try:
            await self._context.kube.delete(
                RESOURCES["instanceactions"], action.name, action.namespace, uid=action.uid
            )
        except NotFound:
            return None
        return None

    async def _let_go(self, action: AnyObject, instance: AnyObject) -> None:
        """Frees the Instance where it is still held, and uses the facade's number up.

        Whatever an end before a crash left out is made up for when the action is seen again.
        """
        fields: dict[str, Any] = {}
        current = instance.status.current_action
        if current is not None and current.uid == action.uid:
            fields = {"current_action": None, **left_behind(action, instance.status)}
        number = self._sequence(action, instance)
        if number > instance.status.action_seq:
            fields["action_seq"] = number
        if fields:
            draft = core.Draft(instance, self._context.clock.now())
            await self._context.report(instance, draft.set(**fields).done())

    def keys(self) -> list[Key]:
        """All actions."""
        return [obj.key for obj in self._context.stores.of("instanceactions")]

    def wakes(
        self, plural: str, old: AnyObject | None, new: AnyObject | None
    ) -> Iterator[tuple[Key, float]]:
        """Actions that a change concerns."""
        obj = new or old
        if obj is None:
            return
        if plural == "instanceactions" and new is not None:
            yield new.key, 0.0
        elif plural in ("instances", "guests"):
            identity = obj.key
            if plural == "guests":
                identity = (obj.spec.instance.namespace, obj.spec.instance.name)
            for action in self._context.by("instanceactions", "instance", identity):
                if action.status.state not in FINISHED:
                    yield action.key, 0.0
