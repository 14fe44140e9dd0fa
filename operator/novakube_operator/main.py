"""The operator's process: kopf watches, our queues decide, one of all replicas leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import kopf

from novakube_crds.base import SYSTEM_NAMESPACE
from novakube_kit.access import ClusterAccess, discover
from novakube_kit.clock import SystemClock
from novakube_kit.errors import InvalidSpec, NovakubeError, StateRolledBack
from novakube_kit.events import EventRecorder
from novakube_kit.httpserver import HttpServer
from novakube_kit.kube_aio import AioKube
from novakube_kit.leader import LeaderElection
from novakube_kit.logging import configure_logging
from novakube_kit.store import AnyObject
from novakube_kit.version import answer_version
from novakube_operator.controllers import Controller, Controllers
from novakube_operator.core.nodes import node_of_namespace
from novakube_operator.handlers import operator_settings, register
from novakube_operator.instances.actions import ActionController
from novakube_operator.instances.capacity import Capacity
from novakube_operator.instances.claims import release_vanished
from novakube_operator.instances.context import Context
from novakube_operator.instances.controller import InstanceController
from novakube_operator.instances.orphans import Sweep
from novakube_operator.instances.ports import PortController
from novakube_operator.instances.recorder import Recorder
from novakube_operator.lifecycle import Lifecycle
from novakube_operator.nodes.controller import Builds
from novakube_operator.nodes.wiring import Nodes, node_controller
from novakube_operator.quotas.admission import Admission
from novakube_operator.quotas.controller import quota_controllers
from novakube_operator.quotas.ledger import Ledger
from novakube_operator.resources.wiring import resource_controllers
from novakube_operator.scheduler import load_pipeline
from novakube_operator.settings import Settings, read_settings
from novakube_operator.sql import schema
from novakube_operator.sql.engine import open_engine
from novakube_operator.sql.history import History
from novakube_operator.sql.waiting import Records
from novakube_operator.sql.writer import Writer
from novakube_operator.stores import Stores

LEASE = "novakube-operator"
RELIST_S = 300.0
FILL_S = 120.0
"""For the first lists: ten thousand objects take seconds."""
RETRY_S = 5.0
END_S = 20.0
"""For an orderly end. While the API server is away, kopf repeats requests that it means to give
up (its stop callback runs in no task, which asyncio.current_task() needs), for minutes."""
log = logging.getLogger(__name__)


class Process:
    """Everything that lives as long as the process does."""

    def __init__(self, settings: Settings, access: ClusterAccess) -> None:
        self.settings = settings
        self.stop = asyncio.Event()
        self.failed: str | None = None
        self._clock = SystemClock()
        self._capacity = Capacity()
        self._controllers = Controllers()
        self._lifecycle = Lifecycle(self._clock, lambda: self._election.is_leader)
        self.stores = Stores(self._changed)
        self._kube = AioKube(access, user_agent="novakube-operator")
        self._admission = Admission(
            Ledger(self.stores), self.stores, self._kube, self._clock,
            lambda: self._election.epoch,
        )  # fmt: skip
        self._events = EventRecorder(self._kube, "novakube-operator", clock=self._clock)
        self._engine = open_engine(settings.database_url)
        self._history = History(Writer(self._engine, self._clock), Records(self._kube), self._clock)
        self._election = LeaderElection(
            self._kube,
            SYSTEM_NAMESPACE,
            LEASE,
            settings.identity,
            slot=settings.slot,
            changed=self._leadership,
        )
        self._nodes = self._wire()
        self._exit = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._leading: asyncio.Task[None] | None = None

    def _wire(self) -> Nodes:
        context = Context(
            self._kube,
            self.stores,
            self._capacity,
            self._events,
            self._history,
            self._clock,
            lambda: self._election.epoch,
            self.settings.build_deadline_s,
            self._lifecycle,
            self._admission,
            self.settings.reclaim_after_s,
            pipeline=load_pipeline(self.settings.scheduler),
        )
        self._recorder = Recorder(context)
        self._sweep = Sweep(context)
        self._history.recall = self._recorder.recall
        instances, actions = InstanceController(context), ActionController(context)
        self._controllers.add(
            Controller(
                "Instance",
                instances.reconcile,
                instances.wakes,
                instances.keys,
                self.settings.workers,
            )
        )
        self._controllers.add(
            Controller("InstanceAction", actions.reconcile, actions.wakes, actions.keys)
        )
        ports = PortController(context)
        self._controllers.add(Controller("Port", ports.reconcile, ports.wakes, ports.keys, 2))
        ledger = self._admission.ledger
        for controller in resource_controllers(self.stores, self._kube, self._clock, ledger):
            self._controllers.add(controller)
        for controller in quota_controllers(
            self._admission, self.stores, self._kube, self._clock, self._events
        ):
            queue = self._controllers.add(controller)
            if controller.name == "Quota":
                self._admission.wake = queue.add
        wake = self.stores.wake_node
        builds = Builds(self._capacity.failures, self.settings.build_failures_max)
        url, events = self.settings.api_url, self._events
        nodes = node_controller(
            self.stores, self._kube, self._clock, url, wake, builds, events,
            partial(release_vanished, context),
        )  # fmt: skip
        queue = self._controllers.add(nodes.controller)
        self.stores.node_changed = queue.add
        self.stores.namespace_changed = partial(self._namespace_changed, queue.add)
        return nodes

    def _namespace_changed(self, wake_node: Callable[[str], None], namespace: str) -> None:
        """A project was bound, or a node's namespace goes or is gone."""
        self._admission.wake(namespace)
        node = node_of_namespace(namespace)
        if node is not None:
            wake_node(node)

    def _changed(self, plural: str, old: AnyObject | None, new: AnyObject | None) -> None:
        self._admission.ledger.changed(plural, old, new)
        self._capacity.changed(plural, old, new)
        self._recorder.changed(plural, old, new)
        self._lifecycle.changed(plural, old, new)
        self._controllers.changed(plural, old, new)

    async def startup(self, **_: Any) -> None:
        """Loads the stores, then stands for leadership; kopf watches from then on."""
        await asyncio.to_thread(self._open_database)
        await self._fill_stores()
        server = HttpServer(
            self.settings.http_host,
            self.settings.http_port,
            {"process": lambda: self.failed},
            {"history": self._history.detail},
        )
        await self._exit.enter_async_context(server)
        for name, loop in (
            ("events", self._events.run()),
            ("heartbeats", self._nodes.watch_heartbeats()),
            ("relist", self._relist()),
            ("election", self._election.run()),
        ):
            self._start(name, loop)
        log.info("stores loaded, standing for leadership")

    async def _fill_stores(self) -> None:
        """Everything that exists is in the stores; an API server without our kinds is awaited."""
        reflectors = self.stores.reflectors(self._kube)
        for reflector in reflectors:
            self._start("reflector", reflector.run())
        while True:
            try:
                await self.stores.load(self._kube)
                break
            except NovakubeError as error:
                log.warning("lists failed, again in %g s: %s", RETRY_S, error.message)
                await asyncio.sleep(RETRY_S)
        for reflector in reflectors:
            while not reflector.synced.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FILL_S):
                        await reflector.synced.wait()
                        break
                log.error("a list is not there after %g s: %s", FILL_S, reflector.failure)

    def _start(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(loop, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _open_database(self) -> None:
        """SQLite is brought up by itself; a server's schema is novakube-manage's work."""
        try:
            if self._engine.dialect.name == "sqlite":
                schema.sync(self._engine)
            elif schema.version(self._engine) != schema.head():
                log.error("the database needs: novakube-manage db sync; history waits")
        except NovakubeError as error:
            log.error("history waits: %s", error.message)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop of the process never ends by itself: without it the process must not go on."""
        if not task.cancelled() and task.exception() is not None:
            self.failed = f"{task.get_name()}: {task.exception()}"
            log.critical("%s ended", task.get_name(), exc_info=task.exception())
            self.stop.set()

    def _leadership(self, leading: bool) -> None:
        if leading:
            log.info("leading, epoch %d", self._election.epoch)
            # No part of what ends with leadership: the last decisions are written after it.
            self._start("history", self._history.run())
            self._leading = asyncio.create_task(self._lead(), name="lead")
            self._leading.add_done_callback(self._ended)
            return
        log.warning("leadership lost: ending, to start again as a standby")
        if self._leading is not None:
            self._leading.cancel()
        self.stop.set()

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._controllers.run())
            group.create_task(self._nodes.keep_certificates())
            group.create_task(self._sweep.run())

    async def _relist(self) -> None:
        """Finds what vanished while nobody watched: every 5 minutes, and after a gap."""
        while True:
            gap = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELIST_S):
                    gap = await self.stores.gap.wait()
            try:
                await self.stores.relist(self._kube, self.stores.taken_gaps() if gap else None)
            except StateRolledBack:
                raise
            except NovakubeError as error:
                log.warning("relist failed: %s", error.message)
                await asyncio.sleep(RETRY_S)

    async def cleanup(self, **_: Any) -> None:
        """Ends in order: no more decisions, then what they said is written, then the Lease."""
        if self._leading is not None:
            self._leading.cancel()
            await asyncio.gather(self._leading, return_exceptions=True)
        await self._history.settled(5.0)
        await self._events.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._exit.aclose()
        await self._kube.close()
        self._engine.dispose()


async def run(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT, or until leadership is lost; the exit code."""
    access = discover()
    process = Process(settings, access)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop.set)
    registry = kopf.OperatorRegistry()
    register(registry, process.stores, access, process)
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=operator_settings(),
            clusterwide=True,
            stop_flag=process.stop,
        ),
        name="kopf",
    )
    stopping = asyncio.create_task(process.stop.wait())
    await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait((watching,), timeout=END_S)
    if not watching.done():
        log.warning("watches did not end within %g s: leaving without them", END_S)
        await process.cleanup()
        os._exit(1)
    stopping.cancel()
    await watching
    return 1 if process.failed else 0


def main() -> None:
    """Runs the process; ends with one clear line when it cannot start."""
    answer_version("novakube-operator")
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        # Each event is a "handler succeeded" line there, and no decision of ours.
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)
        # Two lines for each look at the schema's version.
        logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
        sys.exit(asyncio.run(run(settings)))
    except InvalidSpec as error:
        sys.exit(f"novakube-operator: {error.message}")


if __name__ == "__main__":
    main()
