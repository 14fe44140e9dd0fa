"""IPv6 Subnets: router advertisements and DHCPv6 by real dnsmasq, to real clients."""

from __future__ import annotations

from typing import Any

import pytest

from novakube_agent.render.names import gateway_mac
from novakube_crds.v1alpha1.guest import GuestNic
from novakube_crds.v1alpha1.subnet import SubnetSpec
from novakube_operator.core import ipam
from tests.deadlines import READY_S
from tests.integration.network.conftest import Guest, Node, a_nic, uid
from tests.waiting import wait_until_sync

PREFIX = "fd00:1::/64"
GATEWAY = "fd00:1::1"


def six(port: int, address: str | None = None, **subnet: Any) -> GuestNic:
    """A NIC on an IPv6 Subnet; without an address, with the one the operator would choose."""
    facts = {"uid": uid(2000), "cidr": PREFIX, "gateway": GATEWAY, "dns": ["fd00:1::53"]} | subnet
    if address is None:
        fields = {name: text for name, text in subnet.items() if name.startswith("ipv6")}
        spec = SubnetSpec.model_validate({"network": {"name": "net"}, "cidr": PREFIX, **fields})
        address = ipam.next_free(spec, lambda _: False, f"fa:16:3e:00:00:{port:02x}")
    assert address is not None
    return a_nic(port, address, subnet=facts)


def until_address(guest: Guest, address: str) -> None:
    wait_until_sync(lambda: address in guest.ipv6(), f"{address} on eth0", READY_S)


@pytest.mark.parametrize("mode", ["slaac", "dhcpv6-stateless"])
def test_guests_make_the_address_that_was_claimed(node: Node, mode: str) -> None:
    nic = six(1, ipv6RAMode=mode)
    node.ensure(nic)
    guest = node.guest(nic)
    until_address(guest, f"{nic.addresses[0].address}/64")
    routes = guest.run("ip", "-6", "route", "show", "default")
    assert "proto ra" in routes
    assert guest.reaches(GATEWAY)
    assert gateway_mac(nic.network_uid) in guest.run("ip", "-6", "neigh", "show", GATEWAY)
    if mode == "dhcpv6-stateless":
        assert guest.dhcp6("-S")["new_dhcp6_name_servers"] == "fd00:1::53"


def test_the_claimed_address_by_dhcpv6_beside_that_of_ipv4(node: Node) -> None:
    """Neighbours reach one another where bridged IPv6 frames meet a policy that drops."""
    node.run("sh", "-c", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables")
    node.run("ip6tables", "-P", "FORWARD", "DROP")
    both = [*six(1, "fd00:1::abc").addresses, *a_nic(1, "10.1.0.5").addresses]
    web = a_nic(1, "10.1.0.5").model_copy(update={"addresses": both})
    db = six(2, "fd00:1::abd")
    node.ensure(web, db)
    guests = [node.guest(web), node.guest(db)]
    for guest, address in zip(guests, ("fd00:1::abc", "fd00:1::abd"), strict=True):
        wait_until_sync(guest.link_is_usable, "an address of the link", READY_S)
        assert guest.dhcp6()["new_ip6_address"] == address
        # The prefix is on the link by the router's word, the address by DHCP alone.
        wait_until_sync(
            lambda guest=guest: PREFIX in guest.run("ip", "-6", "route"), "the prefix", READY_S
        )
        assert guest.ipv6() == [f"{address}/128"]
        assert guest.reaches(GATEWAY)
    assert guests[0].reaches("fd00:1::abd")
    lease = guests[0].dhcp()
    assert lease is not None
    assert lease["ip"] == "10.1.0.5"


def test_an_address_moves_to_another_mac_at_once(node: Node) -> None:
    old, heir = six(1, "fd00:1::abc"), six(7, "fd00:1::abc")
    node.ensure(old)
    first = node.guest(old)
    wait_until_sync(first.link_is_usable, "an address of the link", READY_S)
    assert first.dhcp6()["new_ip6_address"] == "fd00:1::abc"
    node.remove(old)
    node.ensure(heir)
    second = node.guest(heir)
    wait_until_sync(second.link_is_usable, "an address of the link", READY_S)
    assert second.dhcp6()["new_ip6_address"] == "fd00:1::abc"


def test_a_prefix_without_gateway_makes_no_default_route(node: Node) -> None:
    nic = six(1, ipv6RAMode="slaac", gateway=None)
    node.ensure(nic)
    guest = node.guest(nic)
    until_address(guest, f"{nic.addresses[0].address}/64")
    assert guest.run("ip", "-6", "route", "show", "default") == ""


def test_ipv6_is_off_where_no_subnet_has_it(node: Node) -> None:
    """Nothing is announced, and the gateway's link has no address of IPv6, not even its own."""
    nic = a_nic(1, "10.1.0.5")
    node.ensure(nic, six(2, ipv6RAMode="slaac"))
    node.remove(six(2, ipv6RAMode="slaac"))
    node.ensure(nic)
    name = f"nk-{nic.network_uid.replace('-', '')[:12]}"
    assert (
        node.run("ip", "netns", "exec", name, "ip", "-6", "address", "show", "dev", "gateway") == ""
    )
    assert node.remove(nic) == [{"result": None}]
