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
from novakube_kit.objects import Key, Object
from novakube_operator.core import instance_status as core
from novakube_operator.core.accept import not_supported_yet
from novakube_operator.core.power import ACTIONS, REBOOT_FROM, action_order
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
            return await self._finish(action, "NotFound", message)
        current = instance.status.current_action
        if current is not None and current.uid == action.uid:
            return await self._carry_on(action, instance)
        if current is not None:
            message = f"action {current.name} ({current.type}) is running"
            return await self._finish(action, "Conflict", message)
        return await self._take(action, instance)

    async def _take(self, action: AnyObject, instance: AnyObject) -> float | None:
        kind = action.spec.action
        if kind not in ACTIONS and kind != "Reboot":
            problem = not_supported_yet(f"{kind}")
            return await self._finish(action, problem.reason, problem.message)
        guest = core.newest(self._context.by("guests", "instance", instance.uid))
        if guest is None or not core.at_rest(guest.spec, guest.status):
            state = instance.status.state
            message = f"{kind} needs a guest at rest; the instance is {state}"
            return await self._finish(action, "ImpossibleTransition", message)
        fields: dict[str, Any] = {}
        now = guest.status.power_state
        if kind == "Reboot":
            allowed = REBOOT_FROM[self._reboot_type(action)]
            if now not in allowed:
                message = f"Reboot needs a guest that is {' or '.join(allowed)}; it is {now}"
                return await self._finish(action, "ImpossibleTransition", message)
        else:
            wanted, why = action_order(kind, now)
            if wanted is None:
                return await self._finish(action, "ImpossibleTransition", why)
            sequence = instance.status.power_sequence + 1
            fields = {"wanted_power_state": wanted, "power_sequence": sequence}
        taken = CurrentAction(
            name=action.name,
            uid=action.uid,
            type=kind,
            started_at=rfc3339(self._context.clock.now()),
        )
        draft = core.Draft(instance, self._context.clock.now())
        draft.set(current_action=taken, **fields)
        instance = await self._context.report(instance, draft.done())
        return await self._carry_on(action, instance)

    async def _carry_on(self, action: AnyObject, instance: AnyObject) -> float | None:
        if action.status.state == "Pending":
            began = instance.status.current_action.started_at
            running = self._status(
                action, state="Running", instance_uid=instance.uid, started_at=began
            )
            action = await self._write(action, running)
        guest = core.newest(self._context.by("guests", "instance", instance.uid))
        if guest is None:
            return await self._finish(action, "NotFound", "the guest is gone", instance)
        if action.spec.action == "Reboot":
            return await self._reboot(action, instance, guest)
        status, sequence = guest.status, instance.status.power_sequence
        told = status.observed_generation >= guest.generation
        if status.phase in ("Failed", "Lost") and guest.spec.power_sequence >= sequence and told:
            return await self._finish(
                action, status.reason or status.phase, status.message, instance
            )
        if status.phase == "Ready" and status.power_sequence >= sequence:
            reason = "ImpossibleTransition" if status.power_error else ""
            return await self._finish(action, reason, status.power_error, instance)
        return None

    async def _reboot(
        self, action: AnyObject, instance: AnyObject, guest: AnyObject
    ) -> float | None:
        request = guest.spec.request
        if request is None or request.uid != action.uid:
            wanted: dict[str, Any] = {
                "uid": action.uid,
                "type": "Reboot",
                "parameters": {"type": self._reboot_type(action)},
            }
            await self._context.patch(guest, {"spec": {"request": wanted}})
            return None
        answer = guest.status.request
        if answer is None or answer.uid != action.uid or answer.state == "Accepted":
            return None
        reason = {"Succeeded": "", "Interrupted": "Interrupted"}.get(answer.state, "RebootFailed")
        return await self._finish(action, reason, answer.message, instance)

    @staticmethod
    def _reboot_type(action: AnyObject) -> str:
        parameters = action.spec.parameters
        return (parameters.type if parameters else None) or "Soft"

    def _status(self, action: AnyObject, **fields: Any) -> InstanceActionStatus:
        update = {"observed_generation": action.generation, **fields}
        status: InstanceActionStatus = action.status.model_copy(update=update)
        return status

    async def _write(self, action: AnyObject, status: InstanceActionStatus) -> AnyObject:
        return await self._context.patch(action, {"status": status.wire()}, "status")

    async def _finish(
        self, action: AnyObject, reason: str, message: str, instance: AnyObject | None = None
    ) -> float | None:
        """Ends the action (an empty reason is success), then frees the Instance."""
        now = self._context.clock.now()
        type, state = (FAILED, "Failed") if reason else (COMPLETE, "Succeeded")
        conditions = set_condition(
            list(action.status.conditions), type, "True", reason or "Succeeded", message,
            now=now, observed_generation=action.generation,
        )  # fmt: skip
        status = self._status(
            action, conditions=conditions, state=state, reason=reason, message=message,
            finished_at=rfc3339(now),
        )  # fmt: skip
        action = await self._write(action, status)
        return await self._after(action, instance)

    async def _after(self, action: AnyObject, instance: AnyObject | None) -> float | None:
        """Frees the Instance when it is still held; deletes the action after its TTL."""
        current = instance.status.current_action if instance is not None else None
        if instance is not None and current is not None and current.uid == action.uid:
            draft = core.Draft(instance, self._context.clock.now())
            await self._context.report(instance, draft.set(current_action=None).done())
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
