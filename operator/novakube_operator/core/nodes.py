"""What a node is owed and how it looks, decided without any I/O.

A node that carries ``novakube.dev/hypervisor: "true"`` gets a namespace of its own, its
mailbox, and a cluster-wide Hypervisor that folds the node's report, its heartbeat and the
administrator's wishes into conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from novakube_crds.base import API_VERSION, FINALIZER, NODE_NAMESPACE_PREFIX, Condition
from novakube_crds.conditions import ConditionStatus, get_condition, rfc3339, set_condition
from novakube_crds.v1alpha1.guest import GuestSpec
from novakube_crds.v1alpha1.hypervisor import (
    AGENT_ALIVE,
    BUILD_FAILURES,
    DISABLED,
    DOMAINS_OWNED,
    DRIVER_READY,
    FORCED_DOWN,
    HEARTBEAT_LOST,
    MAINTENANCE,
    NO_REPORT,
    ORPHAN_DOMAINS,
    READY,
    SCHEDULABLE,
    Allocated,
    HypervisorSpec,
    HypervisorStatus,
)
from novakube_crds.v1alpha1.hypervisorreport import (
    HEARTBEAT_INTERVAL_S,
    HEARTBEAT_LEASE,
    ORPHANS_MAX,
    REPORT_NAME,
    HypervisorReportSpec,
    HypervisorReportStatus,
    OrphanDomain,
)
from novakube_kit.kube import Json, Resource
from novakube_kit.resources import (
    CLUSTERROLEBINDINGS,
    LEASES,
    NAMESPACES,
    ROLEBINDINGS,
    SERVICEACCOUNTS,
)

HYPERVISOR_LABEL = "novakube.dev/hypervisor"
NODE_LABEL = "novakube.dev/node"
HEARTBEAT_LABEL = "novakube.dev/heartbeat"
NODE_ACCOUNT = "novakube-node"
"""Service account and ClusterRole of a node in its own namespace."""
SHARED_ROLE = "novakube-node-shared"
"""ClusterRole of what every node may read in the whole cluster."""
SILENT_AFTER_S = 4 * HEARTBEAT_INTERVAL_S
"""Kubernetes' own node-monitor-grace-period was 40 s for as long as its heartbeats were 10 s."""
DEFAULT_ZONE = "nova"
"""Nova's default_availability_zone."""


def namespace_of_node(node: str) -> str:
    """The namespace that is the node's mailbox."""
    return NODE_NAMESPACE_PREFIX + node


def node_of_namespace(namespace: str) -> str | None:
    """The node whose mailbox a namespace is, None for any other namespace."""
    if not namespace.startswith(NODE_NAMESPACE_PREFIX):
        return None
    return namespace.removeprefix(NODE_NAMESPACE_PREFIX)


def certificate_name(node: str) -> str:
    """Subject of the node's certificate."""
    return f"novakube-node:{node}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that must exist; its content is only written when it is made."""

    resource: Resource
    namespace: str | None
    name: str
    body: Json


def mailbox(node: str, report: Resource, hypervisor: Resource) -> tuple[Wanted, ...]:
    """The objects of a node, in the order in which they are made."""
    namespace = namespace_of_node(node)

    def meta(name: str, **labels: str) -> Json:
        return {"name": name, "labels": {NODE_LABEL: node, **labels}}

    subject = {"kind": "ServiceAccount", "name": NODE_ACCOUNT, "namespace": namespace}

    def role(name: str) -> Json:
        return {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}

    finalizers = {"finalizers": [FINALIZER]}
    return (
        Wanted(NAMESPACES, None, namespace, {"metadata": meta(namespace)}),
        Wanted(SERVICEACCOUNTS, namespace, NODE_ACCOUNT, {"metadata": meta(NODE_ACCOUNT)}),
        Wanted(
            LEASES,
            namespace,
            HEARTBEAT_LEASE,
            {"metadata": meta(HEARTBEAT_LEASE, **{HEARTBEAT_LABEL: "true"}), "spec": {}},
        ),
        Wanted(
            report,
            namespace,
            REPORT_NAME,
            {
                "apiVersion": API_VERSION,
                "kind": "HypervisorReport",
                "metadata": meta(REPORT_NAME),
                "spec": {},
            },
        ),
        Wanted(
            CLUSTERROLEBINDINGS,
            None,
            namespace,
            {"metadata": meta(namespace), "roleRef": role(SHARED_ROLE), "subjects": [subject]},
        ),
        # The right comes last: an agent that has it finds everything else in place.
        Wanted(
            ROLEBINDINGS,
            namespace,
            NODE_ACCOUNT,
            {"metadata": meta(NODE_ACCOUNT), "roleRef": role(NODE_ACCOUNT), "subjects": [subject]},
        ),
        Wanted(
            hypervisor,
            None,
            node,
            {
                "apiVersion": API_VERSION,
                "kind": "Hypervisor",
                "metadata": {"name": node, **finalizers},
                "spec": {},
            },
        ),
    )


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How long the agent has been silent, in seconds; None: never heard."""

    age_s: float | None
    at: datetime | None

    @property
    def alive(self) -> bool:
        """Whether it was heard within the grace period."""
        return self.age_s is not None and self.age_s <= SILENT_AFTER_S


@dataclass(frozen=True, slots=True)
class NodeView:
    """All that a Hypervisor's status is made from."""

    uid: str
    generation: int
    spec: HypervisorSpec
    report: HypervisorReportStatus | None
    heartbeat: Heartbeat
    guests: tuple[GuestSpec, ...]
    zone: str
    node_exists: bool
    build_failures: int = 0
    build_failures_max: int = 0
    """So many in a row disable the node; 0: none do."""
    orphans: tuple[OrphanDomain, ...] = ()
    """Domains without a Guest and without an Instance that could have one."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    type: str
    status: ConditionStatus
    reason: str
    message: str


def allocated(guests: Iterable[GuestSpec]) -> Allocated:
    """What the Guests of a node were promised; disks in whole GiB, rounded up."""
    vcpus = memory = disk = 0
    for guest in guests:
        vcpus += guest.vcpus
        memory += guest.memory_mib
        disk += sum(item.size_bytes for item in guest.disks)
    return Allocated(vcpus=vcpus, memory_mib=memory, disk_gib=-(-disk // 2**30))


def _alive(view: NodeView) -> _Verdict:
    if not view.node_exists:
        return _Verdict(AGENT_ALIVE, "False", "NodeNotFound", "the Node object is gone")
    if view.heartbeat.age_s is None:
        message = "the agent has not been heard yet"
        return _Verdict(AGENT_ALIVE, "False", HEARTBEAT_LOST, message)
    if not view.heartbeat.alive:
        # No number of seconds here: the message would change at every look.
        since = rfc3339(view.heartbeat.at) if view.heartbeat.at else "long ago"
        message = f"no heartbeat since {since} ({SILENT_AFTER_S} s are allowed)"
        return _Verdict(AGENT_ALIVE, "False", HEARTBEAT_LOST, message)
    return _Verdict(AGENT_ALIVE, "True", "Heartbeat", "the agent is heard")


def _driver(view: NodeView) -> _Verdict:
    """The report's own verdict on what the agent needs; the first bad one."""
    if view.report is None or not (view.report.driver or view.report.conditions):
        return _Verdict(DRIVER_READY, "False", NO_REPORT, "the agent has reported nothing yet")
    for condition in view.report.conditions:
        if condition.status == "False":
            return _Verdict(DRIVER_READY, "False", condition.reason, condition.message)
    found = get_condition(view.report.conditions, DRIVER_READY)
    message = found.message if found else view.report.message
    return _Verdict(DRIVER_READY, "True", "Connected", message)


def _schedulable(view: NodeView, others: tuple[_Verdict, ...]) -> _Verdict:
    spec = view.spec
    if spec.forced_down:
        message = "spec.forcedDown: an administrator declared the node dead"
        return _Verdict(SCHEDULABLE, "False", FORCED_DOWN, message)
    if spec.maintenance:
        return _Verdict(SCHEDULABLE, "False", MAINTENANCE, "spec.maintenance is set")
    if not spec.enabled:
        reason = spec.disabled_reason or "no reason given"
        return _Verdict(SCHEDULABLE, "False", DISABLED, f"disabled ({reason})")
    most = view.build_failures_max
    if most and view.build_failures >= most:
        # The limit, not the count: what fails on goes on counting.
        message = f"disabled ({most} builds in a row failed)"
        return _Verdict(SCHEDULABLE, "False", BUILD_FAILURES, message)
    for verdict in others:
        if verdict.status != "True":
            return _Verdict(SCHEDULABLE, "False", verdict.reason, verdict.message)
    return _Verdict(SCHEDULABLE, "True", "Enabled", "takes new Instances")


def _ready(alive: _Verdict, driver: _Verdict) -> _Verdict:
    bad = next((item for item in (alive, driver) if item.status != "True"), None)
    if bad is not None:
        return _Verdict(READY, "False", bad.reason, bad.message)
    return _Verdict(READY, "True", "Reporting", "the agent is heard and its driver works")


def _owned(view: NodeView) -> _Verdict:
    if not view.orphans:
        return _Verdict(DOMAINS_OWNED, "True", "Owned", "every domain belongs to an Instance")
    shown = [f"{item.instance_namespace}/{item.instance_name}" for item in view.orphans[:10]]
    more = f" and {len(view.orphans) - len(shown)} more" if len(view.orphans) > len(shown) else ""
    message = (
        f"{len(view.orphans)} domains belong to no Instance and are kept: "
        f"{', '.join(shown)}{more}; see novakube-manage vm orphans"
    )
    return _Verdict(DOMAINS_OWNED, "False", ORPHAN_DOMAINS, message)


def _conditions(view: NodeView, old: list[Condition], now: datetime) -> list[Condition]:
    alive, driver = _alive(view), _driver(view)
    schedulable = _schedulable(view, (alive, driver))
    verdicts = (_ready(alive, driver), alive, driver, schedulable, _owned(view))
    conditions = old
    for verdict in verdicts:
        conditions = set_condition(
            conditions,
            verdict.type,
            verdict.status,
            verdict.reason,
            verdict.message,
            now=now,
            observed_generation=view.generation,
        )
    return conditions


def ended(
    before: Iterable[OrphanDomain], report: HypervisorReportStatus | None
) -> tuple[OrphanDomain, ...]:
    """Domains without a Guest that the node had and has no more.

    None while it says nothing, or not all.
    """
    if report is None or not report.driver or len(report.orphans) >= ORPHANS_MAX:
        return ()
    there = {item.guest_uid for item in report.orphans}
    return tuple(item for item in before if item.guest_uid not in there)


def _fenced(view: NodeView, old: HypervisorStatus, gone: set[str]) -> list[str]:
    """What stands, without what is gone, and what the administrator gave up of the orphans."""
    given_up = set(view.spec.destroy_orphans)
    orders = [item.guest_uid for item in view.orphans if item.guest_uid in given_up]
    wanted = dict.fromkeys([*old.fenced, *(uid for uid in orders if uid)])
    return [uid for uid in wanted if uid not in gone]


def hypervisor_status(view: NodeView, old: HypervisorStatus, now: datetime) -> HypervisorStatus:
    """The status as it should be; equal to ``old`` when nothing a reader sees changed."""
    report = view.report or HypervisorReportStatus()
    conditions = _conditions(view, old.conditions, now)
    heard = old.heartbeat_at
    if conditions is not old.conditions and view.heartbeat.at is not None:
        heard = rfc3339(view.heartbeat.at)
    gone = set(report.fenced_gone)
    return HypervisorStatus(
        conditions=conditions,
        observed_generation=view.generation,
        id=view.uid,
        capacity=report.capacity,
        allocated=allocated(view.guests),
        running=len(view.guests),
        fenced=_fenced(view, old, gone),
        orphans=list(view.orphans),
        build_failures=view.build_failures,
        availability_zone=view.zone,
        driver=report.driver,
        hypervisor_type=report.hypervisor_type,
        version=report.hypervisor_version,
        agent_version=report.agent_version,
        virt_type=report.virt_type,
        cpu=report.cpu,
        traits=report.traits,
        address=report.address,
        agent_port=report.agent_port,
        heartbeat_at=heard,
    )


def report_spec(
    spec: HypervisorSpec, status: HypervisorStatus, certificate: str | None, ca_bundle: str
) -> HypervisorReportSpec:
    """The orders to the node as they should stand in its mailbox."""
    return HypervisorReportSpec(
        fenced=status.fenced,
        certificate=certificate,
        ca_bundle=ca_bundle,
        memory_allocation_ratio=spec.memory_allocation_ratio,
        cpu_allocation_ratio=spec.cpu_allocation_ratio,
        disk_allocation_ratio=spec.disk_allocation_ratio,
        reserved_memory_mib=spec.reserved_memory_mib,
        reserved_vcpus=spec.reserved_vcpus,
        reserved_disk_gib=spec.reserved_disk_gib,
    )


def is_hypervisor(node: Mapping[str, Any]) -> bool:
    """Whether a Node object asks to be a hypervisor."""
    labels = node.get("metadata", {}).get("labels") or {}
    return bool(labels.get(HYPERVISOR_LABEL) == "true")
