"""What the operator says of each kind, as a table of manifests and verdicts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.kinds import KINDS
from novakube_crds.v1alpha1.network import NetworkSpec, Segment
from novakube_crds.v1alpha1.subnet import Pool, SubnetSpec
from novakube_kit.errors import InvalidSpec
from novakube_kit.store import Store
from novakube_operator.core.resources.keys import fingerprint
from novakube_operator.core.resources.networks import (
    capacity,
    check_subnet,
    gateway,
    mtu,
    pick_segment,
)
from novakube_operator.resources.judges import INDICES, World, judges
from novakube_operator.resources.wakes import wakes

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BY_PLURAL = {kind.plural: kind for kind in KINDS}
JUDGES = {judge.kind.plural: judge for judge in judges(BY_PLURAL)}
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGSFGr1qIQIBn5MVFlVB5Io6nNJTDmPFsGkcNQzBBzUf me"


def world() -> World:
    return World({name: Store(BY_PLURAL[name], indices=INDICES[name]) for name in INDICES})


def put(where: World, plural: str, name: str, spec: dict[str, Any], **meta: Any) -> Any:
    kind = BY_PLURAL[plural]
    number = len(where.of(plural)) + 1
    uid = f"00000000-0000-0000-0000-{sum(map(ord, plural)) * 1000 + number:012d}"
    metadata = {
        "name": name, "uid": uid, "resourceVersion": str(number), "generation": 1,
        "creationTimestamp": f"2026-01-01T00:00:{number:02d}Z", **meta,
    }  # fmt: skip
    if kind.namespaced:
        metadata.setdefault("namespace", "a")
    where.of(plural).observe({"metadata": metadata, "spec": spec})
    return where.of(plural).get(metadata.get("namespace"), name)


SIZES = {"vcpus": 1, "memoryMiB": 128}
URL = {"url": "http://192.0.2.10/i.qcow2"}
NET: dict[str, Any] = {}
SUB = {"network": {"name": "net"}, "cidr": "10.0.0.0/24"}
CASES: dict[str, tuple[str, dict[str, Any], str, str, str]] = {
    "flavor": ("flavors", SIZES, "True", "Accepted", ""),
    "image by url": ("images", {"source": URL, "diskFormat": "qcow2"}, "True", "Active", ""),
    "image without source": ("images", {}, "False", "NoSource", "spec.source is absent"),
    "image of a format nobody boots": (
        "images", {"source": URL, "diskFormat": "vmdk"}, "False", "UnsupportedFormat",
        "spec.diskFormat vmdk cannot be booted; allowed: qcow2, raw",
    ),
    "image from an instance": (
        "images", {"source": {"fromInstance": {"name": "x"}}, "diskFormat": "qcow2"},
        "False", "NotSupportedYet", "spec.source.fromInstance",
    ),
    "keypair": ("keypairs", {"userID": "u", "publicKey": ED25519}, "True", "Accepted", ""),
    "keypair nonsense": (
        "keypairs", {"userID": "u", "publicKey": "ssh-rsa no"}, "False", "InvalidKey",
        "spec.publicKey is no OpenSSH public key line",
    ),
    "network": ("networks", NET, "True", "Accepted", ""),
    "external network": (
        "networks", {"external": True}, "False", "NotSupportedYet", "spec.external",
    ),
    "subnet without network": (
        "subnets", SUB, "False", "NotFound", "network a/net does not exist",
    ),
    "security group": ("securitygroups", {}, "True", "Accepted", ""),
    "security group with rules": (
        "securitygroups", {"rules": [{"direction": "ingress"}]}, "False", "NotSupportedYet",
        "SecurityGroup rules",
    ),
    "router": ("routers", {}, "False", "NotSupportedYet", "Router"),
    "floating ip": (
        "floatingips", {"externalNetwork": {"name": "x"}}, "False", "NotSupportedYet",
        "FloatingIP",
    ),
    "server group": ("servergroups", {"policy": "affinity"}, "True", "Accepted", ""),
    "aggregate of nobody": (
        "aggregates", {"hosts": ["n9"]}, "False", "HostNotFound", "no hypervisor named n9",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: str) -> None:
    plural, spec, want_status, want_reason, want_text = CASES[case]
    where = world()
    obj = put(where, plural, "it", spec)
    status: Any = JUDGES[plural].status(where, obj, NOW)
    ready = get_condition(status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (want_status, want_reason)
    assert want_text in ready.message
    assert status.observed_generation == 1
    assert getattr(status, "id", obj.uid) == obj.uid


@pytest.mark.parametrize("case", CASES)
def test_judging_again_changes_nothing(case: str) -> None:
    plural, spec, *_ = CASES[case]
    where = world()
    obj = put(where, plural, "it", spec)
    first = JUDGES[plural].status(where, obj, NOW)
    body = {
        "metadata": {
            "name": "it", "namespace": obj.namespace, "uid": obj.uid, "generation": 1,
            "resourceVersion": "99", "creationTimestamp": "2026-01-01T00:00:01Z",
        },
        "spec": spec,
        "status": first.wire(),
    }  # fmt: skip
    again = where.of(plural).observe(body)
    assert again is not None
    assert JUDGES[plural].status(where, again, NOW.replace(year=2027)) == first


def test_the_older_keeps_an_id() -> None:
    where = world()
    old = put(where, "flavors", "old", {**SIZES, "id": "1"})
    new = put(where, "flavors", "new", {**SIZES, "id": "1"})
    first: Any = JUDGES["flavors"].status(where, old, NOW)
    second: Any = JUDGES["flavors"].status(where, new, NOW)
    assert get_condition(first.conditions, "Ready").reason == "Accepted"
    taken = get_condition(second.conditions, "Stalled")
    assert (taken.reason, taken.message) == ("IDTaken", "spec.id 1 belongs to old, which is older")


def claim(where: World, network: Any, address: str) -> Any:
    spec = {
        "network": {"name": network.name}, "networkUID": network.uid, "address": address,
        "subnet": {"name": "sub"},
        "claim": {"kind": "Port", "namespace": "a", "name": "p", "uid": network.uid},
    }  # fmt: skip
    return put(where, "ipaddresses", f"ip-{address}", spec)


def test_a_network_counts_its_addresses_and_waits_for_them() -> None:
    where = world()
    network = put(where, "networks", "net", NET)
    subnet = put(where, "subnets", "sub", SUB)
    address = claim(where, network, "10.0.0.5")
    status: Any = JUDGES["networks"].status(where, network, NOW)
    assert (status.used_addresses, status.free_addresses) == (1, 252)
    assert "1 addresses" in str(JUDGES["networks"].holders(where, network))
    assert "1 addresses" in str(JUDGES["subnets"].holders(where, subnet))
    assert [w[:2] for w in wakes(where, "ipaddresses", address, None)] == [
        ("networks", ("a", "net"))
    ]


def test_overlapping_subnets_and_a_zone_conflict_name_the_older_one() -> None:
    where = world()
    put(where, "networks", "net", NET)
    put(where, "subnets", "one", SUB)
    two = put(where, "subnets", "two", {**SUB, "cidr": "10.0.0.128/25"})
    status: Any = JUDGES["subnets"].status(where, two, NOW)
    message = get_condition(status.conditions, "Stalled").message
    assert message == "spec.cidr 10.0.0.128/25 overlaps 10.0.0.0/24 of subnet one"
    put(where, "hypervisors", "n1", {})
    put(where, "aggregates", "a1", {"hosts": ["n1"], "availabilityZone": "z1"})
    late = put(where, "aggregates", "a2", {"hosts": ["n1"], "availabilityZone": "z2"})
    assert "zone z1 by aggregate a1" in str(JUDGES["aggregates"].judge(where, late)[0].message)


@pytest.mark.parametrize(
    ("cidr", "given", "pools", "want_gateway", "want_capacity"),
    [
        ("10.0.0.0/24", None, [], "10.0.0.1", 253),
        ("10.0.0.0/24", "none", [], None, 254),
        ("10.0.0.0/24", "10.0.0.254", [("10.0.0.10", "10.0.0.19")], "10.0.0.254", 10),
        ("10.0.0.0/30", None, [], "10.0.0.1", 1),
        ("10.0.0.0/31", None, [], None, 2),
        ("2001:db8::/64", None, [], "2001:db8::1", 2**63 - 1),
    ],
)
def test_gateway_and_capacity(
    cidr: str, given: str | None, pools: list[tuple[str, str]], want_gateway: str | None,
    want_capacity: int,
) -> None:  # fmt: skip
    spec = SubnetSpec(
        network={"name": "net"}, cidr=cidr, gateway=given,
        pools=[Pool(start=a, end=b) for a, b in pools],
    )  # fmt: skip
    way = gateway(spec)
    assert (str(way) if way else None, capacity(spec)) == (want_gateway, want_capacity)
    check_subnet(spec, [])


@given(st.sets(st.integers(4097, 4200)), st.uuids())
def test_a_picked_segment_is_free_and_the_same_for_every_leader(
    taken: set[int], uid: object
) -> None:
    def is_taken(_: str, number: int) -> bool:
        return number in taken

    first = pick_segment(str(uid), NetworkSpec(), is_taken)
    assert first == pick_segment(str(uid), NetworkSpec(), is_taken)
    assert first.id not in taken
    assert mtu(NetworkSpec(), first) == 1450


@pytest.mark.parametrize("mode", ["slaac", "dhcpv6-stateless"])
def test_addresses_made_by_guests_need_a_prefix_of_64_bits(mode: str) -> None:
    spec = SubnetSpec(network={"name": "net"}, cidr="fd00::/80", ipv6_ra_mode=mode)
    with pytest.raises(InvalidSpec, match=f"spec.cidr fd00::/80: {mode} needs a prefix of 64"):
        check_subnet(spec, [])
    check_subnet(spec.model_copy(update={"cidr": "fd00::/64"}), [])


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "Accepted"),
        ({"ipv6RAMode": "slaac"}, "Accepted"),
        ({"routes": [{"destination": "fd01::/64", "nextHop": "fd00::9"}]}, "NotSupportedYet"),
    ],
)
def test_ipv6_subnets(more: dict[str, Any], reason: str) -> None:
    where = world()
    put(where, "networks", "net", NET)
    subnet = put(where, "subnets", "six", {**SUB, "cidr": "fd00::/64", **more})
    status: Any = JUDGES["subnets"].status(where, subnet, NOW)
    assert get_condition(status.conditions, "Ready").reason == reason
    assert status.gateway == "fd00::1"


def test_a_taken_segment_is_refused() -> None:
    spec = NetworkSpec(segment=Segment(type="vlan", id=7, physical_network="p"))
    with pytest.raises(InvalidSpec, match=r"spec.segment.id 7 \(vlan\)"):
        pick_segment("u", spec, lambda *_: True)


def test_fingerprints_are_those_of_ssh_keygen() -> None:
    # As printed by ssh-keygen -l -E md5 for this key.
    assert fingerprint("ssh", ED25519) == "10:71:ba:f1:c7:a1:b0:d4:8e:bd:55:98:3b:41:02:3a"


@pytest.mark.parametrize(
    ("plural", "first", "second", "reason"),
    [
        ("subnets", SUB, {**SUB, "cidr": "10.0.0.128/25"}, "Overlap"),
        ("networks", {"id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
         {"id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, "IDTaken"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("uids", [("1", "2"), ("2", "1")])
def test_of_two_made_in_one_second_the_one_that_was_there_stays(
    plural: str, first: dict[str, Any], second: dict[str, Any], reason: str, uids: tuple[str, str]
) -> None:
    where = world()
    put(where, "networks", "net", NET)
    when = {"creationTimestamp": "2026-01-01T00:01:00Z"}
    made = [
        put(where, plural, f"it{uid}", spec, uid=f"{uid * 8}-0000-0000-0000-000000000000", **when)
        for uid, spec in zip(uids, (first, second), strict=True)
    ]
    ready = [{
        "type": "Ready", "status": "True", "reason": "Accepted", "message": "",
        "lastTransitionTime": "2026-01-01T00:01:00Z",
    }]  # fmt: skip
    raw = {"metadata": {**when, "name": made[0].name, "namespace": "a", "uid": made[0].uid,
                        "resourceVersion": "99", "generation": 1},
           "spec": first, "status": {"conditions": ready}}  # fmt: skip
    where.of(plural).observe(raw)
    for name, want in ((made[0].name, "Accepted"), (made[1].name, reason)):
        status: Any = JUDGES[plural].status(where, where.of(plural).get("a", name), NOW)
        told = get_condition(status.conditions, "Ready")
        assert told is not None
        assert told.reason == want


def member(where: World, group: Any, number: int, node: str, incarnation: int = 1) -> Any:
    uid = f"00000000-0000-4000-8000-{number:012d}"
    spec = {
        "instance": {"namespace": "a", "name": f"i{number}", "uid": uid, "id": uid},
        "incarnation": incarnation, "hypervisor": node, "hostname": "i", "vcpus": 1,
        "memoryMiB": 128,
        "serverGroup": {"uid": group.uid, "name": group.name, "policy": group.spec.policy},
    }  # fmt: skip
    return put(where, "guests", f"i{number}-{incarnation}", spec, namespace=f"novakube-node-{node}")


@pytest.mark.parametrize(("policy", "pinned"), [("affinity", ["n1", "n2"]), ("soft-affinity", [])])
def test_a_server_group_knows_its_members_by_their_newest_guests(
    policy: str, pinned: list[str]
) -> None:
    where = world()
    group = put(where, "servergroups", "g", {"policy": policy})
    other = put(where, "servergroups", "h", {"policy": policy})
    member(where, group, 1, "n9")
    member(where, group, 1, "n1", incarnation=2)
    member(where, group, 2, "n2")
    member(where, other, 3, "n3")
    status: Any = JUDGES["servergroups"].status(where, group, NOW)
    assert [(m.name, m.node) for m in status.members] == [("i1", "n1"), ("i2", "n2")]
    assert (status.member_count, status.pinned_hosts) == (2, pinned)


def test_a_guest_that_comes_or_goes_wakes_its_group_once_in_a_while() -> None:
    where = world()
    group = put(where, "servergroups", "g", {"policy": "affinity"})
    guest = member(where, group, 1, "n1")
    woken = [("servergroups", ("a", "g"), 5.0)]
    assert list(wakes(where, "guests", None, guest)) == woken
    assert list(wakes(where, "guests", guest, None)) == woken
    assert list(wakes(where, "guests", guest, guest)) == []


def test_a_host_that_an_aggregate_gave_up_wakes_the_others_that_have_it() -> None:
    where = world()
    old = put(where, "aggregates", "old", {"hosts": ["n1"]})
    put(where, "aggregates", "young", {"hosts": ["n1"]})
    new = replace(old, spec=old.spec.model_copy(update={"hosts": []}))
    assert ("aggregates", ("", "young"), 0.0) in list(wakes(where, "aggregates", old, new))
