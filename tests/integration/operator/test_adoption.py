"""A Guest's object goes; its VM does not, and is found again."""

from __future__ import annotations

import io
import json
import signal
from typing import Any

import pytest

from novakube_kit.kube import Json
from tests.deadlines import EVENT_S, READY_S
from tests.integration.operator.cloud import MAILBOX, NODE, Cloud, condition
from tests.integration.operator.conftest import FLAVOR
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


def orphaned(cloud: Cloud, web: Json, namespace: str) -> None:
    """Instance and Guest lose their finalizers and go: that is no order, the VM is nobody's."""
    assert cloud.operator.end(signal.SIGTERM) == 0
    try:
        cloud.patch("instances", "web", {"metadata": {"finalizers": []}}, namespace)
        cloud.delete("instances", "web", namespace)
        cloud.gone("instances", "web", namespace)
        lose_guests(cloud, namespace, stripped=True)
    finally:
        cloud.operator.start()

    def alarmed() -> bool:
        owned = condition(cloud.get("hypervisors", NODE) or {}, "DomainsOwned")
        return owned.get("status") == "False" and f"{namespace}/web" in owned["message"]

    wait_until_sync(alarmed, "the Hypervisor says it", READY_S)


def claims(cloud: Cloud, namespace: str) -> dict[str, str]:
    """Claimed addresses, each with the UID of the Instance that holds it."""
    specs = [item["spec"] for item in cloud.list("ipaddresses", namespace)]
    return {spec["address"]: spec["claim"]["uid"] for spec in specs}


def taps(cloud: Cloud) -> set[str]:
    """What the host's NICs are plumbed for."""
    return set(json.loads(cloud.host_file.read_text())["nics"])


def test_a_vm_of_nobody_is_kept_alarmed_and_destroyed_on_an_order(
    cloud: Cloud, web: Json, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lives, id = starts(cloud, web), web["status"]["id"]
    orphaned(cloud, web, namespace)
    wait_until_sync(lambda: warned(cloud, "OrphanDomains"), "an Event", EVENT_S)
    now = domain(cloud, web)
    assert now is not None
    assert (now["state"], starts(cloud, web)) == ("Running", lives)
    assert list(claims(cloud, namespace)) == [web["status"]["addresses"][0]["address"]]
    cloud.make("Instance", "other", WEB, namespace)
    other = cloud.until("instances", "other", namespace, state="Running")
    assert other["status"]["addresses"][0]["address"] not in (
        item["address"] for item in web["status"]["addresses"]
    )
    cloud.manage("vm", "orphans")
    assert f"{NODE}    {id}  {namespace}/web  Running" in capsys.readouterr().out
    cloud.manage("vm", "destroy", id, "--node", NODE, "--yes")
    assert capsys.readouterr().out == (
        f"destroyed: domain {id} ({namespace}/web, Running) on {NODE}, with its disks\n"
    )
    assert domain(cloud, web) is None
    assert domain(cloud, other) is not None
    assert not (cloud.get("hypervisors", NODE) or {})["status"].get("orphans")
    assert set(claims(cloud, namespace).values()) == {uid_of(other)}
    assert len(cloud.list("ports", namespace)) == 1


def test_a_vm_of_nobody_is_taken_over_with_its_addresses(
    cloud: Cloud, web: Json, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lives, before, id = starts(cloud, web), taps(cloud), web["status"]["id"]
    orphaned(cloud, web, namespace)
    cloud.manage("vm", "adopt", id, "--node", NODE, "--name", "again")
    address = web["status"]["addresses"][0]["address"]
    assert capsys.readouterr().out == (
        f"instance {namespace}/again has taken over domain {id} on {NODE}: Running, {address}\n"
    )
    again = cloud.get("instances", "again", namespace)
    assert again is not None
    assert again["spec"]["networks"] == [{"network": {"name": "net"}}]
    now = domain(cloud, again)
    assert now is not None
    assert (now["state"], starts(cloud, again), taps(cloud)) == ("Running", lives, before)
    kept = ("address", "mac", "network")
    assert [[a[field] for field in kept] for a in again["status"]["addresses"]] == [
        [a[field] for field in kept] for a in web["status"]["addresses"]
    ]
    assert claims(cloud, namespace) == {address: uid_of(again)}
    (port,) = cloud.list("ports", namespace)
    assert port["metadata"]["ownerReferences"][0]["uid"] == uid_of(again)
    cloud.delete("instances", "again", namespace)
    cloud.gone("instances", "again", namespace)
    assert domain(cloud, again) is None
    assert cloud.list("ipaddresses", namespace) == cloud.list("ports", namespace) == []
    assert len(before - taps(cloud)) == 1


def test_a_machine_whose_claims_are_lost_keeps_its_address(
    cloud: Cloud, web: Json, namespace: str
) -> None:
    """As after a restored etcd: no claim, no Port, and a new create comes first."""
    orphaned(cloud, web, namespace)
    for plural in ("ipaddresses", "ports"):
        for item in cloud.list(plural, namespace):
            name = item["metadata"]["name"]
            if not item["metadata"].get("deletionTimestamp"):
                cloud.delete(plural, name, namespace)
            cloud.patch(plural, name, {"metadata": {"finalizers": []}}, namespace)
    address = web["status"]["addresses"][0]["address"]
    cloud.make("Instance", "other", WEB, namespace)
    other = cloud.until("instances", "other", namespace, state="Running")
    assert other["status"]["addresses"][0]["address"] != address
    wish = WEB | {"networks": [{"network": {"name": "net"}, "address": address}]}
    cloud.make("Instance", "thief", wish, namespace)
    cloud.message("thief", namespace, "Pending", f"by a domain on {NODE} that belongs to no")
    cloud.delete("instances", "thief", namespace)
    cloud.gone("instances", "thief", namespace)
    cloud.manage("vm", "adopt", web["status"]["id"], "--node", NODE)
    again = cloud.get("instances", "web", namespace)
    assert again is not None
    assert again["status"]["addresses"][0]["mac"] == web["status"]["addresses"][0]["mac"]
    assert claims(cloud, namespace)[address] == uid_of(again)


def test_a_manifest_with_its_id_takes_it_over_once_all_is_there(
    cloud: Cloud, web: Json, namespace: str
) -> None:
    """As GitOps applies it again, in any order."""
    lives, before = starts(cloud, web), taps(cloud)
    orphaned(cloud, web, namespace)
    wish = WEB | {"flavor": {"name": "later"}, "id": web["status"]["id"]}
    cloud.make("Instance", "again", wish, namespace)
    told = f"the machine on {NODE} is not taken over: spec.flavor: flavor later does not exist"
    cloud.message("again", namespace, "Pending", told)
    cloud.make("Flavor", "later", FLAVOR)
    again = cloud.until("instances", "again", namespace, state="Running")
    cloud.delete("flavors", "later")
    assert (starts(cloud, again), taps(cloud)) == (lives, before)
    assert again["status"]["addresses"][0]["mac"] == web["status"]["addresses"][0]["mac"]


def refused(cloud: Cloud, capsys: pytest.CaptureFixture[str], *verb: str) -> str:
    """What a verb says that ends with 1."""
    with pytest.raises(SystemExit) as ended:
        cloud.manage(*verb)
    assert ended.value.code == 1
    return capsys.readouterr().err.removeprefix("novakube-manage: ").strip()


@pytest.mark.parametrize("verb", ["adopt", "destroy"])
def test_what_belongs_to_an_instance_is_left_alone(
    cloud: Cloud, web: Json, namespace: str, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    id = web["status"]["id"]
    said = refused(cloud, capsys, "vm", verb, id, "--node", NODE)
    assert said.startswith(f"domain {id} on {NODE} belongs to instance {namespace}/web")
    assert domain(cloud, web) is not None


def test_what_stands_in_the_way_is_said_and_nothing_is_done(
    cloud: Cloud, web: Json, namespace: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    id, lives = web["status"]["id"], starts(cloud, web)
    orphaned(cloud, web, namespace)
    orders = ordered(cloud)
    adopt, destroy = ("vm", "adopt", id, "--node", NODE), ("vm", "destroy", id, "--node", NODE)
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    assert "not confirmed, nothing was ordered" in refused(cloud, capsys, *destroy)
    cloud.make("Instance", "web", WEB | {"powerState": "Stopped"}, namespace)
    assert f"{namespace}/web exists and is another one" in refused(cloud, capsys, *adopt)
    cloud.make("Flavor", "other-size", FLAVOR | {"vcpus": 2})
    cloud.make("Flavor", "tiny-too", FLAVOR)
    try:
        assert refused(cloud, capsys, *adopt, "--flavor", "other-size") == (
            "flavor other-size is not that of the domain: 1 vCPUs, 128 MiB memory, 1 GiB disks"
        )
        said = refused(cloud, capsys, *adopt)
        assert "several fit flavor of 1 vCPUs" in said
        assert "tiny, tiny-too; choose by --flavor" in said
    finally:
        for name in ("other-size", "tiny-too"):
            cloud.delete("flavors", name)
    assert "no host is named n9" in refused(cloud, capsys, "vm", "destroy", id, "--node", "n9")
    assert (domain(cloud, web) or {})["state"] == "Running"
    assert starts(cloud, web) == lives
    assert ordered(cloud) == orders
    cloud.manage(*destroy, "--yes")
    assert len(set(ordered(cloud)) - set(orders)) == 1


def ordered(cloud: Cloud) -> list[str]:
    """Orders of administrators to destroy what belongs to nobody, done ones included."""
    found: list[str] = (cloud.get("hypervisors", NODE) or {})["spec"].get("destroyOrphans", [])
    return found


def warned(cloud: Cloud, reason: str) -> bool:
    events = cloud.admin.call("GET", "/api/v1/namespaces/default/events")["items"]
    return any(item["reason"] == reason for item in events)


def uid_of(obj: Json) -> str:
    return str(obj["metadata"]["uid"])
