"""Room that creates under way hold."""

from __future__ import annotations

from novakube_operator.core.scheduling.hosts import Amounts
from novakube_operator.instances.capacity import Capacity, Reservation

SMALL = Amounts(1, 128, 1 << 30)


def test_a_reservation_counts_until_it_is_released() -> None:
    capacity = Capacity()
    capacity.reserve("one", Reservation("n1", SMALL, frozenset({"net"})))
    capacity.reserve("two", Reservation("n1", SMALL, frozenset()))
    assert capacity.used("n1") == SMALL.plus(SMALL)
    assert capacity.node_of_network("net") == "n1"
    capacity.release("one")
    assert capacity.used("n1") == SMALL
    assert capacity.node_of_network("net") is None


def test_a_second_choice_replaces_the_first() -> None:
    capacity = Capacity()
    for node in ("n1", "n2"):
        capacity.reserve("one", Reservation(node, SMALL, frozenset({"net"})))
    assert capacity.used("n1") == Amounts()
    assert capacity.used("n2") == SMALL
    assert capacity.node_of_network("net") == "n2"


def test_release_without_reservation_changes_nothing() -> None:
    capacity = Capacity()
    capacity.release("none")
    assert capacity.used("n1") == Amounts()
