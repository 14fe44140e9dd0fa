"""``DriverPort`` over libvirt: each verb is one call into a worker thread, with a deadline.

The blocking half is ``hostops.libvirt_domains`` and ``hostops.libvirt_host``; the XML is
``render.domain``'s; ``hostops.libvirt_connection`` keeps the connection.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import libvirt

from novakube_agent.drivers.libvirt.cpu_traits import cpu_traits, driver_traits
from novakube_agent.hostops import libvirt_console_log, libvirt_domains, libvirt_host, virt_probe
from novakube_agent.hostops.libvirt_connection import Keepalive, LibvirtConnection, RawEvent
from novakube_agent.hostops.libvirt_states import event_change
from novakube_agent.ports import DomainEvent, DomainFacts, DomainRequest, NodeFacts
from novakube_agent.render.domain import render_domain
from novakube_agent.render.metadata import NAME_PREFIX
from novakube_kit.errors import HostBusy, NovakubeError

log = logging.getLogger(__name__)
T = TypeVar("T")

START_DEADLINE_S = 60.0
POWER_OFF_DEADLINE_S = 40.0
"""libvirt gives QEMU 10 s after SIGTERM and again after SIGKILL."""
SAVE_DEADLINE_S = 1800.0
"""Memory goes to disk and back: minutes for large guests on slow disks."""
ROTATE_INTERVAL_S = 30.0


@dataclass(frozen=True, slots=True)
class LibvirtSettings:
    """How to reach libvirt on this node."""

    state_dir: Path
    """The agent's state directory; its file system is the node's disk capacity."""
    uri: str = "qemu:///system"
    virt_type: virt_probe.WantedVirtType = "auto"
    keepalive: Keepalive = field(default_factory=Keepalive)
    call_deadline_s: float = 10.0
    """For calls that libvirt answers from memory."""


class LibvirtDriver:
    """A node's libvirt.

    One object for one event loop; every public method may be called at any time and raises
    only ``novakube_kit.errors``.

    Without a connection each call raises HostBusy or HostFailure saying what to do on the
    node; the connection comes back by itself. A call that ran into its deadline may still
    take effect: observe before deciding again.
    """

    def __init__(self, settings: LibvirtSettings) -> None:
        self._settings = settings
        self._host: libvirt_host.HostDescription | None = None
        self._emit: Callable[[DomainEvent], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection = LibvirtConnection(
            settings.uri,
            prepare=self._prepare,
            on_connected=self._connected,
            on_event=self._lifecycle,
            keepalive=settings.keepalive,
        )

    async def open(self, on_event: Callable[[DomainEvent], None]) -> None:
        """Starts connecting and returns after the first attempt, whatever its outcome.

        Events arrive on the event loop. After each reconnection every domain of ours gets
        an event ``Other``, for what may have been missed.
        """
        self._emit = on_event
        await self._connection.start()
        self._spawn(self._rotate_console_logs())

    async def close(self) -> None:
        """Disconnects; touches no domain and waits for no call that hangs."""
        self._emit = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()

    async def facts(self) -> NodeFacts:
        """The node as it is now."""
        capacity = await self._call(
            "describe the node",
            lambda conn: libvirt_host.capacity(conn, self._settings.state_dir),
        )
        host = self._described()
        traits = cpu_traits(host.cpu_features) | driver_traits(host.profile.arch, uefi=host.uefi)
        return NodeFacts(
            driver="libvirt",
            hypervisor_type="QEMU",
            hypervisor_version=host.hypervisor_version,
            driver_version=host.libvirt_version,
            virt_type=host.profile.virt_type,
            virt_type_reason=host.virt_type_reason,
            capacity=capacity,
            cpu=host.cpu,
            traits=tuple(sorted(traits)),
            boot_id=virt_probe.boot_id(),
        )

    async def domains(self) -> dict[str, DomainFacts]:
        """All domains of ours, by instance id."""
        return await self._call("list domains", libvirt_domains.all_facts)

    async def domain(self, instance_id: str) -> DomainFacts | None:
        """One domain of ours."""
        return await self._call(
            f"look at domain {instance_id}",
            functools.partial(libvirt_domains.facts_of, instance_id=instance_id),
        )

    def spec_hash(self, request: DomainRequest) -> str:
        """The hash ``define`` would store.

        Raises:
            HostBusy: the node's hypervisor was never reached, so the XML is not known yet.
            InvalidSpec: no domain can be made of the request.
        """
        return render_domain(request, self._described().profile).spec_hash

    async def define(self, request: DomainRequest) -> None:
        """Defines or redefines. A domain that exists keeps its name.

        Raises:
            InvalidSpec: no domain can be made of the request.
            HostFailure: libvirt refuses it, or its UUID is a foreign domain's.
        """
        host = self._described().profile
        await self._call(
            f"define domain {request.identity.instance_id}",
            lambda conn: libvirt_domains.define(conn, request, host),
        )

    async def start(self, instance_id: str) -> None:
        """Starts, or restores; a memory image that cannot be restored is kept.

        Raises:
            NotFound: there is no such domain.
            HostFailure: QEMU refuses; reason ``RestoreFailed`` for a memory image.
        """
        facts = await self.domain(instance_id)
        saved = facts is not None and facts.state == "Saved"
        await self._call(
            f"start domain {instance_id}",
            functools.partial(libvirt_domains.start, instance_id=instance_id),
            deadline_s=SAVE_DEADLINE_S if saved else START_DEADLINE_S,
        )

    async def shutdown(self, instance_id: str) -> None:
        """Presses the power button."""
        await self._verb("shut down", libvirt_domains.shutdown, instance_id)

    async def power_off(self, instance_id: str) -> None:
        """Cuts the power; a suspended guest's memory image goes with it."""
        await self._verb("power off", libvirt_domains.power_off, instance_id, POWER_OFF_DEADLINE_S)

    async def pause(self, instance_id: str) -> None:
        """Stops the vCPUs. HostFailure ``NotRunning`` when it is off."""
        await self._verb("pause", libvirt_domains.pause, instance_id)

    async def unpause(self, instance_id: str) -> None:
        """Lets the vCPUs run. HostFailure ``NotRunning`` when it is off."""
        await self._verb("unpause", libvirt_domains.unpause, instance_id)

    async def save(self, instance_id: str) -> None:
        """Suspends to disk.

        Raises:
            HostFailure: ``NotRunning``: it is off and not saved.
            HostBusy: ``SuspendFailed``: it runs on; another attempt may do.
        """
        await self._verb("suspend", libvirt_domains.save, instance_id, SAVE_DEADLINE_S)

    async def reset(self, instance_id: str) -> None:
        """Presses the reset button. HostFailure ``NotRunning`` when it is off."""
        await self._verb("reset", libvirt_domains.reset, instance_id)

    async def inject_nmi(self, instance_id: str) -> None:
        """Sends a non-maskable interrupt. HostFailure ``NotRunning`` when it is off."""
        await self._verb("inject an NMI into", libvirt_domains.inject_nmi, instance_id)

    async def undefine(self, instance_id: str) -> None:
        """Removes the definition and all that libvirt keeps for it. HostBusy while it is on."""
        await self._verb("undefine", libvirt_domains.undefine, instance_id)

    async def _verb(
        self,
        verb: str,
        function: Callable[..., None],
        instance_id: str,
        deadline_s: float | None = None,
    ) -> None:
        await self._call(
            f"{verb} domain {instance_id}",
            functools.partial(function, instance_id=instance_id),
            deadline_s=deadline_s,
        )

    async def _call(
        self,
        what: str,
        work: Callable[[libvirt.virConnect], T],
        *,
        deadline_s: float | None = None,
    ) -> T:
        """Calls with a deadline of their own are the long ones."""
        return await self._connection.call(
            what,
            work,
            deadline_s=deadline_s or self._settings.call_deadline_s,
            long=deadline_s is not None,
        )

    def _described(self) -> libvirt_host.HostDescription:
        if self._host is None:
            self._connection.check()
            raise HostBusy("the node's hypervisor is not described yet")
        return self._host

    def _prepare(self, conn: libvirt.virConnect) -> None:
        """In the opening thread."""
        choice = virt_probe.choose_virt_type(
            conn, self._settings.virt_type, self._settings.state_dir
        )
        self._host = libvirt_host.describe_host(conn, choice)

    def _connected(self) -> None:
        self._spawn(self._announce())

    async def _announce(self) -> None:
        try:
            found = await self.domains()
        except NovakubeError as error:
            # Lost again at once: the next connection announces.
            log.warning("domains not announced", extra={"cause": error.message})
            return
        for instance_id in found:
            self._tell(DomainEvent(instance_id, "Other"))

    def _lifecycle(self, raw: RawEvent) -> None:
        # By name alone, without a call: an event is a hint, and looking tells foreign ones.
        if raw.name.startswith(NAME_PREFIX):
            change, off_reason = event_change(raw.event, raw.detail)
            self._tell(DomainEvent(raw.uuid, change, off_reason))

    def _tell(self, event: DomainEvent) -> None:
        if self._emit is not None:
            self._emit(event)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rotate_console_logs(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_INTERVAL_S)
            try:
                await self._call("bound the console logs", _rotate_all)
            except NovakubeError as error:
                log.warning("console logs not bounded", extra={"cause": error.message})


def _rotate_all(conn: libvirt.virConnect) -> None:
    for path in libvirt_domains.console_logs(conn):
        try:
            libvirt_console_log.rotate(path)
        except OSError as error:
            log.warning("console log not rotated", extra={"path": str(path), "cause": str(error)})
