"""What an InstanceAction does to its Instance. Pure.

``begin`` decides whether it may start and with which status fields it takes the Instance;
``proceed`` says, as often as it is asked, what is to be done next until it ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from novakube_crds.conditions import rfc3339
from novakube_crds.v1alpha1.guest import GuestNic, GuestSubnet
from novakube_crds.v1alpha1.instance import InstanceStatus, SoftDeletion
from novakube_crds.v1alpha1.instanceaction import IMPOSSIBLE_TRANSITION, InstanceActionSpec
from novakube_kit.kube import Json
from novakube_kit.objects import Object
from novakube_operator.core import instance_status as core
from novakube_operator.core.power import ACTIONS, REBOOT_FROM, action_order

AnyObject = Object[Any, Any]
ANY = ("Running", "Stopped", "Paused", "Suspended")
REQUESTS: Mapping[str, tuple[str, ...]] = {
    "Reboot": ANY,
    "CrashDump": ("Running", "Paused"),
    "ResetNetwork": ANY,
    "InjectNetworkInfo": ANY,
}
"""Actions that the node's agent carries out, and the states they start from.

Source: nova/compute/api.py, check_instance_state of trigger_crash_dump, reset_network and
inject_network_info; a Reboot has its own table.
"""
SUPPORTED: Final = frozenset({*ACTIONS, *REQUESTS, "SoftDelete", "Restore", "ResetState"})
OF_SOFT_DELETED = frozenset({"Restore", "ResetState"})
OF_ERROR = frozenset(
    {"Stop", "Reboot", "CrashDump", "ResetNetwork", "InjectNetworkInfo", "ResetState", "SoftDelete"}
)
"""What an Instance that ResetState put into error takes. Source: nova/compute/api.py."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It does not start."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Taken:
    """It starts; the fields are written together with ``currentAction``."""

    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """The Guest needs this request in its spec."""

    request: Json


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over; an empty reason is success."""

    reason: str = ""
    message: str = ""


def begin(
    spec: InstanceActionSpec,
    status: InstanceStatus,
    guest: AnyObject | None,
    now: datetime,
    reclaim_after_s: float,
) -> Taken | Refused:
    """Whether the action may start now, and what it changes.

    ``reclaim_after_s``: how long a soft-deleted Instance is kept; 0: until somebody acts.
    """
    kind = spec.action
    if guest is None:
        message = f"{kind} needs a guest; the instance is {status.state} and has none"
        return Refused(IMPOSSIBLE_TRANSITION, message)
    if kind == "ResetState":
        return _reset(spec, status, guest)
    why = _not_now(spec, status, guest)
    if why is not None:
        return Refused(IMPOSSIBLE_TRANSITION, why)
    if kind in ("SoftDelete", "Restore"):
        return _soft(kind, status, guest, now, reclaim_after_s)
    if kind in REQUESTS:
        hard = kind == "Reboot" and reboot_type(spec) == "Hard"
        return Taken({"reset_state": None} if hard else {})
    return Taken({"reset_state": None, **_order(status, ACTIONS[kind][1])})


def _soft(
    kind: str, status: InstanceStatus, guest: AnyObject, now: datetime, reclaim_after_s: float
) -> Taken:
    if kind == "Restore":
        # Nova powers on whatever it was before: nova/compute/manager.py, restore_instance.
        return Taken({"soft_deleted": None, **_order(status, "Running")})
    until = rfc3339(now + timedelta(seconds=reclaim_after_s)) if reclaim_after_s > 0 else None
    # A suspended guest is off already, and cannot be stopped without waking it.
    stop = {} if guest.status.power_state == "Suspended" else _order(status, "Stopped")
    gone = SoftDeletion(at=rfc3339(now), until=until)
    return Taken({"soft_deleted": gone, "reset_state": None, **stop})


def _not_now(spec: InstanceActionSpec, status: InstanceStatus, guest: AnyObject) -> str | None:
    kind = spec.action
    if not core.at_rest(guest.spec, guest.status):
        return f"{kind} needs a guest at rest; the instance is {status.state}"
    if status.soft_deleted is not None and kind not in OF_SOFT_DELETED:
        return f"{kind}: the instance is soft-deleted; restore it first"
    if status.soft_deleted is None and kind == "Restore":
        return f"Restore needs an instance that is soft-deleted; it is {status.state}"
    if status.reset_state == "error" and not _mends(spec):
        return f"{kind}: an administrator set the state to error"
    return _not_from(spec, guest.status.power_state)


def _not_from(spec: InstanceActionSpec, now: str) -> str | None:
    kind = spec.action
    if kind in ACTIONS:
        return action_order(kind, now)[1] or None
    allowed = REBOOT_FROM[reboot_type(spec)] if kind == "Reboot" else REQUESTS.get(kind, ANY)
    if now not in allowed:
        return f"{kind} needs a guest that is {' or '.join(allowed)}; it is {now}"
    return None


def _mends(spec: InstanceActionSpec) -> bool:
    """A soft reboot needs a guest that is well."""
    soft = spec.action == "Reboot" and reboot_type(spec) == "Soft"
    return spec.action in OF_ERROR and not soft


def _order(status: InstanceStatus, wanted: str) -> dict[str, Any]:
    return {"wanted_power_state": wanted, "power_sequence": status.power_sequence + 1}


def _reset(spec: InstanceActionSpec, status: InstanceStatus, guest: AnyObject) -> Taken | Refused:
    """Nova's os-resetState. ``active`` on a guest that failed has its node try once more."""
    if guest.status.phase not in ("Ready", "Failed"):
        message = f"ResetState needs a guest that was built; it is {guest.status.phase}"
        return Refused(IMPOSSIBLE_TRANSITION, message)
    if spec.parameters is not None and spec.parameters.state == "error":
        return Taken({"reset_state": "error"})
    again = guest.status.phase == "Failed"
    wanted = status.wanted_power_state or guest.spec.power_state
    return Taken({"reset_state": None, **(_order(status, wanted) if again else {})})


def proceed(
    action: AnyObject, instance: AnyObject, guest: AnyObject | None, request: Json | None
) -> Ask | Ended | None:
    """The next step of an action that holds its Instance; None: wait for the node.

    ``request`` is what ``request_of`` made of it, None for actions that need no agent.
    """
    if guest is None:
        return Ended("NotFound", "the guest is gone")
    kind = action.spec.action
    if kind == "ResetState":
        return Ended()
    if request is not None:
        return _answer(action, guest, request)
    status, sequence = guest.status, instance.status.power_sequence
    told = status.observed_generation >= guest.generation
    if status.phase in ("Failed", "Lost") and guest.spec.power_sequence >= sequence and told:
        return Ended(status.reason or status.phase, status.message)
    if status.phase == "Ready" and status.power_sequence >= sequence:
        return Ended(IMPOSSIBLE_TRANSITION if status.power_error else "", status.power_error)
    return None


def _answer(action: AnyObject, guest: AnyObject, request: Json) -> Ask | Ended | None:
    standing = guest.spec.request
    if standing is None or standing.uid != action.uid:
        return Ask(request)
    answer = guest.status.request
    if answer is None or answer.uid != action.uid or answer.state == "Accepted":
        return None
    failed = f"{action.spec.action}Failed"
    reason = {"Succeeded": "", "Interrupted": "Interrupted"}.get(answer.state, failed)
    return Ended(reason, answer.message)


def left_behind(action: AnyObject, status: InstanceStatus) -> dict[str, Any]:
    """What an action that ended changes of its Instance's wish.

    A guest that was rebooted runs, whatever it was before: nova/compute/manager.py,
    reboot_instance. One whose reboot was cut short is not rebooted again, but is to run.
    """
    ended = action.status.state == "Succeeded" or action.status.reason == "Interrupted"
    if action.spec.action != "Reboot" or not ended or status.wanted_power_state == "Running":
        return {}
    return _order(status, "Running")


def request_of(action: AnyObject) -> Json | None:
    """``Guest.spec.request`` of an action; None when the agent is not asked."""
    kind = action.spec.action
    if kind not in REQUESTS:
        return None
    parameters = {"type": reboot_type(action.spec)} if kind == "Reboot" else {}
    return {"uid": action.uid, "type": kind, "parameters": parameters}


def reboot_type(spec: InstanceActionSpec) -> str:
    """Soft unless said otherwise."""
    return (spec.parameters.type if spec.parameters else None) or "Soft"


def facade_number(name: str, instance_id: str) -> int | None:
    """The number of a facade's action, ``<id>.<number>``; None for one made by hand."""
    found = re.fullmatch(re.escape(instance_id) + r"\.([1-9][0-9]{0,17})", name)
    return int(found.group(1)) if found else None


def waits(name: str, current: str, instance_id: str) -> bool:
    """Whether an action waits for the one that runs, instead of failing with Conflict.

    A facade has acknowledged its action already, so it waits behind one made by hand.
    """
    mine, other = facade_number(name, instance_id), facade_number(current, instance_id)
    return mine is not None and other is None


def refreshed(nics: list[GuestNic], subnets: Mapping[str, GuestSubnet]) -> list[GuestNic]:
    """NICs with what DHCP hands out as the Subnets (by UID) say now."""
    return [
        nic.model_copy(
            update={
                "addresses": [
                    item.model_copy(update={"subnet": subnets.get(item.subnet.uid, item.subnet)})
                    for item in nic.addresses
                ]
            }
        )
        for nic in nics
    ]
