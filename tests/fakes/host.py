"""An in-memory node for the agent: simulated host, real journal, real reconciler.

``Agent.crash_after`` ends it after a number of actions, as a crash would; a new ``Agent`` on
the same directory is its restart. Only the API server is replaced, by ``StatusSink``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

from novakube_agent.admission import Admission
from novakube_agent.drivers.fake import FakeState, Outside, fake_ports
from novakube_agent.host import Host, HostPorts, Preparation
from novakube_agent.journal import Journals
from novakube_agent.model import Action, Desired
from novakube_agent.reconcile import GuestReconciler
from novakube_agent.settings import FakeSettings
from novakube_crds.v1alpha1.guest import (
    GuestDisk,
    GuestImage,
    GuestNic,
    GuestSpec,
    GuestStatus,
    InstanceIdentity,
)
from novakube_crds.v1alpha1.hypervisorreport import HypervisorReportSpec


def uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


ID = uid(101)
"""Of the Instance of ``a_guest()``."""


def a_nic(number: int = 1) -> GuestNic:
    return GuestNic(
        port_uid=uid(500 + number),
        port_name=f"port-{number}",
        mac=f"fa:16:3e:00:00:{number:02x}",
        network_namespace="demo",
        network_name="net",
        network_uid=uid(900),
        segment_type="vxlan",
        segment_id=7,
    )


def a_spec(incarnation: int = 1, instance: int = 1, **changes: object) -> GuestSpec:
    spec = GuestSpec(
        instance=InstanceIdentity(
            namespace="demo", name=f"web-{instance}", uid=uid(instance), id=uid(100 + instance)
        ),
        incarnation=incarnation,
        hypervisor="n1",
        hostname="web",
        vcpus=1,
        memory_mib=128,
        disks=[
            GuestDisk(
                role="root",
                device="vda",
                size_bytes=1 << 30,
                image=GuestImage(url="http://192.0.2.10/a.qcow2", disk_format="qcow2"),
            )
        ],
        nics=[a_nic(instance)],
    )
    return spec.model_copy(update=changes)


def a_guest(incarnation: int = 1, instance: int = 1, **changes: object) -> Desired:
    spec = a_spec(incarnation, instance, **changes)
    return Desired(
        uid=uid(1000 * incarnation + instance),
        name=f"{uid(instance)}-{incarnation}",
        namespace="novakube-node-n1",
        generation=1,
        resource_version="1",
        spec=spec,
        status=GuestStatus(),
    )


def revised(guest: Desired, **changes: object) -> Desired:
    """The same Guest after the operator changed its spec."""
    spec = guest.spec.model_copy(update=changes)
    return replace(guest, spec=spec, generation=guest.generation + 1)


class Crash(BaseException):
    """The agent's process is gone."""


class CrashingHost(Host):
    """Counts actions, records them, and ends the process after the wanted number."""

    crash_after: int | None = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.done: list[Action] = []

    async def apply(self, action: Action, desired: Desired, ready: Preparation) -> None:
        await super().apply(action, desired, ready)
        self.done.append(action)
        if self.crash_after is not None and len(self.done) >= self.crash_after:
            raise Crash


@dataclass
class StatusSink:
    """Takes statuses; what was written last is what the next Desired carries."""

    statuses: dict[str, GuestStatus] = field(default_factory=dict)
    writes: list[GuestStatus] = field(default_factory=list)

    async def write(self, desired: Desired, status: GuestStatus) -> None:
        if self.statuses.get(desired.uid, desired.status) != status:
            self.statuses[desired.uid] = status
            self.writes.append(status)


class Agent:
    """One life of the agent on a node."""

    def __init__(
        self,
        state: FakeState,
        directory: Path,
        sink: StatusSink,
        guests: dict[str, Desired],
        *,
        now: float = 1_000_000.0,
        epoch: int = 0,
        settings: FakeSettings | None = None,
        orders: HypervisorReportSpec | None = None,
        ports: HostPorts | None = None,
    ) -> None:
        """Args: ports: of another host than the simulated one."""
        self.state = state
        self.outside = Outside(state)
        self.guests = guests
        self.sink = sink
        self.now = now
        self.epoch = epoch
        self.journals = Journals(directory / "journal")
        ports = ports or fake_ports(state, settings or FakeSettings(), directory)
        self.host = CrashingHost(
            ports, self.journals, run_id=str(uuid.uuid4()), run_dir=directory / "run"
        )
        self.reconciler = GuestReconciler(
            self.host,
            Admission(self.journals),
            sink,  # type: ignore[arg-type]
            self._desired,
            lambda: orders or HypervisorReportSpec(),
            self._epoch,
            lambda: self.now,
        )

    async def start(self) -> Agent:
        await self.journals.load()
        return self

    def _desired(self, name: str) -> Desired | None:
        guest = self.guests.get(name)
        if guest is None:
            return None
        return replace(guest, status=self.sink.statuses.get(guest.uid, guest.status))

    async def _epoch(self) -> int:
        return self.epoch

    async def settle(self, guest: Desired, rounds: int = 40) -> GuestStatus:
        """Passes, with time going on as asked, until a pass wants no other soon."""
        self.guests[guest.name] = guest
        await self.host.facts(fresh=True)
        for _ in range(rounds):
            again_s = await self.reconciler(guest.name)
            if again_s is None or again_s > 60:
                return self.sink.statuses[guest.uid]
            if self._held(guest):
                return self.sink.statuses[guest.uid]
            self.now += again_s
        raise AssertionError(f"not settled: {self.sink.statuses.get(guest.uid)}")

    def _held(self, guest: Desired) -> bool:
        status = self.sink.statuses.get(guest.uid)
        return status is not None and status.reason in ("StaleEpoch", "WaitingForPrevious")


async def restarted(agent: Agent, directory: Path) -> Agent:
    """Its next life, on the same host."""
    new = Agent(agent.state, directory, agent.sink, agent.guests, now=agent.now)
    return await new.start()
