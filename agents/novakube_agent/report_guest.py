"""Guest.status from what was observed. Pure; the only place that builds one."""

from __future__ import annotations

from datetime import UTC, datetime

from novakube_agent.model import Desired, Journal, Observed
from novakube_agent.power import power_state
from novakube_crds.base import Condition
from novakube_crds.v1alpha1.guest import (
    GuestPhase,
    GuestRequestStatus,
    GuestStatus,
    ImageProgress,
    StopReason,
)

READY = "Ready"
MESSAGE_MAX = 32768


def guest_status(
    desired: Desired, seen: Observed, phase: GuestPhase, reason: str, message: str
) -> GuestStatus:
    """What the node shows of this Guest now.

    ``phase`` is the plan's decision; ``reason`` the CamelCase cause of anything but plain
    Building, Ready and Gone; ``message`` a sentence for people.
    """
    journal = seen.journal
    mine = seen.domain is not None and seen.domain.identity.guest_uid == desired.uid
    domain = seen.domain if mine else None
    state = power_state(domain)
    built = domain is not None or journal.started_at is not None
    root = next((image for image in journal.images if image.root), None)
    message = message[:MESSAGE_MAX]
    return GuestStatus(
        conditions=[_ready(desired, seen, phase, reason, message)],
        observed_generation=desired.generation,
        phase=phase,
        reason=reason,
        message=message,
        power_state=state if built and phase != "Gone" else "Unknown",
        power_sequence=journal.done_sequence,
        stop_reason=_stop_reason(seen, journal) if state == "Stopped" else None,
        power_error=journal.power_error,
        started_at=None if journal.started_at is None else _timestamp(journal.started_at),
        boot_id=journal.boot_id,
        restarts=len(journal.crashes_since(seen.now)),
        domain_name=domain.name if domain is not None else None,
        virt_type=seen.virt_type or None,
        image_sha256=root.sha256 if root else None,
        image_size_bytes=root.size_bytes if root else None,
        image_virtual_size_bytes=root.virtual_size_bytes if root else None,
        request=_request(journal),
        adopted=journal.adopted,
        leases=list(seen.leases) if domain is not None and phase != "Gone" else [],
    )


def with_cause(
    status: GuestStatus, reason: str, message: str, progress: ImageProgress | None = None
) -> GuestStatus:
    """The same status with what it waits for; Ready's condition says it too when it is not."""
    conditions = [
        one if one.status == "True" else one.model_copy(
            update={"reason": reason or one.reason, "message": message}
        )
        for one in status.conditions
    ]  # fmt: skip
    return status.model_copy(
        update={
            "reason": reason,
            "message": message,
            "progress": progress,
            "conditions": conditions,
        }
    )


def _stop_reason(seen: Observed, journal: Journal) -> StopReason | None:
    if journal.stop_reason is None and seen.host_stopping and journal.started_at is not None:
        return "HostShutdown"
    return journal.stop_reason


def _request(journal: Journal) -> GuestRequestStatus | None:
    if journal.request is None:
        return None
    return GuestRequestStatus(
        uid=journal.request.uid, state=journal.request.state, message=journal.request.message
    )


def _ready(
    desired: Desired, seen: Observed, phase: GuestPhase, reason: str, message: str
) -> Condition:
    """Ready is True when the guest is what its spec asks for, a stopped one included."""
    ok = phase == "Ready" and not seen.journal.power_error
    cause = reason or ("PowerOrderFailed" if seen.journal.power_error else phase)
    status = "True" if ok else "False"
    before = next((c for c in desired.status.conditions if c.type == READY), None)
    changed = before is None or before.status != status
    since = _timestamp(seen.now) if changed or before is None else before.last_transition_time
    return Condition(
        type=READY,
        status="True" if ok else "False",
        reason=cause,
        message=message or seen.journal.power_error,
        observed_generation=desired.generation,
        last_transition_time=since,
    )


def _timestamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
