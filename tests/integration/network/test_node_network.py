"""DHCP, reachability, adoption and cleanliness of a node's networks, on real parts."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from novakube_agent.render.names import bridge_name, gateway_mac, netns_name, tap_name
from novakube_crds.v1alpha1.guest import GuestNic
from tests.integration.network.conftest import Node, a_nic, uid

WEB = a_nic(1, "10.1.0.5")
DB = a_nic(2, "10.1.0.6")
OTHER = a_nic(3, "10.1.0.5", network=2)


def test_guest_gets_its_claimed_address_and_options(node: Node) -> None:
    routes = [{"destination": "10.99.0.0/16", "nextHop": "10.1.0.9"}]
    nic = a_nic(1, "10.1.0.5", subnet={"routes": routes})
    (link,) = node.ensure(nic)
    assert link == {
        "port_uid": uid(1),
        "mac": nic.mac,
        "tap": tap_name(uid(1)),
        "bridge": bridge_name(uid(1)),
        "mtu": 1400,
    }
    lease = node.guest(nic).dhcp()
    assert lease is not None
    got = {key: lease.get(key) for key in ("ip", "mask", "dns", "domain", "mtu", "hostname")}
    assert got == {
        "ip": "10.1.0.5",
        "mask": "24",
        "dns": "9.9.9.9 8.8.8.8",
        "domain": "novalocal",
        "mtu": "1400",
        "hostname": "web",
    }
    assert lease["staticroutes"] == "10.99.0.0/16 10.1.0.9 0.0.0.0/0 10.1.0.1"


def test_guests_reach_gateway_and_one_another_through_a_drop_policy(node: Node) -> None:
    """As on a node with Docker: FORWARD drops, and bridged frames are filtered."""
    node.run("sh", "-c", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
    node.run("iptables", "-P", "FORWARD", "DROP")
    node.ensure(WEB, DB)
    web, db = node.guest(WEB), node.guest(DB)
    assert web.dhcp()
    assert db.dhcp()
    assert web.reaches("10.1.0.1")
    assert web.reaches("10.1.0.6")
    assert db.reaches("10.1.0.5")
    neighbour = web.run("ip", "neigh", "show", "10.1.0.1")
    assert gateway_mac(WEB.network_uid) in neighbour


def test_unknown_mac_gets_no_lease(node: Node) -> None:
    node.ensure(WEB)
    assert node.guest(WEB, mac="fa:16:3e:99:99:99").dhcp("-x", "hostname:web") is None


def test_overlapping_ranges_do_not_meet(node: Node) -> None:
    node.ensure(WEB, OTHER)
    first, second = node.guest(WEB), node.guest(OTHER)
    for guest in (first, second):
        lease = guest.dhcp()
        assert lease is not None
        assert lease["ip"] == "10.1.0.5"
        assert guest.reaches("10.1.0.1")
    assert gateway_mac(WEB.network_uid) not in second.run("ip", "neigh", "show", "10.1.0.1")


def test_subnet_without_gateway(node: Node) -> None:
    nic = a_nic(1, "10.1.0.5", subnet={"gateway": None, "dns": []})
    node.ensure(nic)
    lease = node.guest(nic).dhcp()
    assert lease is not None
    assert (lease["ip"], lease.get("router"), lease.get("dns")) == ("10.1.0.5", None, None)


def test_restart_of_the_agent_keeps_dnsmasq_and_taps(node: Node) -> None:
    node.ensure(WEB)
    before = node.servers()
    links = node.run("ip", "-o", "link")
    assert node.restore(WEB) == [{"result": None}]
    node.ensure(WEB)
    assert node.servers() == before
    assert len(before) == 1
    assert node.run("ip", "-o", "link") == links
    assert node.agent(("present", {})) == [{"result": [WEB.port_uid]}]


def test_restore_brings_back_what_died(node: Node) -> None:
    node.ensure(WEB)
    guest = node.guest(WEB)
    assert guest.dhcp()
    (server,) = node.servers()
    os.kill(server, signal.SIGKILL)
    node.run("ip", "netns", "del", netns_name(WEB.network_uid))
    node.restore(WEB)
    assert len(node.servers()) == 1
    lease = guest.dhcp("-r", "10.1.0.5")
    assert lease is not None
    assert lease["ip"] == "10.1.0.5"


def test_an_address_moves_to_another_mac_at_once(node: Node) -> None:
    """dnsmasq itself would keep it for the old one until the lease ends, a day later."""
    node.ensure(WEB, DB)
    assert node.guest(WEB).dhcp()
    node.remove(WEB)
    heir = a_nic(7, "10.1.0.5")
    node.ensure(heir)
    lease = node.guest(heir).dhcp()
    assert lease is not None
    assert lease["ip"] == "10.1.0.5"


def test_removed_nic_is_forgotten_by_dhcp(node: Node) -> None:
    node.ensure(WEB, DB)
    guest = node.guest(WEB)
    node.remove(WEB)
    assert guest.dhcp() is None


def test_removal_leaves_nothing(node: Node) -> None:
    before = node.traces()
    node.ensure(WEB, DB, OTHER)
    assert node.remove(WEB, WEB, DB, OTHER) == [{"result": None}] * 4
    assert node.traces() == before


def test_restore_removes_leftovers_of_ours_only(node: Node) -> None:
    node.run("ip", "link", "add", "nkbforeign", "type", "bridge")
    node.run("ip", "netns", "add", "nk-foreign")
    before = node.traces()
    node.ensure(WEB, DB)
    node.restore()
    assert node.traces() == before


@pytest.mark.parametrize(
    ("nic", "want_error", "want_reason", "want_words"),
    [
        (
            a_nic(1, "10.1.0.5", segmentType="flat", physicalNetwork="physnet1"),
            "HostFailure",
            "PhysicalNetworkMissing",
            "NOVAKUBE_PHYSICAL_NETWORKS",
        ),
        (a_nic(1, "10.2.0.5"), "InvalidSpec", "InvalidSpec", "10.2.0.5 is outside 10.1.0.0/24"),
        (a_nic(1, "10.1.0.x"), "InvalidSpec", "InvalidSpec", "'10.1.0.x' is no IP address"),
    ],
)
def test_bad_input_is_named(
    node: Node, nic: object, want_error: str, want_reason: str, want_words: str
) -> None:
    (answer,) = node.ensure(nic)  # type: ignore[arg-type]
    assert (answer["error"], answer["reason"]) == (want_error, want_reason)
    assert want_words in answer["message"]


def test_flat_network_uses_its_physical_interface(node: Node) -> None:
    node.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "wire")
    node.physical = {"physnet1": "uplink"}
    nic = a_nic(1, "10.1.0.5", segmentType="flat", physicalNetwork="physnet1")
    node.ensure(nic)
    assert f"master {bridge_name(nic.network_uid)}" in node.run("ip", "link", "show", "uplink")
    node.remove(nic)
    assert "master" not in node.run("ip", "link", "show", "uplink")


def test_vlan_without_kernel_support_or_id_is_named(node: Node) -> None:
    node.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "wire")
    node.physical = {"physnet1": "uplink"}
    fields = {"segmentType": "vlan", "physicalNetwork": "physnet1", "segmentID": None}
    (answer,) = node.ensure(a_nic(1, "10.1.0.5", **fields))
    assert answer["message"] == "network net-1: a vlan segment needs an id"
    if not node.ok("ip", "link", "add", "link", "uplink", "probe", "type", "vlan", "id", "7"):
        (answer,) = node.ensure(a_nic(1, "10.1.0.5", **(fields | {"segmentID": 7})))
        assert answer["reason"] == "KernelUnsupported"


def steps(node: Node, method: str, nic: GuestNic = WEB) -> list[str]:
    """Names of the steps an undisturbed call takes."""
    trace = node.state.parent / "trace"
    node.agent((method, {"nic": nic.wire()}), NOVAKUBE_FAILPOINT_TRACE=str(trace))
    return trace.read_text().splitlines() if trace.exists() else []


def triggers(names: list[str]) -> list[str]:
    """Before each step; "after" one is "before" the next."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(f"{name}:before:{seen[name]}")
    return found


@pytest.mark.timeout(600)
def test_killed_at_any_step_it_converges(node: Node) -> None:
    """The next agent finishes the work (every other time after a restore) and undoes it."""
    node.restore()  # as an agent begins: dnsmasq's script is there before any NIC
    clean = node.traces()
    names = steps(node, "ensure")
    node.remove(WEB)
    nic = {"nic": WEB.wire()}
    for number, trigger in enumerate(triggers(names)):
        assert not node.agent(("ensure", nic), NOVAKUBE_FAILPOINT=trigger), trigger
        restore = [("restore", {"nics": [WEB.wire()]})] * (number % 2)
        answers = node.agent(*restore, ("ensure", nic), ("present", {}), ("remove", nic))
        ensured, present, removed = answers[-3:]
        assert ensured["result"]["tap"] == tap_name(WEB.port_uid), trigger
        assert present == {"result": [WEB.port_uid]}, trigger
        assert removed == {"result": None}, trigger
        assert node.traces() == clean, trigger
    assert len(names) > 20


@pytest.mark.timeout(600)
def test_removal_killed_at_any_step_is_finished_by_restore(node: Node) -> None:
    clean = node.traces()
    node.ensure(WEB)
    for trigger in triggers(steps(node, "remove")):
        node.ensure(WEB)
        assert not node.agent(("remove", {"nic": WEB.wire()}), NOVAKUBE_FAILPOINT=trigger)
        node.restore()
        assert node.traces() == clean, trigger


MOVED = a_nic(1, "10.1.0.5", network=2)
"""The same tap after its Network was made anew from a manifest."""


def test_a_tap_moves_to_the_network_that_was_made_anew(node: Node) -> None:
    clean = node.traces()
    node.ensure(WEB, DB)
    before = node.run("ip", "-o", "link", "show", tap_name(WEB.port_uid))
    node.ensure(MOVED)
    after = node.run("ip", "-o", "link", "show", tap_name(WEB.port_uid))
    assert before.split(":")[0] == after.split(":")[0]  # the same link, by its index
    assert f"master {bridge_name(uid(1))}" in before
    assert f"master {bridge_name(uid(2))}" in after
    assert node.guest(MOVED).dhcp() is not None
    assert node.guest(WEB).dhcp("-r", "10.1.0.5") is None  # the old Network has DB only
    node.remove(DB)
    assert netns_name(uid(1)) not in node.run("ip", "netns")
    node.remove(MOVED)
    for number, guest in enumerate(node.guests, 1):
        guest.stop()
        node.ok("ip", "link", "delete", f"g{number}")
    assert node.traces() == clean


@pytest.mark.timeout(600)
def test_a_move_killed_on_its_way_is_finished(node: Node) -> None:
    """By doing it again, every other time after a restore; at every third step."""
    clean = node.traces()
    node.ensure(WEB)
    names = steps(node, "ensure", MOVED)
    node.remove(MOVED)
    moved = {"nic": MOVED.wire()}
    for number, trigger in enumerate(triggers(names)[::3]):
        node.ensure(WEB)
        assert not node.agent(("ensure", moved), NOVAKUBE_FAILPOINT=trigger), trigger
        restore = [("restore", {"nics": [MOVED.wire()]})] * (number % 2)
        answers = node.agent(*restore, ("ensure", moved), ("present", {}), ("remove", moved))
        assert answers[-2:] == [{"result": [MOVED.port_uid]}, {"result": None}], trigger
        assert node.traces() == clean, trigger


def test_state_directory_closed_to_dnsmasq_is_named(node: Node) -> None:
    node.state.chmod(0o700)
    (answer,) = node.ensure(WEB)
    assert answer["reason"] == "StateDirectoryClosed"
    assert str(node.state) in answer["message"]
    assert not list(Path(node.state, "networks").iterdir())
