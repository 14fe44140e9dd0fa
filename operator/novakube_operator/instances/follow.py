"""An Instance that has a Guest: its status, its power wishes, its alternates."""

from __future__ import annotations

import contextlib
from typing import Any

from novakube_crds.conditions import get_condition, rfc3339
from novakube_crds.v1alpha1.hypervisor import AGENT_ALIVE
from novakube_crds.v1alpha1.instance import (
    FLAVOR_READY,
    GUEST_READY,
    IMAGE_READY,
    NETWORK_READY,
    POWER_AS_SPECIFIED,
    READY,
    SCHEDULED,
    Progress,
)
from novakube_kit.errors import NotFound
from novakube_kit.objects import Object
from novakube_operator.core import instance_status as core
from novakube_operator.core.accept import Accepted, NotAcceptable, accept
from novakube_operator.core.faults import NOT_THE_NODES_FAULT
from novakube_operator.core.power import TRANSIENT, refusal
from novakube_operator.instances.context import BUILDING_AFTER_S, RESOURCES, Context
from novakube_operator.instances.pinning import pin_image
from novakube_operator.instances.placement import breaks_affinity

AnyObject = Object[Any, Any]
BUILD_TIMEOUT = "BuildTimeout"
ALTERNATES = 3
"""Nodes tried for one creation. Source: nova.conf scheduler max_attempts."""


class Follower:
    """One pass over an Instance and its newest Guest."""

    def __init__(self, context: Context, obj: AnyObject, guest: AnyObject) -> None:
        self._context = context
        self._obj = obj
        self._guest = guest
        self._draft = core.Draft(obj, context.clock.now())

    async def run(self) -> float | None:
        """Follows the guest; returns when to look again."""
        guest = self._guest
        if guest.status.phase == "Gone":
            await self._gone()
            return 0.0
        if guest.spec.teardown is not None:
            return None
        if self._changed_before_first_run():
            await self._context.patch(guest, {"spec": {"teardown": "Destroy"}})
            return None
        await self._stamp()
        if self._guest.spec.teardown is not None:
            return None
        self._base()
        return await self._by_phase()

    async def _stamp(self) -> None:
        """The first boot of an earlier leader's Guest waits on its node for the leader's word."""
        guest, epoch = self._guest, self._context.epoch()
        first = guest.status.started_at is None and guest.status.phase in ("Pending", "Building")
        if not first or guest.spec.epoch >= epoch:
            return
        if breaks_affinity(self._context, guest):
            self._guest = await self._context.patch(guest, {"spec": {"teardown": "Destroy"}})
        else:
            self._guest = await self._context.patch(guest, {"spec": {"epoch": epoch}})

    def _resolved(self) -> Accepted:
        context = self._context
        return accept(self._obj, context.get, context.by, context.project(self._obj.namespace))

    async def _by_phase(self) -> float | None:
        match self._guest.status.phase:
            case "Ready":
                await self._ready()
            case "Rejected" | "Failed":
                await self._refused()
            case "Lost":
                await self._fail("Lost", self._guest.status.message)
            case _:
                return await self._building()
        return None

    def _base(self) -> None:
        """What is true of every Instance with a Guest."""
        guest, draft = self._guest, self._draft
        accepted = self._context.accepted.get(self._obj.uid)
        if accepted is None and self._obj.status.flavor is None:
            try:
                accepted = self._resolved()
            except NotAcceptable:
                accepted = None  # What it was made from is gone; the Guest holds the copy.
        if accepted is not None:
            draft.set(flavor=accepted.flavor, image=accepted.image)
        draft.set(
            node=guest.spec.hypervisor,
            guest=guest.name,
            incarnation=max(self._obj.status.incarnation, guest.spec.incarnation),
            addresses=core.addresses(guest.spec),
            availability_zone=guest.spec.availability_zone,
            server_group=guest.spec.server_group,
            hypervisor_name=guest.status.domain_name,
        )
        if self._obj.status.accepted_generation is None:
            draft.set(accepted_generation=self._obj.generation)
        for type in (FLAVOR_READY, IMAGE_READY, NETWORK_READY):
            draft.condition(type, "True", "Accepted")
        draft.condition(SCHEDULED, "True", "Placed", f"on {guest.spec.hypervisor}")

    def _changed_before_first_run(self) -> bool:
        """Until the first Running any change of the spec or of the image resolves anew."""
        status = self._obj.status
        if status.launched_at is not None or status.state != "Error":
            return False
        if status.observed_generation != self._obj.generation:
            return True
        try:
            now = self._resolved()
        except NotAcceptable:
            return False
        if status.image is None:
            return False
        # A digest that became known is no other image.
        digest = status.image.sha256 or now.image.sha256
        return bool(now.image != status.image.model_copy(update={"sha256": digest}))

    async def _gone(self) -> None:
        """The incarnation ended: its object goes, and the next pass makes the next one."""
        number = max(self._obj.status.incarnation, self._guest.spec.incarnation)
        self._draft.set(incarnation=number, guest=None, node=None, addresses=[])
        status = self._obj.status
        if status.state == "Error" and status.launched_at is None and not given_up(self._obj):
            self._draft.anew()
            self._context.accepted.pop(self._obj.uid, None)
        await self._context.report(self._obj, self._draft.done())
        await self._context.remove(self._guest)

    async def _building(self) -> float | None:
        age = (self._context.clock.now() - self._guest.created_at).total_seconds()
        if age > self._context.build_deadline_s:
            why = self._guest.status.message or "the node did not answer"
            deadline_s = self._context.build_deadline_s
            await self._fail(BUILD_TIMEOUT, f"no guest after {deadline_s:.0f} s: {why}")
            await self._context.patch(self._guest, {"spec": {"teardown": "Destroy"}})
            return None
        # creationTimestamp has whole seconds: what the caller waited counts, not this age.
        fresh = self._guest.status.phase == "Pending" and age < BUILDING_AFTER_S
        if fresh and self._obj.status.state == "Scheduling":
            return BUILDING_AFTER_S
        silent = self._silent()
        status = self._guest.status
        if silent:
            self._draft.working("NodeSilent", "NodeSilent", silent)
        else:
            reason = status.reason or "Building"
            self._draft.working("Building", reason, status.message)
        self._draft.condition(GUEST_READY, "False", status.reason or "Building", status.message)
        progress = status.progress
        self._draft.set(
            vm_state="building",
            task_state="spawning",
            progress=Progress(what=f"image {progress.name}", percent=progress.percent)
            if progress
            else None,
        )
        await self._context.report(self._obj, self._draft.done())
        return self._context.build_deadline_s - age + 1

    def _silent(self) -> str | None:
        hypervisor = self._context.get("hypervisors", None, self._guest.spec.hypervisor)
        if hypervisor is None:
            return f"hypervisor {self._guest.spec.hypervisor} is gone"
        for condition in hypervisor.status.conditions:
            if condition.type == AGENT_ALIVE and condition.status == "False":
                return f"node {hypervisor.name}: {condition.message}"
        return None

    async def _refused(self) -> float | None:
        """Alternates follow only an answer, and only before the first Running."""
        status, node = self._guest.status, self._guest.spec.hypervisor
        refused = [*self._obj.status.refused_nodes, node]
        launched_before = self._obj.status.launched_at is not None
        hopeless = status.reason in NOT_THE_NODES_FAULT or launched_before
        if hopeless or len(refused) > ALTERNATES:
            if core.at_rest(self._guest.spec, status):
                self._wish()
            await self._order(await self._fail(status.reason or status.phase, status.message))
            return None
        self._draft.set(refused_nodes=refused)
        self._draft.working(
            "Scheduling", status.reason or status.phase, f"{node}: {status.message}"
        )
        await self._context.report(self._obj, self._draft.done())
        await self._context.patch(self._guest, {"spec": {"teardown": "Destroy"}})
        return None

    async def _fail(self, reason: str, message: str) -> AnyObject:
        self._draft.condition(GUEST_READY, "False", reason, message)
        self._draft.error(reason, message)
        self._draft.set(power_state=self._guest.status.power_state, progress=None)
        before = self._obj.status.state
        obj = await self._context.report(self._obj, self._draft.done())
        if before != "Error":
            self._context.event(self._obj, reason, message, warning=True)
        return obj

    async def _ready(self) -> float | None:
        guest, status = self._guest, self._guest.status
        self._draft.condition(GUEST_READY, "True", "Ready")
        self._draft.set(power_state=status.power_state, progress=None, fault=None)
        if self._obj.status.wanted_power_state is None:
            first = guest.spec.power_state
            applied = first if self._obj.spec.power_state == first else None
            self._draft.set(
                wanted_power_state=first,
                applied_power_state=applied,
                power_sequence=guest.spec.power_sequence,
            )
        if self._obj.status.launched_at is None and status.started_at is not None:
            self._draft.set(launched_at=rfc3339(self._context.clock.now()))
        if await self._guest_stopped_itself():
            return None
        self._wish()
        self._state()
        first_time = self._obj.status.launched_at is None
        if first_time:
            # Before the write that ends the first time: a Conflict here comes back to it.
            image = self._draft.fields.get("image", self._obj.status.image)
            await pin_image(self._context, image, status)
        obj = await self._context.report(self._obj, self._draft.done())
        await self._order(obj)
        if first_time and obj.status.launched_at is not None:
            self._context.accepted.pop(obj.uid, None)
            self._context.event(obj, "Started", f"running on {guest.spec.hypervisor}")
        return None

    async def _guest_stopped_itself(self) -> bool:
        """``onGuestShutdown``; True when the Instance ends by it."""
        guest, status = self._guest, self._guest.status
        wanted = self._draft.fields.get("wanted_power_state", self._obj.status.wanted_power_state)
        by_itself = (
            core.settled(guest.spec, status)
            and status.power_state == "Stopped"
            and wanted == "Running"
            and status.stop_reason in ("GuestShutdown", "Destroyed")
        )
        if not by_itself:
            return False
        sequence = self._obj.status.power_sequence
        match self._obj.spec.on_guest_shutdown:
            case "Restart":
                self._draft.set(wanted_power_state="Running", power_sequence=sequence + 1)
            case "Delete":
                with contextlib.suppress(NotFound):
                    await self._context.kube.delete(
                        RESOURCES["instances"],
                        self._obj.name,
                        self._obj.namespace,
                        uid=self._obj.uid,
                    )
                return True
            case _:
                self._draft.set(wanted_power_state="Stopped", power_sequence=sequence + 1)
        return False

    def _wish(self) -> None:
        """Consumes a changed ``spec.powerState``."""
        fields, status = self._draft.fields, self._obj.status
        spec, applied = self._obj.spec.power_state, status.applied_power_state
        applied = fields.get("applied_power_state", applied)
        wanted = fields.get("wanted_power_state", status.wanted_power_state)
        if spec is None:
            self._draft.drop(POWER_AS_SPECIFIED)
            return
        busy = status.current_action is not None or not core.at_rest(
            self._guest.spec, self._guest.status
        )
        if spec != applied and not busy:
            impossible = refusal(self._guest.status.power_state, spec)
            self._draft.set(applied_power_state=spec)
            if impossible is not None:
                self._draft.condition(
                    POWER_AS_SPECIFIED, "False", "ImpossibleTransition",
                    f"spec.powerState {spec}: {impossible}",
                )  # fmt: skip
                return
            if spec != wanted:
                sequence = fields.get("power_sequence", status.power_sequence)
                self._draft.set(wanted_power_state=spec, power_sequence=sequence + 1)
        if self._guest.status.power_state == spec:
            self._draft.condition(POWER_AS_SPECIFIED, "True", "AsSpecified")
        elif spec == applied and self._refused_before():
            return
        else:
            wish = self._draft.fields.get("wanted_power_state", wanted)
            message = f"spec.powerState {spec}, the effective wish is {wish}"
            self._draft.condition(POWER_AS_SPECIFIED, "False", "Differs", message)

    def _refused_before(self) -> bool:
        return any(
            c.type == POWER_AS_SPECIFIED and c.reason == "ImpossibleTransition"
            for c in self._obj.status.conditions
        )

    def _state(self) -> None:
        guest, status = self._guest, self._guest.status
        wanted = self._draft.fields.get("wanted_power_state", self._obj.status.wanted_power_state)
        sequence = self._draft.fields.get("power_sequence", self._obj.status.power_sequence)
        word = core.word(guest.spec, status)
        action = self._obj.status.current_action
        silent = self._silent()
        if silent:
            self._draft.working("NodeSilent", "NodeSilent", silent)
        elif action is not None and action.type == "Reboot":
            self._draft.working("Rebooting", "Rebooting", action.name)
        elif sequence > guest.spec.power_sequence or not core.settled(guest.spec, status):
            state = TRANSIENT.get((status.power_state, wanted), word)
            self._draft.working(state, "PowerOrder", f"{status.power_state} to {wanted}")
        elif status.power_error:
            self._draft.set(state=word)
            self._draft.condition("Ready", "False", "PowerFailed", status.power_error)
        else:
            self._draft.set(state=word).ready(word, f"on {guest.spec.hypervisor}")
        self._draft.set(vm_state=core.VM_STATES.get(status.power_state, "active"), task_state=None)

    async def _order(self, obj: AnyObject) -> None:
        """Guest.spec copies the wish with its sequence, and takes a new leader's epoch."""
        spec = self._guest.spec
        wanted, sequence = obj.status.wanted_power_state, obj.status.power_sequence
        if wanted is not None and sequence > spec.power_sequence:
            order = {"powerState": wanted, "powerSequence": sequence}
            self._guest = await self._context.patch(self._guest, {"spec": order})


def given_up(obj: AnyObject) -> bool:
    """Whether the build deadline ended it: only a change of the spec begins anew."""
    ready = get_condition(obj.status.conditions, READY)
    same = obj.status.observed_generation == obj.generation
    return ready is not None and ready.reason == BUILD_TIMEOUT and same
