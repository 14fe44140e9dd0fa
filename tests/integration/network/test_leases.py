"""Leases of real clients from real dnsmasq, as its script records and tells them.

No agent runs while a guest speaks, unless the test follows: what counts is on the disk.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from novakube_agent.hostops.dhcp_leases import DhcpLeases
from novakube_agent.ports import LeaseEvent
from novakube_crds.v1alpha1.guest import GuestLease, GuestNic
from tests.deadlines import EVENT_S, READY_S
from tests.integration.network.conftest import Guest, Node, a_nic
from tests.integration.network.test_ipv6 import six
from tests.waiting import wait_until, wait_until_sync

WEB = a_nic(1, "10.1.0.5")
DB = a_nic(2, "10.1.0.6")


def held(node: Node, *nics: GuestNic) -> tuple[GuestLease, ...]:
    return asyncio.run(DhcpLeases(node.state).held(nics))


def until_held(node: Node, *nics: GuestNic) -> GuestLease:
    """The one lease of these NICs; the script runs a moment after the guest has its answer."""
    wait_until_sync(lambda: held(node, *nics), "a lease recorded", EVENT_S)
    (lease,) = held(node, *nics)
    return lease


def until_gone(node: Node, *nics: GuestNic) -> None:
    wait_until_sync(lambda: not held(node, *nics), "no lease recorded", EVENT_S)


def record(node: Node, nic: GuestNic) -> Path:
    return node.state / "networks" / nic.network_uid / "held" / nic.addresses[0].address


def bridge(node: Node, nic: GuestNic, action: str, mac: str) -> None:
    """The installed script, run as dnsmasq runs it."""
    address = nic.addresses[0].address
    network = node.state / "networks" / nic.network_uid
    subprocess.run(
        [str(node.state / "novakube-dhcpbridge"), action, mac, address],
        env={"NOVAKUBE_NETWORK": str(network)}, check=True, timeout=30,
    )  # fmt: skip


def test_a_lease_from_its_beginning_to_its_release(node: Node) -> None:
    node.ensure(WEB, DB)
    guest = node.guest(WEB)
    assert held(node, WEB, DB) == ()
    before = int(time.time())
    assert guest.dhcp("-x", "hostname:mine")
    lease = until_held(node, WEB, DB)
    assert (lease.mac, lease.address) == (WEB.mac, "10.1.0.5")
    assert (lease.network_uid, lease.hostname) == (WEB.network_uid, "mine")
    written = record(node, WEB).stat()
    assert before <= int(written.st_mtime) <= int(time.time())
    guest.release()
    until_gone(node, WEB)
    assert guest.dhcp()
    assert until_held(node, WEB).hostname == ""


def test_a_renewal_keeps_its_beginning(node: Node) -> None:
    node.ensure(WEB)
    guest = node.guest(WEB)
    assert guest.dhcp()
    first, written = until_held(node, WEB), record(node, WEB).stat().st_mtime_ns
    assert guest.dhcp()
    node.ensure(DB)
    assert node.guest(DB).dhcp()
    until_held(node, DB)  # the script tells in order: what came before was told as well
    assert held(node, WEB) == (first,)
    assert record(node, WEB).stat().st_mtime_ns == written


def test_a_foreign_lease_is_refused(node: Node) -> None:
    """Another MAC with the NIC's address, told by the very script; the allowed twin follows."""
    node.ensure(WEB)
    bridge(node, WEB, "add", "fa:16:3e:99:99:99")
    assert "fa:16:3e:99:99:99" in record(node, WEB).read_text()
    assert held(node, WEB) == ()
    bridge(node, WEB, "add", WEB.mac)
    assert len(held(node, WEB)) == 1


def test_the_next_guest_of_a_nic_takes_a_lease_of_its_own(node: Node) -> None:
    """dnsmasq still has the last one's, and tells the renewal of it."""
    node.ensure(WEB, DB)
    guest = node.guest(WEB)
    assert guest.dhcp("-x", "hostname:first")
    until_held(node, WEB)
    node.remove(WEB)
    assert held(node, WEB) == ()
    node.ensure(WEB)
    node.restore(WEB, DB)
    assert held(node, WEB) == ()
    wait_until_sync(
        lambda: guest.dhcp("-x", "hostname:second") and held(node, WEB), "the next lease", READY_S
    )
    assert until_held(node, WEB).hostname == "second"


def test_an_address_that_moved_is_the_heirs_alone(node: Node) -> None:
    node.ensure(WEB, DB)
    assert node.guest(WEB).dhcp()
    until_held(node, WEB)
    node.remove(WEB)
    heir = a_nic(7, "10.1.0.5")
    node.ensure(heir)
    assert held(node, heir) == ()
    assert node.guest(heir).dhcp()
    assert until_held(node, heir).mac == heir.mac
    assert held(node, WEB) == ()


def test_of_dhcpv6_too(node: Node) -> None:
    nic = six(1, "fd00:1::abc")
    node.ensure(nic)
    guest = node.guest(nic)
    wait_until_sync(guest.link_is_usable, "an address of the link", READY_S)
    assert guest.dhcp6()["new_ip6_address"] == "fd00:1::abc"
    lease = until_held(node, nic)
    assert (lease.mac, lease.address) == (nic.mac, "fd00:1::abc")


def test_what_a_killed_server_did_not_tell_is_made_up_for(node: Node) -> None:
    node.ensure(WEB, DB)
    for nic in (WEB, DB):
        assert node.guest(nic).dhcp()
        until_held(node, nic)
    (server,) = node.servers()
    os.kill(server, signal.SIGKILL)
    wait_until_sync(lambda: not node.servers(), "dnsmasq gone", EVENT_S)
    record(node, WEB).unlink()
    leases = node.state / "networks" / WEB.network_uid / "leases"
    kept = [line for line in leases.read_text().splitlines() if "10.1.0.6" not in line]
    leases.write_text("".join(f"{line}\n" for line in kept))
    node.restore(WEB, DB)
    assert until_held(node, WEB, DB).address == "10.1.0.5"


async def test_the_agent_is_told(node: Node) -> None:
    await asyncio.to_thread(node.ensure, WEB)
    heard: list[LeaseEvent] = []
    guest: Guest = await asyncio.to_thread(node.guest, WEB)
    following = asyncio.create_task(DhcpLeases(node.state).follow(heard.append))
    fifo = node.state / "dhcp-events"
    await wait_until(fifo.exists, "the FIFO", EVENT_S)
    assert fifo.stat().st_mode & 0o777 == 0o600
    try:
        assert await asyncio.to_thread(guest.dhcp)
        await wait_until(lambda: heard, "the lease told", EVENT_S)
        await asyncio.to_thread(guest.release)
        await wait_until(lambda: heard[-1].action == "del", "the release told", EVENT_S)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    place = (WEB.network_uid, "10.1.0.5", WEB.mac)
    assert [(e.action, (e.network_uid, e.address, e.mac)) for e in (heard[0], heard[-1])] == [
        ("add", place), ("del", place),
    ]  # fmt: skip


def test_one_server_for_a_network_and_no_helper_is_left(node: Node) -> None:
    """The helper of dnsmasq is no server, and ends with the Network."""
    node.ensure(WEB)
    node.ensure(WEB)
    assert len(node.servers()) == 1
    node.remove(WEB)
    command = str(node.state)

    def left() -> list[str]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                text = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if "dnsmasq" in text and command in text:
                found.append(text)
        return found

    assert left() == []


@pytest.mark.parametrize("line", [b"nonsense\n", b"add x y z\n", b"\xff\xfe\n"])
async def test_nonsense_is_counted_and_what_follows_is_heard(tmp_path: Path, line: bytes) -> None:
    from novakube_agent.metrics import LEASE_EVENTS

    counted = LEASE_EVENTS.labels("Malformed")._value
    before = counted.get()
    heard: list[LeaseEvent] = []
    following = asyncio.create_task(DhcpLeases(tmp_path).follow(heard.append))
    fifo = tmp_path / "dhcp-events"
    await wait_until(fifo.exists, "the FIFO", EVENT_S)
    with fifo.open("wb", buffering=0) as file:
        file.write(line + f"del {WEB.network_uid} 10.1.0.5 {WEB.mac}\n".encode())
    try:
        await wait_until(lambda: heard, "the event after it", EVENT_S)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert counted.get() - before == 1
    assert [event.action for event in heard] == ["del"]
