"""The node controller with its heartbeats and certificates, ready for ``Controllers.add``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from novakube_kit.clock import Clock
from novakube_kit.errors import NovakubeError
from novakube_kit.events import EventRecorder
from novakube_kit.kube import KubePort
from novakube_kit.store import AnyObject
from novakube_operator.controllers import Controller
from novakube_operator.core.nodes import is_hypervisor, node_of_namespace
from novakube_operator.nodes.authority import Authority
from novakube_operator.nodes.controller import Builds, NodeController, NodeStores, Release
from novakube_operator.nodes.heartbeats import INTERVAL_S, Heartbeats
from novakube_operator.stores import Stores

ROLLUP_S = 5.0
"""A Hypervisor's totals are written at most this often because of Guests."""
AUTHORITY_CHECK_S = 3600.0
RETRY_S = 5.0
WORKERS = 4
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The controller and the loops that belong to it."""

    controller: Controller
    heartbeats: Heartbeats
    authority: Authority
    clock: Clock

    async def watch_heartbeats(self) -> None:
        """Looks at the Leases for ever, on leader and standby: both know who is alive."""
        while True:
            began = self.clock.monotonic()
            try:
                await self.heartbeats.look()
            except NovakubeError as error:
                log.warning("Heartbeats not read", reason=error.reason, error=error.message)
                await asyncio.sleep(INTERVAL_S)
                self.heartbeats.excuse(self.clock.monotonic() - began)
                continue
            await asyncio.sleep(INTERVAL_S)

    async def keep_certificates(self) -> None:
        """Keeps novakube-api's certificate and the published endpoints; the leader's work."""
        while True:
            try:
                await self.authority.ensure_api()
            except NovakubeError as error:
                log.error("Endpoints not published", reason=error.reason, error=error.message)
                await asyncio.sleep(RETRY_S)
                continue
            await asyncio.sleep(AUTHORITY_CHECK_S)


def node_controller(
    stores: Stores,
    kube: KubePort,
    clock: Clock,
    api_url: str,
    wake: Callable[[str], None],
    builds: Builds,
    events: EventRecorder,
    release: Release,
) -> Nodes:
    """Builds it; ``wake(node)`` queues a node when its heartbeat begins or stops."""
    authority = Authority(kube, clock, api_url)
    heartbeats = Heartbeats(kube, clock, wake)

    def node_exists(name: str) -> bool:
        node = stores.nodes.get(name)
        return node is not None and is_hypervisor(node)

    reconciler = NodeController(
        kube,
        NodeStores(
            hypervisors=stores.of("hypervisors"),
            reports=stores.of("hypervisorreports"),
            guests=stores.of("guests"),
            aggregates=stores.of("aggregates"),
            instances=stores.of("instances"),
        ),
        authority,
        heartbeats,
        clock,
        node_exists,
        builds,
        events,
        release,
        stores.terminating,
    )

    def keys() -> set[str]:
        labelled = {name for name, node in stores.nodes.items() if is_hypervisor(node)}
        return labelled | {hypervisor.name for hypervisor in stores.of("hypervisors")}

    controller = Controller("Node", reconciler.reconcile, _wakes, keys, WORKERS)
    return Nodes(controller, heartbeats, authority, clock)


def _wakes(
    plural: str, old: AnyObject | None, new: AnyObject | None
) -> Iterator[tuple[str, float]]:
    obj = new or old
    if obj is None:
        return
    if plural == "hypervisors":
        yield obj.name, 0.0
    elif plural == "hypervisorreports":
        yield from ((node, 0.0) for node in [node_of_namespace(obj.namespace)] if node is not None)
    elif plural == "guests":
        yield from _of_guest(obj, old, new)
    elif plural == "aggregates":
        hosts = {*(old.spec.hosts if old else ()), *(new.spec.hosts if new else ())}
        yield from ((host, 0.0) for host in hosts)
    elif plural == "instances":
        yield from _of_instance(obj, old, new)


def _of_instance(
    obj: AnyObject, old: AnyObject | None, new: AnyObject | None
) -> Iterator[tuple[str, float]]:
    """One that came or went changes whom a node's domains belong to."""
    if (old is None or new is None) and obj.status.node is not None:
        yield obj.status.node, ROLLUP_S


def _of_guest(
    obj: AnyObject, old: AnyObject | None, new: AnyObject | None
) -> Iterator[tuple[str, float]]:
    """Totals soon; a build that failed at once, for it may disable the node."""
    if old is None or new is None:
        yield obj.spec.hypervisor, ROLLUP_S
    elif old.status.phase != new.status.phase and new.status.phase in ("Failed", "Ready"):
        yield obj.spec.hypervisor, 0.0 if new.status.phase == "Failed" else ROLLUP_S
