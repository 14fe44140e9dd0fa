"""Who of a batch is admitted, and when what was written ahead ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from novakube_crds.conditions import rfc3339
from novakube_crds.v1alpha1.quota import QuotaLimits, QuotaUsage
from novakube_operator.core.quota import (
    ADMITTED_S,
    DEFAULTS,
    FOREIGN_ENTRY_S,
    PENDING_MAX,
    Leader,
    Seen,
    effective,
)
from tests.unit.operator_quotas.quota_samples import NOW, book, charge, decided, entry, uid

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
