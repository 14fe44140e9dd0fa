"""A Hypervisor's status as a table: report, heartbeat and wishes in, conditions out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from novakube_crds.conditions import get_condition, set_condition
from novakube_crds.v1alpha1.guest import GuestDisk, GuestSpec, InstanceIdentity
from novakube_crds.v1alpha1.hypervisor import HypervisorSpec, HypervisorStatus
from novakube_crds.v1alpha1.hypervisorreport import (
    ORPHANS_MAX,
    HypervisorReportStatus,
    OrphanDomain,
)
from novakube_kit.kube import Resource
from novakube_operator.core.nodes import (
    SILENT_AFTER_S,
    Heartbeat,
    NodeView,
    allocated,
    ended,
    hypervisor_status,
    mailbox,
    node_of_namespace,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"
ALIVE = Heartbeat(3.0, NOW - timedelta(seconds=3))
VIEW = NodeView(
    uid=UID,
    generation=2,
    spec=HypervisorSpec(),
    report=HypervisorReportStatus(driver="libvirt"),
    heartbeat=ALIVE,
    guests=(),
    zone="nova",
    node_exists=True,
)
BROKEN = HypervisorReportStatus(
    driver="libvirt",
    conditions=set_condition(
        [], "DriverReady", "False", "NoSocket", "no libvirt socket at /run", now=NOW
    ),
)
CASES = {
    "all well": (VIEW, "True", "True", "Enabled", ""),
    "never heard": (
        replace(VIEW, heartbeat=Heartbeat(None, None)),
        "False", "False", "HeartbeatLost", "not been heard",
    ),
    "silent": (
        replace(VIEW, heartbeat=Heartbeat(SILENT_AFTER_S + 1.0, NOW)),
        "False", "False", "HeartbeatLost", "no heartbeat since 2026-01-02T03:04:05Z",
    ),
    "no report": (replace(VIEW, report=None), "False", "False", "NoReport", "nothing yet"),
    "driver broken": (replace(VIEW, report=BROKEN), "False", "False", "NoSocket", "no libvirt"),
    "disabled": (
        replace(VIEW, spec=HypervisorSpec(enabled=False, disabled_reason="fan")),
        "True", "False", "Disabled", "disabled (fan)",
    ),
    "maintenance": (
        replace(VIEW, spec=HypervisorSpec(maintenance=True)),
        "True", "False", "Maintenance", "spec.maintenance",
    ),
    "forced down wins": (
        replace(VIEW, spec=HypervisorSpec(forced_down=True, enabled=False)),
        "True", "False", "ForcedDown", "declared the node dead",
    ),
    "builds fail": (
        replace(VIEW, build_failures=11, build_failures_max=10),
        "True", "False", "BuildFailures", "disabled (10 builds in a row failed)",
    ),
    "builds fail, not often enough": (
        replace(VIEW, build_failures=9, build_failures_max=10), "True", "True", "Enabled", "",
    ),
    "builds fail and nobody counts": (
        replace(VIEW, build_failures=99, build_failures_max=0), "True", "True", "Enabled", "",
    ),
    "node gone": (replace(VIEW, node_exists=False), "False", "False", "NodeNotFound", "gone"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_conditions(case: str) -> None:
    view, want_ready, want_schedulable, want_reason, want_text = CASES[case]
    status = hypervisor_status(view, HypervisorStatus(), NOW)
    ready = get_condition(status.conditions, "Ready")
    schedulable = get_condition(status.conditions, "Schedulable")
    assert ready is not None
    assert schedulable is not None
    assert (ready.status, schedulable.status) == (want_ready, want_schedulable)
    assert schedulable.reason == want_reason
    assert want_text in schedulable.message


@pytest.mark.parametrize("case", CASES)
def test_a_second_look_changes_nothing(case: str) -> None:
    view = CASES[case][0]
    first = hypervisor_status(view, HypervisorStatus(), NOW)
    later = replace(
        view,
        heartbeat=Heartbeat(view.heartbeat.age_s and view.heartbeat.age_s + 0.5, view.heartbeat.at),
    )
    assert hypervisor_status(later, first, NOW + timedelta(seconds=9)) == first


ORPHAN = OrphanDomain(
    instance_id=UID, guest_uid=UID, incarnation=1, instance_namespace="demo",
    instance_name="web", instance_uid=UID, state="Running",
)  # fmt: skip


def test_domains_of_nobody_are_kept_reported_and_destroyed_on_an_order_only() -> None:
    alone = replace(VIEW, orphans=(ORPHAN,))
    status = hypervisor_status(alone, HypervisorStatus(), NOW)
    owned = get_condition(status.conditions, "DomainsOwned")
    assert owned is not None
    assert (owned.status, owned.reason) == ("False", "OrphanDomains")
    assert "demo/web" in owned.message
    assert (status.orphans, status.fenced) == ([ORPHAN], [])
    # The order reaches orphans only: a UID that belongs to an Instance is not destroyed by it.
    ordering = replace(VIEW, spec=HypervisorSpec(destroy_orphans=[UID]))
    assert hypervisor_status(ordering, status, NOW).fenced == []
    ordered = hypervisor_status(replace(ordering, orphans=(ORPHAN,)), status, NOW)
    assert ordered.fenced == [UID]
    gone = HypervisorReportStatus(driver="libvirt", fenced_gone=[UID])
    assert hypervisor_status(replace(ordering, report=gone), ordered, NOW).fenced == []


def test_domains_that_ended_are_those_a_node_that_speaks_has_no_more() -> None:
    told = HypervisorReportStatus(driver="libvirt")
    assert ended([ORPHAN], told) == (ORPHAN,)
    assert ended([ORPHAN], told.model_copy(update={"orphans": [ORPHAN]})) == ()
    assert ended([ORPHAN], HypervisorReportStatus()) == ended([ORPHAN], None) == ()
    others = [ORPHAN.model_copy(update={"guest_uid": str(n)}) for n in range(ORPHANS_MAX)]
    assert ended([ORPHAN], told.model_copy(update={"orphans": others})) == ()


def guest(vcpus: int, memory: int, *disks: int) -> GuestSpec:
    identity = InstanceIdentity(namespace="a", name="b", uid=UID, id=UID)
    return GuestSpec(
        instance=identity,
        incarnation=1,
        hypervisor="n1",
        hostname="b",
        vcpus=vcpus,
        memory_mib=memory,
        disks=[GuestDisk(role="root", device="vda", size_bytes=size) for size in disks],
    )


def test_allocation_is_the_sum_rounded_up_to_gib() -> None:
    total = allocated([guest(1, 128, 2**30, 1), guest(2, 64)])
    assert (total.vcpus, total.memory_mib, total.disk_gib) == (3, 192, 2)


def test_fenced_entries_leave_when_the_agent_reports_them_gone() -> None:
    other = UID.replace("1", "9")
    old = HypervisorStatus(fenced=[UID, other])
    view = replace(VIEW, report=HypervisorReportStatus(driver="x", fenced_gone=[UID]))
    assert hypervisor_status(view, old, NOW).fenced == [other]


def test_the_right_is_granted_after_everything_the_agent_needs() -> None:
    res = Resource("novakube.dev", "v1alpha1", "hypervisorreports")
    plurals = [wanted.resource.plural for wanted in mailbox("n1", res, res)]
    assert plurals.index("rolebindings") > plurals.index("leases")
    assert plurals[0] == "namespaces"


@pytest.mark.parametrize(
    ("namespace", "want"), [("novakube-node-n1", "n1"), ("default", None), ("novakube-node", None)]
)
def test_node_of_namespace(namespace: str, want: str | None) -> None:
    assert node_of_namespace(namespace) == want
