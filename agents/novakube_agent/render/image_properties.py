"""Image properties that shape a domain, under Nova's names, checked before use.

Properties not named here belong to other parts (scheduling, metadata) or to nobody, and
are ignored. Source of names and values: Nova's ``ImageMetaProps`` and Glance's
"useful image properties", narrowed to what QEMU on this driver can do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from novakube_agent.render.xmltext import choice, flag, whole
from novakube_kit.errors import InvalidSpec

DISK_BUSES = ("virtio", "sata", "scsi", "ide")
VIF_MODELS = ("virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3")
VIDEO_MODELS = ("vga", "virtio", "bochs", "cirrus", "qxl", "none")
SCSI_MODELS = ("virtio-scsi", "lsilogic")
FIRMWARES = ("bios", "uefi")
RNG_MODELS = ("virtio", "none")
POINTER_MODELS = ("ps2mouse", "usbtablet")
WATCHDOG_ACTIONS = ("disabled", "reset", "poweroff", "pause", "none")
_MACHINE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class HardwareProperties:
    """The properties after the checks, defaults filled in."""

    disk_bus: str | None
    """None: each disk's own."""
    vif_model: str
    machine: str | None
    """None: the emulator's default machine."""
    video_model: str
    video_vram_kib: int | None
    scsi_model: str
    firmware: str
    rng: bool
    guest_agent: bool
    tablet: bool
    watchdog: str
    hpet: bool
    boot_menu: bool
    windows: bool


def _machine(properties: Mapping[str, str], machines: frozenset[str]) -> str | None:
    value = properties.get("hw_machine_type")
    if value is None:
        return None
    if not _MACHINE.fullmatch(value) or (machines and value not in machines):
        allowed = ", ".join(sorted(machines)) or "a machine type of the node's QEMU"
        raise InvalidSpec(
            f"image property hw_machine_type is {value!r}; allowed on this node: {allowed}",
            reason="InvalidImageProperty",
        )
    return value


def _disk_bus(properties: Mapping[str, str]) -> str | None:
    if "hw_disk_bus" not in properties:
        return None
    return choice(properties, "hw_disk_bus", DISK_BUSES, "virtio")


def hardware_properties(
    properties: Mapping[str, str], machines: frozenset[str]
) -> HardwareProperties:
    """Reads and checks all of them.

    Args:
        properties: the image's properties.
        machines: machine types the node knows; empty when unknown.

    Raises:
        InvalidSpec: reason ``InvalidImageProperty``; the message names the property and
            the allowed values.
    """
    vram_mib = whole(properties, "hw_video_ram", 1, 1024)
    return HardwareProperties(
        disk_bus=_disk_bus(properties),
        vif_model=choice(properties, "hw_vif_model", VIF_MODELS, "virtio"),
        machine=_machine(properties, machines),
        video_model=choice(properties, "hw_video_model", VIDEO_MODELS, "vga"),
        video_vram_kib=None if vram_mib is None else vram_mib * 1024,
        scsi_model=choice(properties, "hw_scsi_model", SCSI_MODELS, "virtio-scsi"),
        firmware=choice(properties, "hw_firmware_type", FIRMWARES, "bios"),
        rng=choice(properties, "hw_rng_model", RNG_MODELS, "virtio") == "virtio",
        guest_agent=flag(properties, "hw_qemu_guest_agent", default=True),
        tablet=choice(properties, "hw_pointer_model", POINTER_MODELS, "ps2mouse") == "usbtablet",
        watchdog=choice(properties, "hw_watchdog_action", WATCHDOG_ACTIONS, "disabled"),
        hpet=flag(properties, "hw_time_hpet", default=False),
        boot_menu=flag(properties, "hw_boot_menu", default=False),
        windows=choice(properties, "os_type", ("linux", "windows", "other"), "linux") == "windows",
    )
