"""A verdict on an object and how it becomes conditions with kstatus' meaning."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from novakube_crds.base import Condition
from novakube_crds.conditions import ConditionStatus, remove_condition, set_condition

READY = "Ready"
STALLED = "Stalled"
NOT_SUPPORTED_YET = "NotSupportedYet"
ID_TAKEN = "IDTaken"
ACCEPTED = "Accepted"
NOT_FOUND = "NotFound"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ready or not, and why. ``stalled``: nothing will change until the object does."""

    ready: bool
    reason: str
    message: str = ""
    stalled: bool = False

    def conditions(
        self, old: list[Condition], generation: int, now: datetime, type: str = READY
    ) -> list[Condition]:
        """The conditions with this verdict in them; the same list when nothing changed."""
        status: ConditionStatus = "True" if self.ready else "False"
        new = set_condition(
            old, type, status, self.reason, self.message, now=now, observed_generation=generation
        )
        if not self.stalled:
            return remove_condition(new, STALLED)
        return set_condition(
            new, STALLED, "True", self.reason, self.message, now=now,
            observed_generation=generation,
        )  # fmt: skip


def accepted(message: str = "") -> Verdict:
    """All well."""
    return Verdict(True, ACCEPTED, message)


def not_supported_yet(what: str) -> Verdict:
    """Said instead of lying idle; ``what`` is listed in docs/not-yet.md."""
    return Verdict(
        False, NOT_SUPPORTED_YET, f"{what}: not supported yet, nothing was done", stalled=True
    )


def id_taken(id: str, other: str) -> Verdict:
    """Two objects claim one OpenStack id; the older keeps it."""
    return Verdict(
        False, ID_TAKEN, f"spec.id {id} belongs to {other}, which is older", stalled=True
    )
