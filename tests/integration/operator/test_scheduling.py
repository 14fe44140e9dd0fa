"""Aggregates, zones, server groups, hints and failing nodes: three more nodes with real agents."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from novakube_kit.kube import Json
from tests.deadlines import EVENT_S, READY_S
from tests.integration.operator.cloud import BUILD_FAILURES_MAX, NODE, Cloud, condition
from tests.integration.operator.conftest import IMAGE
from tests.integration.operator.test_create import WEB
from tests.waiting import wait_until_sync

FAILING = {"failures": {"start": "simulated: the machine check failed"}}
SMALL = {"vcpus": 4, "memory_mib": 1536, "disk_gib": 100}
EAST: Json = {"flavor": {"name": "tiny"}, "image": {"name": "guest"}, "availabilityZone": "east"}


@pytest.fixture(scope="module")
def nodes(cloud: Cloud) -> Iterator[None]:
    """n2 and n3 in zone east, n4, where every start fails, in zone broken."""
    small = json.dumps(SMALL)
    cloud.make("Aggregate", "east", {"availabilityZone": "east", "hosts": ["n2", "n3"]})
    cloud.make("Aggregate", "broken", {"availabilityZone": "broken", "hosts": ["n4"]})
    for node, fake in (("n2", small), ("n3", small), ("n4", json.dumps(SMALL | FAILING))):
        cloud.add_node(node, NOVAKUBE_FAKE=fake)
    try:
        for node in ("n2", "n3", "n4"):
            cloud.until_schedulable(node)
        for name in ("east", "broken"):
            cloud.until_ready("aggregates", name, "")
        for node, zone in (("n2", "east"), ("n3", "east"), ("n4", "broken")):
            cloud.until("hypervisors", node, "", availabilityZone=zone)
        yield
    finally:
        for node in ("n2", "n3", "n4"):
            cloud.retire_node(node)
        for name in ("east", "broken"):
            cloud.delete("aggregates", name)


@pytest.fixture
def space(cloud: Cloud, nodes: None, empty: str) -> Iterator[str]:
    """A namespace with an image; its Instances end with the test, their nodes are free again."""
    cloud.make("Image", "guest", IMAGE, empty)
    cloud.until_ready("images", "guest", empty)
    yield empty
    names = [item["metadata"]["name"] for item in cloud.list("instances", empty)]
    for name in names:
        cloud.delete("instances", name, empty)
    for name in names:
        cloud.gone("instances", name, empty)


def in_group(group: str, **more: Any) -> Json:
    return {**EAST, "schedulerHints": {"group": [group]}, **more}


def running(cloud: Cloud, name: str, namespace: str, deadline_s: float = EVENT_S) -> str:
    """The node, once it runs."""
    found = cloud.until("instances", name, namespace, deadline_s, state="Running")
    return str(found["status"]["node"])


def test_anti_affinity_parts_its_members_and_says_why_no_more_fit(cloud: Cloud, space: str) -> None:
    cloud.make("ServerGroup", "apart", {"policy": "anti-affinity"}, space)
    for name in ("a", "b"):
        cloud.make("Instance", name, in_group("apart"), space)
    assert {running(cloud, name, space) for name in ("a", "b")} == {"n2", "n3"}
    cloud.make("Instance", "c", in_group("apart"), space)
    text = cloud.message("c", space, "Pending", "server group")
    assert "2 not in zone east, 2 with 1 of server group apart already" in text
    group = cloud.until("servergroups", "apart", space, memberCount=2)
    assert {(m["name"], m["node"]) for m in group["status"]["members"]} == {
        (name, running(cloud, name, space)) for name in ("a", "b")
    }
    assert not group["status"].get("pinnedHosts")
    cloud.delete("instances", "a", space)
    running(cloud, "c", space)


def test_affinity_gathers_its_members_and_pins_their_node(cloud: Cloud, space: str) -> None:
    cloud.make("ServerGroup", "near", {"policy": "affinity"}, space)
    group = cloud.get("servergroups", "near", space) or {}
    cloud.make("Instance", "a", in_group("near"), space)
    # By its OpenStack id too, and against the weighers' will: n2 and n3 are alike.
    cloud.make("Instance", "b", in_group(group["metadata"]["uid"]), space)
    node = running(cloud, "a", space)
    assert running(cloud, "b", space) == node
    cloud.until("servergroups", "near", space, memberCount=2, pinnedHosts=[node])


def test_membership_is_settled_when_the_instance_is_accepted(cloud: Cloud, space: str) -> None:
    cloud.make("Instance", "a", in_group("late"), space)
    where = f"{space}/late"
    text = cloud.message("a", space, "Pending", where)
    assert text == f"spec.schedulerHints.group: server group {where} does not exist"
    cloud.make("ServerGroup", "late", {"policy": "soft-anti-affinity"}, space)
    running(cloud, "a", space)
    cloud.patch("instances", "a", {"spec": {"schedulerHints": {"group": ["other"]}}}, space)
    found = cloud.until("instances", "a", space, observedGeneration=2)
    assert found["status"]["state"] == "Running"
    assert found["status"]["serverGroup"]["name"] == "late"


def test_the_node_has_the_last_word_and_an_alternate_follows(cloud: Cloud, space: str) -> None:
    """Two leaders placed at once: the second Guest is what the other one wrote meanwhile."""
    cloud.make("ServerGroup", "apart", {"policy": "anti-affinity"}, space)
    cloud.make("Instance", "a", in_group("apart"), space)
    node = running(cloud, "a", space)
    mailbox = f"novakube-node-{node}"
    first = next(
        guest for guest in cloud.list("guests", mailbox)
        if guest["spec"]["instance"]["namespace"] == space
    )  # fmt: skip
    cloud.operator.end(signal.SIGKILL)
    second = cloud.make("Instance", "b", in_group("apart"), space)
    uid = second["metadata"]["uid"]
    identity = {"namespace": space, "name": "b", "uid": uid, "id": uid}
    spec = {**first["spec"], "instance": identity, "hostname": "b", "epoch": 1000000}
    cloud.make("Guest", f"{uid}-1", spec, mailbox)

    def answered() -> str | None:
        status = (cloud.get("guests", f"{uid}-1", mailbox) or {}).get("status", {})
        return status.get("reason") if status.get("phase") == "Rejected" else None

    try:
        assert wait_until_sync(answered, "the node's answer", EVENT_S) == "ServerGroupPolicy"
        guest = cloud.get("guests", f"{uid}-1", mailbox) or {}
        assert guest["status"]["message"] == (
            "server group apart (anti-affinity) has 1 of 1 members here already"
        )
    finally:
        cloud.operator.start()
    assert running(cloud, "b", space, READY_S) == {"n2": "n3", "n3": "n2"}[node]
    found = cloud.get("instances", "b", space) or {}
    assert found["status"]["refusedNodes"] == [node]


def test_hints_same_and_different_host(cloud: Cloud, space: str) -> None:
    cloud.make("Instance", "a", EAST, space)
    node = running(cloud, "a", space)
    for name, hint in (("with", "same_host"), ("without", "different_host")):
        cloud.make("Instance", name, {**EAST, "schedulerHints": {hint: ["a"]}}, space)
    assert running(cloud, "with", space) == node
    assert running(cloud, "without", space) != node


def test_a_query_that_cannot_be_read_is_an_error(cloud: Cloud, space: str) -> None:
    cloud.make("Instance", "a", {**EAST, "schedulerHints": {"query": ['["like"]']}}, space)
    text = cloud.message("a", space, "Error", "query")
    assert text.startswith('spec.schedulerHints query: ["like"] is no list that begins with')
    hints = {"query": ['["=", "$host", "n3"]']}
    cloud.patch("instances", "a", {"spec": {"schedulerHints": hints}}, space)
    assert running(cloud, "a", space) == "n3"


def test_metadata_of_aggregates_chooses_and_its_change_wakes(cloud: Cloud, space: str) -> None:
    flavor = f"fast-{space}"
    specs = {"aggregate_instance_extra_specs:ssd": "true"}
    sizes = {"vcpus": 1, "memoryMiB": 128, "rootGiB": 1, "extraSpecs": specs}
    cloud.make("Flavor", flavor, sizes)
    cloud.make("Instance", "a", {**EAST, "flavor": {"name": flavor}}, space)
    cloud.message("a", space, "Pending", "2 in no aggregate with ssd true")
    cloud.make("Aggregate", "fast", {"hosts": ["n3"], "metadata": {"ssd": "true"}})
    try:
        assert running(cloud, "a", space) == "n3"
    finally:
        cloud.delete("aggregates", "fast")


def test_of_two_zones_of_a_node_the_older_holds(cloud: Cloud, space: str) -> None:
    cloud.make("Aggregate", "first", {"hosts": ["n4", "nowhere"]})
    cloud.make("Aggregate", "young", {"availabilityZone": "west", "hosts": ["n4"]})
    try:

        def said(name: str, reason: str) -> Json | None:
            found = cloud.get("aggregates", name) or {}
            return found if condition(found, "Ready").get("reason") == reason else None

        young = wait_until_sync(lambda: said("young", "ZoneConflict"), "conflict", EVENT_S)
        assert young is not None
        assert condition(young, "Stalled")["status"] == "True"
        assert condition(young, "Ready")["message"] == (
            "host n4 is in zone broken by aggregate broken, which is older"
        )
        missing = wait_until_sync(lambda: said("first", "HostNotFound"), "missing", EVENT_S)
        assert missing is not None
        assert missing["status"]["hostCount"] == 1
        cloud.until("hypervisors", "n4", "", availabilityZone="broken")
        # The older one gives the node up: the younger takes it.
        cloud.patch("aggregates", "broken", {"spec": {"hosts": []}})
        cloud.until("hypervisors", "n4", "", availabilityZone="west")
        cloud.until_ready("aggregates", "young", "")
        cloud.patch("aggregates", "broken", {"spec": {"hosts": ["n4"]}})
    finally:
        for name in ("young", "first"):
            cloud.delete("aggregates", name)
    cloud.until("hypervisors", "n4", "", availabilityZone="broken")


def test_figures_that_move_write_nothing(cloud: Cloud, space: str) -> None:
    """A Pending Instance is decided on anew when room changes, and written when the cause does."""
    flavor = f"large-{space}"
    cloud.make("Flavor", flavor, {"vcpus": 1, "memoryMiB": 1100, "rootGiB": 1})
    cloud.make("Instance", "large", {**EAST, "flavor": {"name": flavor}}, space)
    text = cloud.message("large", space, "Pending", "memory")
    assert "2 short of 1100 MiB memory (most free 1024 on n2)" in text
    before = cloud.get("instances", "large", space)
    cloud.make("Instance", "a", EAST, space)
    cloud.make("Instance", "b", EAST, space)
    for name in ("a", "b"):
        running(cloud, name, space)
    # Room came back: the Instance was looked at, and the second cause below is seen by it.
    cloud.delete("instances", "a", space)
    cloud.gone("instances", "a", space)
    assert cloud.get("instances", "large", space) == before
    cloud.patch("hypervisors", "n2", {"spec": {"maintenance": True}})
    try:
        text = cloud.message("large", space, "Pending", "maintenance")
        assert "1 disabled (maintenance)" in text
        assert "1 short of 1100 MiB memory" in text
    finally:
        cloud.patch("hypervisors", "n2", {"spec": {"maintenance": False}})


def test_builds_that_fail_in_a_row_disable_the_node(cloud: Cloud, space: str) -> None:
    broken = {**EAST, "availabilityZone": "broken"}
    for number in range(BUILD_FAILURES_MAX):
        cloud.make("Instance", f"i{number}", broken, space)
        # The last failure disables the node, which is the first reason then.
        last = number == BUILD_FAILURES_MAX - 1
        why = "builds in a row failed" if last else "refused it before"
        cloud.message(f"i{number}", space, "Pending", why)

    def schedulable() -> Json | None:
        found = condition(cloud.get("hypervisors", "n4") or {}, "Schedulable")
        return found if found.get("reason") == "BuildFailures" else None

    found = wait_until_sync(schedulable, "n4 disabled", EVENT_S)
    assert found is not None
    assert found["message"] == f"disabled ({BUILD_FAILURES_MAX} builds in a row failed)"
    hypervisor = cloud.get("hypervisors", "n4") or {}
    assert hypervisor["spec"].get("enabled", True) is True
    assert hypervisor["status"]["buildFailures"] == BUILD_FAILURES_MAX
    cloud.make("Instance", "late", broken, space)
    text = cloud.message("late", space, "Pending", "builds")
    assert f"1 disabled ({BUILD_FAILURES_MAX} builds in a row failed)" in text
    # The count outlives the operator.
    cloud.operator.end(signal.SIGKILL)
    cloud.operator.start()
    cloud.make("Instance", "later", broken, space)
    cloud.until("instances", "later", space, READY_S, state="Pending")
    assert schedulable() is not None
    # An administrator has seen to it.
    cloud.patch("hypervisors", "n4", {"spec": {"enabled": False}})
    cloud.until("hypervisors", "n4", "", buildFailures=0)
    cloud.patch("hypervisors", "n4", {"spec": {"enabled": True}})
    cloud.until_schedulable("n4")


def test_columns(cloud: Cloud, space: str) -> None:
    spec = {"policy": "affinity"}
    cloud.make("ServerGroup", "near", spec, space)
    cloud.make("Instance", "a", in_group("near"), space)
    node = running(cloud, "a", space)
    cloud.until("servergroups", "near", space, memberCount=1)

    def columns(*what: str) -> dict[str, str]:
        head, row = cloud.kubectl("get", *what).splitlines()
        return dict(zip(head.split(), row.split(), strict=True))

    group = columns("servergroups", "near", "-n", space)
    assert (group["POLICY"], group["MEMBERS"]) == ("affinity", "1")
    assert group["PINNEDHOSTS"] == json.dumps([node])
    aggregate = columns("aggregates", "east")
    assert (aggregate["READY"], aggregate["ZONE"], aggregate["HOSTS"]) == ("True", "east", "2")


def test_a_network_of_nodes_in_a_hint_decides_or_is_refused(cloud: Cloud, namespace: str) -> None:
    address = (cloud.get("hypervisors", NODE) or {})["status"]["address"]
    hints = {"build_near_host_ip": [address], "cidr": ["/32"]}
    cloud.make("Instance", "near", WEB | {"schedulerHints": hints}, namespace)
    cloud.until("instances", "near", namespace, state="Running")
    hints = {"build_near_host_ip": ["198.51.100.1"]}
    cloud.make("Instance", "far", WEB | {"schedulerHints": hints}, namespace)
    cloud.message("far", namespace, "Pending", "outside 198.51.100.0/24 of hint build_near_host_ip")
    hints = {"build_near_host_ip": ["n1"]}
    cloud.make("Instance", "wrong", WEB | {"schedulerHints": hints}, namespace)
    cloud.message("wrong", namespace, "Error", "'n1/24' is no network such as 192.0.2.1/24")
