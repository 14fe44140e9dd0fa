"""No interleaving of leaders gives room twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from novakube_crds.v1alpha1.quota import QuotaPending, QuotaUsage
from novakube_operator.core.quota import (
    FOREIGN_ENTRY_S,
    Leader,
    Look,
    Plan,
    Seen,
    outlived,
    plan,
)
from tests.unit.operator_quotas.quota_samples import NOW, book, charge, uid

CORES = 2


Values = tuple[tuple[QuotaPending, ...], str, int]


def _values(of: Plan | Server) -> Values:
    return of.pending, of.counted_to, of.counted_by


@dataclass
class Server:
    """The API server: a Quota, Guests, Instances, one growing version."""

    version: int = 10
    quota_version: int = 1
    pending: tuple[QuotaPending, ...] = ()
    counted_to: str = ""
    counted_by: int = 0
    guests: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Instance -> version of its Guest's creation, cores."""
    instances: set[int] = field(default_factory=set)


@dataclass
class Process:
    """One operator that believes it leads."""

    epoch: int
    guests: dict[int, tuple[int, int]] = field(default_factory=dict)
    listed_at: int = 0
    wanting: dict[int, int] = field(default_factory=dict)
    admitted: dict[int, int] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    taken: frozenset[str] = frozenset()
    plan: tuple[int, Values, Plan, dict[int, int]] | None = None
    """Version and status planned on, the plan, who asked."""


ONLY = st.integers(0, 2)
"""Which of those that wait asks; beyond them: all."""


class TwoLeaders(RuleBasedStateMachine):
    """Creates, deletes, failures, crashes and views that lag, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.processes = [Process(1), Process(2)]
        self.epochs = 2
        self.number = 0
        self.now = NOW

    @rule(cores=st.integers(1, 2))
    def instance(self, cores: int) -> None:
        self.number += 1
        self.server.instances.add(self.number)
        for process in self.processes:
            process.wanting[self.number] = cores

    @rule(which=st.integers(0, 1))
    def list_guests(self, which: int) -> None:
        self._list(self.processes[which])

    def _list(self, process: Process) -> None:
        process.guests = dict(self.server.guests)
        process.listed_at = self.server.version

    @rule(which=st.integers(0, 1), only=ONLY)
    def a_whole_batch(self, which: int, only: int) -> None:
        """Nobody comes between; what was admitted is made."""
        process = self.processes[which]
        self.plans(which, only)
        self.writes(which)
        for number in tuple(process.admitted):
            self._make(process, number)

    @rule(which=st.integers(0, 1), only=ONLY)
    def a_batch_is_admitted(self, which: int, only: int) -> None:
        self.plans(which, only)
        self.writes(which)

    @rule(which=st.integers(0, 1), only=ONLY)
    def plans(self, which: int, only: int) -> None:
        """Reads the Quota, looks afresh if another leader counted, decides."""
        process, server = self.processes[which], self.server
        late = process.listed_at < int(server.counted_to or 0)
        if server.counted_by != process.epoch and late:
            self._list(process)
        asking, leader = self._asks(process, only)
        if outlived(server.pending, self._look(process), leader):
            self._list(process)
            asking, leader = self._asks(process, only)
        guests = process.guests
        used = QuotaUsage(
            instances=len(guests), cores=sum(cores for _, cores in guests.values()),
            memory_mib=100 * len(guests),
        )  # fmt: skip
        charges = [charge(n, cores=c) for n, c in asking.items()]
        look = self._look(process)
        of = book(used, cores=CORES, instances=-1, memory_mib=-1)
        found = plan(
            of, server.pending, server.counted_to, server.counted_by, charges, look, leader
        )
        process.plan = server.quota_version, _values(server), found, asking

    def _asks(self, process: Process, only: int) -> tuple[dict[int, int], Leader]:
        asking = {n: c for n, c in process.wanting.items() if n not in process.guests}
        if only < len(asking):
            # The queue has come to this one so far.
            asking = dict([sorted(asking.items())[-1 - only]])
        active = frozenset(uid(n) for n in {*asking, *process.admitted})
        failed = frozenset(uid(n) for n in process.failed) - active
        return asking, Leader(process.epoch, self.now, active, process.taken, failed)

    def _look(self, process: Process) -> Look:
        guests = {uid(n): held for n, held in process.guests.items()}
        there = {uid(n) for n in self.server.instances}

        def look(one: str) -> Seen:
            held = guests.get(one)
            if held is None:
                return Seen(exists=one in there)
            charged = {"instances": 1, "cores": held[1], "memory_mib": 100}
            return Seen(1, held[0], charged, one in there)

        return look

    @precondition(lambda self: any(p.plan for p in self.processes))
    @rule(which=st.integers(0, 1))
    def writes(self, which: int) -> None:
        process, server = self.processes[which], self.server
        if process.plan is None:
            return
        version, read, found, asking = process.plan
        process.plan = None
        # What changes nothing is not written, however old the version it was planned on.
        if _values(found) != read:
            if version != server.quota_version:
                return
            server.version += 1
            server.quota_version = server.version
            server.pending, server.counted_to, server.counted_by = _values(found)
        process.taken |= found.taken
        for number, cores in asking.items():
            if uid(number) in found.admitted:
                process.admitted[number] = cores
                process.wanting.pop(number, None)
                process.failed.discard(number)

    @rule(which=st.integers(0, 1), data=st.data())
    def makes_the_guest(self, which: int, data: st.DataObject) -> None:
        process = self.processes[which]
        if process.admitted:
            self._make(process, data.draw(st.sampled_from(sorted(process.admitted))))

    def _make(self, process: Process, number: int) -> None:
        server = self.server
        cores = process.admitted.pop(number)
        if number not in server.guests:
            server.version += 1
            server.guests[number] = (server.version, cores)
        process.guests[number] = server.guests[number]

    @rule(which=st.integers(0, 1), data=st.data())
    def fails(self, which: int, data: st.DataObject) -> None:
        """No address, say: wants again later."""
        process = self.processes[which]
        if process.admitted:
            number = data.draw(st.sampled_from(sorted(process.admitted)))
            process.wanting[number] = process.admitted.pop(number)
            process.failed.add(number)

    @rule(which=st.integers(0, 1))
    def is_killed(self, which: int) -> None:
        self.epochs += 1
        fresh = Process(self.epochs)
        self._list(fresh)
        fresh.wanting = {
            n: self.processes[which].wanting.get(n, 1)
            for n in self.server.instances - self.server.guests.keys()
        }
        self.processes[which] = fresh

    @rule(data=st.data())
    def deleted(self, data: st.DataObject) -> None:
        if not self.server.instances:
            return
        number = data.draw(st.sampled_from(sorted(self.server.instances)))
        self.server.instances.discard(number)
        if self.server.guests.pop(number, None) is not None:
            self.server.version += 1
        for process in self.processes:
            process.wanting.pop(number, None)

    @rule()
    def a_foreign_entrys_life_passes(self) -> None:
        """Nobody relies on an admission by then, nor on a plan."""
        self.now += timedelta(seconds=FOREIGN_ENTRY_S + 1)
        for process in self.processes:
            process.plan = None
            process.wanting |= {
                n: c for n, c in process.admitted.items() if n in self.server.instances
            }
            process.failed |= process.admitted.keys()
            process.admitted.clear()

    @invariant()
    def never_over_run(self) -> None:
        assert sum(cores for _, cores in self.server.guests.values()) <= CORES

    def teardown(self) -> None:
        """Entries always end: once everybody is gone and time has passed, none is left."""
        server = self.server
        server.instances.clear()
        server.guests.clear()
        self.a_foreign_entrys_life_passes()
        for process in self.processes:
            process.wanting.clear()
            process.guests.clear()
        self.plans(0, 0)
        self.writes(0)
        assert server.pending == ()


def test_a_leader_whose_view_is_older_looks_afresh() -> None:
    """The other one's Guest is counted by the other one, and its entry dropped."""
    model = TwoLeaders()
    model.instance(2)
    model.a_whole_batch(0, 0)
    model.a_batch_is_admitted(0, 0)
    assert model.server.pending == ()
    model.instance(2)
    model.a_whole_batch(1, 0)
    model.never_over_run()
    assert model.processes[1].guests.keys() == {1}


def test_an_entry_outlives_its_instance_while_its_writer_may_go_on() -> None:
    model = TwoLeaders()
    model.instance(2)
    model.a_batch_is_admitted(0, 0)
    model.server.instances.clear()
    model.processes[1].wanting.clear()
    model.instance(2)
    model.a_whole_batch(1, 0)
    for number in tuple(model.processes[0].admitted):
        model._make(model.processes[0], number)
    model.never_over_run()


def test_an_entry_that_was_taken_over_is_not_dropped_by_an_old_view() -> None:
    """Its age alone would do, and the Guest be there: the view may be as old as the entry."""
    model = TwoLeaders()
    model.instance(1)
    model.instance(2)
    model.a_batch_is_admitted(0, 1)
    model.a_whole_batch(1, 1)
    model.a_foreign_entrys_life_passes()
    model.a_whole_batch(0, 0)
    model.never_over_run()


def test_a_late_write_conflicts() -> None:
    model = TwoLeaders()
    model.instance(2)
    model.instance(2)
    model.plans(0, 0)
    model.plans(1, 1)
    for which in (0, 1):
        model.writes(which)
        for number in tuple(model.processes[which].admitted):
            model._make(model.processes[which], number)
        model.never_over_run()
    assert len(model.server.guests) == 1


TestTwoLeaders = TwoLeaders.TestCase
TestTwoLeaders.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, print_blob=True
)
