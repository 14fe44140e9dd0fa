import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_kit import ids
from novakube_kit.errors import InvalidSpec

DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
UUID = "0f4d5a1c-7a0e-4e1b-9b52-3f2a6d8c9e01"


@pytest.mark.parametrize(
    ("openstack_id", "want"),
    [
        ("1", "1"),
        (UUID, UUID),
        ("m1.tiny", "m1.tiny"),
        ("x-large", "x-large"),
    ],
)
def test_legal_ids_name_their_object(openstack_id: str, want: str):
    assert ids.object_name(openstack_id) == want


@pytest.mark.parametrize("openstack_id", ["My Flavor", "-a", "a.", "a..b", "a" * 254, "ä"])
def test_other_ids_are_hashed(openstack_id: str):
    assert re.fullmatch("x-[0-9a-f]{40}", ids.object_name(openstack_id))


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_names_are_legal_and_no_two_ids_share_one(one: str, other: str):
    name = ids.object_name(one)
    assert len(name) <= 253
    assert DNS_SUBDOMAIN.fullmatch(name)
    assert (name == ids.object_name(other)) == (one == other)


def test_an_id_that_looks_like_a_hashed_name_does_not_take_its_place():
    hashed = ids.object_name("not legal")
    assert ids.object_name(hashed) != hashed


@given(st.text(min_size=1))
def test_integer_ids_have_31_bits(openstack_id: str):
    assert 0 <= ids.integer_id(openstack_id) < 2**31


def test_ids_of_an_instance():
    assert ids.domain_uuid(UUID.upper()) == UUID
    assert ids.ec2_id(UUID) == "i-0f4d5a1c7a0e4e1b9"
    with pytest.raises(InvalidSpec, match="is no UUID"):
        ids.domain_uuid("1")


def test_macs_and_links():
    assert ids.mac_address(b"\x01\xab\xff") == "fa:16:3e:01:ab:ff"
    with pytest.raises(ValueError, match="3 random bytes"):
        ids.mac_address(b"\x01")
    for link in (ids.bridge_name(UUID), ids.tap_name(UUID), ids.namespace_name(UUID)):
        assert len(link) <= 15
    assert ids.namespace_name(UUID) == "nk-0f4d5a1c7a0e"
