"""Decides what to do about one Guest. Pure and total; called by ``reconcile`` only.

Rules in order: an order to destroy; what the node remembers; a final verdict; another
incarnation's domain; lost disks; a late leader's epoch; admission; requests; power.
Nothing here destroys but ``_teardown``, and only ``Desired.destroy`` leads there.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from novakube_agent.model import (
    Action,
    Admit,
    AdoptDisks,
    DefineDomain,
    Desired,
    EnsureDisks,
    EnsureNics,
    ForgetJournal,
    Journal,
    Observed,
    Plan,
    PowerOff,
    RemoveDisks,
    RemoveNics,
    UndefineDomain,
    Verdict,
    WriteJournal,
    empty_journal,
)
from novakube_agent.power import Step, power_state, power_step
from novakube_agent.reboot import answered
from novakube_agent.report_guest import guest_status
from novakube_agent.requests import request_step
from novakube_crds.v1alpha1.guest import GuestPhase
from novakube_kit.errors import NovakubeError

PREVIOUS_WAIT_S = 5.0
EPOCH_WAIT_S = 5.0
"""How soon a held boot looks at the Lease again; a re-stamp wakes it at once."""


def plan(desired: Desired, seen: Observed) -> Plan:
    """The next actions, or none and the status to report."""
    if desired.destroy:
        return _teardown(desired, seen)
    if seen.domain is not None and seen.domain.identity.incarnation > desired.spec.incarnation:
        # Before anything is recalled: the journal went with the domain to the next one.
        return _another_incarnation(desired, seen)
    recalled = _recalled(desired, seen)
    if recalled != seen.journal:
        return _acting(desired, seen, (WriteJournal(recalled),))
    if seen.domain is not None and seen.domain.identity.guest_uid != desired.uid:
        return _another_incarnation(desired, seen)
    return _ended(desired, seen) or _adopt_files(desired, seen) or _live(desired, seen)


def _ended(desired: Desired, seen: Observed) -> Plan | None:
    """An end that was reported stays: others have acted upon it."""
    verdict = seen.journal.verdict
    if verdict is not None:
        return _resting(desired, seen, verdict.phase, verdict.reason, verdict.message)
    if desired.status.phase == "Gone" and seen.domain is None:
        return _resting(desired, seen, "Gone", "", "")
    return None


def _live(desired: Desired, seen: Observed) -> Plan:
    if _lost(desired, seen):
        missing = ", ".join(sorted(_missing(desired, seen)))
        message = f"the guest ran before and its disks are gone from the node: {missing}"
        return _resting(desired, seen, "Lost", "DiskMissing", message)
    if seen.journal.admitted is None:
        return _first_look(desired, seen)
    return _power(desired, seen)


def _power(desired: Desired, seen: Observed) -> Plan:
    step = _heal(desired, seen) or request_step(desired, seen) or power_step(desired, seen)
    actions = step.actions(seen.journal)
    if actions:
        return _acting(desired, seen, actions)
    phase: GuestPhase = "Ready" if seen.journal.done_sequence else "Building"
    return _resting(desired, seen, phase, "", "", step.requeue_s)


def _heal(desired: Desired, seen: Observed) -> Step | None:
    """A running guest whose NIC lost its plumbing gets it back; others get it at their start."""
    ports = {nic.port_uid for nic in desired.spec.nics}
    if power_state(seen.domain) == "Stopped" or ports <= seen.nics:
        return None
    return Step(seen.journal, (EnsureNics(),))


def _first_look(desired: Desired, seen: Observed) -> Plan:
    if desired.spec.epoch < seen.leader_epoch:
        message = (
            f"made under operator epoch {desired.spec.epoch}, the leader's is "
            f"{seen.leader_epoch}; waiting for the leader to confirm it"
        )
        return _resting(desired, seen, "Pending", "StaleEpoch", message, EPOCH_WAIT_S)
    return _acting(desired, seen, (Admit(),))


# --- memory ----------------------------------------------------------------------------------


def _recalled(desired: Desired, seen: Observed) -> Journal:
    """The journal as it should read.

    Rebuilt from the status when the node lost it; without a failure that a newer spec
    gave another chance.
    """
    journal, status = seen.journal, desired.status
    verdict = journal.verdict
    if verdict is not None:
        retry = verdict.phase == "Failed" and desired.generation > verdict.generation
        return replace(journal, verdict=None) if retry else journal
    if journal.admitted is not None:
        return journal
    if status.phase in ("Rejected", "Failed") and status.observed_generation >= 0:
        final = Verdict(status.phase, status.reason, status.message, status.observed_generation)
        return replace(journal, verdict=final)
    mine = seen.domain is not None and seen.domain.identity.guest_uid == desired.uid
    if status.started_at is None and not mine:
        return journal
    ran_at = _moment(status.started_at) if status.started_at else seen.now
    return replace(
        journal,
        admitted=desired.resources,
        group=desired.spec.server_group,
        nics=tuple(desired.spec.nics),
        started_at=ran_at,
        boot_id=status.boot_id,
        done_sequence=status.power_sequence,
        done_state=desired.spec.power_state
        if status.power_sequence == desired.spec.power_sequence
        else None,
        stop_reason=status.stop_reason,
        adopted=status.adopted,
    )


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _missing(desired: Desired, seen: Observed) -> set[str]:
    return {disk.device for disk in desired.spec.disks} - seen.disks


def _lost(desired: Desired, seen: Observed) -> bool:
    """It may have run, it does not run now, and a disk is not there.

    A guest that still runs
    on deleted files is left alone.
    """
    return (
        seen.journal.started_at is not None
        and power_state(seen.domain) in ("Stopped", "Suspended")
        and bool(_missing(desired, seen))
    )


# --- other incarnations ------------------------------------------------------------------------


def _another_incarnation(desired: Desired, seen: Observed) -> Plan:
    assert seen.domain is not None
    other = seen.domain.identity
    if desired.spec.adopt == other.guest_uid:
        takeover = (
            WriteJournal(_inherited(desired, seen)),
            AdoptDisks(other.guest_name),
            EnsureDisks(),
            EnsureNics(),
            DefineDomain(),
            ForgetJournal(other.guest_uid),
        )
        return _acting(desired, seen, takeover)
    if other.incarnation > desired.spec.incarnation:
        message = f"{other.guest_name} has the domain now"
        return _resting(desired, seen, desired.status.phase, "Superseded", message)
    message = f"waiting until {other.guest_name} is undefined on this node"
    return _resting(desired, seen, "Building", "WaitingForPrevious", message, PREVIOUS_WAIT_S)


def _adopt_files(desired: Desired, seen: Observed) -> Plan | None:
    """The old domain is gone; its journal tells where its disks are."""
    if desired.spec.adopt is None or seen.domain is not None or seen.journal.adopted is not None:
        return None
    old = seen.adoptable
    if old is None:
        message = f"nothing of Guest {desired.spec.adopt} is on this node to adopt"
        return _resting(desired, seen, "Lost", "NothingToAdopt", message)
    takeover = (
        AdoptDisks(old.guest_name),
        WriteJournal(_inherited(desired, seen)),
        ForgetJournal(old.guest_uid),
    )
    return _acting(desired, seen, takeover)


def _inherited(desired: Desired, seen: Observed) -> Journal:
    """The new incarnation's journal: history from the old one, orders from its own spec."""
    old = seen.adoptable or empty_journal(desired)
    return replace(
        old,
        guest_uid=desired.uid,
        guest_name=desired.name,
        instance_id=desired.spec.instance.id,
        admitted=desired.resources,
        group=desired.spec.server_group,
        nics=tuple(desired.spec.nics),
        started_at=old.started_at if old.started_at is not None else seen.now,
        order=None,
        done_sequence=0,
        verdict=None,
        request=None,
        power_error="",
        adopted=desired.spec.adopt,
    )


# --- end ---------------------------------------------------------------------------------------


def _teardown(desired: Desired, seen: Observed) -> Plan:
    """Domain, NICs, disks, journal, in that order; each only if it is there and ours."""
    actions: list[Action] = []
    if seen.domain is not None and seen.domain.identity.guest_uid == desired.uid:
        if power_state(seen.domain) in ("Running", "Paused") or seen.domain.state == "Crashed":
            actions.append(PowerOff())
        actions.append(UndefineDomain())
    ports = {nic.port_uid for nic in (*desired.spec.nics, *seen.journal.nics)} & seen.nics
    if ports:
        actions.append(RemoveNics(frozenset(ports)))
    if seen.directory:
        actions.append(RemoveDisks())
    if not actions and seen.journal != empty_journal(desired):
        actions.append(ForgetJournal(desired.uid))
    if actions:
        return _acting(desired, seen, tuple(actions))
    return _resting(desired, seen, "Gone", "", "")


# --- failure -----------------------------------------------------------------------------------


def after_failure(desired: Desired, seen: Observed, error: NovakubeError) -> Journal:
    """What a terminal error means.

    A request failed, an order could not be carried out, or this incarnation cannot be built.
    """
    journal = seen.journal
    if journal.request is not None and journal.request.state == "Accepted":
        return answered(journal, "Failed", error.message)
    # A guest that runs was built, though its first order may not have been journaled as done.
    if journal.done_sequence == 0 and power_state(seen.domain) == "Stopped":
        verdict = Verdict("Failed", error.reason, error.message, desired.generation)
        ended = replace(journal, verdict=verdict, order=None)
        # Journaled before the start, in case this process dies of it; the node refused it.
        return replace(ended, started_at=None) if journal.adopted is None else ended
    return replace(
        journal,
        order=None,
        done_sequence=desired.spec.power_sequence,
        done_state=power_state(seen.domain),
        power_error=error.message,
    )


def _acting(desired: Desired, seen: Observed, actions: tuple[Action, ...]) -> Plan:
    """Actions; the status tells what is going on, in case they take long."""
    phase: GuestPhase = desired.status.phase
    if phase in ("Pending", "Rejected", "Failed", "Lost") and not desired.destroy:
        phase = "Ready" if seen.journal.done_sequence else "Building"
    return Plan(actions, guest_status(desired, seen, phase, "", ""))


def _resting(
    desired: Desired,
    seen: Observed,
    phase: GuestPhase,
    reason: str,
    message: str,
    requeue_s: float | None = None,
) -> Plan:
    after = None if requeue_s is None else timedelta(seconds=max(0.0, requeue_s))
    return Plan((), guest_status(desired, seen, phase, reason, message), after)
