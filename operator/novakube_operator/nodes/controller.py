"""Nodes: from a labelled Node to a mailbox, a certificate and a Hypervisor's status.

One key is a node's name. Woken by Nodes, Hypervisors, reports, Guests (coalesced) and
heartbeats that begin or stop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge

from novakube_crds.base import FINALIZER
from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.aggregate import AggregateSpec, AggregateStatus
from novakube_crds.v1alpha1.guest import GuestSpec, GuestStatus
from novakube_crds.v1alpha1.hypervisor import (
    DOMAINS_OWNED,
    HYPERVISOR,
    ORPHAN_DOMAINS,
    HypervisorSpec,
    HypervisorStatus,
)
from novakube_crds.v1alpha1.hypervisorreport import (
    HYPERVISORREPORT,
    REPORT_NAME,
    HypervisorReportSpec,
    HypervisorReportStatus,
    OrphanDomain,
)
from novakube_crds.v1alpha1.instance import InstanceSpec, InstanceStatus
from novakube_kit.clock import Clock, parse_timestamp
from novakube_kit.errors import AlreadyExists, InvalidSpec
from novakube_kit.events import EventRecorder, regarding
from novakube_kit.kube import KubePort
from novakube_kit.objects import Object
from novakube_kit.resources import resource_of
from novakube_kit.store import Store
from novakube_operator.core import nodes as core
from novakube_operator.core.certificates import Pair, holds, requested_key, sign
from novakube_operator.core.scheduling.view import zone_of
from novakube_operator.nodes.authority import ENDS, Authority
from novakube_operator.nodes.heartbeats import Heartbeats

HYPERVISORS = resource_of(HYPERVISOR)
REPORTS = resource_of(HYPERVISORREPORT)
CERTIFICATE_CHECK_S = 3600.0
ORPHANS = Gauge(
    "novakube_orphan_domains", "Domains on a node that belong to no Instance.", ["node"]
)
log = structlog.get_logger(__name__)

HypervisorObject = Object[HypervisorSpec, HypervisorStatus]
ReportObject = Object[HypervisorReportSpec, HypervisorReportStatus]
Release = Callable[[OrphanDomain], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Builds:
    """Build failures of nodes, as the scheduler's view counts them."""

    failures: Callable[[str], int]
    """In a row, by node."""
    most: int
    """So many disable a node; 0: none do."""


@dataclass(frozen=True, slots=True)
class NodeStores:
    """The stores this controller reads.

    ``guests`` needs the index ``namespace``, ``aggregates`` the index ``host``.
    """

    hypervisors: Store[HypervisorSpec, HypervisorStatus]
    reports: Store[HypervisorReportSpec, HypervisorReportStatus]
    guests: Store[GuestSpec, GuestStatus]
    aggregates: Store[AggregateSpec, AggregateStatus]
    instances: Store[InstanceSpec, InstanceStatus]


class NodeController:
    """Reconciles one node at a time."""

    def __init__(
        self,
        kube: KubePort,
        stores: NodeStores,
        authority: Authority,
        heartbeats: Heartbeats,
        clock: Clock,
        node_exists: Callable[[str], bool],
        builds: Builds,
        events: EventRecorder,
        release: Release,
        terminating: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Sets up.

        Args: node_exists: whether a labelled Node of that name is there now; release: frees
        what the Instance of a domain held that is gone; terminating: whether a namespace is
        being deleted (its end wakes the node).
        """
        self._kube = kube
        self._stores = stores
        self._authority = authority
        self._heartbeats = heartbeats
        self._clock = clock
        self._node_exists = node_exists
        self._builds = builds
        self._events = events
        self._free = release
        self._terminating = terminating
        self._complete: set[str] = set()

    async def reconcile(self, node: str) -> float | None:
        """One pass; returns when to look again even if nothing happens."""
        exists = self._node_exists(node)
        hypervisor = self._stores.hypervisors.get(None, node)
        if hypervisor is None:
            ORPHANS.remove(node)
            ENDS.remove(core.certificate_name(node))
        if hypervisor is not None and hypervisor.deleting:
            await self._release(hypervisor)
            return None
        mailbox = core.namespace_of_node(node)
        if self._terminating(mailbox):
            self._complete.discard(node)
        elif exists and (node not in self._complete or hypervisor is None):
            await self._ensure_mailbox(node)
            self._complete.add(node)
            hypervisor = self._stores.hypervisors.get(None, node)
        if hypervisor is None:
            return None
        report = self._stores.reports.get(mailbox, REPORT_NAME)
        status = await self._report_status(node, hypervisor, report, exists)
        if report is not None:
            _show_certificate(node, report.status)
            await self._give_orders(node, hypervisor, status, report)
        return CERTIFICATE_CHECK_S

    async def _ensure_mailbox(self, node: str) -> None:
        for wanted in core.mailbox(node, REPORTS, HYPERVISORS):
            try:
                made = await self._kube.create(wanted.resource, wanted.body, wanted.namespace)
            except AlreadyExists:
                made = await self._kube.get(wanted.resource, wanted.name, wanted.namespace)
            if wanted.resource == HYPERVISORS:
                self._stores.hypervisors.observe(made)
            elif wanted.resource == REPORTS:
                self._stores.reports.observe(made)

    async def _release(self, hypervisor: HypervisorObject) -> None:
        """An administrator deleted the Hypervisor: it goes once it carries nothing.

        Its namespace and the Guests in it stay whatever happens: deleting a Hypervisor is no
        order to destroy anything.
        """
        namespace = core.namespace_of_node(hypervisor.name)
        if self._stores.guests.by("namespace", namespace) or FINALIZER not in hypervisor.finalizers:
            return
        rest = [item for item in hypervisor.finalizers if item != FINALIZER]
        patch = {"metadata": {"finalizers": rest, "resourceVersion": hypervisor.resource_version}}
        await self._kube.patch(HYPERVISORS, hypervisor.name, patch)
        self._complete.discard(hypervisor.name)

    def _zone(self, node: str) -> str:
        return zone_of(self._stores.aggregates.by("host", node))

    async def _report_status(
        self, node: str, hypervisor: HypervisorObject, report: ReportObject | None, exists: bool
    ) -> HypervisorStatus:
        guests = self._stores.guests.by("namespace", core.namespace_of_node(node))
        view = core.NodeView(
            uid=hypervisor.uid,
            generation=hypervisor.generation,
            spec=hypervisor.spec,
            report=report.status if report else None,
            heartbeat=self._heartbeats.of(node),
            guests=tuple(guest.spec for guest in guests),
            zone=self._zone(node),
            node_exists=exists,
            build_failures=self._builds.failures(node),
            build_failures_max=self._builds.most,
            orphans=self._orphans(report),
        )
        status = core.hypervisor_status(view, hypervisor.status, self._clock.now())
        self._alarm(hypervisor, status)
        # Before the status forgets them: a pass that fails here comes back to it.
        for domain in core.ended(hypervisor.status.orphans, view.report):
            await self._free(domain)
        if status != hypervisor.status:
            body = {
                "metadata": {"resourceVersion": hypervisor.resource_version},
                "status": status.wire(),
            }
            # A JSON merge patch leaves what it does not name; every field is named here but
            # those that became absent.
            for gone in hypervisor.status.wire().keys() - status.wire().keys():
                body["status"][gone] = None
            written = await self._kube.patch(HYPERVISORS, node, body, sub="status")
            self._stores.hypervisors.observe(written)
        return status

    def _orphans(self, report: ReportObject | None) -> tuple[OrphanDomain, ...]:
        """Domains without a Guest whose Instance is not there to get the next one."""
        found = report.status.orphans if report is not None else ()
        return tuple(item for item in found if not self._has_instance(item))

    def _has_instance(self, item: OrphanDomain) -> bool:
        instance = self._stores.instances.get(item.instance_namespace, item.instance_name)
        if instance is None:
            return False
        id = instance.spec.id or instance.uid
        return instance.uid == item.instance_uid or id == item.instance_id

    def _alarm(self, hypervisor: HypervisorObject, status: HypervisorStatus) -> None:
        ORPHANS.labels(hypervisor.name).set(len(status.orphans))
        found = get_condition(status.conditions, DOMAINS_OWNED)
        if found is not None and found.status == "False":
            about = regarding(HYPERVISOR, None, hypervisor.name, hypervisor.uid)
            self._events.record(about, "Warning", ORPHAN_DOMAINS, found.message)

    async def _give_orders(
        self,
        node: str,
        hypervisor: HypervisorObject,
        status: HypervisorStatus,
        report: ReportObject,
    ) -> None:
        authority = await self._authority.pair()
        certificate = self._certificate(node, authority, report)
        wanted = core.report_spec(hypervisor.spec, status, certificate, authority.certificate)
        if wanted == report.spec:
            return
        spec = dict.fromkeys(report.spec.wire()) | wanted.wire()
        patch = {"metadata": {"resourceVersion": report.resource_version}, "spec": spec}
        written = await self._kube.patch(REPORTS, REPORT_NAME, patch, report.namespace)
        self._stores.reports.observe(written)

    def _certificate(self, node: str, authority: Pair, report: ReportObject) -> str | None:
        request, current = report.status.certificate_request, report.spec.certificate
        if not request:
            return current
        try:
            key = requested_key(request)
        except InvalidSpec as error:
            log.warning("Certificate refused", node=node, error=error.message)
            return current
        now = self._clock.now()
        if holds(current, authority, (node,), now, key):
            return current
        return sign(authority, key, core.certificate_name(node), (node,), now)


def _show_certificate(node: str, report: HypervisorReportStatus) -> None:
    """The end of the one the agent has in use, which need not be the one it was given last."""
    # What a node says of itself must not end its reconciles.
    with contextlib.suppress(ValueError):
        if report.certificate_expires_at is not None:
            ends = parse_timestamp(report.certificate_expires_at)
            ENDS.labels(core.certificate_name(node)).set(ends.timestamp())
