"""Weighers: which of the nodes that fit, by which criterion, multiplied how."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from novakube_operator.core.scheduling.choice import choose
from novakube_operator.core.scheduling.hosts import GIB, Amounts, Host, Request
from novakube_operator.core.scheduling.pipeline import Options
from novakube_operator.core.scheduling.registry import pipeline
from novakube_operator.core.scheduling.weighers import WEIGHERS, total_weights
from tests.unit.operator_core.scheduling_samples import STATUS, a_group, a_host

ANY = Request(Amounts())


def best(name: str, multiplier: float | None, one: Host, two: Host, request: Request = ANY) -> str:
    use = pipeline(weighed=((name, multiplier),))
    node = choose([one, two], request, use).node
    assert node is not None
    assert node == choose([two, one], request, use).node
    return node


def n1(**change: Any) -> Host:
    return a_host("n1", **change)


def n2(**change: Any) -> Host:
    return a_host("n2", **change)


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("ram", n1(used=Amounts(0, 1, 0)), n2()),
        ("cpu", n1(used=Amounts(1, 0, 0)), n2()),
        ("disk", n1(used=Amounts(0, 0, GIB)), n2()),
        ("io-ops", n1(io_ops=1), n2()),
        ("build-failure", n1(build_failures=1), n2()),
        ("hypervisor-version", n1(), n2(status=STATUS.model_copy(update={"version": "8.10.0"}))),
    ],
)
def test_the_default_prefers(name: str, one: Host, two: Host) -> None:
    assert best(name, None, one, two) == "n2"


def test_a_negative_multiplier_packs() -> None:
    assert best("ram", -1.0, n1(), n2(used=Amounts(0, 1, 0))) == "n2"


def test_number_of_instances_counts_for_nothing_until_it_is_multiplied() -> None:
    assert best("num-instances", None, n1(instances=5), n2()) == "n1"
    assert best("num-instances", -1.0, n1(instances=5), n2()) == "n2"


@pytest.mark.parametrize(
    ("policy", "name", "want"),
    [
        ("soft-affinity", "soft-affinity", "n2"),
        ("soft-anti-affinity", "soft-anti-affinity", "n1"),
        ("affinity", "soft-affinity", "n1"),
        ("soft-affinity", "soft-anti-affinity", "n1"),
    ],
)
def test_soft_groups_draw_together_or_apart(policy: str, name: str, want: str) -> None:
    request = replace(ANY, group=a_group(policy, {"n1": 1, "n2": 2}))
    assert best(name, None, n1(), n2(), request) == want


def test_soft_anti_affinity_by_default_wins_over_equal_room() -> None:
    request = replace(ANY, group=a_group("soft-anti-affinity", {"n1": 1}))
    assert choose([n1(), n2()], request).node == "n2"


def test_a_failing_node_loses_whatever_room_it_has() -> None:
    assert choose([n1(build_failures=1), n2(used=Amounts(15, 4000, 90 * GIB))], ANY).node == "n2"


def test_weights_are_normalised_before_they_are_summed() -> None:
    hosts = [n1(used=Amounts(0, 4096, 0)), n2(used=Amounts(8, 2048, 0)), a_host("n3")]
    use = pipeline(weighed=(("ram", None), ("cpu", 2.0)))
    assert total_weights(hosts, ANY, use.weighers) == pytest.approx([2.0, 0.5, 3.0])


def test_an_aggregate_overrides_the_multiplier_on_its_nodes() -> None:
    use = pipeline(weighed=(("ram", 1.0),))
    packed = n2(used=Amounts(0, 1, 0), metadata={"ram_weight_multiplier": "5,3,x"})
    hosts = [n1(used=Amounts(0, 2, 0)), packed, a_host("n3")]
    assert total_weights(hosts, ANY, use.weighers) == pytest.approx([0.0, 1.5, 1.0])


def test_an_aggregate_may_turn_on_what_is_off() -> None:
    use = pipeline(weighed=(("num-instances", None),))
    hosts = [n1(), n2(instances=1, metadata={"num_instances_weight_multiplier": "1"})]
    assert total_weights(hosts, ANY, use.weighers) == pytest.approx([0.0, 1.0])


def test_every_weigher_gives_one_weight_per_node_or_none() -> None:
    hosts = [n1(), n2()]
    for make in WEIGHERS.values():
        weigher = make(Options(), None)
        assert len(weigher.weights(hosts, ANY)) in (0, 2)
        assert list(total_weights(hosts, ANY, [weigher])) == [0.0, 0.0]
