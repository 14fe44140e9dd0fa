"""What ``Guest.spec.request`` asks for: journaled first, then carried out, always answered.

Pure. A reboot and a crash dump are carried out at most once: taken up by an agent that ended
before the answer, they are ``Interrupted``. Plumbing is an ensure and is simply done again.
"""

from __future__ import annotations

from dataclasses import replace

from novakube_agent.model import (
    Action,
    Desired,
    EnsureNics,
    InjectNmi,
    Observed,
    RequestRecord,
    WriteJournal,
)
from novakube_agent.power import Step, power_state
from novakube_agent.reboot import answered, reboot_refusal, reboot_step, reboot_type
from novakube_crds.v1alpha1.guest import GuestRequest


def request_step(desired: Desired, seen: Observed) -> Step | None:
    """The next step of the request; None when it is answered or there is none."""
    request, record = desired.spec.request, seen.journal.request
    if record is not None and record.state == "Accepted":
        return _go_on(desired, seen, record)
    if request is None or (record is not None and record.uid == request.uid):
        return None
    return _take_up(desired, seen, request)


def _take_up(desired: Desired, seen: Observed, request: GuestRequest) -> Step:
    refusal = _refusal(seen, request)
    record = RequestRecord(
        uid=request.uid,
        soft=request.type == "Reboot" and reboot_type(request) == "Soft",
        state="Failed" if refusal else "Accepted",
        message=refusal,
        run_id=seen.run_id,
        deadline=seen.now + desired.spec.stop_timeout_s,
        type=request.type,
    )
    return Step(replace(seen.journal, request=record))


def _refusal(seen: Observed, request: GuestRequest) -> str:
    if seen.journal.started_at is None:
        return "the guest has not been started yet"
    if request.type == "Reboot":
        return reboot_refusal(seen, request)
    state = power_state(seen.domain)
    if request.type == "CrashDump" and state not in ("Running", "Paused"):
        return f"the guest is {state}; only a running one takes an interrupt"
    return ""


def _go_on(desired: Desired, seen: Observed, record: RequestRecord) -> Step:
    if record.type == "Reboot":
        return reboot_step(seen, record)
    if record.type == "CrashDump" and record.run_id != seen.run_id:
        # A second interrupt would hit the kernel while it writes its dump.
        message = "the node's agent ended while the interrupt was sent; it is not repeated"
        return Step(answered(seen.journal, "Interrupted", message))
    effect: Action = InjectNmi() if record.type == "CrashDump" else EnsureNics()
    done, nics = replace(record, state="Succeeded"), tuple(desired.spec.nics)
    # The NICs too: from the journal DHCP comes back after an agent's restart.
    after = replace(seen.journal, request=done, nics=nics)
    return Step(seen.journal, (effect, WriteJournal(after)))
