"""The driver's verbs on a real libvirtd with real QEMU (TCG)."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from novakube_agent.hostops.virt_probe import boot_id
from novakube_agent.ports import DiskFile, DomainRequest
from novakube_kit.errors import HostBusy, HostFailure, InvalidSpec, NotFound
from tests.deadlines import EVENT_S, READY_S
from tests.integration.libvirt.boot_sector import WORD, boot_sector_disk
from tests.integration.libvirt.conftest import Node
from tests.waiting import wait_until

Requests = Callable[..., DomainRequest]


def with_boot_sector(make: Requests) -> DomainRequest:
    request = make()
    path = request.console_log.with_suffix(".img")
    path.write_bytes(boot_sector_disk())
    return make(uid=request.identity.instance_id, disks=(DiskFile("vda", path, "raw", "virtio"),))


async def booted(node: Node, request: DomainRequest, times: int = 1) -> None:
    await wait_until(
        lambda: (
            request.console_log.exists() and request.console_log.read_bytes().count(WORD) >= times
        ),
        f"the guest greets {times} times",
        READY_S,
    )


async def test_a_domain_is_defined_once_and_found_by_its_metadata(
    node: Node, request_of: Requests
) -> None:
    request = request_of(vcpus=2, display_name='<a> & "b"')
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.define(request)
    facts = await node.driver.domain(instance_id)
    assert facts is not None
    assert facts.identity == request.identity
    assert facts.name == f"novakube-{request.identity.guest_name}"
    assert (facts.state, facts.vcpus, facts.memory_mib) == ("Shutoff", 2, 32)
    assert facts.spec_hash == node.driver.spec_hash(request)
    assert await node.driver.domains() == {instance_id: facts}
    assert "disable" in node.libvirtd.virsh("dominfo", instance_id).stdout.split("Autostart:")[1]


async def test_a_changed_request_has_another_hash_and_redefines(
    node: Node, request_of: Requests
) -> None:
    first = request_of()
    second = request_of(uid=first.identity.instance_id, vcpus=2)
    await node.driver.define(first)
    await node.driver.define(second)
    facts = await node.driver.domain(first.identity.instance_id)
    assert facts is not None
    assert facts.spec_hash == node.driver.spec_hash(second) != node.driver.spec_hash(first)


async def test_every_verb_twice(node: Node, request_of: Requests) -> None:
    request = request_of()
    instance_id = request.identity.instance_id
    driver = node.driver
    await driver.define(request)
    for verb, state in (
        (driver.start, "Running"),
        (driver.pause, "Paused"),
        (driver.unpause, "Running"),
        (driver.save, "Saved"),
        (driver.start, "Running"),
        (driver.reset, "Running"),
        (driver.inject_nmi, "Running"),
        (driver.power_off, "Shutoff"),
    ):
        await verb(instance_id)
        await verb(instance_id)
        await node.until_state(instance_id, state, EVENT_S)
    await driver.shutdown(instance_id)
    await driver.undefine(instance_id)
    await driver.undefine(instance_id)
    await driver.power_off(instance_id)
    await driver.shutdown(instance_id)
    assert await driver.domain(instance_id) is None
    with pytest.raises(NotFound, match="no domain of instance"):
        await driver.start(instance_id)


async def test_verbs_that_need_a_running_domain_say_so(node: Node, request_of: Requests) -> None:
    request = request_of()
    await node.driver.define(request)
    driver = node.driver
    verbs = (driver.pause, driver.unpause, driver.save, driver.reset, driver.inject_nmi)
    for verb in verbs:
        with pytest.raises(HostFailure, match="its domain is off") as refused:
            await verb(request.identity.instance_id)
        assert refused.value.reason == "NotRunning"


async def test_a_running_domain_is_not_undefined(node: Node, request_of: Requests) -> None:
    request = request_of()
    await node.driver.define(request)
    await node.driver.start(request.identity.instance_id)
    with pytest.raises(HostBusy) as refused:
        await node.driver.undefine(request.identity.instance_id)
    assert refused.value.reason == "DomainActive"


async def test_power_button_ends_in_shutdown_and_the_console_has_its_first_byte(
    node: Node, request_of: Requests
) -> None:
    request = with_boot_sector(request_of)
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    await booted(node, request)
    await node.driver.shutdown(instance_id)
    facts = await node.until_state(instance_id, "Shutoff", READY_S)
    assert facts.off_reason == "Shutdown"

    def changes() -> list[tuple[str, str | None]]:
        return [(e.change, e.off_reason) for e in node.events if e.instance_id == instance_id]

    # The state shows before libvirt sends its event.
    await wait_until(lambda: ("Stopped", "Shutdown") in changes(), "the event", EVENT_S)
    assert ("Started", None) in changes()
    # Nobody had the console open, and the log is whole.
    assert request.console_log.read_bytes().endswith(WORD)


async def test_the_console_is_interactive_and_a_guest_reboot_reboots(
    node: Node, request_of: Requests
) -> None:
    request = with_boot_sector(request_of)
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    await booted(node, request)
    terminal = Path(node.libvirtd.virsh("ttyconsole", instance_id).stdout.strip())
    fd = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(fd, b"x")
        await wait_until(lambda: request.console_log.read_bytes().endswith(b"x"), "echo", READY_S)
        os.write(fd, b"r")
        await booted(node, request, times=2)
    finally:
        os.close(fd)
    facts = await node.driver.domain(instance_id)
    assert facts is not None
    assert facts.state == "Running"


async def test_a_killed_qemu_is_a_crash(node: Node, request_of: Requests) -> None:
    request = request_of()
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    os.kill(node.libvirtd.qemu_pid(f"novakube-{request.identity.guest_name}"), signal.SIGKILL)
    facts = await node.until_state(instance_id, "Shutoff", EVENT_S)
    assert facts.off_reason == "Crashed"
    await wait_until(
        lambda: any(e.change == "Stopped" and e.off_reason == "Crashed" for e in node.events),
        "the event says so",
        EVENT_S,
    )
    await node.driver.start(instance_id)
    await node.until_state(instance_id, "Running", EVENT_S)


async def test_virsh_destroy_by_somebody_else_is_seen(node: Node, request_of: Requests) -> None:
    request = request_of()
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    await asyncio.to_thread(node.libvirtd.virsh, "destroy", instance_id)
    facts = await node.until_state(instance_id, "Shutoff", EVENT_S)
    assert facts.off_reason == "Destroyed"


async def test_a_memory_image_that_cannot_be_restored_is_kept(
    node: Node, request_of: Requests
) -> None:
    request = request_of()
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    await node.driver.save(instance_id)
    image = node.libvirtd.state / "lib/qemu/save" / f"novakube-{request.identity.guest_name}.save"
    whole = image.read_bytes()
    for broken in (b"", whole[:20], whole[: len(whole) // 2], b"X" * len(whole)):
        image.write_bytes(broken)
        with pytest.raises(HostFailure, match="is kept on the node") as refused:
            await node.driver.start(instance_id)
        assert refused.value.reason == "RestoreFailed"
        assert image.read_bytes() == broken
        facts = await node.driver.domain(instance_id)
        assert facts is not None
        assert facts.state == "Saved"
    image.write_bytes(whole)
    await node.driver.start(instance_id)
    await node.until_state(instance_id, "Running", EVENT_S)


async def test_a_running_domain_is_adopted_under_its_old_name(
    node: Node, request_of: Requests
) -> None:
    old = request_of()
    instance_id = old.identity.instance_id
    await node.driver.define(old)
    await node.driver.start(instance_id)
    new = request_of(uid=instance_id, incarnation=2, guest_uid="new")
    await node.driver.define(new)
    facts = await node.driver.domain(instance_id)
    assert facts is not None
    assert facts.identity == new.identity
    assert facts.name == f"novakube-{old.identity.guest_name}"
    assert facts.state == "Running"
    assert facts.spec_hash == node.driver.spec_hash(new)


def _in_a_folder_of_its_own(
    request_of: Requests, guests: Path, uid: str, incarnation: int
) -> DomainRequest:
    folder = guests / f"{uid}-{incarnation}"
    disk = DiskFile("vda", folder / "vda.qcow2", "qcow2", "virtio")
    return request_of(
        uid=uid, incarnation=incarnation, guest_uid=f"g{incarnation}", disks=(disk,),
        console_log=folder / "console.log",
    )  # fmt: skip


async def test_a_suspended_domain_is_adopted_with_its_memory(
    node: Node, request_of: Requests
) -> None:
    """Its memory image led to the folder's old name: what the guest had in memory was lost."""
    uid = str(uuid.uuid4())
    guests = node.libvirtd.data / "guests"
    old, new = (_in_a_folder_of_its_own(request_of, guests, uid, number) for number in (1, 2))
    old.console_log.parent.mkdir(parents=True)
    node.libvirtd.run("qemu-img", "create", "-q", "-f", "qcow2", str(old.disks[0].path), "1M")
    await node.driver.define(old)
    await node.driver.start(uid)
    await node.driver.save(uid)
    old.console_log.parent.rename(new.console_log.parent)
    for _ in range(2):  # it may be cut short and done again
        await node.driver.define(new)
    await node.driver.start(uid)
    facts = await node.until_state(uid, "Running", EVENT_S)
    assert facts.identity == new.identity
    log = node.libvirtd.virsh("dumpxml", uid).stdout
    assert str(old.console_log.parent) not in log


async def test_foreign_domains_are_neither_seen_nor_touched(
    node: Node, request_of: Requests
) -> None:
    request = request_of()
    foreign = request.identity.instance_id
    xml = node.libvirtd.data / "foreign.xml"
    xml.write_text(
        f"<domain type='qemu'><name>novakube-like</name><uuid>{foreign}</uuid>"
        "<memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
    )
    node.libvirtd.virsh("define", str(xml))
    try:
        node.libvirtd.virsh("start", foreign)
        assert await node.driver.domains() == {}
        assert await node.driver.domain(foreign) is None
        await node.driver.power_off(foreign)
        await node.driver.shutdown(foreign)
        await node.driver.undefine(foreign)
        with pytest.raises(NotFound):
            await node.driver.pause(foreign)
        with pytest.raises(HostFailure, match="foreign domain 'novakube-like'"):
            await node.driver.define(request)
        assert node.libvirtd.virsh("domstate", foreign).stdout.strip() == "running"
    finally:
        node.libvirtd.virsh("destroy", foreign, check=False)
        node.libvirtd.virsh("undefine", foreign)


async def test_an_unknown_machine_type_names_what_is_allowed(
    node: Node, request_of: Requests
) -> None:
    with pytest.raises(InvalidSpec, match=r"type is 'pc-99'; allowed on this node: .*q35"):
        await node.driver.define(request_of(properties={"hw_machine_type": "pc-99"}))


async def test_a_missing_disk_is_a_clear_failure(node: Node, request_of: Requests) -> None:
    missing = DiskFile("vda", node.libvirtd.data / "nowhere.qcow2", "qcow2", "virtio")
    request = request_of(disks=(missing,))
    await node.driver.define(request)
    with pytest.raises(HostFailure, match=r"could not start domain .*nowhere\.qcow2"):
        await node.driver.start(request.identity.instance_id)


async def test_the_node_is_described(node: Node) -> None:
    facts = await node.driver.facts()
    assert (facts.driver, facts.hypervisor_type, facts.virt_type) == ("libvirt", "QEMU", "qemu")
    assert facts.virt_type_reason == "qemu is configured"
    assert facts.capacity.vcpus >= 1
    assert facts.capacity.memory_mib > 512
    assert facts.capacity.disk_gib >= facts.capacity.disk_free_gib > 0
    assert facts.cpu.arch == "x86_64"
    assert {"COMPUTE_NODE", "HW_CPU_X86_SSE2", "HW_CPU_X86_AVX2"} <= set(facts.traits)
    assert facts.boot_id == boot_id()


async def test_a_suspend_without_room_is_tried_again(node: Node, request_of: Requests) -> None:
    """The guest runs on meanwhile; with room the next attempt succeeds."""
    request = request_of()
    instance_id = request.identity.instance_id
    await node.driver.define(request)
    await node.driver.start(instance_id)
    folder = "/var/lib/libvirt/qemu/save"
    node.libvirtd.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder)
    try:
        with pytest.raises(HostBusy) as refused:
            await node.driver.save(instance_id)
        await node.until_state(instance_id, "Running", EVENT_S)
    finally:
        node.libvirtd.run("umount", folder)
    assert refused.value.reason == "SuspendFailed", refused.value.message
    await node.driver.save(instance_id)
    await node.until_state(instance_id, "Saved", EVENT_S)
