"""Who of a batch is admitted, and that no interleaving of leaders gives room twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from novakube_crds.conditions import rfc3339
from novakube_crds.v1alpha1.quota import QuotaLimits, QuotaPending, QuotaUsage
from novakube_operator.core.quota import (
    ADMITTED_S,
    DEFAULTS,
    FOREIGN_ENTRY_S,
    PENDING_MAX,
    Book,
    Charge,
    Leader,
    Plan,
    Seen,
    effective,
    plan,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def uid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def charge(number: int, *, user: str | None = None, cores: int = 1, ports: int = 0) -> Charge:
    order = (NOW + timedelta(seconds=number), uid(number))
    return Charge(uid(number), f"i{number}", user, order, 1, cores, 100, ports)


def entry(number: int, *, epoch: int = 1, cores: int = 1, since: str = "2030-01-01T00:00:00Z",
          ports: int = 0) -> QuotaPending:  # fmt: skip
    return QuotaPending(
        instance_uid=uid(number), instance_name=f"i{number}", cores=cores, memory_mib=100,
        ports=ports, epoch=epoch, since=since,
    )  # fmt: skip


def book(used: QuotaUsage | None = None, users: dict[str, QuotaLimits] | None = None,
         by_user: dict[str, QuotaUsage] | None = None, **limits: int) -> Book:  # fmt: skip
    hard = effective(QuotaLimits(**limits), None)
    return Book("project p", hard, users or {}, used or QuotaUsage(), by_user or {})


def decided(of: Book, *charges: Charge, pending: tuple[QuotaPending, ...] = (),
            seen: dict[str, Seen] | None = None, leader: Leader | None = None) -> Plan:  # fmt: skip
    active = frozenset(item.uid for item in charges)
    who = leader or Leader(1, NOW, active)
    return plan(of, pending, "", 0, charges, lambda u: (seen or {}).get(u, Seen()), who)


CASES = {
    "instances": (
        book(QuotaUsage(instances=3), instances=3), charge(1),
        "quota exceeded: need 1 instances, used 3 of 3 in project p",
    ),
    "cores": (
        book(QuotaUsage(cores=19), cores=20), charge(1, cores=2),
        "quota exceeded: need 2 cores, used 19 of 20 in project p",
    ),
    "memory": (
        book(QuotaUsage(memory_mib=450), memory_mib=500), charge(1),
        "quota exceeded: need 100 MiB of memory, used 450 of 500 in project p",
    ),
    "ports": (
        book(QuotaUsage(ports=4), ports=5), charge(1, ports=2),
        "quota exceeded: need 2 ports, used 4 of 5 in project p",
    ),
    "a user's": (
        book(QuotaUsage(cores=5), {"u": QuotaLimits(cores=2)}, {"u": QuotaUsage(cores=1)}),
        charge(1, user="u", cores=2),
        "quota exceeded: need 2 cores, used 1 of 2 in project p (user u)",
    ),
    "several": (
        book(QuotaUsage(instances=1, cores=1), instances=1, cores=1), charge(1),
        "quota exceeded: need 1 instances, used 1 of 1 in project p; "
        "need 1 cores, used 1 of 1 in project p",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused_with_need_use_and_limit(case: str) -> None:
    of, wanted, text = CASES[case]
    found = decided(of, wanted)
    assert found.refused == {wanted.uid: text}
    assert found.pending == ()


def test_the_older_of_a_batch_go_first() -> None:
    found = decided(book(instances=2), charge(3), charge(1), charge(2))
    assert found.admitted == {uid(1), uid(2)}
    assert set(found.refused) == {uid(3)}
    assert [item.instance_uid for item in found.pending] == [uid(1), uid(2)]


def test_another_users_limit_and_no_limit_do_not_matter() -> None:
    of = book(users={"u": QuotaLimits(instances=0)}, instances=-1, cores=-1, memory_mib=-1)
    assert decided(of, charge(1, user="v"), charge(2)).admitted == {uid(1), uid(2)}


def test_an_entry_is_counted_until_its_guest_is() -> None:
    held = (entry(1, cores=2),)
    assert decided(book(cores=2), charge(2), pending=held).refused
    guest = {uid(1): Seen(incarnation=1, version=77, charged={"instances": 1, "cores": 2})}
    found = decided(book(QuotaUsage(cores=2), cores=3), charge(2), pending=held, seen=guest)
    assert found.admitted == {uid(2)}
    assert (found.counted_to, found.counted_by) == ("77", 1)
    assert [item.instance_uid for item in found.pending] == [uid(2)]


def test_an_older_incarnations_guest_does_not_end_an_entry() -> None:
    held = entry(1).model_copy(update={"incarnation": 2})
    guest = {uid(1): Seen(incarnation=1, version=77, charged={"instances": 1, "cores": 1})}
    assert decided(book(), pending=(held,), seen=guest).pending == (held,)


def test_ports_that_exist_are_not_reserved_twice() -> None:
    half = {uid(1): Seen(charged={"ports": 1})}
    used = QuotaUsage(ports=1)
    held = (entry(1, ports=2),)
    assert decided(book(used, ports=3), charge(2, ports=1), pending=held, seen=half).admitted
    assert decided(book(used, ports=2), charge(2, ports=1), pending=held, seen=half).refused


def test_who_has_an_entry_is_admitted_again_without_a_write() -> None:
    first = decided(book(instances=1), charge(1))
    again = decided(book(instances=1), charge(1), pending=first.pending)
    assert again.admitted == {uid(1)}
    assert again.pending == first.pending


def test_an_old_entry_is_young_again_before_it_is_relied_on() -> None:
    """Else another leader gives it up for its age while its Guest is being made."""
    soon = NOW + timedelta(seconds=ADMITTED_S)
    for now, written in ((soon, NOW), (soon + timedelta(seconds=1),) * 2):
        leader = Leader(1, now, frozenset({uid(1)}))
        found = decided(book(), charge(1), pending=(entry(1),), leader=leader)
        assert found.pending[0].since == rfc3339(written)


def test_a_larger_wish_is_decided_anew() -> None:
    held = (entry(1),)
    assert decided(book(cores=2), charge(1, cores=2), pending=held).admitted
    refused = decided(book(cores=2), charge(1, cores=3), pending=held)
    assert refused.refused
    assert refused.pending == held


def test_a_full_list_of_entries_makes_wait() -> None:
    held = tuple(entry(number) for number in range(PENDING_MAX))
    of = book(instances=-1, cores=-1, memory_mib=-1)
    assert decided(of, charge(5000), pending=held).later == {uid(5000)}


LATE = NOW + timedelta(seconds=FOREIGN_ENTRY_S + 1)
ENDS = {
    "its instance is gone": (Seen(exists=False), Leader(1, NOW), True),
    "its create failed here": (Seen(), Leader(1, NOW, failed=frozenset({uid(1)})), True),
    "it is being made": (Seen(exists=False), Leader(1, NOW, frozenset({uid(1)})), False),
    "it is waiting to be looked at": (Seen(), Leader(1, NOW), False),
    "another leader may still make it": (Seen(exists=False), Leader(2, NOW), False),
    "another leader had time enough": (Seen(exists=False), Leader(2, LATE), True),
    "it was another leader's before": (
        Seen(exists=False), Leader(1, NOW, taken=frozenset({uid(1)})), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_when_an_entry_ends_without_a_guest(case: str) -> None:
    seen, leader, ends = ENDS[case]
    found = decided(book(), pending=(entry(1),), seen={uid(1): seen}, leader=leader)
    assert (found.pending == ()) == ends


def test_defaults_fill_what_is_absent() -> None:
    limits = effective(QuotaLimits(cores=1), QuotaLimits(cores=2, ports=3))
    assert (limits.cores, limits.ports, limits.instances) == (1, 3, DEFAULTS.instances)
    assert None not in DEFAULTS.model_dump().values()


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
        asking = {n: c for n, c in process.wanting.items() if n not in process.guests}
        if only < len(asking):
            # The queue has come to this one so far.
            asking = dict([sorted(asking.items())[-1 - only]])
        active = frozenset(uid(n) for n in {*asking, *process.admitted})
        leader = Leader(
            process.epoch, self.now, active, process.taken,
            frozenset(uid(n) for n in process.failed) - active,
        )  # fmt: skip
        guests = {uid(n): held for n, held in process.guests.items()}
        there = {uid(n) for n in server.instances}

        def look(one: str) -> Seen:
            held = guests.get(one)
            if held is None:
                return Seen(exists=one in there)
            charged = {"instances": 1, "cores": held[1], "memory_mib": 100}
            return Seen(1, held[0], charged, one in there)

        used = QuotaUsage(
            instances=len(guests), cores=sum(cores for _, cores in guests.values()),
            memory_mib=100 * len(guests),
        )  # fmt: skip
        charges = [charge(n, cores=c) for n, c in asking.items()]
        of = book(used, cores=CORES, instances=-1, memory_mib=-1)
        found = plan(
            of, server.pending, server.counted_to, server.counted_by, charges, look, leader
        )
        process.plan = server.quota_version, _values(server), found, asking

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
