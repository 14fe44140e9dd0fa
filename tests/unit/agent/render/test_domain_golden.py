"""Rendered domains against golden files, and against libvirt's own schema.

``NOVAKUBE_GOLDEN=write pytest tests/unit/agent/render`` writes the files anew.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import libvirt
import pytest

from novakube_agent.ports import DiskFile, DomainRequest, NicLink
from novakube_agent.render.domain import render_domain
from novakube_agent.render.host_profile import HostProfile
from tests.fakes.domain_requests import a_request

GOLDEN = Path(__file__).parents[3] / "golden" / "domain"
UID = "6f1c0d1e-0b53-4f3e-9a57-0d3c5c9a1b2f"
FILES = Path("/var/lib/novakube/guests") / f"{UID}-1"
TCG = HostProfile("qemu")
KVM = HostProfile("kvm")


def disk(device: str, bus: str = "virtio", **more: Any) -> DiskFile:
    return DiskFile(device, FILES / f"{device}.qcow2", "qcow2", bus, **more)


def nic(number: int) -> NicLink:
    return NicLink(f"p{number}", f"fa:16:3e:00:00:0{number}", f"nkt{number}", "nkb0", 1450)


def with_properties(**properties: str) -> DomainRequest:
    return a_request(
        uid=UID, disks=(disk("vda"), disk("vdb")), nics=(nic(1),), properties=properties
    )


CASES: dict[str, tuple[DomainRequest, HostProfile]] = {
    "bare": (a_request(uid=UID), TCG),
    "usual-kvm": (with_properties(), KVM),
    "usual-qemu": (with_properties(), TCG),
    "two-nics-four-vcpus": (a_request(uid=UID, vcpus=4, nics=(nic(1), nic(2))), TCG),
    "direct-kernel": (
        a_request(uid=UID, kernel=FILES / "kernel", ramdisk=FILES / "ramdisk", kernel_args="quiet"),
        TCG,
    ),
    "sata-with-cdrom": (
        a_request(uid=UID, disks=(disk("vda", "sata"), disk("vdb", "sata", read_only=True))),
        TCG,
    ),
    "boots-from-its-second-disk": (
        a_request(uid=UID, disks=(disk("vda"), disk("vdb", boot_index=0), disk("vdc"))),
        TCG,
    ),
    "scsi-lsi": (with_properties(hw_disk_bus="scsi", hw_scsi_model="lsilogic"), TCG),
    "q35-uefi": (with_properties(hw_machine_type="q35", hw_firmware_type="uefi"), KVM),
    "headless": (with_properties(hw_video_model="none", hw_rng_model="none"), TCG),
    "windows": (
        with_properties(
            os_type="windows",
            hw_pointer_model="usbtablet",
            hw_vif_model="e1000",
            hw_video_model="qxl",
            hw_video_ram="64",
            hw_watchdog_action="reset",
            hw_boot_menu="yes",
            hw_qemu_guest_agent="no",
            hw_time_hpet="yes",
        ),
        KVM,
    ),
    "hostile-text": (
        a_request(uid=UID, display_name="</title><devices/>\x00\n&amp; \u2028\U0001f600"),
        TCG,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    rendered = render_domain(*CASES[name])
    text = rendered.xml
    tree = ET.fromstring(text)
    ET.indent(tree)
    text = ET.tostring(tree, encoding="unicode") + "\n"
    golden = GOLDEN / f"{name}.xml"
    if os.environ.get("NOVAKUBE_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert ET.canonicalize(text) == ET.canonicalize(golden.read_text())


def test_no_golden_file_without_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.xml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_libvirts_schema_takes_it(name: str) -> None:
    xml = render_domain(*CASES[name]).xml
    # The test driver knows one virt type; the schema is the same.
    xml = xml.replace('<domain type="kvm">', '<domain type="test">')
    xml = xml.replace('<domain type="qemu">', '<domain type="test">')
    conn = libvirt.open("test:///default")
    try:
        conn.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    finally:
        conn.close()


def test_the_schema_refuses_what_it_does_not_know() -> None:
    xml = render_domain(*CASES["bare"]).xml.replace('type="qemu"', 'type="test"', 1)
    conn = libvirt.open("test:///default")
    try:
        with pytest.raises(libvirt.libvirtError, match="XML document failed to validate"):
            conn.defineXMLFlags(
                xml.replace("</devices>", "<gadget/></devices>"),
                libvirt.VIR_DOMAIN_DEFINE_VALIDATE,
            )
    finally:
        conn.close()
