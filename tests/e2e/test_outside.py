"""What happens to a machine from outside shows in its Instance and follows its spec."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from pathlib import Path

import pytest

from novakube_kit.kube import Json
from novakube_local import members
from tests.deadlines import MACHINE_S
from tests.e2e.cloud import LocalCloud, make
from tests.e2e.test_bad_input import instance
from tests.waiting import wait_until_sync

pytestmark = pytest.mark.timeout(900)
KNOCK_S = 2.0
CRASHES = 3
"""Restarts after crashes within ten minutes, docs/concepts.md."""


def powered_off(cloud: LocalCloud, found: Json) -> None:
    """By the guest's own ``poweroff``, typed on its console."""
    cloud.booted(found)
    guest = found["status"]["guest"]
    console = Path(cloud.node.virsh("ttyconsole", found["status"]["hypervisorName"]))
    # Held open: QEMU drops what is typed until it saw that somebody is there.
    terminal = os.open(console, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    shown, knocked = "", 0.0

    def prompted(prompt: str) -> bool:
        nonlocal shown, knocked
        with contextlib.suppress(BlockingIOError):
            shown += os.read(terminal, 4096).decode(errors="replace")
        if prompt == "login: " and time.monotonic() - knocked > KNOCK_S:
            os.write(terminal, b"\n")
            knocked = time.monotonic()
        return prompt in shown

    try:
        for prompt, answer in (
            ("login: ", "novakube"), ("Password: ", "novakube"), ("$ ", "sudo poweroff"),
        ):  # fmt: skip
            what = f"{prompt!r} on the console of {guest}"
            wait_until_sync(functools.partial(prompted, prompt), what, MACHINE_S)
            shown = ""
            os.write(terminal, f"{answer}\n".encode())
    finally:
        os.close(terminal)


def stays_off(cloud: LocalCloud, namespace: str, reason: str) -> None:
    """``onGuestShutdown: Stop``: off for that reason until it is started."""
    stopped = cloud.until(
        "instances", "stop", namespace, MACHINE_S, state="Stopped", wantedPowerState="Stopped"
    )
    assert stopped["status"]["powerState"] == "Stopped"
    (guest,) = cloud.guests_of("stop", namespace)
    assert guest["status"]["stopReason"] in (reason, "Ordered")
    assert cloud.node.virsh("domstate", stopped["status"]["hypervisorName"]) == "shut off"
    spec = {"instance": {"name": "stop"}, "action": "Start"}
    cloud.make("InstanceAction", "start", spec, namespace)
    cloud.until("instanceactions", "start", namespace, MACHINE_S, state="Succeeded")
    cloud.running("stop", namespace)


def test_a_guest_that_is_destroyed_from_outside(cloud: LocalCloud, namespace: str) -> None:
    policies = ("Stop", "Restart", "Delete")
    for policy in policies:
        instance(cloud, namespace, policy.lower(), onGuestShutdown=policy)
    found = {one: cloud.running(one.lower(), namespace) for one in policies}
    domain = found["Restart"]["status"]["hypervisorName"]
    before = cloud.node.qemu(domain)
    assert len(before) == 1
    for one in policies:
        cloud.node.virsh("destroy", found[one]["status"]["hypervisorName"])
    stays_off(cloud, namespace, "Destroyed")
    wait_until_sync(lambda: cloud.node.qemu(domain) not in ([], before), "restarted", MACHINE_S)
    cloud.running("restart", namespace)
    (guest,) = cloud.guests_of("restart", namespace)
    assert guest["spec"]["powerSequence"] == 2
    assert guest["status"].get("restarts", 0) == 0
    wait_until_sync(
        lambda: cloud.get("instances", "delete", namespace) is None, "delete gone", MACHINE_S
    )
    assert found["Delete"]["status"]["hypervisorName"] not in cloud.node.domains()


def test_a_guest_that_switches_itself_off(cloud: LocalCloud, namespace: str) -> None:
    instance(cloud, namespace, "stop")
    powered_off(cloud, cloud.running("stop", namespace))
    stays_off(cloud, namespace, "GuestShutdown")


def test_a_crashed_guest_is_started_again_three_times(cloud: LocalCloud, namespace: str) -> None:
    instance(cloud, namespace)
    domain = cloud.running("web", namespace)["status"]["hypervisorName"]
    for crash in range(1, CRASHES + 1):
        (pid,) = cloud.node.qemu(domain)
        os.kill(pid, signal.SIGKILL)

        def again(pid: int = pid, crash: int = crash) -> bool:
            (guest,) = cloud.guests_of("web", namespace)
            return guest["status"].get("restarts") == crash and pid not in cloud.node.qemu(domain)

        wait_until_sync(again, f"started after crash {crash}", MACHINE_S)
        cloud.running("web", namespace)
    (pid,) = cloud.node.qemu(domain)
    os.kill(pid, signal.SIGKILL)
    found = cloud.said("web", namespace, "Error", "CrashLoop", "the guest went off unasked")
    assert found["status"]["powerState"] == "Stopped"
    assert cloud.node.qemu(domain) == []
    assert len(cloud.list("ipaddresses", namespace)) == 1

    # It stays off until the next power order, which works.
    spec = {"instance": {"name": "web"}, "action": "Start"}
    cloud.make("InstanceAction", "start", spec, namespace)
    cloud.until("instanceactions", "start", namespace, MACHINE_S, state="Succeeded")
    found = cloud.running("web", namespace)
    assert "fault" not in found["status"]
    assert found["status"]["vmState"] == "active"


def test_a_node_that_lost_its_power(cloud: LocalCloud, namespace: str) -> None:
    instance(cloud, namespace, "on")
    instance(cloud, namespace, "off", powerState="Stopped")
    on = cloud.running("on", namespace)
    cloud.until("instances", "off", namespace, MACHINE_S, state="Stopped")
    (before,) = cloud.guests_of("on", namespace)
    supervisor = cloud.node.agent.supervisor()
    os.kill(supervisor, signal.SIGKILL)
    wait_until_sync(lambda: members.start_time(supervisor) is None, "the node is off", MACHINE_S)
    assert cloud.node.qemu(on["status"]["hypervisorName"]) == []
    make("up")

    def booted() -> bool:
        (guest,) = cloud.guests_of("on", namespace)
        return guest["status"].get("bootID") not in (None, before["status"]["bootID"])

    wait_until_sync(booted, "the guest was started in the new boot", MACHINE_S)
    assert cloud.running("on", namespace)["status"]["guest"] == on["status"]["guest"]
    (guest,) = cloud.guests_of("on", namespace)
    assert guest["status"].get("restarts", 0) == 0
    assert guest["spec"]["powerSequence"] == 1
    off = cloud.until("instances", "off", namespace, MACHINE_S, state="Stopped")
    assert cloud.node.qemu(off["status"].get("hypervisorName") or "none") == []
    assert len(cloud.node.qemu(on["status"]["hypervisorName"])) == 1
