"""Which power orders are possible. Pure.

One table for ``spec.powerState`` and one for actions; the agent has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping

from novakube_crds.base import PowerState

IMPOSSIBLE: Mapping[tuple[str, PowerState], str] = {
    ("Stopped", "Paused"): "only a running guest can be paused; start it first",
    ("Stopped", "Suspended"): "only a running guest can be suspended; start it first",
    ("Paused", "Suspended"): "a paused guest cannot be suspended; unpause it first",
    ("Suspended", "Paused"): "a suspended guest cannot be paused; resume it first",
    ("Suspended", "Stopped"): "a suspended guest cannot be stopped; resume it first",
}
"""Wishes of ``spec.powerState`` that cannot be reached from the state now.

Source: https://docs.openstack.org/api-ref/compute/; as in the agent, a paused guest may be
stopped: it is unpaused first.
"""

ACTIONS: Mapping[str, tuple[tuple[str, ...], PowerState]] = {
    "Start": (("Stopped",), "Running"),
    "Stop": (("Running",), "Stopped"),
    "Pause": (("Running",), "Paused"),
    "Unpause": (("Paused",), "Running"),
    "Suspend": (("Running",), "Suspended"),
    "Resume": (("Suspended",), "Running"),
}
"""Action -> states it starts from and the state it leads to. Source: nova/compute/api.py."""

REBOOT_FROM: Mapping[str, tuple[str, ...]] = {
    "Soft": ("Running",),
    "Hard": ("Running", "Stopped", "Paused", "Suspended"),
}

TRANSIENT: Mapping[tuple[str, PowerState], str] = {
    ("Running", "Stopped"): "Stopping",
    ("Paused", "Stopped"): "Stopping",
    ("Stopped", "Running"): "Starting",
    ("Running", "Paused"): "Pausing",
    ("Paused", "Running"): "Unpausing",
    ("Running", "Suspended"): "Suspending",
    ("Suspended", "Running"): "Resuming",
}
"""(now, wanted) -> the Instance's state word meanwhile."""

FIRST_STATES = ("Running", "Stopped")
"""What a guest can be made into; the other wishes are ordered once it runs."""


def first_wish(wanted: PowerState | None) -> PowerState:
    """The order a new guest is made with."""
    return wanted if wanted in FIRST_STATES else "Running"


def refusal(now: str, wanted: PowerState) -> str | None:
    """Why a wish of the spec cannot be carried out from the state now; None when it can."""
    return IMPOSSIBLE.get((now, wanted))


def action_order(action: str, now: str) -> tuple[PowerState | None, str]:
    """The state an action leads to, or None and why it is impossible now."""
    allowed, wanted = ACTIONS[action]
    if now not in allowed:
        return None, f"{action} needs a guest that is {' or '.join(allowed)}; it is {now}"
    return wanted, ""
