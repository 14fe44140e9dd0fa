"""What a decision about an Instance with a Guest is made of, and what it says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from novakube_crds.base import PowerState
from novakube_crds.v1alpha1.instance import InstanceStatus
from novakube_kit.kube import Json
from novakube_kit.objects import Object
from novakube_operator.core.accept import Accepted

AnyObject = Object[Any, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the decision needs beside the Instance and its Guest."""

    now: datetime
    epoch: int
    """``leaseTransitions`` under which this operator leads."""
    build_deadline_s: float
    waited_s: float | None = None
    """Since this process made the Guest, by a clock that never jumps; None: another one did."""
    silent: str | None = None
    """Why the Guest's node is not heard; None when it is."""
    accepted: Accepted | None = None
    """What the Guest was made from, while the Instance's status does not say it yet."""
    resolved: Accepted | None = None
    """What the Instance's references resolve to now; None: they do not, or nobody asked."""
    apart: bool = False
    """A Guest of an earlier leader that is apart from the members of its affinity group."""


@dataclass(frozen=True, slots=True)
class GuestOrder:
    """A change of ``Guest.spec``; false when there is none."""

    power: tuple[PowerState, int] | None = None
    epoch: int | None = None
    teardown: bool = False

    def __bool__(self) -> bool:
        """Whether anything is ordered."""
        return self != NOTHING

    def spec(self) -> Json:
        """The fields to patch."""
        fields: Json = {}
        if self.power is not None:
            fields |= {"powerState": self.power[0], "powerSequence": self.power[1]}
        if self.epoch is not None:
            fields["epoch"] = self.epoch
        if self.teardown:
            fields["teardown"] = "Destroy"
        return fields


NOTHING = GuestOrder()


@dataclass(frozen=True, slots=True)
class Announcement:
    """An Event on the Instance."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass decided. ``at_rest`` when nothing is to be done."""

    status: InstanceStatus
    """Equal to the standing one: no write."""
    order: GuestOrder = NOTHING
    events: tuple[Announcement, ...] = ()
    launched: bool = False
    """It runs for the first time: the copies kept for it may go."""
    pin_image: bool = False
    """The digest found goes into the Image, before the status says that it ran."""
    begins_anew: bool = False
    """What it was accepted with counts no more."""
    remove_guest: bool = False
    """The incarnation is Gone: its object goes."""
    delete_instance: bool = False
    """Its owner asked for that: ``onGuestShutdown: Delete``, or a soft deletion that is due."""
    look_again_s: float | None = None

    def at_rest(self, obj: AnyObject) -> bool:
        """Whether applying it would do nothing."""
        return not (
            self.status != obj.status or self.order or self.remove_guest or self.delete_instance
        )
