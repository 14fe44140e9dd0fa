"""One node as the reconciler sees it: observes a Guest, applies single actions.

Every effect on the host runs inside a failpoint, so that a test can end the process before
or after each of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from novakube_agent.journal import Journals
from novakube_agent.model import (
    Action,
    AdoptDisks,
    DefineDomain,
    Desired,
    EnsureDisks,
    EnsureNics,
    ForgetJournal,
    ImageRecord,
    InjectNmi,
    Journal,
    Observed,
    PauseDomain,
    PowerOff,
    PressPowerButton,
    RemoveDisks,
    RemoveNics,
    SaveDomain,
    StartDomain,
    UndefineDomain,
    UnpauseDomain,
    WriteJournal,
    empty_journal,
)
from novakube_agent.ports import (
    CachedImage,
    DiskFile,
    DiskPort,
    DomainIdentity,
    DomainRequest,
    DriverPort,
    ImagePort,
    LeasePort,
    NetworkPort,
    NicLink,
    NodeFacts,
)
from novakube_crds.v1alpha1.guest import GuestImage
from novakube_kit.errors import Retryable
from novakube_kit.failpoints import failpoint

T = TypeVar("T")
CONSOLE_LOG = "console.log"
NOLOGIN = "nologin"
"""systemd makes it in /run when the host begins to shut down.
Source: systemd-user-sessions.service(8), pam_nologin(8)."""


@dataclass(frozen=True, slots=True)
class HostPorts:
    """The five ports of one node."""

    driver: DriverPort
    images: ImagePort
    disks: DiskPort
    network: NetworkPort
    leases: LeasePort


@dataclass(slots=True)
class Preparation:
    """What one pass has ensured so far and a definition needs."""

    disks: tuple[DiskFile, ...] | None = None
    nics: tuple[NicLink, ...] | None = None
    kernel: Path | None = None
    ramdisk: Path | None = None
    percent: int | None = None
    """Of the download under way."""
    image_name: str = ""
    superseded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the Guest is to be destroyed: a download is not waited for any longer."""


class Host:
    """Effects of one node."""

    def __init__(self, ports: HostPorts, journals: Journals, *, run_id: str, run_dir: Path) -> None:
        self.ports = ports
        self.journals = journals
        self.run_id = run_id
        self._run_dir = run_dir
        self._facts: NodeFacts | None = None

    async def facts(self, *, fresh: bool = False) -> NodeFacts:
        """The node; read again when ``fresh``. Raises HostBusy."""
        if fresh or self._facts is None:
            self._facts = await self.ports.driver.facts()
        return self._facts

    async def observe(self, desired: Desired, leader_epoch: int, now: float) -> Observed:
        """Looks at one Guest. Raises Retryable when the node does not answer."""
        facts = await self.facts()
        domain = await self.ports.driver.domain(desired.spec.instance.id)
        disks = await self.ports.disks.existing(desired.name)
        directory = bool(disks)
        if desired.destroy and not directory:
            directory = desired.name in await self.ports.disks.guests()
        journal = self.journals.get(desired.uid) or empty_journal(desired)
        adopt = desired.spec.adopt
        return Observed(
            now=now,
            boot_id=facts.boot_id,
            run_id=self.run_id,
            virt_type=facts.virt_type,
            domain=domain,
            disks=disks,
            directory=directory,
            nics=await self._own_nics(desired, journal),
            leases=await self.ports.leases.held(desired.spec.nics) if domain is not None else (),
            journal=journal,
            adoptable=self.journals.get(adopt) if adopt else None,
            leader_epoch=leader_epoch,
            host_stopping=(self._run_dir / NOLOGIN).exists(),
        )

    async def _own_nics(self, desired: Desired, journal: Journal) -> frozenset[str]:
        ports = {nic.port_uid for nic in (*desired.spec.nics, *journal.nics)}
        if not ports:
            return frozenset()
        present = await self.ports.network.present()
        return frozenset(
            port for port in ports & present if not self.journals.claimed_by_others(journal, port)
        )

    async def apply(self, action: Action, desired: Desired, ready: Preparation) -> None:
        """One action; repeating it is harmless. Raises Retryable or Terminal."""
        match action:
            case WriteJournal(journal):
                # What was downloaded is known here, the plan only passes it on.
                held = self.journals.get(journal.guest_uid)
                images = held.images if held and held.images else journal.images
                await self.journals.save(replace(journal, images=images))
            case ForgetJournal(guest_uid):
                await self.journals.forget(guest_uid)
            case EnsureDisks():
                await self._ensure_disks(desired, ready)
            case EnsureNics():
                await self._ensure_nics(desired, ready)
            case DefineDomain():
                request = self._request(desired, ready)
                await _at("driver.define", self.ports.driver.define(request))
            case AdoptDisks() | RemoveNics() | RemoveDisks():
                await self._files_and_links(action, desired)
            case _:
                await self._power(action, desired.spec.instance.id)

    async def _files_and_links(
        self, action: AdoptDisks | RemoveNics | RemoveDisks, desired: Desired
    ) -> None:
        match action:
            case AdoptDisks(old_name):
                await _at("disks.adopt", self.ports.disks.adopt(old_name, desired.name))
            case RemoveNics(port_uids):
                await self._remove_nics(desired, port_uids)
            case RemoveDisks():
                await _at("disks.remove", self.ports.disks.remove(desired.name))

    async def _power(self, action: Action, instance: str) -> None:
        driver = self.ports.driver
        effects: dict[type, tuple[str, Callable[[str], Awaitable[None]]]] = {
            StartDomain: ("driver.start", driver.start),
            PressPowerButton: ("driver.shutdown", driver.shutdown),
            PowerOff: ("driver.power_off", driver.power_off),
            PauseDomain: ("driver.pause", driver.pause),
            UnpauseDomain: ("driver.unpause", driver.unpause),
            SaveDomain: ("driver.save", driver.save),
            InjectNmi: ("driver.inject_nmi", driver.inject_nmi),
            UndefineDomain: ("driver.undefine", driver.undefine),
        }
        name, effect = effects[type(action)]
        await _at(name, effect(instance))

    async def _ensure_disks(self, desired: Desired, ready: Preparation) -> None:
        spec, files = desired.spec, []
        for disk in spec.disks:
            image = None
            if disk.image is not None:
                image = await self._image(desired, disk.image, ready, root=disk.role == "root")
            files.append(
                await _at("disks.ensure", self.ports.disks.ensure(desired.name, disk, image))
            )
        for role, wanted in (("kernel", spec.kernel), ("ramdisk", spec.ramdisk)):
            if wanted is not None:
                found = await self._image(desired, wanted, ready, raw_file=True)
                setattr(ready, role, found.path)
        ready.disks = tuple(files)

    async def _image(
        self,
        desired: Desired,
        image: GuestImage,
        ready: Preparation,
        *,
        root: bool = False,
        raw_file: bool = False,
    ) -> CachedImage:
        """The image in the cache, pinned to what this Guest found at its first download."""
        journal = self.journals.get(desired.uid) or empty_journal(desired)
        known = next((one for one in journal.images if one.url == image.url), None)
        if known is not None and image.sha256 is None:
            image = image.model_copy(update={"sha256": known.sha256})
        ready.image_name, ready.percent = image.name or image.url, None

        def progress(percent: int) -> None:
            ready.percent = percent

        fetch = self.ports.images.ensure(image, progress=progress, raw_file=raw_file)
        found = await _unless(ready.superseded, _at("images.ensure", fetch))
        ready.percent = None
        if known is None:
            record = ImageRecord(
                image.url, found.sha256, found.size_bytes, found.virtual_size_bytes, root
            )
            await self.journals.save(replace(journal, images=(*journal.images, record)))
        return found

    async def _ensure_nics(self, desired: Desired, ready: Preparation) -> None:
        ready.nics = tuple(
            [
                await _at(
                    "network.ensure_nic",
                    self.ports.network.ensure_nic(desired.name, desired.spec.hostname, nic),
                )
                for nic in desired.spec.nics
            ]
        )

    async def _remove_nics(self, desired: Desired, port_uids: frozenset[str]) -> None:
        journal = self.journals.get(desired.uid) or empty_journal(desired)
        nics = {nic.port_uid: nic for nic in (*journal.nics, *desired.spec.nics)}
        for port_uid in sorted(port_uids):
            await _at(
                "network.remove_nic",
                self.ports.network.remove_nic(desired.name, nics[port_uid]),
            )

    def _request(self, desired: Desired, ready: Preparation) -> DomainRequest:
        if ready.disks is None or ready.nics is None:
            raise Retryable("disks and NICs come before the definition", reason="NotPrepared")
        return DomainRequest(
            identity=identity_of(desired),
            guest=desired.spec,
            disks=ready.disks,
            nics=ready.nics,
            console_log=self.ports.disks.directory(desired.name) / CONSOLE_LOG,
            kernel=ready.kernel,
            ramdisk=ready.ramdisk,
        )


def identity_of(desired: Desired) -> DomainIdentity:
    """What the domain's metadata is to say."""
    instance = desired.spec.instance
    return DomainIdentity(
        instance_id=instance.id,
        instance_uid=instance.uid,
        instance_namespace=instance.namespace,
        instance_name=instance.name,
        guest_uid=desired.uid,
        guest_name=desired.name,
        incarnation=desired.spec.incarnation,
    )


async def _at(name: str, effect: Awaitable[T]) -> T:
    with failpoint(name):
        return await effect


async def _unless(superseded: asyncio.Event, work: Awaitable[T]) -> T:
    """The work's result, or Retryable as soon as the Guest's spec makes it pointless.

    Only waiting ends early; a download shared with other Guests goes on for them.
    """
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(superseded.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Retryable("the Guest is to be destroyed", reason="Superseded", after_s=0.0)
        return task.result()
    finally:
        for one in (task, stop):
            one.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


def wall_clock() -> float:
    """Seconds since the epoch; what journals and deadlines are kept in across restarts."""
    return time.time()
