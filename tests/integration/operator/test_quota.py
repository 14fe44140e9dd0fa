"""Quotas on the real API server: refused with need, use and limit; never over-run."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from novakube_kit.kube import Json
from novakube_operator.core.quota import FOREIGN_ENTRY_S
from tests.deadlines import EVENT_S, READY_S
from tests.integration.operator.cloud import MERGE, Child, Cloud, condition
from tests.integration.operator.conftest import FLAVOR, IMAGE
from tests.integration.operator.test_create import COALESCED, WEB, guests_of
from tests.ports import free_port
from tests.waiting import wait_until_sync

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGSFGr1qIQIBn5MVFlVB5Io6nNJTDmPFsGkcNQzBBzUf me"
NET: Json = {"network": {"name": "net"}}


def limit(cloud: Cloud, namespace: str, **hard: int) -> None:
    """Sets limits, by making the Quota or changing it."""
    if cloud.get("quotas", "quota", namespace) is None:
        cloud.make("Quota", "quota", {"hard": hard}, namespace)
    else:
        cloud.patch("quotas", "quota", {"spec": {"hard": hard}}, namespace)
    cloud.until("quotas", "quota", namespace, hard=Having(hard))


class Having(dict[str, Any]):
    """Equals every dictionary that has these values."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and all(other.get(k) == v for k, v in self.items())

    __hash__ = None  # type: ignore[assignment]


def exceeded(cloud: Cloud, plural: str, name: str, namespace: str, text: str) -> None:
    """Waits until an object is not accepted, for that reason."""

    def said() -> bool:
        ready = condition(cloud.get(plural, name, namespace) or {}, "Ready")
        return ready.get("reason") == "QuotaExceeded" and text in ready["message"]

    wait_until_sync(said, f"{plural} {name}: {text}", EVENT_S)


def bind(cloud: Cloud, namespace: str) -> str:
    """Binds a namespace to a project of its own."""
    project = uuid.uuid4().hex
    label = {"metadata": {"labels": {"novakube.dev/project-id": project}}}
    cloud.admin.call("PATCH", f"/api/v1/namespaces/{namespace}", label, MERGE)
    wait_until_sync(lambda: cloud.get("quotas", "quota", namespace), "a Quota", EVENT_S)
    return project


INSTANCE_CASES: dict[str, tuple[dict[str, int], str]] = {
    "instances": ({"instances": 1}, "need 1 instances, used 1 of 1"),
    "cores": ({"cores": 1}, "need 1 cores, used 1 of 1"),
    "memory": ({"memoryMiB": 200}, "need 128 MiB of memory, used 128 of 200"),
    "ports": ({"ports": 1}, "need 1 ports, used 1 of 1"),
}


@pytest.mark.parametrize("case", INSTANCE_CASES)
def test_instance_waits_and_goes_on(cloud: Cloud, namespace: str, case: str) -> None:
    hard, text = INSTANCE_CASES[case]
    limit(cloud, namespace, **hard)
    cloud.make("Instance", "one", WEB, namespace)
    cloud.until("instances", "one", namespace, state="Running")
    cloud.make("Instance", "two", WEB, namespace)
    said = cloud.message("two", namespace, "Pending", "quota exceeded")
    assert said == f"quota exceeded: {text} in namespace {namespace}"
    assert guests_of(cloud, "two", namespace) == []
    # Deleting frees; raising lets in.
    cloud.delete("instances", "one", namespace)
    cloud.until("instances", "two", namespace, state="Running")
    cloud.make("Instance", "three", WEB, namespace)
    cloud.message("three", namespace, "Pending", "quota exceeded")
    limit(cloud, namespace, **{name: 10 * value for name, value in hard.items()})
    cloud.until("instances", "three", namespace, state="Running")
    used = cloud.until(
        "quotas", "quota", namespace,
        used=Having(instances=2, cores=2, memoryMiB=256, ports=2), pending=[],
    )  # fmt: skip
    assert condition(used, "Ready")["status"] == "True"


def _next_second(made: Json) -> None:
    """Of objects of one second nobody can tell which is older."""
    second = datetime.fromisoformat(made["metadata"]["creationTimestamp"])
    wait_until_sync(
        lambda: datetime.now(UTC) >= second + timedelta(seconds=1), "the next second", EVENT_S
    )


OBJECTS: dict[str, tuple[str, Json, str]] = {
    "Network": ("networks", {}, "need 1 networks"),
    "Subnet": ("subnets", {**NET, "cidr": "10.21.0.0/24"}, "need 1 subnets"),
    "Port": ("ports", NET, "need 1 ports"),
    "Router": ("routers", {}, "need 1 routers"),
    "FloatingIP": ("floatingIPs", {"externalNetwork": {"name": "x"}}, "need 1 floating IPs"),
    "SecurityGroup": ("securityGroups", {}, "need 1 security groups"),
    "ServerGroup": ("serverGroups", {"policy": "affinity"}, "need 1 server groups"),
    "Image": ("images", IMAGE, "need 1 images"),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_beyond_a_limit_are_not_accepted(cloud: Cloud, namespace: str, kind: str) -> None:
    dimension, spec, text = OBJECTS[kind]
    plural = f"{kind.lower()}s"
    there = len(cloud.list(plural, namespace))
    limit(cloud, namespace, **{dimension: there + 1})
    first = cloud.make(kind, "first", spec, namespace)
    wait_until_sync(
        lambda: condition(cloud.get(plural, "first", namespace) or {}, "Ready") or kind == "Port",
        "judged", EVENT_S,
    )  # fmt: skip
    if kind == "Port":
        _next_second(first)
    if kind == "Subnet":
        spec = {**spec, "cidr": "10.22.0.0/24"}
    cloud.make(kind, "second", spec, namespace)
    exceeded(cloud, plural, "second", namespace, f"{text}, used {there + 1} of {there + 1}")
    assert condition(cloud.get(plural, "first", namespace) or {}, "Ready").get("reason") != (
        "QuotaExceeded"
    )
    cloud.delete(plural, "first", namespace)
    wait_until_sync(
        lambda: (
            condition(cloud.get(plural, "second", namespace) or {}, "Ready")["reason"]
            != "QuotaExceeded"
        ),
        "second accepted",
        EVENT_S,
    )


def test_rules_of_security_groups_add_up(cloud: Cloud, namespace: str) -> None:
    limit(cloud, namespace, securityGroupRules=3)
    rules = [{"direction": "ingress", "description": str(n)} for n in range(2)]
    for name in ("one", "two"):
        cloud.make("SecurityGroup", name, {"rules": rules}, namespace)
        wait_until_sync(
            lambda n=name: condition(cloud.get("securitygroups", n, namespace) or {}, "Ready"),  # type: ignore[misc]
            "judged", EVENT_S,
        )  # fmt: skip
    text = "need 2 security group rules, used 2 of 3"
    exceeded(cloud, "securitygroups", "two", namespace, text)


def test_key_pairs_of_a_user(cloud: Cloud, namespace: str) -> None:
    user = f"user-{namespace}"
    users = [{"userID": user, "hard": {"keyPairs": 1}}]
    cloud.make("Quota", "quota", {"users": users}, namespace)
    spec = {"userID": user, "publicKey": KEY}
    cloud.make("KeyPair", f"{namespace}-a", spec)
    cloud.until_ready("keypairs", f"{namespace}-a", "")
    cloud.make("KeyPair", f"{namespace}-b", spec)
    text = f"need 1 key pairs, used 1 of 1 in the key pairs of user {user}"
    exceeded(cloud, "keypairs", f"{namespace}-b", "", text)
    web = {**WEB, "keys": [{"name": f"{namespace}-b"}], "userID": user}
    cloud.make("Instance", "web", web, namespace)
    cloud.message("web", namespace, "Pending", text)
    cloud.delete("keypairs", f"{namespace}-a")
    cloud.until("instances", "web", namespace, state="Running")


def test_a_port_beyond_the_limit_is_of_no_use(cloud: Cloud, namespace: str) -> None:
    limit(cloud, namespace, ports=1)
    _next_second(cloud.make("Port", "one", NET, namespace))
    cloud.make("Port", "two", NET, namespace)
    exceeded(cloud, "ports", "two", namespace, "need 1 ports, used 1 of 1")
    web = {**WEB, "networks": [{"port": {"name": "two"}}]}
    cloud.make("Instance", "web", web, namespace)
    cloud.message("web", namespace, "Pending", "need 1 ports, used 1 of 1")
    cloud.delete("ports", "one", namespace)
    cloud.until("instances", "web", namespace, state="Running")


PER_INSTANCE: dict[str, tuple[dict[str, int], Json, str]] = {
    "metadata": (
        {"metadataItems": 1}, {"metadata": {"a": "1", "b": "2"}},
        "need 2 metadata items, the limit is 1",
    ),
    "files": (
        {"injectedFiles": 0}, {"files": [{"path": "/a", "content": "YQ=="}]},
        "need 1 files, the limit is 0",
    ),
    "content": (
        {"injectedFileContentBytes": 2}, {"files": [{"path": "/a", "content": "YWJj"}]},
        "need 3 bytes of a file, the limit is 2",
    ),
    "path": (
        {"injectedFilePathBytes": 3}, {"files": [{"path": "/abc", "content": "YQ=="}]},
        "need 4 bytes of a file's path, the limit is 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PER_INSTANCE)
def test_limits_of_one_instance(cloud: Cloud, namespace: str, case: str) -> None:
    hard, spec, text = PER_INSTANCE[case]
    limit(cloud, namespace, **hard)
    cloud.make("Instance", "web", {**WEB, **spec}, namespace)
    cloud.message("web", namespace, "Pending", text)
    limit(cloud, namespace, **dict.fromkeys(hard, -1))
    cloud.until("instances", "web", namespace, state="Running")


def test_members_of_a_server_group(cloud: Cloud, namespace: str) -> None:
    limit(cloud, namespace, serverGroupMembers=1)
    cloud.make("ServerGroup", "group", {"policy": "soft-affinity"}, namespace)
    member = {**WEB, "schedulerHints": {"group": ["group"]}}
    cloud.make("Instance", "one", member, namespace)
    cloud.until("instances", "one", namespace, state="Running")
    cloud.make("Instance", "two", member, namespace)
    cloud.message("two", namespace, "Pending", "need 1 members of the server group, used 1 of 1")
    cloud.delete("instances", "one", namespace)
    cloud.until("instances", "two", namespace, state="Running")


def test_a_users_limit_inside_the_projects(cloud: Cloud, namespace: str) -> None:
    users = [{"userID": "u1", "hard": {"instances": 1}}]
    cloud.make("Quota", "quota", {"users": users}, namespace)
    for name, user in (("one", "u1"), ("other", "u2")):
        cloud.make("Instance", name, {**WEB, "userID": user}, namespace)
        cloud.until("instances", name, namespace, state="Running")
    cloud.make("Instance", "two", {**WEB, "userID": "u1"}, namespace)
    said = cloud.message("two", namespace, "Pending", "quota exceeded")
    assert "need 1 instances, used 1 of 1" in said
    assert said.endswith("(user u1)")
    by_user = [
        {"userID": user, "used": Having(instances=1, cores=1, memoryMiB=128)}
        for user in ("u1", "u2")
    ]
    cloud.until("quotas", "quota", namespace, usedByUser=by_user)


def test_no_limits_without_project_and_quota(cloud: Cloud, namespace: str) -> None:
    for number in range(11):
        cloud.make("Instance", f"web{number}", WEB, namespace)
    for number in range(11):
        cloud.until("instances", f"web{number}", namespace, READY_S, state="Running")
    assert cloud.list("quotas", namespace) == []


def test_defaults_of_the_class_hold_for_a_bound_namespace(cloud: Cloud, namespace: str) -> None:
    body = {
        "apiVersion": "novakube.dev/v1alpha1", "kind": "QuotaClass",
        "metadata": {"name": "default"}, "spec": {"hard": {"instances": 0}},
    }  # fmt: skip
    cloud.admin.call("POST", cloud.path("quotaclasses"), body)
    try:
        project = bind(cloud, namespace)
        cloud.until("quotas", "quota", namespace, hard=Having(instances=0, cores=20))
        cloud.make("Instance", "web", WEB, namespace)
        text = f"need 1 instances, used 0 of 0 in project {project}"
        cloud.message("web", namespace, "Pending", text)
        cloud.patch("quotaclasses", "default", {"spec": {"hard": {"instances": 1}}})
        cloud.until("instances", "web", namespace, state="Running")
    finally:
        cloud.admin.call("DELETE", cloud.path("quotaclasses", "default"))


def test_what_was_written_ahead_for_a_create_that_fails_is_free_again(
    cloud: Cloud, namespace: str
) -> None:
    limit(cloud, namespace, instances=1)
    outside = {**WEB, "networks": [{**NET, "address": "10.99.0.5"}]}
    cloud.make("Instance", "bad", outside, namespace)
    cloud.message("bad", namespace, "Error", "10.99.0.5")
    cloud.make("Instance", "good", WEB, namespace)
    cloud.until("instances", "good", namespace, state="Running")
    cloud.until("quotas", "quota", namespace, pending=[], used=Having(instances=1))


def test_writes_of_a_create_with_a_quota(cloud: Cloud, namespace: str) -> None:
    bind(cloud, namespace)
    cloud.make("Instance", "warm", WEB, namespace)
    cloud.until("instances", "warm", namespace, state="Running")
    cloud.until("quotas", "quota", namespace, pending=[], used=Having(instances=1))
    before = cloud.writes()
    cloud.make("Instance", "web", WEB, namespace)
    cloud.until("instances", "web", namespace, state="Running")
    made = cloud.writes() - before
    ours = {name: n for name, n in made.items() if name.split(" ")[1] not in COALESCED}
    print(f"writes of a create: {sum(ours.values())} {ours}")
    assert ours["PATCH quotas/status"] >= 1
    # Not of the create: a rollup of the use (one in 5 s), Building on a slow machine.
    more = ours["PATCH quotas/status"] - 1 + (ours["PATCH instances/status"] == 2)
    assert sum(ours.values()) - more <= 8, ours


def _crowd(cloud: Cloud, namespace: str, many: int, room: int, again_s: float = READY_S) -> None:
    """Of many created at once exactly ``room`` run; deleting those lets the next in.

    ``again_s``: for how long room may be held that nobody uses.
    """
    for number in range(many):
        cloud.make("Instance", f"c{number}", WEB, namespace)

    def settled() -> list[str] | None:
        states = {i["metadata"]["name"]: i["status"] for i in cloud.list("instances", namespace)}
        running = [name for name, status in states.items() if status["state"] == "Running"]
        guests = [g for n in states for g in guests_of(cloud, n, namespace)]
        # Two incarnations of one Instance are one Instance.
        made = {g["spec"]["instance"]["uid"] for g in guests}
        assert len(made) <= room, [g["metadata"]["name"] for g in guests]
        waiting = sum(
            any(c["reason"] == "QuotaExceeded" for c in status.get("conditions", []))
            for status in states.values()
        )
        return running if len(running) == room and waiting == many - room else None

    running = wait_until_sync(settled, f"{room} of {many} run, the others wait", READY_S)
    assert running is not None
    for name in running:
        cloud.delete("instances", name, namespace)
        cloud.gone("instances", name, namespace)

    def next_ones() -> bool:
        found = cloud.list("instances", namespace)
        guests = [g for i in found for g in guests_of(cloud, i["metadata"]["name"], namespace)]
        assert len({g["spec"]["instance"]["uid"] for g in guests}) <= room
        return sum(i["status"]["state"] == "Running" for i in found) == min(room, many - room)

    wait_until_sync(next_ones, "the next ones run", again_s)


def test_many_at_once_never_over_run(cloud: Cloud, namespace: str) -> None:
    limit(cloud, namespace, instances=4)
    _crowd(cloud, namespace, many=12, room=4)


@pytest.fixture
def second_leader(cloud: Cloud, tmp_path: Path) -> Iterator[Child]:
    """A second operator that believes it leads, beside the one that does."""
    env = cloud.operator.env | {
        "NOVAKUBE_HTTP": f"127.0.0.1:{free_port()}",
        "NOVAKUBE_DATABASE_URL": f"sqlite:///{tmp_path / 'second.sqlite'}",
    }
    second = Child("tests.integration.operator.usurper", env, tmp_path / "second.log")
    second.start()
    try:
        wait_until_sync(
            lambda: second.check() or "usurping" in second.log.read_text(), "a usurper", READY_S
        )
        yield second
        second.check()
    finally:
        second.end(signal.SIGKILL)


def test_two_leaders_at_once_never_over_run(
    cloud: Cloud, namespace: str, second_leader: Child
) -> None:
    cloud.make("Flavor", f"two-{namespace}", {**FLAVOR, "vcpus": 2})
    limit(cloud, namespace, instances=4)
    # What both admitted may end by its age only: neither knows how far the other is.
    _crowd(cloud, namespace, many=12, room=4, again_s=READY_S + 2 * FOREIGN_ENTRY_S)
    second_leader.check()
