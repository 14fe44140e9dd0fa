"""From whatever state and history, killed wherever: the node ends as ordered, and only so."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novakube_agent.drivers.fake import FakeState
from novakube_agent.model import DESTRUCTIVE, Desired, PowerOff
from novakube_agent.plan import plan
from novakube_agent.ports import DomainIdentity
from novakube_crds.v1alpha1.guest import GuestRequest
from tests.fakes.host import Agent, Crash, StatusSink, a_guest, revised, uid

ID = uid(101)
FOREIGN = DomainIdentity(uid(199), uid(99), "other", "db", uid(9999), f"{uid(99)}-1", 1)
POWER = ("Running", "Stopped", "Paused", "Suspended")

orders = st.tuples(st.just("order"), st.sampled_from(POWER))
reboots = st.tuples(st.just("reboot"), st.sampled_from(["Soft", "Hard"]))
requests = st.tuples(
    st.just("request"), st.sampled_from(["CrashDump", "ResetNetwork", "InjectNetworkInfo"])
)
outside = st.tuples(
    st.just("outside"),
    st.sampled_from(["guest_shuts_down", "virsh_destroy", "crash", "undefine", "reboot_host"]),
)
kills = st.tuples(st.just("kill"), st.integers(1, 8))
histories = st.lists(st.one_of(orders, reboots, requests, outside, kills), max_size=6)
LIMITS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


class World:
    """A node with a guest of ours and one that no Guest knows."""

    def __init__(self, directory: Path, acpi: bool, first: str) -> None:
        self.directory = directory
        self.state = FakeState("n1", acpi=acpi)
        self.sink = StatusSink()
        self.guest: Desired = a_guest(power_state=first)
        self.now = 1_000_000.0
        self.kill_after: int | None = None
        self.requests = 0
        self.happened: list[str] = []
        self.agent = self._new()
        self.agent.outside.foreign(FOREIGN)

    def _new(self) -> Agent:
        return Agent(
            self.state, self.directory, self.sink, {self.guest.name: self.guest}, now=self.now
        )

    async def restart(self) -> None:
        self.now = self.agent.now
        self.agent = await self._new().start()

    async def settle(self) -> None:
        """Passes until rest; when the process is to die on the way, it is started again."""
        self.agent.host.crash_after = self.kill_after
        self.kill_after = None
        try:
            await self.agent.settle(self.guest)
        except Crash:
            await self.restart()
            await self.agent.settle(self.guest)
        self._untouched()

    def _untouched(self) -> None:
        foreign = self.state.stored.domains[FOREIGN.instance_id]
        if "reboot_host" not in self.happened:
            assert foreign.state == "Running"
        assert foreign.identity == FOREIGN
        if not self.guest.destroy:
            assert not any(isinstance(a, DESTRUCTIVE) for a in self.agent.host.done)

    async def step(self, kind: str, what: object) -> None:
        match kind, what:
            case "order", str(state):
                sequence = self.guest.spec.power_sequence + 1
                self.guest = revised(self.guest, power_state=state, power_sequence=sequence)
            case "reboot", str(type_):
                self.requests += 1
                request = GuestRequest(
                    uid=uid(7000 + self.requests), type="Reboot", parameters={"type": type_}
                )
                self.guest = revised(self.guest, request=request)
            case "request", str(type_):
                self.requests += 1
                asked = {"uid": uid(7000 + self.requests), "type": type_}
                self.guest = revised(self.guest, request=GuestRequest.model_validate(asked))
            case "outside", str(name):
                await self._outside(name)
                return
            case "kill", int(count):
                self.kill_after = count
                return
        await self.settle()

    async def _outside(self, name: str) -> None:
        facts = self.state.stored.domains.get(ID)
        if name == "reboot_host":
            self.happened = [*self.happened, name]
            self.agent.outside.reboot_host()
            await self.restart()
        elif facts is not None and facts.state == "Running":
            getattr(self.agent.outside, name)(ID)
        self.agent.now += 700  # beyond the window of crashes
        await self.settle()

    async def converged(self) -> None:
        seen = await self.agent.host.observe(self.guest, 0, self.agent.now)
        status = self.sink.statuses[self.guest.uid]
        todo = plan(replace(self.guest, status=status), seen)
        assert todo.actions == ()
        assert todo.status == status


async def live(first: str, acpi: bool, history: list[tuple[str, object]], kill: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), acpi, first)
        await world.agent.start()
        world.kill_after = kill
        await world.settle()
        for kind, what in history:
            await world.step(kind, what)
        await world.settle()
        await world.converged()
        # An order from where it can be obeyed ends as wanted.
        for state in ("Running", "Stopped", "Running"):
            await world.step("order", state)
        status = world.sink.statuses[world.guest.uid]
        assert (status.phase, status.power_state, status.power_error) == ("Ready", "Running", "")
        world.guest = revised(world.guest, teardown="Destroy")
        world.kill_after = kill
        await world.settle()
        assert world.sink.statuses[world.guest.uid].phase == "Gone"
        stored = world.state.stored
        assert set(stored.domains) == {FOREIGN.instance_id}
        assert not stored.disks
        assert not stored.nics
        assert not list(world.agent.journals)


@LIMITS
@given(st.sampled_from(["Running", "Stopped", "Paused"]), st.booleans(), histories,
       st.integers(1, 12))  # fmt: skip
async def test_converges_whatever_happens(
    first: str, acpi: bool, history: list[tuple[str, object]], kill: int
) -> None:
    await live(first, acpi, history, kill)


@LIMITS
@given(st.sampled_from(POWER), st.sampled_from(["Running", "Paused", "Shutoff", "Crashed",
       "Saved"]), st.booleans(), st.booleans(), st.booleans())  # fmt: skip
async def test_another_incarnations_domain_is_never_touched(
    wanted: str, state: str, disks: bool, destroy: bool, newer: bool
) -> None:
    """Whatever the spec orders, a plan for one Guest has no effect on another's domain."""
    with tempfile.TemporaryDirectory() as directory:
        fake = FakeState("n1")
        agent = await Agent(fake, Path(directory), StatusSink(), {}).start()
        guest = a_guest(2, power_state=wanted)
        other = replace(FOREIGN, instance_id=ID, guest_uid=uid(42), incarnation=3 if newer else 1)
        agent.outside.foreign(other)
        fake.put(replace(fake.facts(ID), state=state))  # type: ignore[arg-type]
        if disks:
            fake.stored.disks[guest.name] = {"vda"}
        if destroy:
            guest = revised(guest, teardown="Destroy")
        before = fake.facts(ID)
        status = await agent.settle(guest)
        assert fake.facts(ID) == before
        assert not any(isinstance(a, PowerOff) for a in agent.host.done)
        assert (status.phase == "Gone") == destroy
