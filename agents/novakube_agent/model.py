"""What the agent decides from: the wish (Desired), the node (Observed), its memory (Journal).

Pure data. Moments are seconds since the epoch (float) and come from the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from novakube_agent.ports import DomainFacts
from novakube_crds.base import PowerState
from novakube_crds.v1alpha1.guest import (
    GuestLease,
    GuestNic,
    GuestServerGroup,
    GuestSpec,
    GuestStatus,
    StopReason,
)

CRASH_WINDOW_S = 600.0
CRASH_LIMIT = 3
"""Starts after a crash within the window; the next crash ends in CrashLoop."""
ACPI_INTERVAL_S = 10.0
"""The power button is pressed again this often. Source: nova's
``compute/manager.py``, SHUTDOWN_RETRY_INTERVAL = 10."""

Origin = Literal["New", "Running", "Stopped", "Paused", "Suspended"]
"""State an order found; ``New`` for a guest that never ran or must be started afresh."""


RequestType = Literal["Reboot", "CrashDump", "ResetNetwork", "InjectNetworkInfo"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a Guest takes of its node."""

    vcpus: int
    memory_mib: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class PowerOrder:
    """One ``powerSequence`` being carried out; written before its first effect."""

    sequence: int
    wanted: PowerState
    origin: Origin
    deadline: float
    """When a graceful stop becomes a power off."""
    acpi_at: float | None = None
    """When the power button was last pressed."""
    started: bool = False
    """A start was asked for and returned, under this order."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """``spec.request`` as taken up; written before its first effect."""

    uid: str
    soft: bool
    state: Literal["Accepted", "Succeeded", "Failed", "Interrupted"]
    message: str
    run_id: str
    """The agent process that took it up; another one finds it interrupted."""
    deadline: float
    acpi_at: float | None = None
    type: RequestType = "Reboot"
    """Journals of earlier agents do not say it: those had reboots only."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A final No to this incarnation: it is not tried again while ``generation`` stands."""

    phase: Literal["Rejected", "Failed"]
    reason: str
    message: str
    generation: int


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as found; pins what a URL without checksum meant."""

    url: str
    sha256: str
    size_bytes: int
    virtual_size_bytes: int
    root: bool = False
    """The root disk's, which the status reports."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What the node remembers of one Guest; survives the agent, not the Guest."""

    guest_uid: str
    guest_name: str
    instance_id: str
    admitted: Resources | None = None
    group: GuestServerGroup | None = None
    """The server group it is a member of."""
    nics: tuple[GuestNic, ...] = ()
    verdict: Verdict | None = None
    order: PowerOrder | None = None
    done_sequence: int = 0
    done_state: PowerState | None = None
    """The wish of ``done_sequence``."""
    power_error: str = ""
    started_at: float | None = None
    """When it was last started; set before the start, so it also says "may have run"."""
    boot_id: str | None = None
    """Host boot of that start."""
    stop_reason: StopReason | None = None
    """Why it went off, fixed when first seen: hypervisors forget."""
    crashes: tuple[float, ...] = ()
    request: RequestRecord | None = None
    images: tuple[ImageRecord, ...] = ()
    adopted: str | None = None

    def crashes_since(self, now: float) -> tuple[float, ...]:
        """Crash restarts inside the window that ends now."""
        return tuple(at for at in self.crashes if now - at < CRASH_WINDOW_S)


@dataclass(frozen=True, slots=True)
class Desired:
    """One Guest as the API server has it."""

    uid: str
    name: str
    namespace: str
    generation: int
    resource_version: str
    spec: GuestSpec
    status: GuestStatus
    """What was last reported."""
    fenced: bool = False

    @property
    def destroy(self) -> bool:
        """The two orders by which a VM is destroyed. Nothing else ever is one."""
        return self.spec.teardown == "Destroy" or self.fenced

    @property
    def resources(self) -> Resources:
        """What it takes of the node."""
        return Resources(
            self.spec.vcpus,
            self.spec.memory_mib,
            sum(disk.size_bytes for disk in self.spec.disks),
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """The node as found just now, as far as one Guest is concerned."""

    now: float
    boot_id: str
    run_id: str
    """This agent process."""
    virt_type: str
    domain: DomainFacts | None
    """The domain with the Instance's id: ours or another incarnation's."""
    disks: frozenset[str]
    """Devices that have a file."""
    directory: bool
    """Any file of this Guest is on the node."""
    nics: frozenset[str]
    """Port UIDs plumbed on this node and claimed by no other Guest."""
    journal: Journal
    adoptable: Journal | None = None
    """The journal of ``spec.adopt``, when this node has one."""
    leader_epoch: int = 0
    leases: tuple[GuestLease, ...] = ()
    """What DHCP holds for its NICs."""
    host_stopping: bool = False
    """The host is going down: what goes off now does so because of that."""


# --- actions: a closed union; each is an "ensure" that may be repeated -----------------------


@dataclass(frozen=True, slots=True)
class Admit:
    """Asks for room on the node; the journal holds the answer."""


@dataclass(frozen=True, slots=True)
class WriteJournal:
    """Fixes what is about to be done, or was seen, on disk."""

    journal: Journal


@dataclass(frozen=True, slots=True)
class AdoptDisks:
    """The disks of an earlier incarnation become this one's."""

    old_guest_name: str


@dataclass(frozen=True, slots=True)
class ForgetJournal:
    """Removes a journal: nothing of that Guest is on the node."""

    guest_uid: str


@dataclass(frozen=True, slots=True)
class EnsureDisks:
    """Images fetched and all disks there."""


@dataclass(frozen=True, slots=True)
class EnsureNics:
    """All NICs plumbed."""


@dataclass(frozen=True, slots=True)
class DefineDomain:
    """The domain defined as the spec says."""


@dataclass(frozen=True, slots=True)
class StartDomain:
    """Started or restored from its saved memory."""


@dataclass(frozen=True, slots=True)
class PressPowerButton:
    """ACPI, once."""


@dataclass(frozen=True, slots=True)
class PowerOff:
    """The power cut."""


@dataclass(frozen=True, slots=True)
class PauseDomain:
    """CPUs stopped, memory stays."""


@dataclass(frozen=True, slots=True)
class UnpauseDomain:
    """CPUs go on."""


@dataclass(frozen=True, slots=True)
class SaveDomain:
    """Suspended to disk."""


@dataclass(frozen=True, slots=True)
class InjectNmi:
    """A non-maskable interrupt for the guest's kernel, once."""


@dataclass(frozen=True, slots=True)
class UndefineDomain:
    """Definition and saved memory gone. Only ever under an order to destroy."""


@dataclass(frozen=True, slots=True)
class RemoveNics:
    """Taps and DHCP entries gone. Only ever under an order to destroy."""

    port_uids: frozenset[str]


@dataclass(frozen=True, slots=True)
class RemoveDisks:
    """Files gone. Only ever under an order to destroy."""


Action = (
    Admit
    | WriteJournal
    | AdoptDisks
    | ForgetJournal
    | EnsureDisks
    | EnsureNics
    | DefineDomain
    | StartDomain
    | PressPowerButton
    | PowerOff
    | PauseDomain
    | UnpauseDomain
    | SaveDomain
    | InjectNmi
    | UndefineDomain
    | RemoveNics
    | RemoveDisks
)
DESTRUCTIVE = (UndefineDomain, RemoveNics, RemoveDisks)


@dataclass(frozen=True, slots=True)
class Plan:
    """One step.

    After actions the node is observed and planned anew, so a status never
    claims what was not seen.
    """

    actions: tuple[Action, ...]
    """Empty exactly when there is nothing to do now."""
    status: GuestStatus
    """What to report when there are no actions, or when they take long or fail."""
    requeue_after: timedelta | None = None
    """None: wait for an event or the resync."""


def empty_journal(desired: Desired) -> Journal:
    """A Guest of which this node remembers nothing."""
    return Journal(desired.uid, desired.name, desired.spec.instance.id)
