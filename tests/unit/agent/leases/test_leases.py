"""Whose a lease is, and when it is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_agent.drivers.fake import FakeState
from novakube_agent.hostops.dhcp_leases import DhcpLeases, settle
from novakube_agent.leases import HeldLease, guest_lease, is_of, parse_event, parse_record
from novakube_agent.metrics import LEASE_WRITES
from novakube_agent.model import Desired
from novakube_agent.ports import LeaseEvent
from novakube_agent.status_writer import GUESTS, LEASES_INTERVAL_S, StatusWriter
from novakube_crds.v1alpha1.guest import (
    GuestAddress,
    GuestLease,
    GuestNic,
    GuestStatus,
    GuestSubnet,
)
from novakube_kit.kube import Json
from tests.fakes.host import Agent, StatusSink, a_guest, a_nic, uid
from tests.fakes.kube import FakeKube

ADDRESS = "10.1.0.5"
LINE = f"add {uid(900)} {ADDRESS} fa:16:3e:00:00:01"


def nic_with(*addresses: str, number: int = 1, dhcp: bool = True) -> GuestNic:
    subnet = GuestSubnet(uid=uid(800), cidr="10.1.0.0/24", dhcp=dhcp)
    items = [GuestAddress(address=one, subnet=subnet) for one in addresses]
    return a_nic(number).model_copy(update={"addresses": items})


NIC = nic_with(ADDRESS)


def record(networks: Path, nic: GuestNic, address: str, mac: str, started: int = 1000) -> Path:
    folder = networks / nic.network_uid / "held"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / address).write_text(f"mac {mac}\nstarted {started}\nhostname web\n")
    return folder / address


def test_an_event() -> None:
    want = LeaseEvent("add", uid(900), ADDRESS, "fa:16:3e:00:00:01")
    assert parse_event(LINE) == want
    six = parse_event(f"del {uid(900)} FD00:1:0:0::ABC -")
    assert (six.address, six.mac) == ("fd00:1::abc", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "1 words"),
        (LINE + " more", "5 words"),
        (LINE.replace("add", "steal"), "action 'steal'"),
        (LINE.replace(uid(900), "../x"), "no UID"),
        (LINE.replace(ADDRESS, "10.1.0.x"), "does not appear to be an IPv4 or IPv6 address"),
        (LINE.replace("fa:16", "FA:16"), "no MAC"),
        (LINE + "x" * 300, "longer than 256 bytes"),
    ],
)
def test_any_other_text_is_none(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_event(line)


@given(st.text(max_size=400))
def test_no_text_breaks_the_listener(text: str) -> None:
    for parse in (parse_event, parse_record):
        try:
            parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"mac": "fa:16:3e:00:00:02"}, False),
        ({"mac": ""}, False),
        ({"address": "10.1.0.6"}, False),
        ({"network_uid": uid(901)}, False),
    ],
)
def test_network_address_and_mac_must_be_the_nics(change: dict[str, str], ours: bool) -> None:
    event = replace(LeaseEvent("add", NIC.network_uid, ADDRESS, NIC.mac), **change)
    assert is_of(event, [nic_with("10.1.0.7", number=3), NIC]) is ours


@pytest.mark.parametrize(
    ("mac", "ours"), [(NIC.mac, True), ("fa:16:3e:99:99:99", False), ("", False)]
)
def test_a_record_of_another_mac_is_no_lease_of_the_nic(mac: str, ours: bool) -> None:
    lease = guest_lease(NIC, ADDRESS, HeldLease(mac, 1000, "web"))
    assert (lease is not None) is ours
    if lease is not None:
        assert lease.started_at == "1970-01-01T00:16:40Z"


async def test_only_records_of_the_nics_are_looked_at(tmp_path: Path) -> None:
    networks = tmp_path / "networks"
    port = DhcpLeases(tmp_path)
    assert await port.held([NIC]) == ()
    record(networks, NIC, "10.1.0.6", NIC.mac)
    foreign = record(networks, NIC, ADDRESS, "fa:16:3e:99:99:99")
    other = NIC.model_copy(update={"network_uid": uid(901)})
    record(networks, other, ADDRESS, NIC.mac)
    assert await port.held([NIC]) == ()
    foreign.write_text("mac fa:16")
    assert await port.held([NIC]) == ()
    record(networks, NIC, ADDRESS, NIC.mac)
    (lease,) = await port.held([NIC])
    assert (lease.mac, lease.address, lease.network_uid) == (NIC.mac, ADDRESS, NIC.network_uid)
    assert await port.held([nic_with(ADDRESS, dhcp=False)]) == ()


def test_records_follow_the_lease_file_while_no_server_runs(tmp_path: Path) -> None:
    mac, other = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"
    held = tmp_path / "held"
    settle(tmp_path, {})
    assert list(held.iterdir()) == []
    (tmp_path / "leases").write_text(
        f"99 {mac} 10.1.0.5 web *\n99 {mac} 10.1.0.6 web *\n99 {other} 10.1.0.7 * *\n"
        f"duid 00\n99 1 fd00::5 web 00:03:00:01:{mac}\n99 1 fd00::6 web 00:04:11\n"
    )
    for name, text in {
        "10.1.0.5": f"mac {mac}\nstarted 7\nhostname mine\n", "10.1.0.6": "half",
        "10.1.0.9": f"mac {mac}\nstarted 7\nhostname gone\n", ".10.1.0.6.part": "mac",
    }.items():  # fmt: skip
        (held / name).write_text(text)
    hosts = dict.fromkeys(("10.1.0.5", "10.1.0.6", "10.1.0.7", "fd00::5", "fd00::6"), mac)
    settle(tmp_path, hosts)
    found = {path.name: parse_record(path.read_text()) for path in held.iterdir()}
    written = int((tmp_path / "leases").stat().st_mtime)
    assert found == {
        "10.1.0.5": HeldLease(mac, 7, "mine"),
        "10.1.0.6": HeldLease(mac, written, ""),
        "fd00::5": HeldLease(mac, written, ""),
    }


# --- the status ------------------------------------------------------------------------------


class Leases:
    """LeasePort of a test."""

    def __init__(self) -> None:
        self.now: tuple[GuestLease, ...] = ()

    async def held(self, nics: object) -> tuple[GuestLease, ...]:
        return self.now


def a_lease(number: int = 5, started: str = "2026-01-01T00:00:00Z") -> GuestLease:
    return GuestLease(
        mac=NIC.mac, address=f"10.1.0.{number}", network_uid=uid(900), started_at=started
    )


async def test_the_status_of_the_guest_that_has_the_domain(tmp_path: Path) -> None:
    agent = await Agent(FakeState("n1"), tmp_path, StatusSink(), {}).start()
    leases = Leases()
    leases.now = (a_lease(),)
    agent.host.ports = replace(agent.host.ports, leases=leases)  # type: ignore[arg-type]
    guest = a_guest()
    assert (await agent.settle(guest)).leases == [a_lease()]
    heir = a_guest(2)
    assert (await agent.settle(heir)).leases == []
    leases.now = ()
    assert (await agent.settle(guest)).leases == []
    leases.now = (a_lease(6),)
    gone = replace(guest, spec=guest.spec.model_copy(update={"teardown": "Destroy"}))
    status = await agent.settle(gone)
    assert (status.phase, status.leases) == ("Gone", [])


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_leases_alone_are_written_once_in_five_seconds() -> None:
    kube, clock = FakeKube(), Clock()
    guest = a_guest()
    metadata = {"name": guest.name, "namespace": guest.namespace, "uid": guest.uid}
    made = kube.seed(GUESTS, {"metadata": metadata, "spec": guest.spec.wire(), "status": {}})
    guest = replace(guest, resource_version=made["metadata"]["resourceVersion"])
    seen: list[Json] = []
    writer = StatusWriter(kube, seen.append, clock)
    before = LEASE_WRITES._value.get()

    async def write(desired: Desired, phase: str, *leases: GuestLease) -> float | None:
        status = GuestStatus(phase=phase, leases=list(leases))  # type: ignore[arg-type]
        return await writer.write(desired, status)

    first, second = a_lease(5), a_lease(6)
    assert await write(guest, "Ready", first) is None  # rides along
    assert await write(guest, "Ready", first, second) is None
    assert await write(guest, "Ready", second) == pytest.approx(LEASES_INTERVAL_S)
    clock.now += 2
    assert await write(guest, "Ready") == pytest.approx(LEASES_INTERVAL_S - 2)
    assert len(seen) == 2
    clock.now += 3
    assert await write(guest, "Ready") is None
    assert await write(guest, "Ready") is None
    assert seen[-1]["status"]["leases"] == []
    assert await write(guest, "Ready", first) is not None
    assert await write(guest, "Gone", first) is None  # other news wait for nothing
    assert len(seen) == 4
    assert LEASE_WRITES._value.get() - before == 2
