"""An Instance's status: one word for people, conditions for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from novakube_crds.conditions import ConditionStatus, remove_condition, rfc3339, set_condition
from novakube_crds.v1alpha1.guest import GuestSpec, GuestStatus
from novakube_crds.v1alpha1.instance import (
    READY,
    RECONCILING,
    STALLED,
    Fault,
    InstanceAddress,
    InstanceStatus,
)
from novakube_kit.objects import Object
from novakube_operator.core.power import TRANSIENT

AnyObject = Object[Any, Any]
CRASH_LOOP = "CrashLoop"
"""The agent's reason for a guest that it does not start any more."""
VM_STATES = {
    "Running": "active",
    "Stopped": "stopped",
    "Paused": "paused",
    "Suspended": "suspended",
}


class Draft:
    """A status in the making, from the one that stands; ``done`` is what to write."""

    def __init__(self, obj: AnyObject, now: datetime) -> None:
        self._old: InstanceStatus = obj.status
        self._generation = obj.generation
        self.now = now
        self.fields: dict[str, Any] = {"id": obj.spec.id or obj.uid}
        self.conditions = list(obj.status.conditions)

    def set(self, **fields: Any) -> Draft:
        """Sets status fields by their Python names."""
        self.fields |= fields
        return self

    def condition(
        self, type: str, status: ConditionStatus, reason: str, message: str = ""
    ) -> Draft:
        """Sets a condition."""
        self.conditions = set_condition(
            self.conditions,
            type,
            status,
            reason,
            message[:32768],
            now=self.now,
            observed_generation=self._generation,
        )
        return self

    def drop(self, *types: str) -> Draft:
        """Removes conditions."""
        for type in types:
            self.conditions = remove_condition(self.conditions, type)
        return self

    def ready(self, reason: str, message: str = "") -> Draft:
        """As the effective wish asks."""
        return self.condition(READY, "True", reason, message).drop(STALLED, RECONCILING)

    def working(self, state: str, reason: str, message: str = "") -> Draft:
        """Under way; ``state`` is the word for people."""
        self.fields["state"] = state
        self.condition(READY, "False", reason, message)
        return self.condition(RECONCILING, "True", reason, message).drop(STALLED)

    def error(self, reason: str, message: str, code: int = 500) -> Draft:
        """Failed for good, until something changes."""
        fault = self._old.fault
        if fault is None or fault.message != message:
            fault = Fault(code=code, message=message, created=rfc3339(self.now), details=reason)
        self.set(state="Error", vm_state="error", task_state=None, fault=fault)
        return self.stalled(reason, message)

    def stalled(self, reason: str, message: str) -> Draft:
        """Not as the effective wish asks, and nothing is being done about it."""
        self.condition(READY, "False", reason, message)
        return self.condition(STALLED, "True", reason, message).drop(RECONCILING)

    def anew(self) -> Draft:
        """A creation that failed begins again; nothing of the failed one counts."""
        self.working("Scheduling", "Retrying", "what it is made from changed")
        return self.set(
            vm_state="building",
            task_state="scheduling",
            fault=None,
            refused_nodes=[],
            flavor=None,
            image=None,
            wanted_power_state=None,
            applied_power_state=None,
            power_sequence=0,
        )

    def done(self) -> InstanceStatus:
        """The status; ``updatedAt`` moves only when something else did."""
        new = self._old.model_copy(
            update=self.fields
            | {"conditions": self.conditions, "observed_generation": self._generation}
        )
        if new == self._old:
            return self._old
        return new.model_copy(update={"updated_at": rfc3339(self.now)})


def addresses(spec: GuestSpec) -> list[InstanceAddress]:
    """Addresses as the guest has them."""
    return [
        InstanceAddress(
            address=item.address,
            version=6 if ":" in item.address else 4,
            mac=nic.mac,
            network=nic.network_name,
            network_uid=nic.network_uid,
            port=nic.port_name,
        )
        for nic in spec.nics
        for item in nic.addresses
    ]


def settled(spec: GuestSpec, status: GuestStatus) -> bool:
    """Whether the agent has carried out the last power order."""
    return status.phase == "Ready" and status.power_sequence >= spec.power_sequence


def at_rest(spec: GuestSpec, status: GuestStatus) -> bool:
    """Whether a power order may come.

    Settled; or the last order asks for what is there, as the one after a guest's own shutdown;
    or off for good after crashes until an order comes.
    """
    if status.phase == "Ready":
        return settled(spec, status) or status.power_state == spec.power_state
    return bool(status.phase == "Failed" and status.reason == CRASH_LOOP)


def word(spec: GuestSpec, status: GuestStatus) -> str:
    """The state word of a guest that is there."""
    now = status.power_state
    if settled(spec, status) or (status.phase == "Ready" and now == spec.power_state):
        return now if now != "Unknown" else "Building"
    return TRANSIENT.get((now, spec.power_state), "Building")


def newest(guests: Iterable[AnyObject]) -> AnyObject | None:
    """The Guest of the highest incarnation."""
    return max(guests, key=lambda guest: guest.spec.incarnation, default=None)
