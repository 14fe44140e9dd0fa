"""One node: its stores, reconciler, heartbeat, report and sweeps, on one work queue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from pathlib import Path

from novakube_agent.admission import Admission
from novakube_agent.epoch import LeaderEpoch
from novakube_agent.heartbeat import Heartbeat
from novakube_agent.host import CONSOLE_LOG, Host, HostPorts
from novakube_agent.identity import NodeCertificate, node_namespace
from novakube_agent.journal import Journals
from novakube_agent.leases import is_of, leasable
from novakube_agent.metrics import LEASE_EVENTS, GuestTimes, show_capacity
from novakube_agent.model import Desired
from novakube_agent.ports import DomainEvent, LeaseEvent
from novakube_agent.reconcile import GuestReconciler
from novakube_agent.remains import Sweep
from novakube_agent.report import (
    COALESCE_S,
    REPORT_INTERVAL_S,
    NodeState,
    libvirt_guests_enabled,
    report_status,
    write_report,
)
from novakube_agent.settings import Settings
from novakube_agent.status_writer import StatusWriter
from novakube_crds.v1alpha1.guest import GUEST, GuestSpec, GuestStatus
from novakube_crds.v1alpha1.hypervisorreport import (
    HYPERVISORREPORT,
    REPORT_NAME,
    HypervisorReportSpec,
    HypervisorReportStatus,
)
from novakube_kit.backoff import Backoff
from novakube_kit.clock import SystemClock
from novakube_kit.errors import Forbidden, NotFound, NovakubeError, Retryable
from novakube_kit.kube import KubePort
from novakube_kit.objects import Key, Object
from novakube_kit.store import AnyObject, Store
from novakube_kit.workqueue import WorkQueue

_log = logging.getLogger(__name__)
DEBOUNCE_S = 0.05
"""A stop and its start, or the events of one start, are looked at once."""
LEASE_DEBOUNCE_S = 1.0
"""Leases of a guest's NICs and address families come together."""
SWEEP_RETRY_S = 10.0

GuestObject = Object[GuestSpec, GuestStatus]
ReportObject = Object[HypervisorReportSpec, HypervisorReportStatus]


class NodeAgent:
    """The agent of one node. ``run`` works until cancelled and touches no domain at its end."""

    def __init__(
        self,
        node: str,
        settings: Settings,
        kube: KubePort,
        ports: HostPorts,
        queue: WorkQueue[Key],
        state_dir: Path,
        certificate: NodeCertificate | None = None,
    ) -> None:
        """Args: kube: the API as the node's account; certificate: None: no server here."""
        self.node = node
        self.namespace = node_namespace(node)
        self.state = NodeState(address=settings.address)
        self.certificate = certificate
        self._settings = settings
        self._kube = kube
        self._ports = ports
        self._queue = queue
        self._guests: Store[GuestSpec, GuestStatus] = Store(
            GUEST,
            indices={
                "instance": lambda guest: (guest.spec.instance.id,),
                "lease": lambda guest: [
                    place for nic in guest.spec.nics for place in leasable(nic)
                ],
            },
            changed=self._guest_changed,
        )
        self._reports: Store[HypervisorReportSpec, HypervisorReportStatus] = Store(
            HYPERVISORREPORT, changed=self._report_changed
        )
        self._guest_reflector = self._guests.reflector(kube, namespace=self.namespace)
        self._report_reflector = self._reports.reflector(kube, namespace=self.namespace)
        self.journals = Journals(state_dir / "journal")
        self.host = Host(
            ports, self.journals, run_id=str(uuid.uuid4()), run_dir=settings.host_run_dir
        )
        self._writer = StatusWriter(kube, self._guests.observe)
        self.reconciler = GuestReconciler(
            self.host,
            Admission(self.journals),
            self._writer,
            self._desired,
            self._orders,
            LeaderEpoch(kube),
        )
        self._times = GuestTimes(time.monotonic)
        self._heartbeat = Heartbeat(kube, self.namespace, node, settings.heartbeat_s)
        self._sweep = Sweep(self.host, self._guest_uids)
        self._open = False
        self._report_due = asyncio.Event()
        self._sweep_due = asyncio.Event()

    async def run(self, reconcilers: dict[str, GuestReconciler]) -> None:
        """Everything of this node; registers its reconciler once it may work."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._heartbeat.run())
                group.create_task(self._report_reflector.run())
                group.create_task(self._report_loop())
                await self._remember()
                await self._ports.driver.open(self._on_domain_event)
                self._open = True
                await self._restore_network()
                await self._report_reflector.synced.wait()
                # Orders (fencing) are known before any Guest is acted upon.
                reconcilers[self.namespace] = self.reconciler
                group.create_task(self._lease_loop())
                group.create_task(self._guest_reflector.run())
                group.create_task(self._sweep_loop())
                group.create_task(self._resync_loop())
        finally:
            await self._ports.driver.close()

    def failure(self) -> str | None:
        """For /healthz: what keeps this node's agent from working now."""
        watch = self._guest_reflector.failure or self._report_reflector.failure
        return self._heartbeat.failure or (watch.message if watch else None)

    def console_log(self, guest_name: str) -> Path | None:
        """Console log of a Guest of this node, by its name; None for any other name."""
        if all(journal.guest_name != guest_name for journal in self.journals):
            return None
        return self._ports.disks.directory(guest_name) / CONSOLE_LOG

    def listening(self, port: int) -> None:
        """The mutual-TLS server is up."""
        self.state.agent_port = port
        self._report_due.set()

    # --- what the reconciler reads -------------------------------------------------------

    def _desired(self, name: str) -> Desired | None:
        guest = self._guests.get(self.namespace, name)
        if guest is None:
            return None
        return Desired(
            uid=guest.uid,
            name=guest.name,
            namespace=guest.namespace,
            generation=guest.generation,
            resource_version=guest.resource_version,
            spec=guest.spec,
            status=guest.status,
            fenced=guest.uid in self._orders().fenced,
        )

    def _orders(self) -> HypervisorReportSpec:
        report = self._reports.get(self.namespace, REPORT_NAME)
        return report.spec if report is not None else HypervisorReportSpec()

    def _guest_uids(self) -> frozenset[str]:
        return frozenset(guest.uid for guest in self._guests)

    # --- events --------------------------------------------------------------------------

    def _guest_changed(self, old: AnyObject | None, new: AnyObject | None) -> None:
        self._times.seen(old, new)
        if new is None:
            assert old is not None
            self._writer.forget(old.uid)
            self._queue.forget(old.key)
            self._sweep_due.set()
            return
        self._writer.seen(new.uid, new.resource_version, new.status)
        if new.spec.teardown == "Destroy":
            self.reconciler.interrupt(new.uid)
        if old is None or old.spec != new.spec or old.uid != new.uid:
            self._queue.add(new.key)

    def _report_changed(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if new is None:
            return
        if old is None or old.spec.fenced != new.spec.fenced:
            for guest in self._guests:
                if guest.uid in new.spec.fenced:
                    self.reconciler.interrupt(guest.uid)
                    self._queue.add(guest.key)
            self._sweep_due.set()
        if old is None or old.spec != new.spec:
            self._report_due.set()

    def _on_domain_event(self, event: DomainEvent) -> None:
        if event.change == "Defined":
            return  # our own doing, and no change of what a pass sees
        guests = self._guests.by("instance", event.instance_id)
        for guest in guests:
            self._queue.nudge(guest.key, DEBOUNCE_S)
        if not guests:
            self._sweep_due.set()

    def _on_lease(self, event: LeaseEvent) -> None:
        if not self._guest_reflector.synced.is_set():
            return  # each Guest's first pass reads what it holds
        places = self._guests.by("lease", (event.network_uid, event.address))
        guests = [guest for guest in places if is_of(event, guest.spec.nics)]
        for guest in guests:
            self._queue.add_after(guest.key, LEASE_DEBOUNCE_S)
        LEASE_EVENTS.labels("Guest" if guests else "Unknown").inc()
        # The lease of a guest that was deleted ends long after it.
        if not guests and event.action != "del":
            _log.warning("lease of no guest of this node refused: %s", event)

    # --- loops ---------------------------------------------------------------------------

    async def _remember(self) -> None:
        """What the node's files hold; tells what is wrong with them until it is mended."""
        backoff = Backoff(1.0, SWEEP_RETRY_S)
        while True:
            try:
                await self.journals.load()
                await self.journals.check()
                if self.certificate is not None:
                    await self.certificate.load()
            except Retryable as error:
                self._unusable(error)
                self._report_due.set()
                await asyncio.sleep(backoff.next_s())
            else:
                self.state.state_error = None
                self._report_due.set()
                return

    def _unusable(self, error: Retryable) -> None:
        known, self.state.state_error = self.state.state_error, (error.reason, error.message[:1024])
        if known != self.state.state_error:  # it is looked at every few seconds
            _log.error("the agent's own files: %s", error.message)

    async def _restore_network(self) -> None:
        """DHCP and namespaces of all NICs alive again; the resync repeats what failed."""
        nics = {journal.guest_name: list(journal.nics) for journal in self.journals if journal.nics}
        try:
            await self._ports.network.restore(nics)
        except NovakubeError as error:
            _log.error("network of present guests not restored: %s", error)
            self.state.network_error = (error.reason, error.message[:1024])
        else:
            self.state.network_error = None

    async def _resync_loop(self) -> None:
        await self._guest_reflector.synced.wait()
        while True:
            await asyncio.sleep(self._settings.resync_s)
            for guest in self._guests:
                self._queue.add(guest.key)
            if self.state.network_error is not None:
                await self._restore_network()
            self._sweep_due.set()

    async def _lease_loop(self) -> None:
        """Without it leases are told with the resync."""
        backoff = Backoff(1.0, SWEEP_RETRY_S)
        while True:
            try:
                await self._ports.leases.follow(self._on_lease)
            except NovakubeError as error:
                _log.warning("leases are not followed: %s", error)
            await asyncio.sleep(backoff.next_s())

    async def _sweep_loop(self) -> None:
        await self._guest_reflector.synced.wait()
        backoff = Backoff(1.0, SWEEP_RETRY_S)
        self._sweep_due.set()
        while True:
            await self._sweep_due.wait()
            self._sweep_due.clear()
            try:
                found = await self._sweep(self._orders().fenced)
            except NovakubeError as error:
                _log.warning("sweep of the node: %s", error)
                await asyncio.sleep(backoff.next_s())
                self._sweep_due.set()
                continue
            backoff.reset()
            state = self.state
            if (state.orphans, tuple(state.fenced_gone)) != (found.orphans, found.fenced_gone):
                state.orphans, state.fenced_gone = found.orphans, found.fenced_gone
                self._report_due.set()

    async def _report_loop(self) -> None:
        """Facts every minute, trouble sooner, changes after a moment, failures with backoff."""
        await self._report_reflector.synced.wait()
        backoff = Backoff(1.0, REPORT_INTERVAL_S)
        while True:
            self._report_due.clear()
            try:
                await self._report()
            except NovakubeError as error:
                _log.warning("report of the node not written: %s", error)
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            again_s = self.state.look_again_s
            await asyncio.sleep(min(COALESCE_S, again_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._report_due.wait()

    async def _report(self) -> None:
        report = self._reports.get(self.namespace, REPORT_NAME)
        if report is None:
            raise NotFound(f"HypervisorReport {self.namespace}/{REPORT_NAME} is not there yet")
        if self._open:
            await self._look_at_files(report.spec)
            await self._look_at_node()
        failed = self._guest_reflector.failure
        self.state.refused = failed.message[:1024] if isinstance(failed, Forbidden) else None
        now = SystemClock().now()
        status = report_status(self.state, report.status, report.generation, now)
        if status != report.status:
            written = await write_report(
                self._kube, self.namespace, status, report.resource_version
            )
            self._reports.observe(written)

    async def _look_at_files(self, given: HypervisorReportSpec) -> None:
        try:
            await self.journals.check()
            if self.certificate is not None:
                await self.certificate.accept(given.certificate, given.ca_bundle)
                self.state.certificate_request = self.certificate.request_pem
                self.state.certificate_expires_at = self.certificate.expires_at
        except Retryable as error:
            self._unusable(error)
        else:
            self.state.state_error = None

    async def _look_at_node(self) -> None:
        try:
            self.state.facts = await self.host.facts(fresh=True)
            self.state.driver_error = None
            show_capacity(self.node, self.state.facts.capacity)
        except NovakubeError as error:
            self.state.driver_error = (error.reason, error.message[:1024])
        if self._settings.driver == "libvirt":
            self.state.libvirt_guests_enabled = libvirt_guests_enabled(self._settings.host_etc_dir)
