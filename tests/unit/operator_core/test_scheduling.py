"""The scheduler's choice: every filter's reason, the sentence, and properties of the choice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_crds.v1alpha1.hypervisor import HypervisorSpec
from novakube_crds.v1alpha1.hypervisorreport import NodeCapacity
from novakube_operator.core.scheduling.choice import NAMED_MAX, choose, summary
from novakube_operator.core.scheduling.hosts import GIB, Amounts, Host, Request


def a_host(name: str = "n1", **change: Any) -> Host:
    fields: dict[str, Any] = {
        "spec": HypervisorSpec(),
        "capacity": NodeCapacity(vcpus=4, memory_mib=4608, disk_gib=100),
        "zone": "nova",
        "not_schedulable": None,
    }
    return Host(name, **(fields | change))


SMALL = Request(Amounts(1, 512, 10 * GIB))


@pytest.mark.parametrize(
    ("host", "request_", "want"),
    [
        (a_host(not_schedulable="disabled (repair)"), SMALL, "1 node: n1 disabled (repair)"),
        (a_host(), Request(Amounts(1, 4608, 0)), "1 node: n1 short of 512 MiB memory"),
        (a_host(), Request(Amounts(17, 1, 0)), "1 node: n1 short of 1 vCPUs"),
        (a_host(), Request(Amounts(1, 1, 100 * GIB + 1)), "1 node: n1 short of 1 GiB disk"),
        (a_host(used=Amounts(0, 4096, 0)), SMALL, "1 node: n1 short of 512 MiB memory"),
        (a_host(), Request(Amounts(), zone="east"), "1 node: n1 in zone nova, not east"),
        (a_host(), Request(Amounts(), forced_host="n9"), "1 node: n1 not spec.forcedHost n9"),
        (a_host(), Request(Amounts(), refused=frozenset({"n1"})), "1 node: n1 refused it before"),
        (a_host(spec=HypervisorSpec(reserved_memory_mib=4608)), SMALL,
         "1 node: n1 short of 512 MiB memory"),
    ],
)  # fmt: skip
def test_every_filter_gives_its_reason(host: Host, request_: Request, want: str) -> None:
    choice = choose([host], request_)
    assert (choice.node, choice.message) == (None, want)


def test_reasons_of_all_nodes_in_one_sentence() -> None:
    hosts = [
        a_host("n3", not_schedulable="heartbeat 40 s old"),
        a_host("n1", used=Amounts(0, 4096, 0)),
        a_host("n2", not_schedulable="disabled"),
    ]
    assert choose(hosts, SMALL).message == (
        "3 nodes: n1 short of 512 MiB memory, n2 disabled, n3 heartbeat 40 s old"
    )


def test_no_node_says_how_to_get_one() -> None:
    assert "novakube.dev/hypervisor=true" in choose([], SMALL).message


def test_a_long_sentence_counts_the_rest() -> None:
    reasons = [f"n{i} disabled" for i in range(NAMED_MAX + 5)]
    assert summary(len(reasons), reasons).endswith("n19 disabled, and 5 more")


def test_ratios_multiply_and_a_reservation_of_zero_counts() -> None:
    spec = HypervisorSpec(
        memory_allocation_ratio=2.0, reserved_memory_mib=0, cpu_allocation_ratio=1.0
    )
    host = a_host(spec=spec)
    assert (host.free_memory_mib(), host.free_vcpus()) == (9216, 4)


@st.composite
def hosts(draw: st.DrawFn) -> list[Host]:
    names = draw(st.lists(st.sampled_from([f"n{i}" for i in range(8)]), unique=True))
    return [
        a_host(
            name,
            used=Amounts(
                draw(st.integers(0, 16)),
                draw(st.integers(0, 4096)),
                draw(st.integers(0, 100)) * GIB,
            ),
            not_schedulable=draw(st.sampled_from([None, None, "disabled"])),
        )
        for name in names
    ]


@given(hosts(), st.integers(1, 16), st.integers(1, 4096), st.integers(0, 100))
def test_the_choice_fits_and_is_the_same_in_any_order(
    given_hosts: list[Host], vcpus: int, memory_mib: int, disk_gib: int
) -> None:
    request = Request(Amounts(vcpus, memory_mib, disk_gib * GIB))
    choice = choose(given_hosts, request)
    assert choice == choose(list(reversed(given_hosts)), request)
    fitting = {
        host.name
        for host in given_hosts
        if host.not_schedulable is None
        and host.free_vcpus() >= vcpus
        and host.free_memory_mib() >= memory_mib
        and host.free_disk_bytes() >= disk_gib * GIB
    }
    assert (choice.node in fitting) if fitting else choice.node is None
    if choice.node is None:
        assert all(host.name in choice.message for host in given_hosts)
