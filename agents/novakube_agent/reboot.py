"""The Reboot request: journaled first, carried out at most once, always answered.

Pure. A reboot that an agent took up and did not answer before it ended is ``Interrupted``:
the next agent never repeats it, it only keeps the guest's power level.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from novakube_agent.model import (
    ACPI_INTERVAL_S,
    Desired,
    Journal,
    Observed,
    PowerOff,
    PressPowerButton,
    RequestRecord,
    StartDomain,
    WriteJournal,
)
from novakube_agent.power import (
    Step,
    cold_preparations,
    power_state,
    start_again,
    start_effects,
    started,
)
from novakube_crds.v1alpha1.guest import GuestRequest

TYPES = ("Soft", "Hard")


def reboot_step(desired: Desired, seen: Observed) -> Step | None:
    """The next step of the request; None when it is answered or there is none."""
    request, record = desired.spec.request, seen.journal.request
    if record is not None and record.state == "Accepted":
        if record.run_id != seen.run_id:
            return _interrupted(seen)
        return _go_on(seen, record)
    if request is None or (record is not None and record.uid == request.uid):
        return None
    return _take_up(desired, seen, request)


def _take_up(desired: Desired, seen: Observed, request: GuestRequest) -> Step:
    kind = request.parameters.get("type", "Soft")
    refusal = _refusal(seen, kind)
    record = RequestRecord(
        uid=request.uid,
        soft=kind == "Soft",
        state="Failed" if refusal else "Accepted",
        message=refusal,
        run_id=seen.run_id,
        deadline=seen.now + desired.spec.stop_timeout_s,
    )
    return Step(replace(seen.journal, request=record))


def _refusal(seen: Observed, kind: str) -> str:
    """Source: https://docs.openstack.org/api-ref/compute/#reboot-server-reboot-action."""
    if kind not in TYPES:
        return f"parameters.type is {kind!r}; allowed are Soft and Hard"
    state = power_state(seen.domain)
    if seen.journal.started_at is None:
        return "the guest has not been started yet"
    if kind == "Soft" and state != "Running":
        return f"the guest is {state}; a soft reboot needs a running one, a hard reboot does not"
    if state == "Suspended":
        return "the guest is Suspended; resume it first, its memory would be lost"
    return ""


def _go_on(seen: Observed, record: RequestRecord) -> Step:
    state = power_state(seen.domain)
    if state == "Running" and record.soft and seen.now < record.deadline:
        return _press(seen, record)
    begun = started(seen.journal, seen)
    after = replace(begun, request=replace(record, state="Succeeded"), done_state="Running")
    if state == "Stopped":
        return Step(begun, (*start_effects(seen), WriteJournal(after)))
    if state == "Suspended":
        return Step(answered(seen.journal, "Failed", "the guest was suspended meanwhile"))
    effects = (*cold_preparations(), PowerOff(), StartDomain(), WriteJournal(after))
    return Step(begun, effects)


def _press(seen: Observed, record: RequestRecord) -> Step:
    if record.acpi_at is None or seen.now - record.acpi_at >= ACPI_INTERVAL_S:
        pressed = replace(seen.journal, request=replace(record, acpi_at=seen.now))
        return Step(pressed, (PressPowerButton(),))
    due = min(record.acpi_at + ACPI_INTERVAL_S, record.deadline)
    return Step(seen.journal, requeue_s=due - seen.now)


def _interrupted(seen: Observed) -> Step:
    message = "the node's agent ended while the reboot was under way; it is not repeated"
    journal = answered(seen.journal, "Interrupted", message)
    if power_state(seen.domain) == "Stopped" and journal.done_state == "Running":
        return start_again(seen, journal)
    return Step(journal)


def answered(journal: Journal, state: Literal["Failed", "Interrupted"], message: str) -> Journal:
    """The journal with its request ended."""
    assert journal.request is not None
    return replace(journal, request=replace(journal.request, state=state, message=message))
