"""What dnsmasq's script records and tells, whether an agent is there or not."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_agent import dhcpbridge
from novakube_agent.leases import HeldLease, parse_event, parse_record
from novakube_agent.render.dnsmasq import render_script

UID = "00000001-0000-4000-8000-000000000001"
MAC = "fa:16:3e:00:00:01"
DUID = "00:03:00:01:fa:16:3e:00:00:01"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    directory = tmp_path / "networks" / UID
    (directory / "held").mkdir(parents=True)
    return directory


@pytest.fixture
def events(tmp_path: Path) -> Iterator[int]:
    """The agent's end of the FIFO."""
    os.mkfifo(tmp_path / "dhcp-events")
    handle = os.open(tmp_path / "dhcp-events", os.O_RDWR | os.O_NONBLOCK)
    yield handle
    os.close(handle)


def take(network: Path, *arguments: str, **environ: str) -> int:
    return dhcpbridge.take(list(arguments), {"NOVAKUBE_NETWORK": str(network), **environ})


def held(network: Path) -> dict[str, HeldLease]:
    return {path.name: parse_record(path.read_text()) for path in (network / "held").iterdir()}


def test_from_its_beginning_to_its_end(network: Path, events: int) -> None:
    take(network, "add", MAC, "10.1.0.5", "web", DNSMASQ_SUPPLIED_HOSTNAME="mine")
    first = held(network)
    assert (first["10.1.0.5"].mac, first["10.1.0.5"].hostname) == (MAC, "mine")
    assert (network / "held" / "10.1.0.5").stat().st_mode & 0o777 == 0o600
    take(network, "old", MAC, "10.1.0.5", "web", DNSMASQ_SUPPLIED_HOSTNAME="other")
    assert held(network) == first
    take(network, "del", MAC, "10.1.0.5", "web")
    take(network, "del", MAC, "10.1.0.5", "web")
    assert held(network) == {}
    told = [parse_event(line) for line in os.read(events, 65536).decode().splitlines()]
    assert [event.action for event in told] == ["add", "old", "del", "del"]
    assert {(event.network_uid, event.address, event.mac) for event in told} == {
        (UID, "10.1.0.5", MAC)
    }


def test_a_lease_that_begins_anew_is_another_one(network: Path) -> None:
    (network / "held" / "10.1.0.5").write_text(dhcpbridge.record_text(MAC, 7, "old"))
    take(network, "add", MAC, "10.1.0.5", DNSMASQ_SUPPLIED_HOSTNAME="new")
    assert held(network)["10.1.0.5"].hostname == "new"
    assert held(network)["10.1.0.5"].started > 7


def test_a_renewal_of_what_was_not_told_is_recorded(network: Path) -> None:
    take(network, "old", MAC, "10.1.0.5", "web")
    assert held(network)["10.1.0.5"].mac == MAC


@pytest.mark.parametrize(("environ", "want"), [({"DNSMASQ_MAC": MAC}, MAC), ({}, "")])
def test_of_ipv6_the_mac_is_in_the_environment(
    network: Path, events: int, environ: dict[str, str], want: str
) -> None:
    take(network, "add", DUID, "fd00:1::abc", "web", **environ)
    assert held(network)["fd00:1::abc"].mac == want
    assert parse_event(os.read(events, 65536).decode().strip()).mac == want


@pytest.mark.parametrize("arguments", [("init",), ("tftp", "1", "2"), ("arp-add", MAC, "10.1.0.5")])
def test_other_things_are_not_recorded(network: Path, arguments: tuple[str, ...]) -> None:
    assert take(network, *arguments) == 0
    assert held(network) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", MAC), "usage"),
        ((), "usage"),
        (("add", MAC, "../../etc"), "'../../etc' is no address"),
    ],
)
def test_a_wrong_call_says_so(network: Path, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        take(network, *arguments)


def test_a_network_that_goes_takes_its_records_with_it(tmp_path: Path) -> None:
    assert take(tmp_path / "networks" / UID, "add", MAC, "10.1.0.5") == 0
    assert take(tmp_path / "networks" / UID, "del", MAC, "10.1.0.5") == 0
    assert list(tmp_path.iterdir()) == []


def test_neither_an_agent_that_is_away_nor_one_that_hangs_loses_or_delays(
    network: Path, tmp_path: Path
) -> None:
    take(network, "add", MAC, "10.1.0.4")
    os.mkfifo(tmp_path / "dhcp-events")
    take(network, "add", MAC, "10.1.0.5")
    reader = os.open(tmp_path / "dhcp-events", os.O_RDWR | os.O_NONBLOCK)
    try:
        while select.select([], [reader], [], 0)[1]:
            os.write(reader, b"x" * 4096)
        take(network, "add", MAC, "10.1.0.6")
    finally:
        os.close(reader)
    assert held(network).keys() == {"10.1.0.4", "10.1.0.5", "10.1.0.6"}


def test_as_a_program_without_any_package(network: Path) -> None:
    """As dnsmasq starts it; a failure has a sentence for its log."""
    command = [sys.executable, "-I", "-S", dhcpbridge.__file__]
    environment = {"NOVAKUBE_NETWORK": str(network)}
    done = subprocess.run(
        [*command, "add", MAC, "10.1.0.5"], env=environment, capture_output=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert held(network).keys() == {"10.1.0.5"}
    done = subprocess.run(
        [*command, "add"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("novakube-dhcpbridge: usage:")


@given(name=st.text(max_size=600), started=st.integers(0, 2**32))
def test_records_say_what_was_written_whatever_a_guest_calls_itself(
    name: str, started: int
) -> None:
    text = dhcpbridge.record_text(MAC, started, name)
    read = parse_record(text.encode().decode())
    assert (read.mac, read.started) == (MAC, started)
    assert len(read.hostname) <= 255
    assert read.hostname.isprintable()
    assert len(text.encode()) < 4096
    if name.isprintable():
        assert read.hostname == name[:255]


@pytest.mark.parametrize(
    ("arguments", "environ", "runs"),
    [
        (("add", MAC, "10.1.0.9"), {}, True),
        (("del", MAC, "10.1.0.9"), {}, True),
        (("old", MAC, "10.1.0.9"), {}, True),
        (("old", MAC, "10.1.0.9"), {"DNSMASQ_DATA_MISSING": "1"}, False),
        (("old", MAC, "10.1.0.5"), {}, False),
        (("init",), {}, False),
    ],
)
def test_python_is_started_only_where_it_is_needed(
    network: Path, arguments: tuple[str, ...], environ: dict[str, str], runs: bool
) -> None:
    (network / "held" / "10.1.0.5").write_text(dhcpbridge.record_text(MAC, 7))
    script = network / "script"
    script.write_text(render_script(PurePath("/bin/echo"), PurePath("/s/it's here.py")))
    script.chmod(0o755)
    done = subprocess.run(
        [str(script), *arguments], env={"NOVAKUBE_NETWORK": str(network), **environ},
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    want = f"-I -S /s/it's here.py {' '.join(arguments)}\n" if runs else ""
    assert done.stdout == want
