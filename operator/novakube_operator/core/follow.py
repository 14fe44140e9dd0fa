"""What an Instance that has a Guest needs next. Pure: facts in, a frozen outcome out.

The outcome is applied in one order: what must be known before the status (the image's digest),
the status, the order on the Guest, then Events and history. One status write holds wish,
applied and currentAction; the Guest copies it afterwards, so a crash in between is found again
by comparing sequences. A teardown is ordered here only for an incarnation that never ran and is
given up or superseded; nothing else in this module can end a guest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from novakube_crds.base import PowerState
from novakube_crds.conditions import get_condition, rfc3339
from novakube_crds.v1alpha1.instance import (
    FLAVOR_READY,
    GUEST_READY,
    IMAGE_READY,
    NETWORK_READY,
    POWER_AS_SPECIFIED,
    READY,
    SCHEDULED,
    InstanceStatus,
    Progress,
)
from novakube_kit.clock import parse_timestamp
from novakube_kit.objects import Object
from novakube_operator.core import instance_status as core
from novakube_operator.core.accept import Accepted
from novakube_operator.core.faults import NOT_THE_NODES_FAULT
from novakube_operator.core.outcome import NOTHING, Announcement, Facts, GuestOrder, Outcome
from novakube_operator.core.power import TRANSIENT, refusal

AnyObject = Object[Any, Any]
BUILD_TIMEOUT = "BuildTimeout"
BUILDING_AFTER_S = 0.2
"""A create that takes longer shows Building; a faster one saves the write."""
ALTERNATES = 3
"""Nodes tried for one creation. Source: nova.conf scheduler max_attempts."""


def plan(obj: AnyObject, guest: AnyObject, facts: Facts) -> Outcome:
    """Decides one pass over an Instance that is not being deleted and its newest Guest."""
    if guest.status.phase == "Gone":
        return _gone(obj, guest, facts)
    if guest.spec.teardown is not None:
        return Outcome(obj.status)
    if _changed_before_first_run(obj, guest, facts.resolved):
        return Outcome(obj.status, GuestOrder(teardown=True))
    return _BY_PHASE.get(guest.status.phase, _building)(obj, guest, facts)


def given_up(obj: AnyObject) -> bool:
    """Whether the build deadline ended it: only a change of the spec begins anew."""
    ready = get_condition(obj.status.conditions, READY)
    same = obj.status.observed_generation == obj.generation
    return ready is not None and ready.reason == BUILD_TIMEOUT and same


def _base(obj: AnyObject, guest: AnyObject, facts: Facts) -> core.Draft:
    """What is true of every Instance with a Guest."""
    draft = core.Draft(obj, facts.now)
    if facts.accepted is not None:
        draft.set(flavor=facts.accepted.flavor, image=facts.accepted.image)
    draft.set(
        node=guest.spec.hypervisor,
        guest=guest.name,
        incarnation=max(obj.status.incarnation, guest.spec.incarnation),
        addresses=core.addresses(guest.spec),
        availability_zone=guest.spec.availability_zone,
        server_group=guest.spec.server_group,
        hypervisor_name=guest.status.domain_name,
    )
    if obj.status.accepted_generation is None:
        draft.set(accepted_generation=obj.generation)
    for type in (FLAVOR_READY, IMAGE_READY, NETWORK_READY):
        draft.condition(type, "True", "Accepted")
    return draft.condition(SCHEDULED, "True", "Placed", f"on {guest.spec.hypervisor}")


def _changed_before_first_run(obj: AnyObject, guest: AnyObject, now: Accepted | None) -> bool:
    """Until the first Running any change of the spec or of the image resolves anew."""
    status = obj.status
    if _ran(obj, guest) or status.state != "Error":
        return False
    if status.observed_generation != obj.generation:
        return True
    if now is None or status.image is None:
        return False
    # A digest that became known is no other image.
    digest = status.image.sha256 or now.image.sha256
    return bool(now.image != status.image.model_copy(update={"sha256": digest}))


def _ran(obj: AnyObject, guest: AnyObject) -> bool:
    """Whether there is something that must not be lost: then only deletion ends it."""
    return (
        obj.status.launched_at is not None
        or guest.status.started_at is not None
        or guest.spec.adopt is not None
    )


def _gone(obj: AnyObject, guest: AnyObject, facts: Facts) -> Outcome:
    """The incarnation ended: its object goes, and the next pass makes the next one."""
    draft = core.Draft(obj, facts.now)
    number = max(obj.status.incarnation, guest.spec.incarnation)
    draft.set(incarnation=number, guest=None, node=None, addresses=[])
    status = obj.status
    anew = status.state == "Error" and status.launched_at is None and not given_up(obj)
    if anew:
        draft.anew()
    return Outcome(draft.done(), remove_guest=True, begins_anew=anew, look_again_s=0.0)


def _building(obj: AnyObject, guest: AnyObject, facts: Facts) -> Outcome:
    age = facts.waited_s
    if age is None:
        age = (facts.now - guest.created_at).total_seconds()
    status, first = guest.status, not _ran(obj, guest)
    order = _stamp(obj, guest, facts)
    if order.teardown:
        return Outcome(obj.status, order)
    if first and age > facts.build_deadline_s:
        why = status.message or facts.silent or "the node did not answer"
        message = f"no guest after {facts.build_deadline_s:.0f} s: {why}"
        draft = _base(obj, guest, facts)
        return _failed(draft, obj, guest, BUILD_TIMEOUT, message, GuestOrder(teardown=True))
    # creationTimestamp has whole seconds: what the caller waited counts, not this age.
    fresh = status.phase == "Pending" and age < BUILDING_AFTER_S
    if fresh and obj.status.state == "Scheduling":
        return Outcome(obj.status, order, look_again_s=BUILDING_AFTER_S)
    draft = _base(obj, guest, facts)
    if facts.silent:
        draft.working("NodeSilent", "NodeSilent", facts.silent)
    else:
        draft.working("Building", status.reason or "Building", status.message)
    draft.condition(GUEST_READY, "False", status.reason or "Building", status.message)
    progress = status.progress
    draft.set(
        vm_state="building" if first else obj.status.vm_state,
        task_state="spawning",
        progress=Progress(what=f"image {progress.name}", percent=progress.percent)
        if progress
        else None,
    )
    left = facts.build_deadline_s - age + 1 if first else None
    return Outcome(draft.done(), order, look_again_s=left)


def _stamp(obj: AnyObject, guest: AnyObject, facts: Facts) -> GuestOrder:
    """The first boot of an earlier leader's Guest waits on its node for the leader's word."""
    first = guest.status.started_at is None and guest.status.phase in ("Pending", "Building")
    stale = first and guest.spec.epoch < facts.epoch
    if stale and facts.apart and not _ran(obj, guest):
        return GuestOrder(teardown=True)
    return GuestOrder(epoch=facts.epoch if stale else None)


def _refused(obj: AnyObject, guest: AnyObject, facts: Facts) -> Outcome:
    """Alternates follow only an answer, and only before the first Running."""
    status, node = guest.status, guest.spec.hypervisor
    draft = _base(obj, guest, facts)
    refused = [*obj.status.refused_nodes, node]
    hopeless = status.reason in NOT_THE_NODES_FAULT or _ran(obj, guest)
    if hopeless or len(refused) > ALTERNATES:
        return _Running(obj, guest, facts).ended()
    draft.set(refused_nodes=refused)
    draft.working("Scheduling", status.reason or status.phase, f"{node}: {status.message}")
    return Outcome(draft.done(), GuestOrder(teardown=True))


def _lost(obj: AnyObject, guest: AnyObject, facts: Facts) -> Outcome:
    return _failed(_base(obj, guest, facts), obj, guest, "Lost", guest.status.message)


def _failed(
    draft: core.Draft,
    obj: AnyObject,
    guest: AnyObject,
    reason: str,
    message: str,
    order: GuestOrder = NOTHING,
) -> Outcome:
    draft.condition(GUEST_READY, "False", reason, message)
    draft.error(reason, message)
    draft.set(power_state=guest.status.power_state, progress=None)
    news = () if obj.status.state == "Error" else (Announcement(reason, message, warning=True),)
    return Outcome(draft.done(), order, news)


def _ready(obj: AnyObject, guest: AnyObject, facts: Facts) -> Outcome:
    return _Running(obj, guest, facts).outcome()


class _Running:
    """One decision over a Guest that is Ready; the draft collects it."""

    def __init__(self, obj: AnyObject, guest: AnyObject, facts: Facts) -> None:
        self._obj = obj
        self._guest = guest
        self._facts = facts
        self._draft = _base(obj, guest, facts)

    def outcome(self) -> Outcome:
        obj, status = self._obj, self._guest.status
        self._draft.condition(GUEST_READY, "True", "Ready")
        self._draft.set(power_state=status.power_state, progress=None, fault=None)
        self._first_wish()
        first_time = obj.status.launched_at is None
        if first_time and status.started_at is not None:
            self._draft.set(launched_at=rfc3339(self._facts.now))
        if self._ends_by_itself():
            return Outcome(obj.status, delete_instance=True)
        self._wish()
        self._state()
        done = self._draft.done()
        launched = first_time and done.launched_at is not None
        started = Announcement("Started", f"running on {self._guest.spec.hypervisor}")
        return Outcome(
            done,
            self._order(done),
            (started,) if launched else (),
            launched=launched,
            pin_image=first_time,
            look_again_s=self._reclaim_in_s(),
        )

    def ended(self) -> Outcome:
        """It failed for good; off after crashes, a power order has it tried once more."""
        obj, status = self._obj, self._guest.status
        if core.at_rest(self._guest.spec, status):
            self._wish()
        failed = _failed(
            self._draft, obj, self._guest, status.reason or status.phase, status.message
        )
        return replace(failed, order=self._order(failed.status))

    def _now(self, field: str) -> Any:
        """A status field as this pass leaves it."""
        return self._draft.fields.get(field, getattr(self._obj.status, field))

    def _first_wish(self) -> None:
        if self._obj.status.wanted_power_state is not None:
            return
        first = self._guest.spec.power_state
        self._draft.set(
            wanted_power_state=first,
            applied_power_state=first if self._obj.spec.power_state == first else None,
            power_sequence=self._guest.spec.power_sequence,
        )

    def _ends_by_itself(self) -> bool:
        """``onGuestShutdown``, or a soft deletion whose time is up."""
        left_s = self._reclaim_in_s()
        if left_s is not None and left_s <= 0:
            return True
        guest, status = self._guest, self._guest.status
        by_itself = (
            core.settled(guest.spec, status)
            and status.power_state == "Stopped"
            and self._now("wanted_power_state") == "Running"
            and status.stop_reason in ("GuestShutdown", "Destroyed")
            # Once the wish is ahead of the Guest, this stop has been answered.
            and self._now("power_sequence") == guest.spec.power_sequence
        )
        if not by_itself:
            return False
        answer = self._obj.spec.on_guest_shutdown
        if answer == "Delete":
            return True
        wanted = "Running" if answer == "Restart" else "Stopped"
        sequence = self._obj.status.power_sequence + 1
        self._draft.set(wanted_power_state=wanted, power_sequence=sequence)
        return False

    def _reclaim_in_s(self) -> float | None:
        gone = self._obj.status.soft_deleted
        if gone is None or gone.until is None:
            return None
        return (parse_timestamp(gone.until) - self._facts.now).total_seconds()

    def _wish(self) -> None:
        """Consumes a changed ``spec.powerState``."""
        spec, wanted = self._obj.spec.power_state, self._now("wanted_power_state")
        if spec is None:
            self._draft.drop(POWER_AS_SPECIFIED)
            return
        if spec != self._now("applied_power_state") and not self._busy():
            impossible = refusal(self._guest.status.power_state, spec)
            self._draft.set(applied_power_state=spec)
            if impossible is not None:
                self._draft.condition(
                    POWER_AS_SPECIFIED, "False", "ImpossibleTransition",
                    f"spec.powerState {spec}: {impossible}",
                )  # fmt: skip
                return
            if spec != wanted:
                sequence = self._now("power_sequence") + 1
                self._draft.set(wanted_power_state=spec, power_sequence=sequence)
        self._as_specified(spec)

    def _busy(self) -> bool:
        """Whether a change of the spec waits for what goes on."""
        status, rests = self._obj.status, core.at_rest(self._guest.spec, self._guest.status)
        return status.current_action is not None or status.soft_deleted is not None or not rests

    def _as_specified(self, spec: PowerState) -> None:
        if self._guest.status.power_state == spec:
            self._draft.condition(POWER_AS_SPECIFIED, "True", "AsSpecified")
        elif spec == self._obj.status.applied_power_state and self._refused_before():
            return
        else:
            wish = self._now("wanted_power_state")
            message = f"spec.powerState {spec}, the effective wish is {wish}"
            self._draft.condition(POWER_AS_SPECIFIED, "False", "Differs", message)

    def _refused_before(self) -> bool:
        found = get_condition(self._obj.status.conditions, POWER_AS_SPECIFIED)
        return found is not None and found.reason == "ImpossibleTransition"

    def _state(self) -> None:
        """The word for people, Ready, and Nova's states."""
        guest, status = self._guest, self._guest.status
        vm_state = core.VM_STATES.get(status.power_state, "active")
        self._draft.set(vm_state=vm_state, task_state=None)
        wanted, word = self._now("wanted_power_state"), core.word(guest.spec, status)
        action = self._obj.status.current_action
        ahead = self._now("power_sequence") > guest.spec.power_sequence
        if self._facts.silent:
            self._draft.working("NodeSilent", "NodeSilent", self._facts.silent)
        elif action is not None and action.type == "Reboot":
            self._draft.working("Rebooting", "Rebooting", action.name)
        elif ahead or not core.settled(guest.spec, status):
            state = TRANSIENT.get((status.power_state, wanted), word)
            self._draft.working(state, "PowerOrder", f"{status.power_state} to {wanted}")
        else:
            self._at_rest(word)

    def _at_rest(self, word: str) -> None:
        wanted = self._now("wanted_power_state")
        status, gone = self._guest.status, self._obj.status.soft_deleted
        if gone is not None:
            until = f"deleted at {gone.until}" if gone.until else "kept"
            self._draft.set(state="SoftDeleted", vm_state="soft-delete")
            self._draft.ready("SoftDeleted", f"{until} unless it is restored")
        elif self._obj.status.reset_state == "error":
            self._draft.error("ResetState", "an administrator set the state to error")
        elif status.power_error:
            self._draft.set(state=word).stalled("PowerFailed", status.power_error)
        elif status.power_state != wanted:
            message = f"{status.power_state}, the effective wish is {wanted}"
            self._draft.set(state=word).stalled("PowerDiffers", message)
        else:
            self._draft.set(state=word).ready(word, f"on {self._guest.spec.hypervisor}")

    def _order(self, done: InstanceStatus) -> GuestOrder:
        """Guest.spec copies the wish with its sequence."""
        wanted, sequence = done.wanted_power_state, done.power_sequence
        if wanted is None or sequence <= self._guest.spec.power_sequence:
            return GuestOrder()
        return GuestOrder(power=(wanted, sequence))


_BY_PHASE: Mapping[str, Callable[[AnyObject, AnyObject, Facts], Outcome]] = {
    "Ready": _ready,
    "Rejected": _refused,
    "Failed": _refused,
    "Lost": _lost,
}
"""What a phase leads to; the others are ways of building."""
