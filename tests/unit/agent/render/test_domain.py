"""Rules of rendering: hashes, names, bad input, and text that stays text."""

from __future__ import annotations

import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_agent.ports import DiskFile
from novakube_agent.render.domain import (
    boot_orders,
    disk_devices,
    kernel_command_line,
    render_domain,
)
from novakube_agent.render.host_profile import HostProfile
from novakube_agent.render.image_properties import hardware_properties
from novakube_agent.render.metadata import metadata_element, parse_metadata
from novakube_kit.errors import InvalidSpec
from tests.fakes.domain_requests import a_request

UID = "6f1c0d1e-0b53-4f3e-9a57-0d3c5c9a1b2f"
HOST = HostProfile("qemu", machines=frozenset({"pc", "q35"}))
TAGS = {element.tag for element in ET.fromstring(render_domain(a_request(), HOST).xml).iter()}


def printable(text: str) -> bool:
    """Said in another way than the code does: by Unicode category."""
    categories = {unicodedata.category(character) for character in text}
    return not categories & {"Cc", "Cs", "Zl", "Zp"} and not {"\ufffe", "\uffff"} & set(text)


def disks(*buses: str) -> tuple[DiskFile, ...]:
    return tuple(DiskFile(f"vd{i}", Path(f"/d{i}"), "raw", bus) for i, bus in enumerate(buses))


def test_metadata_reads_back_what_was_written() -> None:
    request = a_request(uid=UID, incarnation=3, guest_uid="g", vcpus=4, memory_mib=512)
    text = ET.tostring(metadata_element(request, "abc"), encoding="unicode")
    record = parse_metadata(text)
    assert record is not None
    assert record.identity == request.identity
    assert (record.spec_hash, record.vcpus, record.memory_mib) == ("abc", 4, 512)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<a",
        "<domain/>",
        "<domain><instance/><guest/><flavor/><spec/></domain>",
        '<domain><instance id="i" uid="u" namespace="n" name="m"/>'
        '<guest uid="u" name="g" incarnation="one"/>'
        '<flavor vcpus="1" memoryMiB="1" disksBytes="0"/><spec sha256="x"/></domain>',
    ],
)
def test_metadata_that_is_not_ours_makes_a_foreign_domain(text: str) -> None:
    assert parse_metadata(text) is None


def test_the_hash_stands_for_the_content_not_for_the_name() -> None:
    request = a_request(uid=UID)
    rendered = render_domain(request, HOST)
    renamed = render_domain(request, HOST, name="novakube-older")
    assert renamed.name == "novakube-older"
    assert renamed.spec_hash == rendered.spec_hash
    assert f'sha256="{rendered.spec_hash}"' in rendered.xml
    others = {
        render_domain(other, HOST).spec_hash
        for other in (
            a_request(uid=UID, vcpus=2),
            a_request(uid=UID, memory_mib=64),
            a_request(uid=UID, guest_uid="other"),
            replace(request, console_log=Path("/elsewhere")),
            replace(request, disks=disks("virtio")),
        )
    }
    assert len(others | {rendered.spec_hash}) == 6
    assert render_domain(request, HostProfile("kvm")).spec_hash != rendered.spec_hash


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"hw_disk_bus": "floppy"}, "hw_disk_bus is 'floppy'; allowed: virtio, sata, scsi, ide"),
        ({"hw_vif_model": ""}, "hw_vif_model is ''; allowed: virtio, e1000"),
        ({"hw_machine_type": "pc-9"}, "hw_machine_type is 'pc-9'; allowed on this node: pc, q35"),
        ({"hw_machine_type": "a b"}, "hw_machine_type is 'a b'; allowed on this node: pc, q35"),
        ({"hw_video_model": "voodoo"}, "hw_video_model is 'voodoo'; allowed: vga, virtio"),
        ({"hw_video_ram": "-1"}, "hw_video_ram is '-1'; allowed: a whole number from 1 to 1024"),
        ({"hw_video_ram": "9999"}, "hw_video_ram is '9999'; allowed: a whole number from 1"),
        ({"hw_scsi_model": "x"}, "hw_scsi_model is 'x'; allowed: virtio-scsi, lsilogic"),
        ({"hw_firmware_type": "coreboot"}, "hw_firmware_type is 'coreboot'; allowed: bios, uefi"),
        ({"hw_rng_model": "dice"}, "hw_rng_model is 'dice'; allowed: virtio, none"),
        ({"hw_pointer_model": "pen"}, "hw_pointer_model is 'pen'; allowed: ps2mouse, usbtablet"),
        ({"hw_watchdog_action": "bark"}, "hw_watchdog_action is 'bark'; allowed: disabled, reset"),
        ({"hw_qemu_guest_agent": "maybe"}, "hw_qemu_guest_agent is 'maybe'; allowed: yes, true"),
        ({"hw_time_hpet": "2"}, "hw_time_hpet is '2'; allowed: yes, true"),
        ({"hw_boot_menu": "?"}, "hw_boot_menu is '?'; allowed: yes, true"),
        ({"os_type": "plan9"}, "os_type is 'plan9'; allowed: linux, windows, other"),
    ],
)
def test_a_bad_image_property_is_named_with_what_is_allowed(
    properties: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidSpec) as refused:
        render_domain(a_request(properties=properties), HOST)
    assert message in refused.value.message
    assert refused.value.reason == "InvalidImageProperty"


def test_properties_of_others_are_ignored() -> None:
    properties = {"hw_numa_nodes": "2", "os_distro": "debian", "\x00": "\x00"}
    plain = render_domain(a_request(uid=UID), HOST)
    assert render_domain(a_request(uid=UID, properties=properties), HOST) == plain


@pytest.mark.parametrize(
    ("buses", "image_bus", "targets"),
    [
        (("virtio", "virtio"), None, ["vda", "vdb"]),
        (("virtio", "sata", "scsi"), None, ["vda", "sda", "sdb"]),
        (("virtio", "sata"), "ide", ["hda", "sda"]),
        (
            ("virtio",) * 28,
            None,
            [f"vd{c}" for c in "abcdefghijklmnopqrstuvwxyz"] + ["vdaa", "vdab"],
        ),
    ],
)
def test_targets_are_numbered_per_bus(
    buses: tuple[str, ...], image_bus: str | None, targets: list[str]
) -> None:
    properties = {} if image_bus is None else {"hw_disk_bus": image_bus}
    rendered = disk_devices(disks(*buses), hardware_properties(properties, frozenset()))
    assert [disk.target for disk in rendered] == targets
    assert [disk.boot_order for disk in rendered] == list(range(1, len(buses) + 1))


@pytest.mark.parametrize(
    ("buses", "message"),
    [
        (("usb",), "disk vd0: bus is 'usb'; allowed: virtio, sata, scsi, ide"),
        (("ide",) * 5, "5 disks on the bus ide; allowed: 4"),
    ],
)
def test_disks_no_machine_has(buses: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        disk_devices(disks(*buses), hardware_properties({}, frozenset()))


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ("", "root=/dev/vda console=tty0 console=ttyS0"),
        ("quiet", "quiet console=tty0 console=ttyS0"),
        ("console=hvc0 quiet", "console=hvc0 quiet"),
    ],
)
def test_the_kernel_talks_to_the_serial_console(args: str, line: str) -> None:
    assert kernel_command_line(args) == line


def test_control_characters_in_kernel_arguments_are_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"kernelArgs holds the character U\+0000"):
        kernel_command_line("a\x00b")


@given(name=st.text(max_size=60), flavor=st.text(max_size=60), args=st.text(max_size=60))
def test_any_text_stays_text(name: str, flavor: str, args: str) -> None:
    request = a_request(uid=UID, display_name=name, kernel=Path("/k"), kernel_args=args)
    request = replace(
        request,
        guest=request.guest.model_copy(update={"flavor_name": flavor}),
        identity=replace(request.identity, instance_name=name, instance_namespace=flavor),
    )
    if not printable(args):
        with pytest.raises(InvalidSpec) as refused:
            render_domain(request, HOST)
        assert refused.value.reason == "InvalidText"
        return
    rendered = render_domain(request, HOST)
    tree = ET.fromstring(rendered.xml.encode())
    assert {element.tag for element in tree.iter()} <= TAGS | {"kernel", "cmdline"}
    assert rendered.xml.count("<devices>") == 1
    cmdline = tree.findtext("os/cmdline")
    assert cmdline is not None
    assert cmdline.split()[: len(args.split())] == args.split()
    record = parse_metadata(ET.tostring(tree.findall("metadata/*")[0], encoding="unicode"))
    assert record is not None


@pytest.mark.parametrize(
    ("indexes", "orders"),
    [
        ((None, None), [1, 2]),
        ((None, 0), [2, 1]),
        ((None, None, 0), [2, 3, 1]),
        ((None, 2, 1), [1, 3, 2]),
        ((None, -1, None), [1, None, 2]),
    ],
)
def test_boot_order(indexes: tuple[int | None, ...], orders: list[int | None]) -> None:
    found = [
        DiskFile(f"vd{number}", Path(f"/d{number}"), "raw", "virtio", boot_index=index)
        for number, index in enumerate(indexes)
    ]
    assert boot_orders(found) == orders
