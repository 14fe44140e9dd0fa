"""HypervisorReport.status: what the node is, has and cannot do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from novakube_agent.ports import NodeFacts
from novakube_crds.base import Condition
from novakube_crds.v1alpha1.hypervisorreport import (
    HYPERVISORREPORT,
    ORPHANS_MAX,
    REPORT_NAME,
    HypervisorReportStatus,
    OrphanDomain,
)
from novakube_kit.clock import timestamp
from novakube_kit.kube import Json, KubePort
from novakube_kit.resources import resource_of
from novakube_kit.version import installed_version

_log = logging.getLogger(__name__)
REPORTS = resource_of(HYPERVISORREPORT)
REPORT_INTERVAL_S = 60.0
TROUBLED_INTERVAL_S = 2.0
"""Between two looks at a node with something wrong: it takes no Instances until that is told."""
COALESCE_S = 5.0
"""At most one write in this time, facts that only drift included."""
LIBVIRT_GUESTS = "systemd/system/multi-user.target.wants/libvirt-guests.service"


@dataclass(slots=True)
class NodeState:
    """What the parts of the agent know about the node; the report is made from it."""

    facts: NodeFacts | None = None
    driver_error: tuple[str, str] | None = None
    """Reason and sentence; None: the hypervisor answers."""
    network_error: tuple[str, str] | None = None
    state_error: tuple[str, str] | None = None
    """What keeps the agent from its own files."""
    refused: str | None = None
    """A right at the API server that the node's account lacks."""
    address: str | None = None
    agent_port: int | None = None
    certificate_request: str | None = None
    certificate_expires_at: datetime | None = None
    orphans: Sequence[OrphanDomain] | None = None
    """None: not looked for yet; what was reported before stands."""
    fenced_gone: Sequence[str] = field(default_factory=tuple)
    libvirt_guests_enabled: bool = False

    @property
    def look_again_s(self) -> float:
        """When the node is to be looked at without an event."""
        trouble = (self.driver_error, self.network_error, self.state_error, self.refused)
        well = self.facts is not None and not any(trouble)
        return REPORT_INTERVAL_S if well else TROUBLED_INTERVAL_S


def libvirt_guests_enabled(etc: Path = Path("/etc")) -> bool:
    """Whether the service that saves or shuts down guests behind our back is enabled."""
    return (etc / LIBVIRT_GUESTS).is_symlink()


def report_status(
    state: NodeState, before: HypervisorReportStatus, generation: int, now: datetime
) -> HypervisorReportStatus:
    """The report. Pure: conditions keep their times while their status stays."""
    facts = state.facts
    status = HypervisorReportStatus(
        conditions=[_since(one, before, now) for one in _conditions(state, generation)],
        observed_generation=generation,
        agent_version=installed_version(),
        address=state.address,
        agent_port=state.agent_port,
        certificate_request=state.certificate_request,
        certificate_expires_at=timestamp(state.certificate_expires_at)
        if state.certificate_expires_at
        else None,
        orphans=before.orphans if state.orphans is None else list(state.orphans)[:ORPHANS_MAX],
        fenced_gone=list(state.fenced_gone),
    )
    if facts is None:
        # A hypervisor that does not answer has not lost its capacity.
        kept = ("driver", "hypervisor_type", "hypervisor_version", "driver_version", "virt_type",
                "capacity", "cpu", "traits", "boot_id", "message")  # fmt: skip
        return status.model_copy(update={name: getattr(before, name) for name in kept})
    return status.model_copy(
        update={
            "driver": facts.driver,
            "hypervisor_type": facts.hypervisor_type,
            "hypervisor_version": facts.hypervisor_version,
            "driver_version": facts.driver_version,
            "virt_type": facts.virt_type,
            "capacity": facts.capacity,
            "cpu": facts.cpu,
            "traits": list(facts.traits),
            "boot_id": facts.boot_id,
            "message": facts.virt_type_reason[:1024],
        }
    )


def _conditions(state: NodeState, generation: int) -> list[Condition]:
    full = state.facts is not None and state.facts.capacity.disk_free_gib < 1
    guests = (
        "LibvirtGuestsEnabled",
        "libvirt-guests is enabled on this node and would stop or save guests behind the "
        "agent's back; run: systemctl disable --now libvirt-guests",
    )
    unknown = ("Starting", "the hypervisor has not answered yet")
    driver = state.driver_error or (unknown if state.facts is None else None)
    no_space = ("NoSpace", "less than 1 GiB is free on the file system of the state directory")
    problems: dict[str, tuple[str, str] | None] = {
        "StateReady": state.state_error,
        "RightsReady": ("Forbidden", state.refused) if state.refused else None,
        "DriverReady": driver,
        "ImageCacheReady": no_space if full else None,
        "NetworkReady": state.network_error,
        "GuestsResumable": guests if state.libvirt_guests_enabled else None,
    }
    return [
        Condition(
            type=kind,
            status="True" if problem is None else "False",
            reason="Ready" if problem is None else problem[0],
            message="" if problem is None else problem[1],
            observed_generation=generation,
            last_transition_time="",
        )
        for kind, problem in problems.items()
    ]


def _since(new: Condition, before: HypervisorReportStatus, now: datetime) -> Condition:
    old = next((c for c in before.conditions if c.type == new.type), None)
    same = old is not None and old.status == new.status
    since = old.last_transition_time if old is not None and same else timestamp(now)
    return new.model_copy(update={"last_transition_time": since})


async def write_report(
    kube: KubePort, namespace: str, status: HypervisorReportStatus, resource_version: str
) -> Json:
    """The report on the API server. Raises Conflict when it changed since it was read."""
    patch = {
        "metadata": {"resourceVersion": resource_version},
        "status": status.model_dump(by_alias=True),
    }
    return await kube.patch(REPORTS, REPORT_NAME, patch, namespace, sub="status")
