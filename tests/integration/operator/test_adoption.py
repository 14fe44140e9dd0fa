"""A Guest's object goes; its VM does not, and is found again."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from novakube_kit.kube import Json
from tests.deadlines import EVENT_S, READY_S
from tests.integration.operator.cloud import MAILBOX, NODE, Cloud, condition
from tests.integration.operator.test_create import WEB, guests_of
from tests.waiting import wait_until_sync


@pytest.fixture
def web(cloud: Cloud, namespace: str) -> Json:
    """A running Instance ``web``."""
    cloud.make("Instance", "web", WEB, namespace)
    return cloud.until("instances", "web", namespace, state="Running")


def domain(cloud: Cloud, instance: Json) -> Json | None:
    """The simulated host's own record of the domain, past every Kubernetes object."""
    stored = json.loads(cloud.host_file.read_text())
    found: Json | None = stored["domains"].get(instance["status"]["id"])
    return found


def starts(cloud: Cloud, instance: Json) -> int:
    """How often the host started the domain; as QEMU's pid, it tells one life from the next."""
    return int(json.loads(cloud.host_file.read_text())["starts"].get(instance["status"]["id"], 0))


def strip(cloud: Cloud, name: str) -> None:
    cloud.patch("guests", name, {"metadata": {"finalizers": []}}, MAILBOX)


def lose_guests(cloud: Cloud, namespace: str, *, stripped: bool) -> list[str]:
    """``kubectl delete guests --all``, without waiting; finalizers stripped too."""
    names = [g["metadata"]["name"] for g in guests_of(cloud, "web", namespace)]
    for name in names:
        cloud.delete("guests", name, MAILBOX)
        if stripped:
            strip(cloud, name)
    return names


def adopted(cloud: Cloud, namespace: str, incarnation: int) -> Json:
    """The Instance once its only Guest is the incarnation that took over."""

    def there() -> Json | None:
        found = guests_of(cloud, "web", namespace)
        alone = len(found) == 1 and found[0]["spec"]["incarnation"] == incarnation
        return found[0] if alone and found[0]["status"].get("phase") == "Ready" else None

    guest = wait_until_sync(there, f"incarnation {incarnation} alone", READY_S)
    assert guest is not None
    return cloud.until(
        "instances", "web", namespace, state="Running", guest=guest["metadata"]["name"]
    )


@pytest.mark.parametrize("stripped", [False, True], ids=["deleted", "finalizers stripped"])
def test_a_lost_guest_is_made_again_around_the_same_vm(
    cloud: Cloud, web: Json, namespace: str, stripped: bool
) -> None:
    before, lives = domain(cloud, web), starts(cloud, web)
    assert before is not None
    for round in (2, 3):
        lose_guests(cloud, namespace, stripped=stripped)
        found = adopted(cloud, namespace, round)
        now = domain(cloud, web)
        assert now is not None
        assert (now["state"], starts(cloud, web)) == ("Running", lives)
        assert found["status"]["addresses"] == web["status"]["addresses"]
        assert condition(found, "Ready")["status"] == "True"
    cloud.delete("instances", "web", namespace)
    cloud.gone("instances", "web", namespace)
    assert domain(cloud, web) is None
    assert cloud.list("ipaddresses", namespace) == []


def test_the_nodes_report_tells_an_operator_that_was_away(
    cloud: Cloud, web: Json, namespace: str
) -> None:
    """Nobody saw the Guest go: the next incarnation is made from the Instance's copies."""
    lives = starts(cloud, web)
    old = guests_of(cloud, "web", namespace)[0]
    assert cloud.operator.end(signal.SIGTERM) == 0
    try:
        lose_guests(cloud, namespace, stripped=True)
        wait_until_sync(lambda: strays(cloud), "the node reports it", EVENT_S)
    finally:
        cloud.operator.start()
    found = adopted(cloud, namespace, 2)
    new = guests_of(cloud, "web", namespace)[0]
    for field in ("nics", "disks", "memoryMiB", "hostname"):
        assert new["spec"][field] == old["spec"][field]
    assert new["status"]["adopted"] == old["metadata"]["uid"]
    assert (starts(cloud, web), found["status"]["state"]) == (lives, "Running")


def test_an_instance_that_vanished_is_taken_over_by_one_of_its_id(
    cloud: Cloud, web: Json, namespace: str
) -> None:
    """No order: its Guest is let go, its VM is reported, and goes with its new Instance."""
    lives, id = starts(cloud, web), web["status"]["id"]
    cloud.patch("instances", "web", {"metadata": {"finalizers": None}}, namespace)
    cloud.delete("instances", "web", namespace)
    wait_until_sync(
        lambda: any(item["instanceID"] == id for item in strays(cloud)), "reported", EVENT_S
    )
    assert guests_of(cloud, "web", namespace) == []
    cloud.make("Instance", "again", {**WEB, "id": id}, namespace)
    found = cloud.until("instances", "again", namespace, state="Running")
    assert (found["status"]["id"], starts(cloud, web)) == (id, lives)
    cloud.delete("instances", "again", namespace)
    cloud.gone("instances", "again", namespace)
    assert domain(cloud, web) is None


def strays(cloud: Cloud) -> list[Any]:
    report = cloud.get("hypervisorreports", "node", MAILBOX) or {}
    return list(report.get("status", {}).get("orphans", []))


def test_deletion_reaches_a_vm_without_a_guest(cloud: Cloud, web: Json, namespace: str) -> None:
    """The operator does not know the Guest any more when the Instance is deleted."""
    assert cloud.operator.end(signal.SIGTERM) == 0
    try:
        lose_guests(cloud, namespace, stripped=True)
        wait_until_sync(lambda: strays(cloud), "the node reports it", EVENT_S)
        cloud.delete("instances", "web", namespace)
        assert domain(cloud, web) is not None
    finally:
        cloud.operator.start()
    wait_until_sync(lambda: cloud.get("instances", "web", namespace) is None, "web gone", READY_S)
    assert domain(cloud, web) is None
    wait_until_sync(lambda: not strays(cloud), "nothing reported", EVENT_S)


def test_a_guest_stripped_while_its_instance_is_deleted(
    cloud: Cloud, web: Json, namespace: str
) -> None:
    cloud.agent.end(signal.SIGKILL)
    try:
        cloud.delete("instances", "web", namespace)
        wait_until_sync(
            lambda: guests_of(cloud, "web", namespace)[0]["spec"].get("teardown"),
            "teardown ordered", EVENT_S,
        )  # fmt: skip
        lose_guests(cloud, namespace, stripped=True)
    finally:
        cloud.agent.start()
    wait_until_sync(lambda: cloud.get("instances", "web", namespace) is None, "web gone", READY_S)
    assert domain(cloud, web) is None


def test_a_vm_of_nobody_is_kept_alarmed_and_destroyed_on_an_order(
    cloud: Cloud, web: Json, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Instance and Guest stripped of their finalizers and gone: nothing is destroyed for that."""
    assert cloud.operator.end(signal.SIGTERM) == 0
    try:
        cloud.patch("instances", "web", {"metadata": {"finalizers": []}}, namespace)
        cloud.delete("instances", "web", namespace)
        cloud.gone("instances", "web", namespace)
        lose_guests(cloud, namespace, stripped=True)
    finally:
        cloud.operator.start()
    lives = starts(cloud, web)

    def alarmed() -> bool:
        owned = condition(cloud.get("hypervisors", NODE) or {}, "DomainsOwned")
        return owned.get("status") == "False" and f"{namespace}/web" in owned["message"]

    wait_until_sync(alarmed, "the Hypervisor says it", READY_S)
    wait_until_sync(lambda: warned(cloud, "OrphanDomains"), "an Event", EVENT_S)
    now = domain(cloud, web)
    assert now is not None
    assert (now["state"], starts(cloud, web)) == ("Running", lives)
    claims = [item["spec"]["address"] for item in cloud.list("ipaddresses", namespace)]
    assert claims == [web["status"]["addresses"][0]["address"]]
    id = web["status"]["id"]
    cloud.manage("vm", "orphans")
    assert f"{NODE}    {id}  {namespace}/web  Running" in capsys.readouterr().out
    cloud.manage("vm", "destroy", NODE, id)
    wait_until_sync(lambda: domain(cloud, web) is None, "domain gone", READY_S)
    wait_until_sync(
        lambda: not (cloud.get("hypervisors", NODE) or {})["status"].get("orphans"),
        "nothing left to report", READY_S,
    )  # fmt: skip
    with pytest.raises(SystemExit):
        cloud.manage("vm", "destroy", NODE, id)


def warned(cloud: Cloud, reason: str) -> bool:
    events = cloud.admin.call("GET", "/api/v1/namespaces/default/events")["items"]
    return any(item["reason"] == reason for item in events)


def uid_of(obj: Json) -> str:
    return str(obj["metadata"]["uid"])
