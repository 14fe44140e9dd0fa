"""libvirt's numbers -> the words of ``ports``. Tables only.

Source: https://libvirt.org/html/libvirt-libvirt-domain.html (virDomainState,
virDomainShutoffReason, virDomainEventType, virDomainEventStoppedDetailType).
"""

from __future__ import annotations

from typing import Literal

import libvirt

from novakube_agent.ports import DomainState, OffReason

Change = Literal["Started", "Stopped", "Paused", "Resumed", "Defined", "Undefined", "Other"]

STATES: dict[int, DomainState] = {
    libvirt.VIR_DOMAIN_NOSTATE: "Shutoff",
    libvirt.VIR_DOMAIN_RUNNING: "Running",
    libvirt.VIR_DOMAIN_BLOCKED: "Running",
    libvirt.VIR_DOMAIN_PAUSED: "Paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "ShuttingDown",
    libvirt.VIR_DOMAIN_SHUTOFF: "Shutoff",
    libvirt.VIR_DOMAIN_CRASHED: "Crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "Paused",
}

# DAEMON: libvirt found the guest's process gone when it came up again, so does not know why.
OFF_REASONS: dict[int, OffReason] = {
    libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN: "Unknown",
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "Shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "Destroyed",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "Crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: "Unknown",
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: "Saved",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "Failed",
    libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: "Unknown",
    libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: "Unknown",
}

CHANGES: dict[int, Change] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: "Defined",
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "Undefined",
    libvirt.VIR_DOMAIN_EVENT_STARTED: "Started",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "Paused",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "Resumed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "Stopped",
    libvirt.VIR_DOMAIN_EVENT_CRASHED: "Stopped",
}

# FAILED: QEMU's process or monitor broke off; the domain's state then says crashed.
STOPPED_DETAILS: dict[int, OffReason] = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "Shutdown",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "Destroyed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "Crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "Saved",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "Crashed",
}


def domain_state(state: int, reason: int, *, saved: bool) -> tuple[DomainState, OffReason | None]:
    """State and, when it is off, why.

    Args:
        state: virDomainState.
        reason: its reason.
        saved: there is a managed save image.
    """
    word = STATES.get(state, "Shutoff")
    if word == "Crashed":
        return word, "Crashed"
    if word != "Shutoff":
        return word, None
    if saved:
        return "Saved", "Saved"
    # "Saved" without an image: the image was removed, so it is simply off.
    off = OFF_REASONS.get(reason, "Unknown") if state == libvirt.VIR_DOMAIN_SHUTOFF else "Unknown"
    return word, "Unknown" if off == "Saved" else off


def event_change(event: int, detail: int) -> tuple[Change, OffReason | None]:
    """What a lifecycle event means."""
    change = CHANGES.get(event, "Other")
    if change != "Stopped":
        return change, None
    if event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
        return change, "Crashed"
    return change, STOPPED_DETAILS.get(detail, "Unknown")
