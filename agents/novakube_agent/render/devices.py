"""Devices of a domain as frozen dataclasses, each knowing its own XML and nothing else.

No policy here: which device a guest gets, and with which model, is ``render.domain``'s.
Source of the elements: https://libvirt.org/formatdomain.html#devices
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Protocol

from novakube_agent.render.xmltext import element


class Device(Protocol):
    """Anything that stands below ``<devices>``."""

    def xml(self) -> ET.Element:
        """The device's element."""
        ...


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk or CD-ROM in a local file."""

    path: str
    format: str
    bus: str
    target: str
    read_only: bool = False
    boot_order: int | None = None
    """1 is first; None: never booted from."""
    serial: str | None = None

    def xml(self) -> ET.Element:
        """``<disk>``. A CD-ROM where the bus has them, else a read-only disk."""
        cdrom = self.read_only and self.bus != "virtio"
        disk = ET.Element("disk", type="file", device="cdrom" if cdrom else "disk")
        driver = element(disk, "driver", name="qemu", type=self.format)
        if not self.read_only:
            # Freed blocks go back to the host's file system.
            driver.set("discard", "unmap")
        element(disk, "source", file=self.path)
        element(disk, "target", dev=self.target, bus=self.bus)
        if self.serial is not None:
            element(disk, "serial", self.serial)
        if self.read_only:
            element(disk, "readonly")
        if self.boot_order is not None:
            element(disk, "boot", order=str(self.boot_order))
        return disk


@dataclass(frozen=True, slots=True)
class TapInterface:
    """A NIC on a tap that exists already and is not libvirt's to make or remove."""

    mac: str
    tap: str
    model: str
    mtu: int

    def xml(self) -> ET.Element:
        """``<interface type='ethernet'>`` without a boot ROM.

        Guests boot from disk, and loading the ROM costs time at each power-on.
        """
        nic = ET.Element("interface", type="ethernet")
        element(nic, "mac", address=self.mac)
        element(nic, "target", dev=self.tap, managed="no")
        element(nic, "model", type=self.model)
        element(nic, "mtu", size=str(self.mtu))
        element(nic, "rom", enabled="no")
        return nic


@dataclass(frozen=True, slots=True)
class SerialConsole:
    """The first serial port: a pty for interactive use, all output copied to a file.

    QEMU writes the log whether or not anybody has the pty open, so it starts with the
    firmware's first byte; ``append`` keeps earlier boots and lets the file be truncated
    while it is written.
    """

    log: str

    def xml(self) -> ET.Element:
        """``<serial type='pty'>``; libvirt adds the ``<console>`` alias itself."""
        serial = ET.Element("serial", type="pty")
        element(serial, "log", file=self.log, append="on")
        element(serial, "target", port="0")
        return serial


@dataclass(frozen=True, slots=True)
class Vnc:
    """The display over VNC, on the address of one interface; the port is QEMU's choice."""

    listen: str = "127.0.0.1"

    def xml(self) -> ET.Element:
        """``<graphics type='vnc'>``."""
        graphics = ET.Element("graphics", type="vnc", autoport="yes")
        element(graphics, "listen", type="address", address=self.listen)
        return graphics


@dataclass(frozen=True, slots=True)
class Video:
    """The graphics card."""

    model: str
    vram_kib: int | None = None

    def xml(self) -> ET.Element:
        """``<video>``."""
        video = ET.Element("video")
        model = element(video, "model", type=self.model)
        if self.vram_kib is not None:
            model.set("vram", str(self.vram_kib))
        return video


@dataclass(frozen=True, slots=True)
class Rng:
    """virtio-rng, fed from the host's /dev/urandom."""

    def xml(self) -> ET.Element:
        """``<rng>``."""
        rng = ET.Element("rng", model="virtio")
        element(rng, "backend", "/dev/urandom", model="random")
        return rng


@dataclass(frozen=True, slots=True)
class Balloon:
    """virtio memory balloon with statistics."""

    stats_period_s: int = 10

    def xml(self) -> ET.Element:
        """``<memballoon>``."""
        balloon = ET.Element("memballoon", model="virtio")
        element(balloon, "stats", period=str(self.stats_period_s))
        return balloon


@dataclass(frozen=True, slots=True)
class GuestAgentChannel:
    """The virtio port the qemu-guest-agent looks for; the socket's path is libvirt's."""

    def xml(self) -> ET.Element:
        """``<channel type='unix'>``."""
        channel = ET.Element("channel", type="unix")
        element(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
        return channel


@dataclass(frozen=True, slots=True)
class ScsiController:
    """The controller that disks on the bus ``scsi`` hang on."""

    model: str

    def xml(self) -> ET.Element:
        """``<controller type='scsi'>``."""
        return ET.Element("controller", type="scsi", index="0", model=self.model)


@dataclass(frozen=True, slots=True)
class Tablet:
    """Absolute pointer for graphical consoles."""

    def xml(self) -> ET.Element:
        """``<input type='tablet'>``."""
        return ET.Element("input", type="tablet", bus="usb")


@dataclass(frozen=True, slots=True)
class Watchdog:
    """A watchdog the guest may arm."""

    action: str

    def xml(self) -> ET.Element:
        """``<watchdog>``."""
        return ET.Element("watchdog", model="i6300esb", action=self.action)
