"""A Reboot: carried out at most once, always answered.

Pure. A reboot that an agent took up and did not answer before it ended is ``Interrupted``:
the next agent never repeats it, it only keeps the guest's power level.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from novakube_agent.model import (
    ACPI_INTERVAL_S,
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


def reboot_refusal(seen: Observed, request: GuestRequest) -> str:
    """Why a reboot cannot be; empty when it can.

    Source: https://docs.openstack.org/api-ref/compute/#reboot-server-reboot-action.
    """
    kind = reboot_type(request)
    if kind not in TYPES:
        return f"parameters.type is {kind!r}; allowed are Soft and Hard"
    state = power_state(seen.domain)
    if kind == "Soft" and state != "Running":
        return f"the guest is {state}; a soft reboot needs a running one, a hard reboot does not"
    if state == "Suspended":
        return "the guest is Suspended; resume it first, its memory would be lost"
    return ""


def reboot_type(request: GuestRequest) -> str:
    """Soft unless said otherwise."""
    return request.parameters.get("type", "Soft")


def reboot_step(seen: Observed, record: RequestRecord) -> Step:
    """The next step of a reboot that was taken up and is not answered."""
    if record.run_id != seen.run_id:
        return _interrupted(seen)
    return _go_on(seen, record)


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
