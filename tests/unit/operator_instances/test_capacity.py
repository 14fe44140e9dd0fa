"""The incremental view: room that creates hold, Hosts made anew where something changed."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from novakube_crds.v1alpha1.kinds import KINDS
from novakube_kit.objects import parse
from novakube_operator.core.scheduling.hosts import Amounts
from novakube_operator.instances.capacity import Capacity, Reservation

SMALL = Amounts(1, 128, 1 << 30)
GROUP = "99999999-2222-3333-4444-555555555555"
BY_KIND = {kind.kind: kind for kind in KINDS}


def uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def an_object(kind: str, name: str, spec: Any, status: Any = None, created: int = 1) -> Any:
    return parse(
        BY_KIND[kind],
        {
            "apiVersion": "novakube.dev/v1alpha1",
            "kind": kind,
            "metadata": {
                "name": name, "uid": uid(created), "resourceVersion": "1", "generation": 1,
                "creationTimestamp": f"2026-01-01T00:00:{created % 60:02}Z",
            },
            "spec": spec,
            "status": status or {},
        },
    )  # fmt: skip


def a_node(name: str = "n1", **spec: Any) -> Any:
    status = {
        "capacity": {"vcpus": 4, "memoryMiB": 4608, "diskGiB": 100},
        "buildFailures": spec.pop("buildFailures", 0),
        "conditions": [
            {"type": "Schedulable", "status": "True", "reason": "Enabled",
             "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ],
    }  # fmt: skip
    return an_object("Hypervisor", name, spec, status)


def a_guest(
    number: int, node: str = "n1", phase: str = "Pending", reason: str = "", group: bool = False
) -> Any:
    spec: dict[str, Any] = {
        "instance": {"namespace": "a", "name": "b", "uid": uid(number), "id": uid(number)},
        "incarnation": 1, "hypervisor": node, "hostname": "b", "vcpus": 1, "memoryMiB": 128,
        "disks": [{"role": "root", "device": "vda", "sizeBytes": 1 << 30}],
    }  # fmt: skip
    if group:
        spec["serverGroup"] = {"uid": GROUP, "name": "g", "policy": "anti-affinity"}
    return an_object("Guest", f"g{number}", spec, {"phase": phase, "reason": reason}, number)


def test_a_reservation_counts_until_it_is_released() -> None:
    capacity = Capacity()
    capacity.reserve("one", Reservation("n1", SMALL, frozenset({"net"}), GROUP))
    capacity.reserve("two", Reservation("n1", SMALL, frozenset()))
    load = capacity.load("n1")
    assert (load.used, load.instances, load.io_ops) == (SMALL.plus(SMALL), 2, 2)
    assert capacity.node_of_network("net") == "n1"
    assert capacity.members(GROUP) == {"n1": 1}
    capacity.release("one")
    assert capacity.load("n1").used == SMALL
    assert capacity.node_of_network("net") is None
    assert capacity.members(GROUP) == {}


def test_a_second_choice_replaces_the_first() -> None:
    capacity = Capacity()
    for node in ("n1", "n2"):
        capacity.reserve("one", Reservation(node, SMALL, frozenset({"net"}), GROUP))
    assert capacity.load("n1").used == Amounts()
    assert capacity.load("n2").used == SMALL
    assert capacity.node_of_network("net") == "n2"
    assert capacity.members(GROUP) == {"n2": 1}


def test_release_without_reservation_changes_nothing() -> None:
    capacity = Capacity()
    capacity.release("none")
    assert capacity.load("n1").used == Amounts()


@pytest.mark.parametrize("seed", range(20))
def test_changes_in_any_order_add_up_to_what_stands(seed: int) -> None:
    chance = random.Random(seed)
    capacity, held = Capacity(), dict[int, Any]()
    phases = ["Pending", "Building", "Ready", "Rejected", "Failed", "Gone"]
    for _ in range(200):
        number = chance.randrange(12)
        old = held.pop(number, None)
        if old is None or chance.random() < 0.7:
            node = old.spec.hypervisor if old else f"n{chance.randrange(3)}"
            held[number] = a_guest(number, node, chance.choice(phases), group=number % 2 == 0)
        capacity.changed("guests", old, held.get(number))
    for node in ("n0", "n1", "n2"):
        here = [guest for guest in held.values() if guest.spec.hypervisor == node]
        load = capacity.load(node)
        assert (load.used.vcpus, load.instances) == (len(here), len(here))
        assert load.io_ops == sum(g.status.phase in ("Pending", "Building") for g in here)
    members = Counter(
        guest.spec.hypervisor for number, guest in held.items()
        if number % 2 == 0 and guest.status.phase not in ("Rejected", "Gone")
    )  # fmt: skip
    assert capacity.members(GROUP) == members


def test_only_nodes_that_changed_are_made_anew() -> None:
    """Counted: a decision over 1,000 nodes after one change makes one Host."""
    capacity = Capacity()
    for number in range(1000):
        capacity.changed("hypervisors", None, a_node(f"n{number}"))
    assert (len(capacity.hosts()), capacity.rebuilt) == (1000, 1000)
    capacity.hosts()
    assert capacity.rebuilt == 1000
    capacity.changed("guests", None, a_guest(1, "n7"))
    capacity.changed("guests", a_guest(1, "n7"), a_guest(1, "n7"))
    found = {host.name: host for host in capacity.hosts()}
    assert capacity.rebuilt == 1001
    assert (found["n7"].free_vcpus, found["n8"].free_vcpus) == (15, 16)


def test_aggregates_give_metadata_and_the_oldest_the_zone() -> None:
    capacity = Capacity()
    capacity.changed("hypervisors", None, a_node())
    east = {"hosts": ["n1"], "availabilityZone": "east", "metadata": {"ssd": "true, fast"}}
    old = an_object("Aggregate", "old", east, created=1)
    young = an_object("Aggregate", "a", {**east, "availabilityZone": "west"}, created=2)
    capacity.changed("aggregates", None, young)
    capacity.changed("aggregates", None, old)
    (host,) = capacity.hosts()
    assert (host.zone, host.metadata["ssd"]) == ("east", frozenset({"true", "fast"}))
    left = an_object("Aggregate", "old", {**east, "hosts": []}, created=1)
    capacity.changed("aggregates", old, left)
    (host,) = capacity.hosts()
    assert host.zone == "west"
    capacity.changed("aggregates", young, None)
    (host,) = capacity.hosts()
    assert (host.zone, host.metadata) == ("nova", {})


def test_a_node_that_is_gone_is_no_host() -> None:
    capacity = Capacity()
    capacity.changed("hypervisors", None, a_node())
    capacity.changed("hypervisors", a_node(), None)
    assert list(capacity.hosts()) == []


def failed(number: int, reason: str = "DomainFailed") -> tuple[Any, Any]:
    return a_guest(number), a_guest(number, phase="Failed", reason=reason)


def test_build_failures_in_a_row_are_counted_until_a_success() -> None:
    capacity = Capacity()
    capacity.changed("hypervisors", None, a_node(buildFailures=2))
    capacity.changed("guests", *failed(1))
    assert capacity.failures("n1") == 3
    capacity.changed("guests", failed(1)[1], failed(1)[1])
    capacity.changed("guests", *failed(2, "ChecksumMismatch"))
    capacity.changed("guests", a_guest(3), a_guest(3, phase="Rejected"))
    capacity.changed("guests", None, failed(4)[1])
    assert capacity.failures("n1") == 3
    (host,) = capacity.hosts()
    assert host.load.build_failures == 3
    capacity.changed("guests", a_guest(5), a_guest(5, phase="Ready"))
    assert capacity.failures("n1") == 0


def test_a_status_written_from_the_count_does_not_count_again() -> None:
    capacity = Capacity()
    capacity.changed("hypervisors", None, a_node(buildFailures=2))
    capacity.changed("guests", *failed(1))
    capacity.changed("hypervisors", a_node(buildFailures=2), a_node(buildFailures=2))
    assert capacity.failures("n1") == 3


def test_an_administrator_who_disables_the_node_ends_the_count() -> None:
    capacity = Capacity()
    capacity.changed("hypervisors", None, a_node(buildFailures=10))
    capacity.changed("hypervisors", a_node(), a_node(enabled=False))
    capacity.changed("hypervisors", a_node(enabled=False), a_node())
    assert capacity.failures("n1") == 0
