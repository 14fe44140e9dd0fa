"""Domain request -> libvirt XML, composed of small configurators. Pure.

Entry: ``render_domain``. Each configurator appends its own part and knows no other.
Source of the elements: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from novakube_agent.ports import DiskFile, DomainRequest
from novakube_agent.render import devices as dev
from novakube_agent.render.host_profile import HostProfile
from novakube_agent.render.image_properties import (
    DISK_BUSES,
    HardwareProperties,
    hardware_properties,
)
from novakube_agent.render.metadata import domain_name, metadata_element
from novakube_agent.render.xmltext import element, exact, label
from novakube_kit.errors import InvalidSpec

_TARGET_PREFIX = {"virtio": "vd", "sata": "sd", "scsi": "sd", "ide": "hd"}
_MAX_IDE_DISKS = 4
# What a kernel boots with when the image's owner named nothing.
_DEFAULT_KERNEL_ARGS = "root=/dev/vda"


@dataclass(frozen=True, slots=True)
class RenderedDomain:
    """A domain ready to be defined."""

    name: str
    xml: str
    spec_hash: str
    """sha256 of the XML in canonical form, without this hash in it."""


@dataclass(frozen=True, slots=True)
class _Context:
    request: DomainRequest
    host: HostProfile
    hardware: HardwareProperties


def _identity(domain: ET.Element, ctx: _Context) -> None:
    guest = ctx.request.guest
    element(domain, "uuid", ctx.request.identity.instance_id)
    if guest.instance.display_name:
        element(domain, "title", label(guest.instance.display_name))


def _memory(domain: ET.Element, ctx: _Context) -> None:
    element(domain, "memory", str(ctx.request.guest.memory_mib), unit="MiB")


def _cpu(domain: ET.Element, ctx: _Context) -> None:
    vcpus = ctx.request.guest.vcpus
    element(domain, "vcpu", str(vcpus), placement="static")
    if ctx.host.virt_type == "kvm":
        cpu = element(domain, "cpu", mode="host-model", check="partial")
    else:
        # All that TCG can emulate, so that distributions built for x86-64-v2 run, but
        # without 5-level paging: it slows the guest and older boot loaders fail on it.
        cpu = element(domain, "cpu", mode="maximum")
    element(cpu, "topology", sockets=str(vcpus), cores="1", threads="1")
    if ctx.host.virt_type == "qemu" and ctx.host.arch == "x86_64":
        element(cpu, "feature", policy="disable", name="la57")


def _boot(domain: ET.Element, ctx: _Context) -> None:
    request, hardware = ctx.request, ctx.hardware
    os = element(domain, "os")
    if hardware.firmware == "uefi":
        os.set("firmware", "efi")
    kind = element(os, "type", "hvm", arch=ctx.host.arch)
    if hardware.machine is not None:
        kind.set("machine", hardware.machine)
    if request.kernel is not None:
        element(os, "kernel", exact("kernel path", str(request.kernel)))
        if request.ramdisk is not None:
            element(os, "initrd", exact("ramdisk path", str(request.ramdisk)))
        element(os, "cmdline", kernel_command_line(request.guest.kernel_args))
    if hardware.boot_menu:
        element(os, "bootmenu", enable="yes", timeout="3000")
    element(os, "smbios", mode="sysinfo")


def kernel_command_line(kernel_args: str) -> str:
    """Arguments of a directly booted kernel.

    Its messages go to the serial console unless the arguments name consoles of their own.

    Raises:
        InvalidSpec: control characters in the arguments.
    """
    words = exact("kernelArgs", kernel_args or _DEFAULT_KERNEL_ARGS).split()
    if not any(word.startswith("console=") for word in words):
        words += ["console=tty0", "console=ttyS0"]
    return " ".join(words)


def _sysinfo(domain: ET.Element, ctx: _Context) -> None:
    identity = ctx.request.identity
    sysinfo = element(domain, "sysinfo", type="smbios")
    system = element(sysinfo, "system")
    element(system, "entry", "novakube", name="manufacturer")
    # cloud-init's ds-identify knows an OpenStack guest by exactly this product name.
    element(system, "entry", "OpenStack Nova", name="product")
    element(system, "entry", identity.instance_id, name="serial")
    # libvirt insists that this equals the domain's UUID.
    element(system, "entry", identity.instance_id, name="uuid")
    element(system, "entry", "Virtual Machine", name="family")


def _features(domain: ET.Element, ctx: _Context) -> None:
    features = element(domain, "features")
    element(features, "acpi")
    if ctx.host.arch == "x86_64":
        element(features, "apic")


def _clock(domain: ET.Element, ctx: _Context) -> None:
    clock = element(domain, "clock", offset="localtime" if ctx.hardware.windows else "utc")
    if ctx.host.arch != "x86_64":
        return
    if ctx.host.virt_type == "kvm":
        element(clock, "timer", name="pit", tickpolicy="delay")
        element(clock, "timer", name="rtc", tickpolicy="catchup")
    element(clock, "timer", name="hpet", present="yes" if ctx.hardware.hpet else "no")


def _lifecycle(domain: ET.Element, _ctx: _Context) -> None:
    # An ACPI power-off leaves the domain defined and shut off; a guest's reboot reboots; a
    # crash stays visible as such. Who starts it again is the reconciler's to decide.
    element(domain, "on_poweroff", "destroy")
    element(domain, "on_reboot", "restart")
    element(domain, "on_crash", "destroy")
    # A guest asleep (S3, S4) looks hung from outside; suspending is the host's business.
    pm = element(domain, "pm")
    element(pm, "suspend-to-mem", enabled="no")
    element(pm, "suspend-to-disk", enabled="no")


def _bus(disk: DiskFile, hardware: HardwareProperties) -> str:
    # ``virtio`` is the contract's default, hence "not asked for": the image may say other.
    bus = hardware.disk_bus if hardware.disk_bus and disk.bus == "virtio" else disk.bus
    if bus not in DISK_BUSES:
        raise InvalidSpec(
            f"disk {disk.device}: bus is {bus!r}; allowed: {', '.join(DISK_BUSES)}",
            reason="InvalidDiskBus",
        )
    return bus


def _target(prefix: str, index: int) -> str:
    """``vda`` ... ``vdz``, ``vdaa`` ...: bijective base 26, as the kernel names disks."""
    letters, number = "", index + 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return prefix + letters


def boot_orders(disks: Sequence[DiskFile]) -> list[int | None]:
    """Each disk's place in the boot order, 1 first; None: never booted from.

    Disks with boot index 0, then the first disk (the root), then the others by boot index, then
    those without one as they stand. Firmware tries them in this order.
    """
    last = float("inf")

    def place(number: int) -> tuple[float, int]:
        index = disks[number].boot_index
        own = last if index is None else float(index)
        return (0.5 if number == 0 and index is None else own, number)

    bootable = [
        number
        for number, disk in enumerate(disks)
        if not disk.read_only and (disk.boot_index is None or disk.boot_index >= 0)
    ]
    orders = {number: order for order, number in enumerate(sorted(bootable, key=place), start=1)}
    return [orders.get(number) for number in range(len(disks))]


def disk_devices(disks: Sequence[DiskFile], hardware: HardwareProperties) -> tuple[dev.Disk, ...]:
    """The disks as they stand, with target names of their bus and their boot order.

    Raises:
        InvalidSpec: an unknown bus, a path that XML cannot carry, or more disks than IDE has.
    """
    rendered: list[dev.Disk] = []
    used: dict[str, int] = {}
    for order, disk in zip(boot_orders(disks), disks, strict=True):
        bus = _bus(disk, hardware)
        prefix = _TARGET_PREFIX[bus]
        index = used.get(prefix, 0)
        used[prefix] = index + 1
        rendered.append(
            dev.Disk(
                path=exact(f"path of disk {disk.device}", str(disk.path)),
                format=disk.format,
                bus=bus,
                target=_target(prefix, index),
                read_only=disk.read_only,
                boot_order=order,
            )
        )
    if used.get("hd", 0) > _MAX_IDE_DISKS:
        raise InvalidSpec(
            f"{used['hd']} disks on the bus ide; allowed: {_MAX_IDE_DISKS}",
            reason="TooManyDisks",
        )
    return tuple(rendered)


def _storage(ctx: _Context) -> list[dev.Device]:
    disks = disk_devices(ctx.request.disks, ctx.hardware)
    found: list[dev.Device] = list(disks)
    if any(disk.bus == "scsi" for disk in disks):
        found.append(dev.ScsiController(ctx.hardware.scsi_model))
    return found


def _network(ctx: _Context) -> list[dev.Device]:
    model = ctx.hardware.vif_model
    return [dev.TapInterface(nic.mac, nic.tap, model, nic.mtu) for nic in ctx.request.nics]


def _display(ctx: _Context) -> list[dev.Device]:
    hardware = ctx.hardware
    if hardware.video_model == "none":
        return [dev.Video("none")]
    found: list[dev.Device] = [
        dev.Vnc(),
        dev.Video(hardware.video_model, hardware.video_vram_kib),
    ]
    return [dev.Tablet(), *found] if hardware.tablet else found


def _extras(ctx: _Context) -> list[dev.Device]:
    hardware = ctx.hardware
    found: list[dev.Device] = []
    if hardware.guest_agent:
        found.append(dev.GuestAgentChannel())
    if hardware.rng:
        found.append(dev.Rng())
    if hardware.watchdog != "disabled":
        found.append(dev.Watchdog(hardware.watchdog))
    found.append(dev.Balloon())
    return found


def _devices(domain: ET.Element, ctx: _Context) -> None:
    parent = element(domain, "devices")
    console = dev.SerialConsole(exact("console log path", str(ctx.request.console_log)))
    for device in (*_storage(ctx), *_network(ctx), console, *_display(ctx), *_extras(ctx)):
        parent.append(device.xml())


_CONFIGURATORS = (
    _identity,
    _memory,
    _cpu,
    _boot,
    _sysinfo,
    _features,
    _clock,
    _lifecycle,
    _devices,
)


def _document(ctx: _Context, name: str, spec_hash: str) -> str:
    domain = ET.Element("domain", type=ctx.host.virt_type)
    element(domain, "name", exact("domain name", name))
    for configure in _CONFIGURATORS:
        configure(domain, ctx)
    metadata = element(domain, "metadata")
    metadata.append(metadata_element(ctx.request, spec_hash))
    return ET.tostring(domain, encoding="unicode")


def render_domain(
    request: DomainRequest, host: HostProfile, *, name: str | None = None
) -> RenderedDomain:
    """The domain's XML and the hash that stands for it.

    Args:
        request: what the guest is made of.
        host: the node's hypervisor.
        name: another name than the Guest's: an adopted domain keeps the one it has, since
            libvirt renames no running domain. The hash is the same for any name.

    Raises:
        InvalidSpec: an image property, a bus or a text that no domain can have; the message
            names the field and what is allowed.
    """
    hardware = hardware_properties(request.guest.image_properties, host.machines)
    ctx = _Context(request, host, hardware)
    own_name = domain_name(request.identity.guest_name)
    unhashed = ET.canonicalize(_document(ctx, own_name, ""))
    spec_hash = hashlib.sha256(unhashed.encode()).hexdigest()
    return RenderedDomain(name or own_name, _document(ctx, name or own_name, spec_hash), spec_hash)
