"""What the agent's reconciler may ask of a node, as ports.

``reconcile.py`` observes, plans and applies through these Protocols only. Implementations:
``drivers/libvirt`` (DriverPort), ``hostops/network`` (NetworkPort), ``hostops/dhcp_leases``
(LeasePort), ``hostops/images`` (ImagePort, DiskPort) and ``drivers/fake`` (all of them, any
number of nodes in one process). Every method is idempotent ("ensure"), tolerant of what is
already gone, and raises only ``novakube_kit.errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from novakube_crds.v1alpha1.guest import GuestDisk, GuestImage, GuestLease, GuestNic, GuestSpec
from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity, NodeCpu

DomainState = Literal["Running", "Paused", "Shutoff", "ShuttingDown", "Crashed", "Saved"]
"""``Saved``: off, with a managed save image (suspended to disk)."""
OffReason = Literal["Shutdown", "Destroyed", "Crashed", "Saved", "Failed", "Unknown"]


@dataclass(frozen=True, slots=True)
class DomainIdentity:
    """What the domain's metadata says: enough to find its Guest without the API server."""

    instance_id: str
    instance_uid: str
    instance_namespace: str
    instance_name: str
    guest_uid: str
    guest_name: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """One domain of ours as the hypervisor has it now."""

    identity: DomainIdentity
    name: str
    state: DomainState
    off_reason: OffReason | None
    spec_hash: str
    """sha256 of the XML it was defined from; compared, never the XML itself."""
    vcpus: int
    memory_mib: int
    disks_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """A lifecycle change of one domain; a hint to look, never a fact to act on."""

    instance_id: str
    change: Literal["Started", "Stopped", "Paused", "Resumed", "Defined", "Undefined", "Other"]
    off_reason: OffReason | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The hypervisor of this node."""

    driver: str
    hypervisor_type: str
    hypervisor_version: str
    driver_version: str
    virt_type: str
    capacity: NodeCapacity
    cpu: NodeCpu
    traits: tuple[str, ...]
    boot_id: str
    virt_type_reason: str = ""
    """Why this virt type: a sentence for the report's message."""


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A disk on the node, ready for the domain."""

    device: str
    path: Path
    format: Literal["qcow2", "raw"]
    bus: str
    read_only: bool = False
    boot_index: int | None = None
    """Before the first disk with 0, behind it from 1 on, never with -1; None: behind all those."""


@dataclass(frozen=True, slots=True)
class NicLink:
    """A NIC on the node: the tap that belongs to the domain and the bridge it sits on."""

    port_uid: str
    mac: str
    tap: str
    bridge: str
    mtu: int


@dataclass(frozen=True, slots=True)
class LeaseEvent:
    """The DHCP server told of a lease; a hint to look, never a fact to act on."""

    action: str
    """``add``, ``old`` (renewed) or ``del``."""
    network_uid: str
    address: str
    mac: str
    """Empty when the server did not know it."""


@dataclass(frozen=True, slots=True)
class CachedImage:
    """Image bytes in the node's cache, verified and inspected."""

    path: Path
    sha256: str
    size_bytes: int
    virtual_size_bytes: int
    format: Literal["qcow2", "raw"]


@dataclass(frozen=True, slots=True)
class DomainRequest:
    """All that a driver needs to define a domain."""

    identity: DomainIdentity
    guest: GuestSpec
    disks: tuple[DiskFile, ...]
    nics: tuple[NicLink, ...]
    console_log: Path
    kernel: Path | None = None
    ramdisk: Path | None = None
    extra: dict[str, str] = field(default_factory=dict)


class DriverPort(Protocol):
    """A hypervisor. Blocking libraries run in the driver's own threads, with deadlines."""

    async def open(self, on_event: Callable[[DomainEvent], None]) -> None:
        """Connects; reconnects by itself later. Events arrive on the event loop."""
        ...

    async def close(self) -> None:
        """Disconnects; touches no domain."""
        ...

    async def facts(self) -> NodeFacts:
        """The node. Raises HostBusy when the hypervisor does not answer."""
        ...

    async def domains(self) -> dict[str, DomainFacts]:
        """All domains of ours (with our metadata), by instance id. Foreign ones are not seen."""
        ...

    async def domain(self, instance_id: str) -> DomainFacts | None:
        """One domain of ours, None when it is not there."""
        ...

    def spec_hash(self, request: DomainRequest) -> str:
        """Pure: the hash ``define`` would store."""
        ...

    async def define(self, request: DomainRequest) -> None:
        """Defines or redefines (persistent, no autostart); does not start."""
        ...

    async def start(self, instance_id: str) -> None:
        """Starts; restores a managed save if there is one."""
        ...

    async def shutdown(self, instance_id: str) -> None:
        """Sends the ACPI power button once; returns at once."""
        ...

    async def power_off(self, instance_id: str) -> None:
        """Cuts the power (virsh destroy)."""
        ...

    async def pause(self, instance_id: str) -> None:
        """Stops the vCPUs; memory stays."""
        ...

    async def unpause(self, instance_id: str) -> None:
        """Lets the vCPUs go on."""
        ...

    async def save(self, instance_id: str) -> None:
        """Suspends to disk (managed save)."""
        ...

    async def reset(self, instance_id: str) -> None:
        """Hard reset without new definition."""
        ...

    async def inject_nmi(self, instance_id: str) -> None:
        """Sends a non-maskable interrupt once; what the guest makes of it is its own."""
        ...

    async def undefine(self, instance_id: str) -> None:
        """Removes the definition, managed save included; the domain must be off."""
        ...


class ImagePort(Protocol):
    """The node's image cache, by digest."""

    async def ensure(
        self, image: GuestImage, *, progress: Callable[[int], None], raw_file: bool = False
    ) -> CachedImage:
        """Downloads, verifies and inspects once; concurrent callers share one download.

        Args:
            image: what to fetch; ``sha256`` None accepts and reports what is found.
            progress: called with 0..100 while bytes arrive.
            raw_file: kernel or ramdisk: bytes as they are, no disk inspection.

        Raises:
            ImageRejected: 404, checksum, format, backing or data file, limits; terminal.
            Retryable: network trouble, no space for now.
        """
        ...


class DiskPort(Protocol):
    """Disk files of one incarnation, below one directory per Guest."""

    def directory(self, guest_name: str) -> Path:
        """Pure: where the files of a Guest are."""
        ...

    async def existing(self, guest_name: str) -> frozenset[str]:
        """Devices (vda, ...) whose files exist; empty when the directory does not."""
        ...

    async def ensure(self, guest_name: str, disk: GuestDisk, image: CachedImage | None) -> DiskFile:
        """Creates the overlay or blank disk once (``.part`` + rename); never recreates."""
        ...

    async def remove(self, guest_name: str) -> None:
        """Removes the directory with all in it; tolerant of absence."""
        ...

    async def adopt(self, old_guest_name: str, guest_name: str) -> None:
        """Renames the directory of an earlier incarnation on this node."""
        ...

    async def guests(self) -> frozenset[str]:
        """Names of Guests that have a directory."""
        ...


class NetworkPort(Protocol):
    """Bridges, namespaces, taps, dnsmasq, per Network on the node."""

    async def ensure_nic(self, guest_name: str, hostname: str, nic: GuestNic) -> NicLink:
        """Network plumbing up, tap made and on the bridge, DHCP entry in place."""
        ...

    async def remove_nic(self, guest_name: str, nic: GuestNic) -> None:
        """Tap and DHCP entry gone; the Network's plumbing too when it was the last NIC."""
        ...

    async def restore(self, nics: dict[str, list[GuestNic]]) -> None:
        """After agent start: dnsmasq and namespaces of all present NICs are alive again.

        Taps are not touched; what belongs to no NIC of ours is removed.
        """
        ...

    async def present(self) -> frozenset[str]:
        """Port UIDs that have a tap or DHCP entry on this node."""
        ...


class LeasePort(Protocol):
    """Leases that the node's DHCP servers have given."""

    async def held(self, nics: Sequence[GuestNic]) -> tuple[GuestLease, ...]:
        """What these NICs hold now: network, address and MAC are theirs; in a fixed order."""
        ...

    async def follow(self, heard: Callable[[LeaseEvent], None]) -> None:
        """Tells each event on the event loop, until cancelled. Raises HostFailure."""
        ...
