"""A simulated host: domains, disks, NICs and images in memory, with delays and failures.

Also the in-memory host of the agent's tests: the methods below ``Outside`` do what happens to
a real host without the agent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter

from novakube_agent.ports import DomainEvent, DomainFacts, DomainIdentity, DomainState, OffReason
from novakube_crds.v1alpha1.guest import GuestImage
from novakube_kit.errors import HostBusy, HostFailure


@dataclass(slots=True)
class Stored:
    """What a host remembers; written to disk only where configured."""

    boot_id: str
    domains: dict[str, DomainFacts] = field(default_factory=dict)
    disks: dict[str, set[str]] = field(default_factory=dict)
    """Guest name -> devices."""
    nics: dict[str, str] = field(default_factory=dict)
    """Port UID -> Guest name."""
    images: set[str] = field(default_factory=set)
    interrupts: dict[str, int] = field(default_factory=dict)
    """Instance id -> non-maskable interrupts it got."""
    starts: dict[str, int] = field(default_factory=dict)
    """Instance id -> starts from cold so far: tells one life of a domain from the next."""


_STORED: TypeAdapter[Stored] = TypeAdapter(Stored)


class FakeState:
    """One simulated host."""

    def __init__(
        self,
        node: str,
        *,
        delays_s: Mapping[str, float] | None = None,
        failures: Mapping[str, str] | None = None,
        flaky: Mapping[str, int] | None = None,
        acpi: bool = True,
        file: Path | None = None,
    ) -> None:
        self.node = node
        self.acpi = acpi
        self.failures = dict(failures or {})
        self.flaky = dict(flaky or {})
        self._delays_s = dict(delays_s or {})
        self._file = file
        self.stored = Stored(boot_id=f"boot-{node}-1")
        if file is not None and file.exists():
            self.stored = _STORED.validate_json(file.read_bytes())
        self.listener: Callable[[DomainEvent], None] | None = None

    async def step(self, name: str) -> None:
        """What every operation begins with: its delay, then its configured failure.

        Raises:
            HostBusy: a passing failure.
            HostFailure: a final one.
        """
        delay_s = self._delays_s.get(name, 0.0)
        if delay_s:
            await asyncio.sleep(delay_s)
        if self.flaky.get(name, 0) > 0:
            self.flaky[name] -= 1
            raise HostBusy(f"simulated: {name} is busy on {self.node}")
        if name in self.failures:
            raise HostFailure(f"simulated: {name}: {self.failures[name]}")

    def changed(self) -> None:
        """Keeps the state where it is to outlive the process."""
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part = self._file.with_suffix(".part")
            part.write_bytes(_STORED.dump_json(self.stored))
            part.replace(self._file)

    def facts(self, instance_id: str) -> DomainFacts:
        """The domain. Raises HostFailure when there is none."""
        found = self.stored.domains.get(instance_id)
        if found is None:
            raise HostFailure(f"no domain {instance_id} on {self.node}")
        return found

    def put(self, facts: DomainFacts) -> None:
        """Defines or changes a domain, silently."""
        self.stored.domains[facts.identity.instance_id] = facts
        self.changed()

    def turn(
        self, instance_id: str, state: DomainState, off_reason: OffReason | None = None
    ) -> None:
        """Changes a domain's state and tells the agent."""
        self.put(replace(self.facts(instance_id), state=state, off_reason=off_reason))
        self.tell(instance_id, state, off_reason)

    def tell(
        self, instance_id: str, state: DomainState | None, off_reason: OffReason | None = None
    ) -> None:
        """An event, as libvirt would send it."""
        if self.listener is None:
            return
        changes = {None: "Undefined", "Running": "Started", "Paused": "Paused"}
        change = changes.get(state, "Stopped")
        self.listener(DomainEvent(instance_id, change, off_reason))  # type: ignore[arg-type]


class Outside:
    """What happens to a host without the agent's doing."""

    def __init__(self, state: FakeState) -> None:
        self._state = state

    def guest_shuts_down(self, instance_id: str) -> None:
        """``poweroff`` inside the guest."""
        self._state.turn(instance_id, "Shutoff", "Shutdown")

    def virsh_destroy(self, instance_id: str) -> None:
        """Somebody cuts the power."""
        self._state.turn(instance_id, "Shutoff", "Destroyed")

    def crash(self, instance_id: str) -> None:
        """QEMU dies."""
        self._state.turn(instance_id, "Shutoff", "Crashed")

    def undefine(self, instance_id: str) -> None:
        """Somebody removes the domain."""
        del self._state.stored.domains[instance_id]
        self._state.changed()
        self._state.tell(instance_id, None)

    def reboot_host(self) -> None:
        """All guests off, NICs gone, a new boot id."""
        stored = self._state.stored
        count = int(stored.boot_id.rpartition("-")[2]) + 1
        stored.boot_id = f"boot-{self._state.node}-{count}"
        stored.nics.clear()
        for instance_id, facts in stored.domains.items():
            if facts.state != "Saved":
                stored.domains[instance_id] = replace(facts, state="Shutoff", off_reason="Unknown")
        self._state.changed()

    def lose_disks(self, guest_name: str) -> None:
        """Somebody removes the files."""
        self._state.stored.disks.pop(guest_name, None)
        self._state.changed()

    def foreign(self, identity: DomainIdentity) -> None:
        """A running domain of ours that no Guest knows."""
        self._state.put(
            DomainFacts(identity, f"novakube-{identity.guest_name}", "Running", None, "x", 1, 64)
        )


def image_digest(image: GuestImage) -> str:
    """The digest a simulated download finds: the declared one, else one of the URL."""
    return image.sha256 or hashlib.sha256(image.url.encode()).hexdigest()
