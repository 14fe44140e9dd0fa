"""What becomes of the driver when libvirtd restarts, hangs, dies or is not there."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from novakube_agent.drivers.libvirt import LibvirtDriver, LibvirtSettings
from novakube_agent.hostops.libvirt_connection import Keepalive
from novakube_agent.ports import DomainRequest
from novakube_kit.errors import HostBusy, NovakubeError
from tests.deadlines import READY_S
from tests.integration.libvirt.conftest import Node
from tests.integration.libvirt.private_libvirtd import PrivateLibvirtd
from tests.waiting import wait_until

Requests = Callable[..., DomainRequest]


@pytest.fixture
def settings(settings: LibvirtSettings) -> LibvirtSettings:
    """A silent daemon is given up after about 3 s instead of 20, so that tests are short."""
    return replace(settings, keepalive=Keepalive(interval_s=1, count=2), call_deadline_s=1.5)


async def until_answers(driver: LibvirtDriver) -> None:
    async def answers() -> bool:
        try:
            await driver.domains()
        except NovakubeError:
            return False
        return True

    await wait_until(answers, "libvirt answers again", READY_S)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restarted_libvirtd_is_found_again_with_the_same_guests(
    node: Node, request_of: Requests, how: signal.Signals
) -> None:
    request = request_of()
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    qemu = node.libvirtd.qemu_pid(f"novakube-{request.identity.guest_name}")
    await asyncio.to_thread(node.libvirtd.stop, how)

    async def refused() -> str:
        try:
            await node.driver.domain(instance_id)
        except HostBusy as error:
            return error.message
        return ""

    assert "libvirt" in await wait_until(refused, "calls say that libvirt is away", READY_S)
    node.events.clear()
    await asyncio.to_thread(node.libvirtd.start)
    await until_answers(node.driver)
    facts = await node.driver.domain(instance_id)
    assert facts is not None
    assert facts.state == "Running"
    assert node.libvirtd.qemu_pid(facts.name) == qemu
    await wait_until(
        lambda: any(e.instance_id == instance_id and e.change == "Other" for e in node.events),
        "a hint to look at what may have been missed",
        READY_S,
    )
    await node.driver.pause(instance_id)
    await wait_until(
        lambda: any(e.change == "Paused" for e in node.events), "events again", READY_S
    )


async def test_a_hung_libvirtd_costs_a_deadline_not_the_event_loop(
    node: Node, request_of: Requests
) -> None:
    os.kill(node.libvirtd.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        lag = 0.0

        async def heartbeat() -> None:
            nonlocal lag
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.02)
                lag = max(lag, time.monotonic() - before)

        beat = asyncio.create_task(heartbeat())
        outcomes = await asyncio.gather(
            *(node.driver.domains() for _ in range(20)), return_exceptions=True
        )
        beat.cancel()
        assert all(isinstance(error, HostBusy) for error in outcomes)
        assert {getattr(error, "reason", "") for error in outcomes} == {"HypervisorTimeout"}
        assert time.monotonic() - started < 1.5 + 1.5
        assert lag < 0.5
        await wait_until(
            lambda: node.driver._connection._session is None,
            "keepalive gives the connection up",
            READY_S,
        )
        with pytest.raises(HostBusy):
            await node.driver.facts()
    finally:
        os.kill(node.libvirtd.pid, signal.SIGCONT)
    await until_answers(node.driver)
    request = request_of()
    await node.driver.define(request)
    await node.driver.start(request.identity.instance_id)


async def test_a_short_hang_is_survived_without_reconnecting(node: Node) -> None:
    os.kill(node.libvirtd.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(node.driver.domains())
    await asyncio.sleep(0)
    os.kill(node.libvirtd.pid, signal.SIGCONT)
    assert await waiting == {}


async def test_closing_does_not_wait_for_a_hung_libvirtd(
    libvirtd: PrivateLibvirtd, settings: LibvirtSettings
) -> None:
    driver = LibvirtDriver(settings)
    await driver.open(lambda _event: None)
    os.kill(libvirtd.pid, signal.SIGSTOP)
    try:
        calls = [asyncio.create_task(driver.domains()) for _ in range(10)]
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await driver.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, HostBusy) for error in outcomes)
    finally:
        os.kill(libvirtd.pid, signal.SIGCONT)


async def test_a_missing_socket_says_what_to_do_and_is_awaited(
    libvirtd: PrivateLibvirtd, settings: LibvirtSettings, tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    driver = LibvirtDriver(replace(settings, uri=f"qemu+unix:///system?socket={socket}"))
    await driver.open(lambda _event: None)
    try:
        with pytest.raises(HostBusy, match="start libvirtd or virtqemud on this node"):
            await driver.facts()
        socket.symlink_to(libvirtd.socket)
        await until_answers(driver)
    finally:
        await driver.close()
