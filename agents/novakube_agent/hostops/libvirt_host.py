"""What libvirt knows of the node: read with each new connection, then kept.

Capabilities cost a probe of QEMU when libvirt's own cache is cold, so nothing here is asked
per call but capacity.
"""

from __future__ import annotations

import os
import platform
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import libvirt

from novakube_agent.hostops.virt_probe import VirtChoice
from novakube_agent.render.host_profile import HostProfile
from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity, NodeCpu
from novakube_kit.errors import HostFailure

_MIB = 1024**2
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class HostDescription:
    """Constant while the connection lives."""

    profile: HostProfile
    virt_type_reason: str
    hypervisor_version: str
    libvirt_version: str
    cpu: NodeCpu
    cpu_features: frozenset[str]
    """Of the CPU that guests get."""
    uefi: bool


def dotted(version: int) -> str:
    """Version as a person writes it, from libvirt's number: 9000000 is 9.0.0."""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"


def describe_host(conn: libvirt.virConnect, choice: VirtChoice) -> HostDescription:
    """Asks for everything that does not change.

    Raises:
        HostFailure: QEMU for this architecture or virt type is missing.
    """
    arch = platform.machine()
    capabilities = ET.fromstring(conn.getCapabilities())  # noqa: S314  libvirt's own
    machines = _machines(capabilities, arch, choice.virt_type)
    domain = ET.fromstring(  # noqa: S314  libvirt's own
        conn.getDomainCapabilities(None, arch, None, choice.virt_type, 0)
    )
    firmwares = {value.text for value in domain.iterfind("os/enum[@name='firmware']/value")}
    return HostDescription(
        profile=HostProfile(choice.virt_type, arch, machines),
        virt_type_reason=choice.reason,
        hypervisor_version=dotted(conn.getVersion()),
        libvirt_version=dotted(conn.getLibVersion()),
        cpu=_cpu(capabilities, arch),
        cpu_features=_guest_cpu_features(conn, domain, arch, choice.virt_type),
        uefi="efi" in firmwares,
    )


def _machines(capabilities: ET.Element, arch: str, virt_type: str) -> frozenset[str]:
    for guest in capabilities.iterfind("guest"):
        node = guest.find("arch")
        if guest.findtext("os_type") != "hvm" or node is None or node.get("name") != arch:
            continue
        kinds = {domain.get("type") for domain in node.iterfind("domain")}
        if virt_type in kinds:
            return frozenset(machine.text or "" for machine in node.iterfind("machine"))
    raise HostFailure(
        f"libvirt on this node offers no {virt_type} guests for {arch}; "
        f"install qemu-system for {arch}"
        + (" and give libvirt access to /dev/kvm" if virt_type == "kvm" else ""),
        reason="VirtTypeUnavailable",
    )


def _cpu(capabilities: ET.Element, arch: str) -> NodeCpu:
    cpu = capabilities.find("host/cpu")
    if cpu is None:
        return NodeCpu(arch=arch)
    topology = cpu.find("topology")
    shape = {} if topology is None else topology.attrib
    return NodeCpu(
        arch=cpu.findtext("arch") or arch,
        model=cpu.findtext("model") or "",
        vendor=cpu.findtext("vendor") or "",
        sockets=int(shape.get("sockets", 0)),
        cores=int(shape.get("cores", 0)),
        threads=int(shape.get("threads", 0)),
    )


def _guest_cpu_features(
    conn: libvirt.virConnect, domain: ET.Element, arch: str, virt_type: str
) -> frozenset[str]:
    """The features of the host-model CPU with its model spelt out."""
    mode = domain.find("cpu/mode[@name='host-model'][@supported='yes']")
    if mode is None:
        return frozenset()
    cpu = ET.Element("cpu", mode="custom", match="exact")
    cpu.extend(mode)
    expanded = conn.baselineHypervisorCPU(
        None,
        arch,
        None,
        virt_type,
        [ET.tostring(cpu, encoding="unicode")],
        libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES,
    )
    return frozenset(
        feature.get("name", "")
        for feature in ET.fromstring(expanded).iterfind("feature")  # noqa: S314  libvirt's own
        if feature.get("policy", "require") == "require"
    )


def capacity(conn: libvirt.virConnect, state_dir: Path) -> NodeCapacity:
    """CPUs as libvirt counts them, the kernel's memory, the disk that holds ``state_dir``.

    Not libvirt's memory: it adds up the NUMA nodes, which leaves out memory that was added
    to a running host.
    """
    info = conn.getInfo()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = os.statvfs(state_dir)
    return NodeCapacity(
        vcpus=int(info[2]),
        memory_mib=memory // _MIB,
        disk_gib=disk.f_blocks * disk.f_frsize // _GIB,
        disk_free_gib=disk.f_bavail * disk.f_frsize // _GIB,
    )
