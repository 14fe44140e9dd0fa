"""The agent's process: ``novakube-agent``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from functools import partial

from novakube_agent.address import default_address
from novakube_agent.drivers.selection import host_ports
from novakube_agent.identity import NodeCertificate, node_token
from novakube_agent.node import NodeAgent
from novakube_agent.reconcile import GuestReconciler
from novakube_agent.server import AgentServer
from novakube_agent.settings import Settings, read_settings
from novakube_kit.access import discover
from novakube_kit.errors import InvalidSpec, StateRolledBack
from novakube_kit.httpserver import HttpServer
from novakube_kit.kube_aio import AioKube
from novakube_kit.logging import configure_logging
from novakube_kit.objects import Key
from novakube_kit.tokens import FileToken
from novakube_kit.version import answer_version
from novakube_kit.workqueue import WorkQueue

_log = logging.getLogger(__name__)
PASS_DEADLINE_S = 3600.0
"""A pass may hold the download of a large image over a slow line."""


def main() -> None:
    """Runs until SIGTERM or SIGINT; domains, networks and DHCP go on without the agent."""
    answer_version("novakube-agent")
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        _run(settings)
    except InvalidSpec as error:
        sys.exit(f"novakube-agent: {error.message}")


def _run(settings: Settings) -> None:
    """Until it is stopped; whoever started it starts it again after a restored backup."""
    try:
        asyncio.run(run(settings))
    except* StateRolledBack as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        sys.exit(f"novakube-agent: {first}; to be started anew, no guest is touched")


async def run(settings: Settings) -> None:
    """The process's one TaskGroup."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AioKube(discover(), user_agent="novakube-agent") as base:
        work = asyncio.create_task(_work(settings, base))
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if stop.is_set():
            _log.info("stopping; guests go on")
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def node_names(settings: Settings) -> list[str]:
    """The nodes this process is: one, or ``<node>-0`` ... of a simulation."""
    if settings.driver != "fake" or settings.fake_nodes == 1:
        return [settings.node]
    return [f"{settings.node}-{number}" for number in range(settings.fake_nodes)]


async def _work(settings: Settings, base: AioKube) -> None:
    queue: WorkQueue[Key] = WorkQueue(
        "Guest", workers=settings.workers, pass_deadline_s=PASS_DEADLINE_S
    )
    reconcilers: dict[str, GuestReconciler] = {}
    checks: dict[str, Callable[[], str | None]] = {}

    async def reconcile(key: Key) -> float | None:
        reconciler = reconcilers.get(key[0])
        return None if reconciler is None else await reconciler(key[1])

    async with (
        HttpServer(settings.http_host, settings.http_port, checks),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(queue.run(reconcile))
        for node in node_names(settings):
            start = partial(_node, node, settings, base, queue, reconcilers, checks)
            group.create_task(start(), name=node)


async def _node(
    node: str,
    settings: Settings,
    base: AioKube,
    queue: WorkQueue[Key],
    reconcilers: dict[str, GuestReconciler],
    checks: dict[str, Callable[[], str | None]],
) -> None:
    alone = len(node_names(settings)) == 1
    state_dir = settings.state_dir if alone else settings.state_dir / node
    waiting = f"waiting for the token of {node}"
    checks[node] = lambda: waiting
    if settings.fake_tokens is not None:
        base = base.acting_as(FileToken(settings.fake_tokens / f"{node}.token"))
    token = await node_token(base, node)
    kube = base.acting_as(token)
    ports = host_ports(node, settings, state_dir)
    certificate = NodeCertificate(state_dir / "identity", node) if alone else None
    agent = NodeAgent(node, settings, kube, ports, queue, state_dir, certificate)
    if agent.state.address is None:
        agent.state.address = default_address(base.access.server)
    checks[node] = agent.failure
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run(reconcilers))
        if certificate is not None:
            server = AgentServer(
                certificate,
                settings.listen_host,
                settings.listen_port,
                agent.console_log,
                agent.listening,
            )
            group.create_task(server.run())


if __name__ == "__main__":
    main()
