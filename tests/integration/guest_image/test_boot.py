"""Boots the tiny guest for real."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deadlines import READY_S
from tests.integration.guest_image.conftest import NIC, RECIPE, Guest, Run
from tests.waiting import wait_until_sync

READY = "novakube-guest ready "
MIB = 1024 * 1024


def powered_off(guest: Guest) -> None:
    guest.order("system_powerdown")
    wait_until_sync(lambda: guest.process.poll() == 0, "QEMU ended by itself", READY_S)
    assert "novakube-guest stopping" in guest.console()
    assert "reboot: Power down" in guest.console()


def test_manifest_tells_what_is_there(image: Path) -> None:
    manifest = json.loads((image / "manifest.json").read_text())
    assert set(manifest["files"]) == {"vmlinuz", "initrd.img", "novakube-guest.qcow2"}
    for name, facts in manifest["files"].items():
        digest = subprocess.run(
            ["sha256sum", str(image / name)], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        assert facts == {"bytes": (image / name).stat().st_size, "sha256": digest}
    assert manifest["files"]["novakube-guest.qcow2"]["bytes"] < 40 * MIB


def test_second_build_changes_nothing(image: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in image.iterdir() if path.is_file()}
    done = subprocess.run(
        ["python3", str(RECIPE), "--out", str(image)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "up to date" in done.stdout
    assert before == {p.name: p.stat().st_mtime_ns for p in image.iterdir() if p.is_file()}


def test_ramdisk_without_nic(run: Run, direct: list[str]) -> None:
    guest = run(*direct)
    console = guest.wait_for("login: ")
    assert f"{READY}novakube-guest -\n" in console
    powered_off(guest)


def test_ramdisk_with_address_by_dhcp(run: Run, direct: list[str]) -> None:
    guest = run(*direct, *NIC)
    assert f"{READY}novakube-guest 10.0.2.15\n" in guest.wait_for("login: ")
    guest.wait_for("novakube-guest metadata none")
    powered_off(guest)


@pytest.mark.parametrize("bus", ["virtio", "ide"])
def test_disk_boots_by_bios_and_grows_its_root(
    run: Run, disk: Callable[..., list[str]], bus: str
) -> None:
    guest = run(*disk("1G", bus), *NIC)
    assert f"{READY}novakube-guest 10.0.2.15\n" in guest.wait_for("login: ")
    total = int(shell(guest, "df -m / | awk 'END { print \"total=\" $2 }'", r"total=(\d+)"))
    assert total > 900
    powered_off(guest)


def test_tools_that_tests_of_guests_expect(run: Run, direct: list[str]) -> None:
    guest = run(*direct, *NIC)
    guest.wait_for("login: ")
    guest.wait_for("novakube-guest metadata none")
    checks = {
        "sudo -n id -u": "0",
        "set -o pipefail; false | true; echo $?": "1",
        "lsblk -dno TYPE 2>&1 | sort -u; echo $?": "0",
        "sudo blkid -V > /dev/null; echo $?": "0",
        "ip -4 -o addr show eth0 | awk '{ print $4 }'": "10.0.2.15/24",
        "curl -V | awk '/^curl/ { print $1 }'": "curl",
        "sudo cat /proc/$(cat /run/udhcpc.eth0.pid)/comm": "udhcpc",
        "sudo ls /etc/dropbear | tr '\\n' ' '":
            "dropbear_ecdsa_host_key dropbear_ed25519_host_key",
        "(nc -l -p 99 -e cat & sleep 1; echo heard | nc -w 2 127.0.0.1 99)": "heard",
        "ping -c 1 10.0.2.2 > /dev/null; echo $?": "0",
    }  # fmt: skip
    for command, answer in checks.items():
        if " -p 99" in command:
            command = command.replace(" 99", " 9999")
        assert shell(guest, command, r"(\S[^\n]*)").strip() == answer, command


def shell(guest: Guest, command: str, pattern: str) -> str:
    """Logs in on the serial console if needed, runs a command, returns what it answered."""
    if "~ $ " not in guest.console():
        guest.type("novakube\n")
        guest.wait_for("Password: ")
        guest.type("novakube\n")
        guest.wait_for("~ $ ")
        # Kernel messages would land in the middle of answers.
        guest.type("sudo dmesg -n 1; echo quiet''ed\n")
        guest.wait_for("quieted")
    mark = f"m{time.monotonic_ns()}"
    # Quotes keep the mark out of the echoed line.
    guest.type(f"echo {mark}''b; {command}; echo {mark}''e\n")
    console = guest.wait_for(f"{mark}e")
    answer = console.split(f"{mark}b", 1)[1].split(f"{mark}e", 1)[0]
    found = re.search(pattern, answer)
    assert found, f"{command}: {answer!r}"
    return found[1]
