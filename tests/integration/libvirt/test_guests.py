"""What guests see of the domains we render, and the probe for KVM."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest

from novakube_agent.drivers.libvirt import LibvirtSettings
from novakube_agent.hostops import virt_probe
from novakube_agent.ports import DiskFile, DomainRequest, NicLink
from tests.deadlines import READY_S
from tests.integration.libvirt.conftest import Node
from tests.integration.libvirt.private_libvirtd import PrivateLibvirtd
from tests.waiting import wait_until

Requests = Callable[..., DomainRequest]
GREETING = b"novakube-guest ready"


async def until_console(request: DomainRequest, text: bytes) -> bytes:
    def holds() -> bytes:
        log = request.console_log
        return log.read_bytes() if log.exists() and text in log.read_bytes() else b""

    try:
        return await wait_until(holds, f"console shows {text!r}", READY_S)
    except AssertionError as error:
        error.add_note(request.console_log.read_text(errors="replace")[-2000:])
        raise


async def test_a_kernel_booted_directly_logs_from_its_first_line_and_obeys_the_power_button(
    node: Node, request_of: Requests, guest_image: Path
) -> None:
    files = {name: node.libvirtd.data / name for name in ("vmlinuz", "initrd.img")}
    for name, path in files.items():
        shutil.copyfile(guest_image / name, path)
    request = request_of(
        memory_mib=128,
        # No disk, so no root= either: the guest would wait for one.
        kernel_args="panic=1",
        kernel=files["vmlinuz"],
        ramdisk=files["initrd.img"],
    )
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    console = await until_console(request, GREETING)
    assert b"Linux version" in console
    await node.driver.save(instance_id)
    await node.driver.start(instance_id)
    await node.driver.shutdown(instance_id)
    facts = await node.until_state(instance_id, "Shutoff", READY_S)
    assert facts.off_reason == "Shutdown"


async def test_a_tap_is_used_as_it_is_and_left_behind(node: Node, request_of: Requests) -> None:
    tap = "nkt00000000001"
    node.libvirtd.run("ip", "tuntap", "add", tap, "mode", "tap")
    node.libvirtd.run("ip", "link", "set", tap, "up")
    nic = NicLink("port", "fa:16:3e:00:00:01", tap, "nkb0", 1400)
    request = request_of(nics=(nic,))
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    assert "LOWER_UP" in node.libvirtd.run("ip", "-brief", "link", "show", tap)
    await node.driver.power_off(instance_id)
    assert "LOWER_UP" not in node.libvirtd.run("ip", "-brief", "link", "show", tap)


@pytest.mark.parametrize("second", [False, True], ids=["root", "boot-index-0"])
async def test_a_disk_image_boots_by_bios_on_an_overlay(
    node: Node, request_of: Requests, guest_image: Path, second: bool
) -> None:
    """Beside a blank disk; as the second one it is booted from by its boot index alone."""
    base = node.libvirtd.data / "base.qcow2"
    shutil.copyfile(guest_image / "novakube-guest.qcow2", base)
    overlay = node.libvirtd.data / "vda.qcow2"
    await asyncio.to_thread(
        subprocess.run,
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(overlay)],
        check=True,
    )
    blank = node.libvirtd.data / "blank.raw"
    with blank.open("wb") as file:
        file.truncate(1 << 20)
    if second:
        disks = (
            DiskFile("vda", blank, "raw", "virtio"),
            DiskFile("vdb", overlay, "qcow2", "virtio", boot_index=0),
        )
    else:
        disks = (
            DiskFile("vda", overlay, "qcow2", "virtio"),
            DiskFile("vdb", blank, "raw", "virtio"),
        )
    request = request_of(memory_mib=128, disks=disks)
    await node.driver.define(request)
    await node.driver.start(request.identity.instance_id)
    await until_console(request, GREETING)


@pytest.mark.parametrize(
    "properties",
    [
        {"hw_machine_type": "q35"},
        {"hw_video_model": "none", "hw_rng_model": "none", "hw_qemu_guest_agent": "no"},
        {"hw_video_model": "virtio", "hw_pointer_model": "usbtablet"},
        {"hw_watchdog_action": "reset", "hw_boot_menu": "yes", "hw_time_hpet": "true"},
        {"hw_disk_bus": "sata"},
        {"hw_disk_bus": "scsi"},
        {"hw_disk_bus": "ide"},
        {"hw_vif_model": "e1000"},
        {"os_type": "windows"},
    ],
    ids=lambda properties: "-".join(f"{k}={v}" for k, v in properties.items()),
)
async def test_domains_of_all_properties_start(
    node: Node, request_of: Requests, properties: dict[str, str]
) -> None:
    disk = node.libvirtd.data / "blank.img"
    disk.write_bytes(bytes(2**20))
    request = request_of(properties=properties, disks=(DiskFile("vda", disk, "raw", "virtio"),))
    await node.driver.define(request)
    await node.driver.start(request.identity.instance_id)


def test_the_probe_guest_runs_where_guests_run(
    libvirtd: PrivateLibvirtd, settings: LibvirtSettings
) -> None:
    conn = libvirt.open(libvirtd.uri)
    try:
        folder = libvirtd.data
        assert virt_probe.guest_failure(conn, "qemu", folder, READY_S) is None
        assert "virt-probe" not in libvirtd.virsh("list", "--all", "--name").stdout
    finally:
        conn.close()


def test_a_probe_guest_that_says_nothing_is_a_failure(libvirtd: PrivateLibvirtd) -> None:
    conn = libvirt.open(libvirtd.uri)
    try:
        failure = virt_probe.guest_failure(conn, "qemu", libvirtd.data, 0.0)
        assert failure == "it wrote nothing within 0 s of its start"
    finally:
        conn.close()


def test_auto_is_found_out_once_per_boot(libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
    conn = libvirt.open(libvirtd.uri)
    try:
        state = libvirtd.data / "probe-state"
        first = virt_probe.choose_virt_type(conn, "auto", state)
        cache = state / "virt-type.json"
        saved = json.loads(cache.read_text())
        assert (saved["virtType"], saved["reason"]) == (first.virt_type, first.reason)
        cache.write_text(json.dumps(saved | {"reason": "as cached"}))
        assert virt_probe.choose_virt_type(conn, "auto", state).reason == "as cached"
        cache.write_text(json.dumps(saved | {"bootId": "another boot", "reason": "stale"}))
        assert virt_probe.choose_virt_type(conn, "auto", state) == first
        cache.write_text("{")
        assert virt_probe.choose_virt_type(conn, "auto", state) == first
    finally:
        conn.close()
