"""Pure parts of the local cloud."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_local import services
from novakube_local.binaries import parse_version
from novakube_local.errors import LocalCloudError
from novakube_local.layout import Layout, State, node_address, node_names
from novakube_local.members import LINKS, alive, choose_link_net, start_time


@given(st.integers(0, 16**6 - 1), st.lists(st.ip_addresses(v=4, network=str(LINKS)), max_size=20))
def test_the_link_net_overlaps_nothing_in_use(number: int, used: list[object]) -> None:
    chosen = ipaddress.IPv4Network(choose_link_net(f"{number:06x}", [f"{one}/30" for one in used]))
    assert chosen.subnet_of(LINKS)
    taken = [ipaddress.IPv4Network(f"{one}/30", strict=False) for one in used]
    assert not any(chosen.overlaps(one) for one in taken)


def test_a_machine_without_free_link_net_is_told() -> None:
    with pytest.raises(LocalCloudError, match=r"every /30 of 169\.254\.64\.0/18 overlaps"):
        choose_link_net("000000", ["169.254.0.0/16"])


def test_clones_side_by_side_do_not_meet() -> None:
    one, two = Layout(Path("/a")), Layout(Path("/b"))
    assert one.link != two.link
    assert len(one.link) <= 15


def test_nodes_have_addresses_apart_from_the_servers() -> None:
    addresses = [node_address(name) for name in node_names(200)]
    assert len({*addresses, "192.0.2.1", "192.0.2.10"}) == 202


def test_a_recycled_pid_is_not_ours() -> None:
    started = start_time(1)
    assert started is not None
    assert alive(State(members={"n1": [1, started]}), "n1") == 1
    assert alive(State(members={"n1": [1, started + 1]}), "n1") is None


@pytest.mark.parametrize(
    ("text", "version"),
    [("Kubernetes v1.34.4", (1, 34)), ("etcd Version: 3.6.4", (3, 6)), ("nothing", None)],
)
def test_versions_are_read(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


def test_each_process_has_a_token_of_its_own() -> None:
    layout = Layout(Path("/clone"))
    wanted = {
        **services.novakube(layout, "https://api"),
        **{name: services.node(layout, name, "libvirt")["agent"] for name in node_names(2)},
    }
    files = [
        spec["env"]["NOVAKUBE_TOKEN_FILE"]
        for spec in wanted.values()
        if "NOVAKUBE_TOKEN_FILE" in spec.get("env", {})
    ]
    given = services.credentials(layout, ("cert", "key"), 2, 600)["tokens"]
    assert sorted(files) == sorted(entry["file"] for entry in given)
    assert len(set(files)) == 4


def test_a_process_waits_for_its_token() -> None:
    spec = services.node(Layout(Path("/clone")), "n1", "libvirt")["agent"]
    assert spec["env"]["NOVAKUBE_TOKEN_FILE"] in spec["needs"]
