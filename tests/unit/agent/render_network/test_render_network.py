from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_agent.render.dnsmasq import (
    conflicting_leases,
    gateway_addresses,
    host_label,
    render_config,
    render_host,
    subnets,
)
from novakube_agent.render.firewall import JUMPS, render_bridge_accept
from novakube_agent.render.names import (
    Mark,
    bridge_name,
    gateway_mac,
    netns_name,
    parse_mark,
    tap_name,
    veth_name,
    vlan_name,
)
from novakube_crds.v1alpha1.guest import GuestNic
from novakube_kit.errors import InvalidSpec

NETWORK = "0b4a7c5e-1111-4222-8333-444455556666"
PORT = "9d2f0a10-1111-4222-8333-444455556666"


def a_nic(address: str = "10.1.0.5", **subnet: Any) -> GuestNic:
    facts = {"uid": PORT, "cidr": "10.1.0.0/24", "gateway": "10.1.0.1"} | subnet
    return GuestNic.model_validate(
        {
            "portUID": PORT,
            "portName": "web-0",
            "mac": "fa:16:3e:00:00:01",
            "networkNamespace": "demo",
            "networkName": "net",
            "networkUID": NETWORK,
            "segmentType": "vxlan",
            "addresses": [{"address": address, "subnet": facts}],
        }
    )


@given(st.uuids().map(str))
def test_names_fit_the_kernel(uid: str) -> None:
    names = [bridge_name(uid), tap_name(uid), veth_name(uid), vlan_name(uid)]
    assert len(set(names)) == 4
    assert all(len(name) <= 15 for name in names)
    assert netns_name(uid) == "nk-" + uid.replace("-", "")[:12]
    first = int(gateway_mac(uid).split(":")[0], 16)
    assert first & 3 == 2  # unicast, locally administered


@pytest.mark.parametrize("mark", [Mark(NETWORK), Mark(NETWORK, PORT)])
def test_mark_round_trip(mark: Mark) -> None:
    assert parse_mark(mark.text()) == mark


@pytest.mark.parametrize("alias", [None, "", "uplink", "novakube", "novakube port=1", "xnovakube"])
def test_foreign_alias_is_no_mark(alias: str | None) -> None:
    assert parse_mark(alias) is None


COMMON = """\
# Written by novakube; changes are lost.
port=0
no-hosts
no-resolv
no-ping
quiet-dhcp
interface=gateway
except-interface=lo
bind-interfaces
domain=novalocal
dhcp-authoritative
dhcp-leasefile=/s/leases
dhcp-hostsfile=/s/hosts
pid-file=/s/dnsmasq.pid
dhcp-script=/run/script
script-on-renewal
dhcp-option=option:mtu,1400
"""
SCRIPT = PurePath("/run/script")
TAG = "s9d2f0a101111"
RANGE = f"dhcp-range=set:{TAG},10.1.0.0,static,255.255.255.0,86400s\n"
ROUTES = "classless-static-route"


@pytest.mark.parametrize(
    ("subnet", "want"),
    [
        (
            {"dns": ["9.9.9.9", "8.8.8.8"]},
            f"dhcp-lease-max=256\n{RANGE}dhcp-option=tag:{TAG},option:router,10.1.0.1\n"
            f"dhcp-option=tag:{TAG},option:dns-server,9.9.9.9,8.8.8.8\n",
        ),
        (
            {"routes": [{"destination": "10.9.0.0/16", "nextHop": "10.1.0.9"}]},
            f"dhcp-lease-max=256\n{RANGE}dhcp-option=tag:{TAG},option:router,10.1.0.1\n"
            f"dhcp-option=tag:{TAG},option:{ROUTES},10.9.0.0/16,10.1.0.9,0.0.0.0/0,10.1.0.1\n"
            f"dhcp-option=tag:{TAG},option:dns-server\n",
        ),
        (
            {"gateway": None},
            f"dhcp-lease-max=256\n{RANGE}shared-network=gateway,10.1.0.0\n"
            f"dhcp-option=tag:{TAG},option:router\n"
            f"dhcp-option=tag:{TAG},option:{ROUTES},169.254.169.254/32,0.0.0.0\n"
            f"dhcp-option=tag:{TAG},option:dns-server\n",
        ),
        ({"dhcp": False}, "dhcp-lease-max=1\n"),
    ],
)
def test_dnsmasq_configuration(subnet: dict[str, Any], want: str) -> None:
    used = subnets([a_nic(**subnet)])
    assert render_config(PurePath("/s"), 1400, used, SCRIPT) == COMMON + want


SIX: dict[str, Any] = {"cidr": "fd00::/64", "gateway": "fd00::1"}


@pytest.mark.parametrize(
    ("subnet", "want"),
    [
        (
            {"dns": ["fd00::53", "2001:db8::53"]},
            f"dhcp-range=set:{TAG},fd00::,static,64,86400s\n"
            f"dhcp-option=tag:{TAG},option6:dns-server,[fd00::53],[2001:db8::53]\nenable-ra\n",
        ),
        ({"ipv6RAMode": "slaac"}, f"dhcp-range=set:{TAG},fd00::,ra-only,64,86400s\nenable-ra\n"),
        (
            {"ipv6RAMode": "dhcpv6-stateless", "gateway": None},
            f"dhcp-range=set:{TAG},fd00::,ra-stateless,64,86400s\n"
            "enable-ra\nra-param=gateway,600,0\n",
        ),
        (
            {"ipv6AddressMode": "dhcpv6-stateless"},
            f"dhcp-range=set:{TAG},fd00::,static,64,86400s\n",
        ),
        ({"ipv6AddressMode": "slaac"}, ""),
        ({"dhcp": False}, ""),
    ],
)
def test_dnsmasq_configuration_of_ipv6(subnet: dict[str, Any], want: str) -> None:
    used = subnets([a_nic("fd00::5", **SIX | subnet)])
    text = render_config(PurePath("/s"), 1400, used, SCRIPT)
    assert text.partition("dhcp-lease-max=")[2].partition("\n")[2] == want


def test_hosts_file_of_both_families() -> None:
    four = a_nic().addresses
    six = a_nic("fd00::5", **SIX).addresses
    both = a_nic().model_copy(update={"addresses": [*four, *six]})
    assert render_host("web", both) == "fa:16:3e:00:00:01,10.1.0.5,[fd00::5],web\n"
    assert render_host("web", a_nic("fd00::5", **SIX)) == "fa:16:3e:00:00:01,[fd00::5],web\n"
    assert render_host("web", a_nic("fd00::5", **SIX, ipv6RAMode="slaac")) == ""


def test_ipv6_prefix_without_gateway_is_served_from_its_first_address() -> None:
    used = subnets([a_nic("fd00::5", **SIX | {"gateway": None})])
    assert gateway_addresses(used) == ["169.254.169.254/32", "fd00::/64"]
    used = subnets([a_nic("fd00::5", **SIX | {"gateway": None, "dhcp": False})])
    assert gateway_addresses(used) == ["169.254.169.254/32"]


def test_gateway_link_holds_gateway_and_service_address() -> None:
    assert gateway_addresses(subnets([a_nic()])) == ["169.254.169.254/32", "10.1.0.1/24"]
    assert gateway_addresses(subnets([a_nic(gateway=None)])) == ["169.254.169.254/32"]


def test_the_later_facts_of_a_subnet_count() -> None:
    (found,) = subnets([a_nic(dns=["1.1.1.1"]), a_nic(dns=["9.9.9.9"])])
    assert found.dns == ["9.9.9.9"]


def test_hosts_file() -> None:
    assert render_host("Web.example.org", a_nic()) == "fa:16:3e:00:00:01,10.1.0.5,web\n"
    assert render_host("web", a_nic(dhcp=False)) == ""


@pytest.mark.parametrize("name", ["", "a,b", "a\nb", "-a", "a" * 64, "ä", "set:x", "a b"])
def test_host_names_that_would_be_syntax(name: str) -> None:
    with pytest.raises(InvalidSpec, match="first label"):
        host_label(name)


@pytest.mark.parametrize(
    ("nic", "want"),
    [
        (a_nic("10.2.0.5"), "outside 10.1.0.0/24"),
        (a_nic("fd01::5", cidr="fd00::/64"), "outside fd00::/64"),
        (a_nic("10.1.0.5,set:x"), "no IP address"),
        (a_nic(cidr="10.1.0.1/24"), "no network in CIDR form"),
    ],
)
def test_bad_addresses_are_named(nic: GuestNic, want: str) -> None:
    with pytest.raises(InvalidSpec, match=want):
        render_host("web", nic)


@pytest.mark.parametrize(
    "subnet",
    [
        {"dns": ["9.9.9.9\nport=53"]},
        {"gateway": "10.1.0.1,x"},
        {"routes": [{"destination": "0/0", "nextHop": "10.1.0.9"}]},
        {"routes": [{"destination": "10.9.0.0/16", "nextHop": "x"}]},
    ],
)
def test_nothing_unparsed_reaches_the_configuration(subnet: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        render_config(PurePath("/s"), 1400, subnets([a_nic(**subnet)]), SCRIPT)


def test_conflicting_leases() -> None:
    leases = "99 fa:16:3e:00:00:01 10.1.0.5 web *\n99 fa:16:3e:00:00:02 10.1.0.6 db *\nduid 00\n"
    assert conflicting_leases(leases, {"10.1.0.5": "fa:16:3e:00:00:01"}) == []
    assert conflicting_leases(leases, {"10.1.0.6": "fa:16:3e:00:00:07"}) == [
        "99 fa:16:3e:00:00:02 10.1.0.6 db *"
    ]


@pytest.mark.parametrize(
    ("duid", "conflicts"),
    [
        ("00:03:00:01:fa:16:3e:00:00:02", True),
        ("00:01:00:01:2d:00:00:00:fa:16:3e:00:00:02", True),
        ("00:03:00:01:fa:16:3e:00:00:07", False),
        ("00:04:5b:2b:b4:f4:00:00:00:00:00:00:00:00:00:00:00:01", False),
    ],
)
def test_conflicting_leases_of_ipv6(duid: str, conflicts: bool) -> None:
    line = f"99 12345678 fd00::5 db {duid}"
    found = conflicting_leases(f"duid 00:01\n{line}\n", {"fd00::5": "fa:16:3e:00:00:07"})
    assert found == ([line] if conflicts else [])


def test_firewall_touches_only_our_chains() -> None:
    assert render_bridge_accept(frozenset(JUMPS[:1])) == (
        "*filter\n"
        ":NOVAKUBE-FORWARD - [0:0]\n"
        "-A NOVAKUBE-FORWARD -i nkb+ -o nkb+ -m physdev --physdev-is-bridged -j ACCEPT\n"
        "-I FORWARD 1 -j NOVAKUBE-FORWARD\n"
        "COMMIT\n"
        "*nat\n"
        ":NOVAKUBE-PREROUTING - [0:0]\n"
        ":NOVAKUBE-POSTROUTING - [0:0]\n"
        "-A NOVAKUBE-PREROUTING -i nkb+ -j ACCEPT\n"
        "-A NOVAKUBE-POSTROUTING -o nkb+ -m physdev --physdev-is-bridged -j ACCEPT\n"
        "COMMIT\n"
    )
