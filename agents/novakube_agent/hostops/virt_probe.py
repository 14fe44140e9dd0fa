"""Which virt type this node can really use.

``/dev/kvm`` that opens and libvirt that advertises kvm prove nothing: in nested and
paravirtual clouds guests then hang or abort. ``auto`` therefore believes in KVM only after
a guest ran: a 512-byte boot sector that writes a word to the serial port.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import libvirt

from novakube_agent.render.host_profile import VirtType
from novakube_agent.render.xmltext import element

log = logging.getLogger(__name__)

WantedVirtType = Literal["auto", "kvm", "qemu"]
PROBE_DEADLINE_S = 10.0
_POLL_S = 0.05
_CACHE_FILE = "virt-type.json"
_WORD = b"novakube-probe"
_CPUINFO = Path("/proc/cpuinfo")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class VirtChoice:
    """The virt type and the sentence that says why."""

    virt_type: VirtType
    reason: str


def boot_id() -> str:
    """The kernel's id of this boot of the host."""
    return _BOOT_ID.read_text().strip()


def boot_sector(word: bytes = _WORD) -> bytes:
    """A boot sector that writes ``word`` to the first serial port and halts (16-bit x86)."""
    code = bytes(
        [
            0xFA, 0xFC,  # cli; cld
            0x31, 0xC0, 0x8E, 0xD8,  # xor ax,ax; mov ds,ax
            0xBE, 0x17, 0x7C,  # mov si,0x7c17: the word behind the code
            0xBA, 0xF8, 0x03,  # mov dx,0x3f8: COM1
            0xAC,  # next: lodsb
            0x84, 0xC0,  # test al,al
            0x74, 0x03,  # jz halt
            0xEE,  # out dx,al
            0xEB, 0xF8,  # jmp next
            0xF4,  # halt: hlt
            0xEB, 0xFD,  # jmp halt
        ]
    )  # fmt: skip
    return (code + word + b"\0").ljust(510, b"\0") + b"\x55\xaa"


def choose_virt_type(
    conn: libvirt.virConnect, wanted: WantedVirtType, state_dir: Path
) -> VirtChoice:
    """The virt type of this node. Blocking, at most ``PROBE_DEADLINE_S`` and a little.

    Args:
        conn: an open connection.
        wanted: ``kvm`` and ``qemu`` are taken at their word; ``auto`` is found out, once
            per boot of the host.
        state_dir: keeps the answer between runs of the agent, and the probe's files.
    """
    if wanted != "auto":
        return VirtChoice(wanted, f"{wanted} is configured")
    this_boot = boot_id()
    cached = _cached(state_dir, this_boot)
    if cached is not None:
        return cached
    choice = _found_out(conn, state_dir)
    log.info("virt type", extra={"virt_type": choice.virt_type, "cause": choice.reason})
    state_dir.mkdir(parents=True, exist_ok=True)
    part = state_dir / f"{_CACHE_FILE}.part"
    part.write_text(
        json.dumps({"bootId": this_boot, "virtType": choice.virt_type, "reason": choice.reason})
    )
    part.replace(state_dir / _CACHE_FILE)
    return choice


def _cached(state_dir: Path, this_boot: str) -> VirtChoice | None:
    try:
        saved = json.loads((state_dir / _CACHE_FILE).read_text())
        if saved["bootId"] == this_boot and saved["virtType"] in ("kvm", "qemu"):
            return VirtChoice(saved["virtType"], str(saved["reason"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return None


def _found_out(conn: libvirt.virConnect, state_dir: Path) -> VirtChoice:
    arch = platform.machine()
    if arch == "x86_64" and not _hardware_virtualisation():
        return VirtChoice("qemu", "the CPU shows neither vmx nor svm, so KVM guests cannot run")
    if not Path("/dev/kvm").exists():
        return VirtChoice("qemu", "there is no /dev/kvm on this node")
    if arch != "x86_64":
        # The boot sector is x86 code; elsewhere a host with /dev/kvm is believed.
        return VirtChoice("kvm", f"/dev/kvm is there on {arch}")
    failure = guest_failure(conn, "kvm", state_dir, PROBE_DEADLINE_S)
    if failure is not None:
        return VirtChoice("qemu", f"a KVM guest cannot run here: {failure}")
    return VirtChoice("kvm", "a KVM guest ran on this node")


def _hardware_virtualisation() -> bool:
    flags = next(
        (line for line in _CPUINFO.read_text().splitlines() if line.startswith("flags")), ""
    )
    return not {"vmx", "svm"}.isdisjoint(flags.split())


def guest_failure(
    conn: libvirt.virConnect, virt_type: VirtType, state_dir: Path, deadline_s: float
) -> str | None:
    """Runs the probe guest. None when it came up, else why not, as a clause."""
    directory = state_dir / "probe"
    directory.mkdir(parents=True, exist_ok=True)
    disk, console = directory / "disk.img", directory / "console.log"
    # SeaBIOS boots from no disk below a cylinder.
    disk.write_bytes(boot_sector().ljust(2**20, b"\0"))
    console.unlink(missing_ok=True)
    try:
        domain = conn.createXML(
            _probe_xml(virt_type, disk, console), libvirt.VIR_DOMAIN_START_AUTODESTROY
        )
    except libvirt.libvirtError as error:
        return str(error.get_error_message() or error)
    try:
        return _wait_for_word(console, deadline_s)
    finally:
        # Gone already (QEMU aborted) is as good; AUTODESTROY covers a lost connection.
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()


def _wait_for_word(console: Path, deadline_s: float) -> str | None:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if console.exists() and _WORD in console.read_bytes():
            return None
        time.sleep(_POLL_S)
    return f"it wrote nothing within {deadline_s:g} s of its start"


def _probe_xml(virt_type: VirtType, disk: Path, console: Path) -> str:
    # Without our metadata and name prefix: to everybody else this is a foreign domain.
    domain = ET.Element("domain", type=virt_type)
    element(domain, "name", f"virt-probe-{uuid.uuid4().hex[:8]}")
    element(domain, "memory", "16", unit="MiB")
    element(domain, "vcpu", "1")
    element(element(domain, "os"), "type", "hvm", arch="x86_64")
    if virt_type == "kvm":
        element(domain, "cpu", mode="host-model")
    devices = element(domain, "devices")
    drive = element(devices, "disk", type="file", device="disk")
    element(drive, "driver", name="qemu", type="raw")
    element(drive, "source", file=str(disk))
    element(drive, "target", dev="hda", bus="ide")
    serial = element(devices, "serial", type="file")
    element(serial, "source", path=str(console))
    element(devices, "memballoon", model="none")
    return ET.tostring(domain, encoding="unicode")
