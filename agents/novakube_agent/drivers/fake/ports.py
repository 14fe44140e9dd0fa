# ruff: noqa: ARG002 - the ports' signatures, of which a simulation needs less
"""The five ports of a simulated host."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from novakube_agent.drivers.fake.state import FakeState, image_digest
from novakube_agent.ports import (
    CachedImage,
    DiskFile,
    DomainEvent,
    DomainFacts,
    DomainRequest,
    LeaseEvent,
    NicLink,
    NodeFacts,
)
from novakube_crds.v1alpha1.guest import GuestDisk, GuestImage, GuestLease, GuestNic
from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity, NodeCpu
from novakube_kit.errors import HostFailure

MIB = 1 << 20
SMALL_IMAGE_BYTES = 16 * MIB
_ON = ("Running", "Paused")


class FakeDriver:
    """DriverPort: domains change state at once and send events, as libvirt does."""

    def __init__(self, state: FakeState, capacity: NodeCapacity) -> None:
        self._state = state
        self._capacity = capacity

    async def open(self, on_event: Callable[[DomainEvent], None]) -> None:
        """Listens."""
        self._state.listener = on_event

    async def close(self) -> None:
        """Stops listening; the domains go on."""
        self._state.listener = None

    async def facts(self) -> NodeFacts:
        """A node of the configured size."""
        await self._state.step("facts")
        return NodeFacts(
            driver="fake",
            hypervisor_type="fake",
            hypervisor_version="1.0",
            driver_version="1.0",
            virt_type="fake",
            capacity=self._capacity,
            cpu=NodeCpu(arch="x86_64", model="fake", vendor="novakube"),
            traits=(),
            boot_id=self._state.stored.boot_id,
        )

    async def domains(self) -> dict[str, DomainFacts]:
        """All domains."""
        return dict(self._state.stored.domains)

    async def domain(self, instance_id: str) -> DomainFacts | None:
        """One domain."""
        return self._state.stored.domains.get(instance_id)

    def spec_hash(self, request: DomainRequest) -> str:
        """Of what a hypervisor would be told."""
        told = repr((request.guest, request.disks, request.nics))
        return hashlib.sha256(told.encode()).hexdigest()

    async def define(self, request: DomainRequest) -> None:
        """Keeps the state of a domain that exists."""
        await self._state.step("define")
        known = self._state.stored.domains.get(request.identity.instance_id)
        self._state.put(
            DomainFacts(
                identity=request.identity,
                name=f"novakube-{request.identity.guest_name}",
                state=known.state if known else "Shutoff",
                off_reason=known.off_reason if known else "Unknown",
                spec_hash=self.spec_hash(request),
                vcpus=request.guest.vcpus,
                memory_mib=request.guest.memory_mib,
                disks_bytes=sum(disk.size_bytes for disk in request.guest.disks),
            )
        )

    async def start(self, instance_id: str) -> None:
        """A no-op when it runs, as an ensure is."""
        await self._state.step("start")
        facts = self._state.facts(instance_id)
        if facts.state in _ON:
            return
        missing = self._state.stored.disks.get(facts.identity.guest_name)
        if facts.disks_bytes and not missing:
            raise HostFailure(f"disks of {facts.identity.guest_name} are missing")
        if facts.state != "Saved":
            starts = self._state.stored.starts
            starts[instance_id] = starts.get(instance_id, 0) + 1
        self._state.turn(instance_id, "Running")

    async def shutdown(self, instance_id: str) -> None:
        """The guest obeys at once, or never."""
        await self._state.step("shutdown")
        if self._state.facts(instance_id).state == "Running" and self._state.acpi:
            self._state.turn(instance_id, "Shutoff", "Shutdown")

    async def power_off(self, instance_id: str) -> None:
        """A no-op when it is off."""
        await self._state.step("power_off")
        if self._state.facts(instance_id).state in (*_ON, "Crashed"):
            self._state.turn(instance_id, "Shutoff", "Destroyed")

    async def pause(self, instance_id: str) -> None:
        """A no-op when it is paused."""
        await self._state.step("pause")
        if self._state.facts(instance_id).state == "Running":
            self._state.turn(instance_id, "Paused")

    async def unpause(self, instance_id: str) -> None:
        """A no-op when it runs."""
        await self._state.step("unpause")
        if self._state.facts(instance_id).state == "Paused":
            self._state.turn(instance_id, "Running")

    async def save(self, instance_id: str) -> None:
        """A no-op when it is saved."""
        await self._state.step("save")
        if self._state.facts(instance_id).state in _ON:
            self._state.turn(instance_id, "Saved", "Saved")

    async def reset(self, instance_id: str) -> None:
        """Nothing of it shows."""
        await self._state.step("reset")

    async def inject_nmi(self, instance_id: str) -> None:
        """Counted; must be on."""
        await self._state.step("inject_nmi")
        facts = self._state.facts(instance_id)
        if facts.state not in _ON:
            raise HostFailure(f"domain {instance_id} is {facts.state}; it takes no interrupt")
        interrupts = self._state.stored.interrupts
        interrupts[instance_id] = interrupts.get(instance_id, 0) + 1
        self._state.changed()

    async def undefine(self, instance_id: str) -> None:
        """Must be off; tolerant of absence."""
        await self._state.step("undefine")
        facts = self._state.stored.domains.get(instance_id)
        if facts is None:
            return
        if facts.state in _ON:
            raise HostFailure(f"domain {instance_id} is {facts.state}; it must be off")
        del self._state.stored.domains[instance_id]
        self._state.changed()
        self._state.tell(instance_id, None)


class FakeImages:
    """ImagePort: a download is a delay and steps of progress."""

    def __init__(self, state: FakeState, directory: Path) -> None:
        self._state = state
        self._directory = directory

    async def ensure(
        self, image: GuestImage, *, progress: Callable[[int], None], raw_file: bool = False
    ) -> CachedImage:
        """The configured delay counts for the first time only, as with a cache."""
        digest = image_digest(image)
        if digest not in self._state.stored.images:
            progress(0)
            await self._state.step("image")
            progress(100)
            self._state.stored.images.add(digest)
            self._state.changed()
        return CachedImage(
            self._directory / digest,
            digest,
            SMALL_IMAGE_BYTES,
            SMALL_IMAGE_BYTES,
            "raw" if raw_file or image.disk_format != "qcow2" else "qcow2",
        )


class FakeDisks:
    """DiskPort: names in memory; nothing is written below the directory."""

    def __init__(self, state: FakeState, directory: Path) -> None:
        self._state = state
        self._directory = directory

    def directory(self, guest_name: str) -> Path:
        """Where they would be."""
        return self._directory / guest_name

    async def existing(self, guest_name: str) -> frozenset[str]:
        """Devices of that Guest."""
        return frozenset(self._state.stored.disks.get(guest_name, ()))

    async def ensure(self, guest_name: str, disk: GuestDisk, image: CachedImage | None) -> DiskFile:
        """There when it returns."""
        await self._state.step("disk")
        self._state.stored.disks.setdefault(guest_name, set()).add(disk.device)
        self._state.changed()
        return DiskFile(disk.device, self.directory(guest_name) / disk.device, "qcow2", disk.bus)

    async def remove(self, guest_name: str) -> None:
        """Gone when it returns."""
        await self._state.step("remove_disks")
        self._state.stored.disks.pop(guest_name, None)
        self._state.changed()

    async def adopt(self, old_guest_name: str, guest_name: str) -> None:
        """A no-op when it was done before."""
        await self._state.step("adopt")
        devices = self._state.stored.disks.pop(old_guest_name, None)
        if devices is not None:
            self._state.stored.disks[guest_name] = devices
        self._state.changed()

    async def guests(self) -> frozenset[str]:
        """Guests with disks."""
        return frozenset(self._state.stored.disks)


class FakeNetwork:
    """NetworkPort: Ports in memory."""

    def __init__(self, state: FakeState) -> None:
        self._state = state

    async def ensure_nic(self, guest_name: str, hostname: str, nic: GuestNic) -> NicLink:
        """Plumbed when it returns."""
        await self._state.step("nic")
        self._state.stored.nics[nic.port_uid] = guest_name
        self._state.changed()
        digest = hashlib.sha256(nic.port_uid.encode()).hexdigest()[:11]
        bridge = hashlib.sha256(nic.network_uid.encode()).hexdigest()[:11]
        return NicLink(nic.port_uid, nic.mac, f"nkt{digest}", f"nkb{bridge}", nic.mtu)

    async def remove_nic(self, guest_name: str, nic: GuestNic) -> None:
        """Gone when it returns."""
        await self._state.step("remove_nic")
        self._state.stored.nics.pop(nic.port_uid, None)
        self._state.changed()

    async def restore(self, nics: dict[str, list[GuestNic]]) -> None:
        """Ports of no Guest of ours go; the others are there again."""
        self._state.stored.nics = {
            nic.port_uid: guest for guest, some in nics.items() for nic in some
        }
        self._state.changed()

    async def present(self) -> frozenset[str]:
        """Ports plumbed here."""
        return frozenset(self._state.stored.nics)


class FakeLeases:
    """LeasePort: simulated guests ask no DHCP server."""

    async def held(self, nics: Sequence[GuestNic]) -> tuple[GuestLease, ...]:
        """None ever."""
        return ()

    async def follow(self, heard: Callable[[LeaseEvent], None]) -> None:
        """Nothing to tell, until cancelled."""
        await asyncio.Event().wait()
