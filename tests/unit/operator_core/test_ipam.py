"""Addresses: the lowest free one, what cannot be had explicitly, one name per address."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_crds.base import LocalReference
from novakube_crds.v1alpha1.subnet import Pool, SubnetSpec
from novakube_kit.errors import InvalidSpec
from novakube_operator.core import ipam

MAC = "fa:16:3e:00:00:07"
MADE = "fd00::f816:3eff:fe00:7"
NETWORK = "11111111-1111-1111-1111-111111111111"


def a_subnet(cidr: str = "10.0.0.0/29", **fields: object) -> SubnetSpec:
    return SubnetSpec(network=LocalReference(name="net"), cidr=cidr, **fields)


@pytest.mark.parametrize(
    ("subnet", "taken", "want"),
    [
        (a_subnet(), set(), "10.0.0.2"),
        (a_subnet(), {"10.0.0.2"}, "10.0.0.3"),
        (a_subnet(), {f"10.0.0.{i}" for i in range(2, 7)}, None),
        (a_subnet(gateway="none"), set(), "10.0.0.1"),
        (a_subnet(gateway="10.0.0.3"), {"10.0.0.1", "10.0.0.2"}, "10.0.0.4"),
        (a_subnet(pools=[Pool(start="10.0.0.5", end="10.0.0.6")]), set(), "10.0.0.5"),
        (a_subnet("fd00::/64"), set(), "fd00::2"),
        (a_subnet("fd00::/64", ipv6_ra_mode="dhcpv6-stateful"), {"fd00::2"}, "fd00::3"),
        (a_subnet("fd00::/64", ipv6_ra_mode="slaac"), set(), MADE),
        (a_subnet("fd00::/64", ipv6_address_mode="dhcpv6-stateless"), set(), MADE),
        (a_subnet("fd00::/64", ipv6_ra_mode="slaac"), {MADE}, None),
        (a_subnet("fd00::/64", ipv6_ra_mode="slaac", dhcp=False), set(), "fd00::2"),
    ],
)
def test_next_free(subnet: SubnetSpec, taken: set[str], want: str | None) -> None:
    assert ipam.next_free(subnet, taken.__contains__, MAC) == want


@pytest.mark.parametrize(
    ("taken", "after", "want"),
    [
        (set(), "10.0.0.3", "10.0.0.4"),
        ({"10.0.0.4"}, "10.0.0.3", "10.0.0.5"),
        (set(), "10.0.0.6", "10.0.0.2"),
        ({"10.0.0.5", "10.0.0.6"}, "10.0.0.4", "10.0.0.2"),
        ({"10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"}, "10.0.0.3", "10.0.0.3"),
        ({f"10.0.0.{i}" for i in range(2, 7)}, "10.0.0.3", None),
    ],
)
def test_the_search_goes_on_where_it_ended(taken: set[str], after: str, want: str | None) -> None:
    assert ipam.next_free(a_subnet(), taken.__contains__, MAC, after) == want


def test_the_search_does_not_look_at_all_that_was_given() -> None:
    looks: list[str] = []

    def taken(address: str) -> bool:
        looks.append(address)
        return False

    subnet = a_subnet("10.0.0.0/16")
    assert ipam.next_free(subnet, taken, MAC, "10.0.200.7") == "10.0.200.8"
    assert looks == ["10.0.200.8"]


def test_an_address_that_the_guest_would_not_make_cannot_be_had() -> None:
    subnet = a_subnet("fd00::/64", ipv6_ra_mode="slaac")
    assert ipam.check_explicit("FD00:0::f816:3eff:fe00:7", subnet, "s", MAC) == MADE
    with pytest.raises(InvalidSpec, match=f"slaac.*{MAC} it is {MADE}"):
        ipam.check_explicit("fd00::5", subnet, "s", MAC)


@pytest.mark.parametrize(
    ("address", "reason", "message"),
    [
        ("10.0.1.5", "AddressOutsideSubnet", "address 10.0.1.5 is outside 10.0.0.0/29 of subnet s"),
        ("10.0.0.0", "AddressOutsideSubnet", "network's or broadcast address"),
        ("10.0.0.7", "AddressOutsideSubnet", "network's or broadcast address"),
        ("10.0.0.1", "AddressInUse", "address 10.0.0.1 is the gateway of subnet s"),
    ],
)
def test_what_cannot_be_had(address: str, reason: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message) as caught:
        ipam.check_explicit(address, a_subnet(), "s", MAC)
    assert caught.value.reason == reason


def test_an_address_beside_the_pools_may_be_asked_for() -> None:
    subnet = a_subnet(pools=[Pool(start="10.0.0.5", end="10.0.0.6")])
    assert ipam.check_explicit("10.0.0.3", subnet, "s", MAC) == "10.0.0.3"


@given(st.ip_addresses(), st.ip_addresses())
def test_one_name_per_address(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    names = ipam.claim_name(NETWORK, str(one)), ipam.claim_name(NETWORK, str(other))
    assert (names[0] == names[1]) == (one == other)
    assert names[0] == ipam.claim_name(NETWORK, one.exploded)


@given(st.sets(st.integers(0, 255)), st.none() | st.integers(0, 255))
def test_given_out_addresses_are_free_inside_and_never_the_gateway(
    used: set[int], after: int | None
) -> None:
    subnet = a_subnet("10.0.0.0/24")
    taken = {f"10.0.0.{i}" for i in used}
    last = None if after is None else f"10.0.0.{after}"
    while (address := ipam.next_free(subnet, taken.__contains__, MAC, last)) is not None:
        assert address not in taken
        assert ipam.check_explicit(address, subnet, "s", MAC) == address
        taken.add(address)
    assert {f"10.0.0.{i}" for i in range(2, 255)} <= taken
