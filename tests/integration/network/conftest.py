"""A node and its guests as network namespaces: real links, real dnsmasq, real DHCP clients."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from novakube_agent.hostops import dnsmasq
from novakube_agent.render.names import bridge_name
from novakube_crds.v1alpha1.guest import GuestNic
from tests.deadlines import EVENT_S, READY_S, STOP_S
from tests.waiting import wait_until_sync

SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
env > "$LEASE_FILE"
ip link set "$interface" mtu "${mtu:-1500}"
ip addr replace "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route replace default via "$router"
"""


SCRIPT6 = """#!/bin/sh
case $reason in
BOUND6) ip -6 addr replace "$new_ip6_address/128" dev "$interface" nodad ;;
*) [ -n "$new_dhcp6_name_servers" ] || exit 0 ;;
esac
env > "$LEASE_FILE.new" && mv "$LEASE_FILE.new" "$LEASE_FILE"
"""


def uid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def a_nic(port: int, address: str, network: int = 1, **fields: Any) -> GuestNic:
    subnet = {
        "uid": uid(network + 1000),
        "cidr": "10.1.0.0/24",
        "gateway": "10.1.0.1",
        "dns": ["9.9.9.9", "8.8.8.8"],
    } | fields.pop("subnet", {})
    wire = {
        "portUID": uid(port),
        "portName": f"port-{port}",
        "mac": f"fa:16:3e:00:00:{port:02x}",
        "networkNamespace": "demo",
        "networkName": f"net-{network}",
        "networkUID": uid(network),
        "segmentType": "vxlan",
        "segmentID": 100 + network,
        "mtu": 1400,
        "addresses": [{"address": address, "subnet": subnet}],
    }
    return GuestNic.model_validate(wire | fields)


NO_LEASE = 1
"""udhcpc's exit code with ``-n``; a missing program has another."""


@dataclass
class Machine:
    """Something with a network (and mount) namespace of its own, held by a sleeping process."""

    process: subprocess.Popen[bytes]

    @staticmethod
    def start() -> Machine:
        hold = "mkdir -p /run/netns && mount -t tmpfs netns /run/netns && exec sleep infinity"
        machine = Machine(subprocess.Popen(["unshare", "-n", "-m", "sh", "-c", hold]))
        command = Path(f"/proc/{machine.process.pid}/cmdline")
        wait_until_sync(lambda: command.read_bytes().startswith(b"sleep"), "the namespace", EVENT_S)
        machine.run("ip", "link", "set", "lo", "up")
        return machine

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", "-t", str(self.process.pid), "-n", "-m", "--", *argv]

    def run(self, *argv: str, **options: Any) -> str:
        done = subprocess.run(
            self.command(*argv),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
            **options,
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}"
        return done.stdout

    def ok(self, *argv: str) -> bool:
        done = subprocess.run(self.command(*argv), capture_output=True, timeout=30, check=False)
        return done.returncode == 0

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(STOP_S)


@dataclass
class Guest(Machine):
    """A guest with one NIC named eth0."""

    directory: Path = field(default_factory=Path)

    def dhcp(self, *options: str) -> dict[str, str] | None:
        """The lease udhcpc got, by its variables; None without one."""
        lease, script = self.directory / "lease", self.directory / "script"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        lease.unlink(missing_ok=True)
        client = ["busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "3", "-T", "1"]
        wanted = [word for name in ("mtu", "staticroutes", "domain") for word in ("-O", name)]
        done = subprocess.run(
            self.command(*client, *wanted, *options, "-s", str(script)),
            env=os.environ | {"LEASE_FILE": str(lease)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode in (0, NO_LEASE), done.stderr
        if not lease.exists():
            return None
        return dict(line.split("=", 1) for line in lease.read_text().splitlines() if "=" in line)

    def release(self) -> None:
        """After ``dhcp``: renews the lease and gives it back.

        udhcpc with ``-q`` would only say so. It sends from its address, which ``dhcp`` set.
        """
        lease, script = self.directory / "lease", self.directory / "script"
        lease.unlink(missing_ok=True)
        client = ["busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-R", "-t", "3", "-T", "1"]
        process = subprocess.Popen(
            self.command(*client, "-s", str(script)),
            env=os.environ | {"LEASE_FILE": str(lease)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_sync(lease.exists, "a lease", READY_S)
            process.terminate()
            process.wait(STOP_S)
        finally:
            process.kill()
            process.wait(STOP_S)

    def dhcp6(self, *options: str, deadline_s: float = READY_S) -> dict[str, str]:
        """What dhclient got by DHCPv6, by its variables; the address is put on eth0."""
        lease, script = self.directory / "lease6", self.directory / "script6"
        script.write_text(SCRIPT6)
        script.chmod(0o755)
        lease.unlink(missing_ok=True)
        files = ["-lf", str(self.directory / "leases6"), "-pf", str(self.directory / "pid6")]
        client = ["dhclient", "-6", "-1", "-d", "-D", "LL", *options, *files, "-cf", "/dev/null"]
        process = subprocess.Popen(
            self.command(*client, "-e", f"LEASE_FILE={lease}", "-sf", str(script), "eth0"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_sync(lease.exists, "a DHCPv6 answer", deadline_s)
        finally:
            process.kill()
            process.wait(STOP_S)
        return dict(line.split("=", 1) for line in lease.read_text().splitlines() if "=" in line)

    def ipv6(self) -> list[str]:
        """Usable IPv6 addresses of eth0 but those of the link."""
        text = self.run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "global")
        return [line.split()[3] for line in text.splitlines() if "tentative" not in line]

    def link_is_usable(self) -> bool:
        """Whether eth0 has its own fe80:: address, checked for duplicates."""
        text = self.run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link")
        return "fe80" in text and "tentative" not in text

    def reaches(self, address: str) -> bool:
        return self.ok("busybox", "ping", "-c", "1", "-W", "3", address)


@dataclass
class Node(Machine):
    """A node: agents come and go in it."""

    state: Path = field(default_factory=Path)
    guests: list[Guest] = field(default_factory=list)
    physical: dict[str, str] = field(default_factory=dict)

    def agent(self, *calls: tuple[str, dict[str, Any]], **environment: str) -> list[Any]:
        """Answers of one agent process; fewer than calls when it was killed."""
        path = os.pathsep.join(item for item in sys.path if item)
        done = subprocess.run(
            self.command(
                sys.executable,
                "-m",
                "tests.integration.network.agent",
                str(self.state),
                json.dumps(self.physical),
            ),
            input=json.dumps(calls),
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONPATH": path} | environment,
        )
        assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def ensure(self, *nics: GuestNic) -> list[Any]:
        answers = self.agent(*[("ensure", {"nic": nic.wire()}) for nic in nics])
        return [answer.get("result", answer) for answer in answers]

    def remove(self, *nics: GuestNic) -> list[Any]:
        return self.agent(*[("remove", {"nic": nic.wire()}) for nic in nics])

    def restore(self, *nics: GuestNic) -> list[Any]:
        return self.agent(("restore", {"nics": [nic.wire() for nic in nics]}))

    def servers(self) -> set[int]:
        return set(dnsmasq.everywhere(self.state))

    def guest(self, nic: GuestNic, mac: str | None = None) -> Guest:
        """A guest whose NIC is on the Network's bridge, by a veth in place of QEMU's tap."""
        directory = Path(tempfile.mkdtemp(dir=self.state.parent))
        guest = Guest(Machine.start().process, directory=directory)
        self.guests.append(guest)
        port = f"g{len(self.guests)}"
        peer = ["name", "eth0", "address", mac or nic.mac, "netns", str(guest.process.pid)]
        self.run("ip", "link", "add", port, "type", "veth", "peer", *peer)
        self.run("ip", "link", "set", port, "master", bridge_name(nic.network_uid), "up")
        guest.run("ip", "link", "set", "eth0", "up")
        return guest

    def traces(self) -> dict[str, str]:
        """All that an agent could leave behind."""
        return {
            "links": self.run("ip", "-o", "link"),
            "namespaces": self.run("ip", "netns"),
            "rules": "\n".join(
                line
                for line in self.run("iptables-save").splitlines()
                if "NOVAKUBE" in line.upper()
            ),
            "servers": repr(self.servers()),
            "files": "\n".join(sorted(map(str, self.state.rglob("networks/*")))),
        }


@pytest.fixture
def node() -> Iterator[Node]:
    # Not below pytest's own directory: that one is closed to dnsmasq's user.
    root = Path(tempfile.mkdtemp(prefix="novakube-network-"))
    root.chmod(0o711)
    node = Node(Machine.start().process, state=root / "state")
    node.state.mkdir(mode=0o711)
    try:
        yield node
    finally:
        for pid in node.servers():
            os.kill(pid, signal.SIGKILL)
        for guest in node.guests:
            guest.stop()
        node.stop()
        shutil.rmtree(root)
