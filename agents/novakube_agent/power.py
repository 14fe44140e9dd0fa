"""Power as a level: one order per ``powerSequence``, and what to do about unordered stops.

Pure. ``power_step`` gives the journal to write first and the effects to have next.
An order is carried out once. What happens to the guest from outside within the same sequence
is reported and not undone, except for a host that went down (start again) and for crashes
(start again, CRASH_LIMIT times in CRASH_WINDOW_S).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from novakube_agent.model import (
    ACPI_INTERVAL_S,
    CRASH_LIMIT,
    CRASH_WINDOW_S,
    Action,
    DefineDomain,
    Desired,
    EnsureDisks,
    EnsureNics,
    Journal,
    Observed,
    Origin,
    PauseDomain,
    PowerOff,
    PowerOrder,
    PressPowerButton,
    SaveDomain,
    StartDomain,
    UnpauseDomain,
    Verdict,
    WriteJournal,
)
from novakube_agent.ports import DomainFacts, OffReason
from novakube_crds.base import PowerState
from novakube_crds.v1alpha1.guest import StopReason

IMPOSSIBLE: dict[tuple[Origin, PowerState], str] = {
    ("New", "Suspended"): "a guest that never ran has no memory to suspend; start it first",
    ("Stopped", "Paused"): "only a running guest can be paused; start it first",
    ("Stopped", "Suspended"): "only a running guest can be suspended; start it first",
    ("Paused", "Suspended"): "a paused guest cannot be suspended; unpause it first",
    ("Suspended", "Paused"): "a suspended guest cannot be paused; resume it first",
    ("Suspended", "Stopped"): "a suspended guest cannot be stopped; resume it first",
}
"""The transition table: every (origin, wanted) not named here is possible.

Source: https://docs.openstack.org/api-ref/compute/ (preconditions of pause, suspend, os-stop);
stopping a paused guest, which Nova refuses, is possible here: it is unpaused first."""

Move = Literal["Start", "Stop", "Pause", "Unpause", "Save"]
MOVES: dict[tuple[PowerState, PowerState], Move] = {
    ("Stopped", "Running"): "Start",
    ("Paused", "Running"): "Unpause",
    ("Suspended", "Running"): "Start",
    ("Running", "Stopped"): "Stop",
    ("Paused", "Stopped"): "Unpause",
    ("Running", "Paused"): "Pause",
    ("Running", "Suspended"): "Save",
    ("Paused", "Suspended"): "Unpause",  # a save that was cut short left it so
}
"""Next move from the state now towards the state wanted; none: nothing more can be done."""

EFFECTS: dict[Move, Action] = {
    "Pause": PauseDomain(),
    "Unpause": UnpauseDomain(),
}

STAYS_OFF: frozenset[StopReason] = frozenset({"GuestShutdown", "Destroyed"})
STOP_REASONS: dict[OffReason | None, StopReason] = {
    "Shutdown": "GuestShutdown",
    "Destroyed": "Destroyed",
    "Crashed": "Crashed",
    "Failed": "Crashed",
}
HOST_STOPPING_WAIT_S = 30.0
SUSPEND_GIVEN_UP_S = 600.0
"""A suspend that failed again and again is given up so long after the order's deadline."""


@dataclass(frozen=True, slots=True)
class Step:
    """The journal as it must be on disk before ``effects``, and when to look again."""

    journal: Journal
    effects: tuple[Action, ...] = ()
    requeue_s: float | None = None

    def actions(self, before: Journal) -> tuple[Action, ...]:
        """Effects with the journal written at the right place.

        That is after the preparations (they are not what the journal vouches for) and before
        the first change of power.
        """
        if self.journal == before:
            return self.effects
        preparations = (EnsureDisks, EnsureNics, DefineDomain)
        count = 0
        while count < len(self.effects) and isinstance(self.effects[count], preparations):
            count += 1
        return (*self.effects[:count], WriteJournal(self.journal), *self.effects[count:])


def power_state(domain: DomainFacts | None) -> PowerState:
    """A domain's state in our four words; no domain is Stopped."""
    if domain is None or domain.state in ("Shutoff", "Crashed"):
        return "Stopped"
    if domain.state == "Saved":
        return "Suspended"
    return "Paused" if domain.state == "Paused" else "Running"


def power_step(desired: Desired, seen: Observed) -> Step:
    """The next step of a guest that is admitted and has its disks (or gets them now)."""
    journal = seen.journal
    sequence = desired.spec.power_sequence
    under_way = journal.order.sequence if journal.order else journal.done_sequence
    if sequence != under_way:
        return _begin(desired, seen)
    if journal.order is not None:
        return _carry_out(seen, journal, journal.order)
    return _unordered(desired, seen)


def _begin(desired: Desired, seen: Observed) -> Step:
    spec, journal = desired.spec, seen.journal
    origin: Origin = power_state(seen.domain) if journal.started_at is not None else "New"
    refusal = IMPOSSIBLE.get((origin, spec.power_state))
    if refusal is not None:
        # The level kept is the one before: an impossible order changes nothing.
        refused = replace(
            journal, order=None, done_sequence=spec.power_sequence, power_error=refusal
        )
        return Step(refused)
    order = PowerOrder(
        sequence=spec.power_sequence,
        wanted=spec.power_state,
        origin=origin,
        deadline=seen.now + spec.stop_timeout_s,
    )
    begun = replace(journal, order=order, power_error="", stop_reason=None, crashes=())
    return _carry_out(seen, begun, order)


def _carry_out(seen: Observed, journal: Journal, order: PowerOrder) -> Step:
    state = power_state(seen.domain)
    if state == "Stopped" and order.wanted in ("Paused", "Suspended"):
        if order.origin != "New" or order.started:
            message = f"the guest went off before it could become {order.wanted}"
            return Step(replace(_done(journal, order, state, message), done_state="Running"))
        return _start(seen, journal, replace(order, started=True))
    move = MOVES.get((state, order.wanted))
    if move is None:
        return Step(_done(journal, order, state), _unbuilt(seen))
    if move == "Start":
        return _start(seen, journal, None)
    if move == "Stop":
        return stop_gracefully(seen, journal, order)
    return _save(seen, journal, order) if move == "Save" else Step(journal, (EFFECTS[move],))


def _save(seen: Observed, journal: Journal, order: PowerOrder) -> Step:
    """Suspend to disk, as long as there is time for another attempt."""
    if seen.now < order.deadline + SUSPEND_GIVEN_UP_S:
        return Step(journal, (SaveDomain(),))
    message = "the guest could not be suspended in time and runs on; the agent's log says why"
    return Step(replace(_done(journal, order, "Running", message), done_state="Running"))


def _unbuilt(seen: Observed) -> tuple[Action, ...]:
    """What a guest that is to be off still lacks."""
    return cold_preparations() if seen.domain is None else ()


def cold_preparations() -> tuple[Action, ...]:
    """Everything a start from cold needs; a definition is renewed at each such start."""
    return (EnsureDisks(), EnsureNics(), DefineDomain())


def start_effects(seen: Observed) -> tuple[Action, ...]:
    """From cold, or from saved memory, whose definition must stay as it was saved."""
    if seen.domain is not None and seen.domain.state == "Saved":
        return (EnsureNics(), StartDomain())
    crashed = seen.domain is not None and seen.domain.state == "Crashed"
    remains: tuple[Action, ...] = (PowerOff(),) if crashed else ()
    return (*cold_preparations(), *remains, StartDomain())


def _start(seen: Observed, journal: Journal, following: PowerOrder | None) -> Step:
    """Start; when it returned, ``following`` is the order left, or the order is done.

    A crash before that is written starts again, which a running guest does not notice.
    """
    begun = started(journal, seen)
    if following is not None:
        after = replace(begun, order=following)
    else:
        assert journal.order is not None
        after = _done(begun, journal.order, "Running")
    return Step(begun, (*start_effects(seen), WriteJournal(after)))


def started(journal: Journal, seen: Observed) -> Journal:
    """The journal of a guest about to be started now."""
    return replace(journal, started_at=seen.now, boot_id=seen.boot_id, stop_reason=None)


def _done(journal: Journal, order: PowerOrder, state: PowerState, error: str = "") -> Journal:
    return replace(
        journal,
        order=None,
        done_sequence=order.sequence,
        done_state=order.wanted,
        power_error=error,
        stop_reason="Ordered" if state == "Stopped" and order.wanted == "Stopped" else None,
    )


def stop_gracefully(seen: Observed, journal: Journal, order: PowerOrder) -> Step:
    """Power button every ACPI_INTERVAL_S until the deadline, then the power is cut."""
    if seen.now >= order.deadline:
        return Step(journal, (PowerOff(),))
    if order.acpi_at is None or seen.now - order.acpi_at >= ACPI_INTERVAL_S:
        pressed = replace(journal, order=replace(order, acpi_at=seen.now))
        return Step(pressed, (PressPowerButton(),))
    return Step(journal, requeue_s=min(order.acpi_at + ACPI_INTERVAL_S, order.deadline) - seen.now)


def _unordered(desired: Desired, seen: Observed) -> Step:
    """No order is under way: keep the level, report what happened outside."""
    journal, state = seen.journal, power_state(seen.domain)
    if state != "Stopped":
        return Step(_running_again(journal, seen, state))
    if journal.done_state not in ("Running", "Paused"):
        return Step(_off(journal, seen), _unbuilt(seen))
    if journal.stop_reason in STAYS_OFF:
        return Step(journal, _unbuilt(seen))
    return _went_off(desired, seen)


def _went_off(desired: Desired, seen: Observed) -> Step:
    """It ought to run and was not switched off by an order."""
    journal = seen.journal
    if seen.host_stopping:
        return Step(journal, requeue_s=HOST_STOPPING_WAIT_S)
    if journal.boot_id != seen.boot_id or _reboot_cut_short(journal, seen):
        return start_again(seen, journal)
    reason = STOP_REASONS.get(seen.domain.off_reason if seen.domain else None, "Unknown")
    if reason in STAYS_OFF:
        return Step(replace(journal, stop_reason=reason))
    return _crashed(desired, seen, reason)


def _running_again(journal: Journal, seen: Observed, state: PowerState) -> Journal:
    """Not off any more, whoever did that; started outside counts as a start in this boot."""
    if state == "Suspended" or (journal.stop_reason is None and journal.boot_id == seen.boot_id):
        return journal
    return started(journal, seen)


def _off(journal: Journal, seen: Observed) -> Journal:
    if journal.stop_reason is not None or journal.started_at is None:
        return journal
    reason = STOP_REASONS.get(seen.domain.off_reason if seen.domain else None, "Unknown")
    return replace(journal, stop_reason=reason)


def _reboot_cut_short(journal: Journal, seen: Observed) -> bool:
    """The guest went off because of our own soft reboot, which the agent's end interrupted."""
    request = journal.request
    return (
        request is not None
        and request.type == "Reboot"
        and request.state == "Interrupted"
        and seen.now <= request.deadline + ACPI_INTERVAL_S
    )


def start_again(seen: Observed, journal: Journal) -> Step:
    """The level once more, from cold, under the same sequence."""
    order = PowerOrder(
        sequence=journal.done_sequence,
        wanted=journal.done_state or "Running",
        origin="New",
        deadline=seen.now,
    )
    again = replace(journal, order=order)
    if order.wanted == "Paused":
        return _start(seen, again, replace(order, started=True))
    return _start(seen, again, None)


def _crashed(desired: Desired, seen: Observed, reason: StopReason) -> Step:
    recent = seen.journal.crashes_since(seen.now)
    if len(recent) < CRASH_LIMIT:
        return start_again(seen, replace(seen.journal, crashes=(*recent, seen.now)))
    verdict = Verdict(
        "Failed",
        "CrashLoop",
        f"the guest went off unasked ({reason}) and was started {CRASH_LIMIT} times within "
        f"{CRASH_WINDOW_S / 60:.0f} minutes; it stays off until the next power order",
        desired.generation,
    )
    return Step(replace(seen.journal, verdict=verdict, stop_reason=reason))
