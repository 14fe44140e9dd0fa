"""Objects vanish in every way that is no order to destroy: no VM ends, and all are taken over."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from novakube_local import members
from novakube_local.layout import CLOUD
from tests.deadlines import READY_S
from tests.deep.crash.cloud import MAILBOX, NAMESPACE, NODE, CrashCloud, Json
from tests.deep.crash.matrix import INSTANCE, SETTLE_S
from tests.waiting import wait_until_sync

RESYNC_S = 5
NAMES = ("a", "b")
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def cloud() -> Iterator[CrashCloud]:
    with tempfile.TemporaryDirectory(prefix="nko-") as directory:
        cloud = CrashCloud(Path(directory), NOVAKUBE_RESYNC_S=str(RESYNC_S))
        try:
            cloud.start()
            yield cloud
        finally:
            cloud.end()


@pytest.fixture
def ids(cloud: CrashCloud) -> dict[str, str]:
    """Two Instances that run; name -> id."""
    for name in NAMES:
        if cloud.get("instances", name, NAMESPACE) is None:
            cloud.make("instances", name, INSTANCE, NAMESPACE)
    return {name: running(cloud, name)["status"]["id"] for name in NAMES}


def running(cloud: CrashCloud, name: str) -> Json:
    """The Instance, with a Guest of its own that is up."""

    def found() -> Json | None:
        instance = cloud.get("instances", name, NAMESPACE)
        if instance is None or instance.get("status", {}).get("state") != "Running":
            return None
        guests = cloud.list("guests", MAILBOX)
        mine = [g for g in guests if g["spec"]["instance"]["uid"] == instance["metadata"]["uid"]]
        return instance if [g["status"].get("phase") for g in mine] == ["Ready"] else None

    instance: Json = cloud.until(f"{name} runs, by a Guest", found, SETTLE_S)
    return instance


def stays(cloud: CrashCloud, pids: set[int]) -> None:
    """Over two resyncs and more, QEMU's processes are the same."""
    end = time.monotonic() + 3 * RESYNC_S

    def over() -> bool:
        assert cloud.qemu_pids() == pids
        return time.monotonic() >= end

    wait_until_sync(over, "three resyncs", READY_S)


def deleting_destroys(cloud: CrashCloud, name: str) -> None:
    """What was taken over is the Instance's again."""
    before = len(cloud.qemu_pids())
    id = running(cloud, name)["status"]["id"]
    cloud.delete("instances", name, NAMESPACE)
    cloud.until_gone("instances", name, NAMESPACE)
    assert len(cloud.qemu_pids()) == before - 1
    ports = cloud.list("ports", NAMESPACE)
    assert not [p["metadata"]["name"] for p in ports if p["spec"].get("deviceID") == id]


def strip(cloud: CrashCloud, plural: str, namespace: str) -> None:
    body = {"metadata": {"finalizers": None, "ownerReferences": None}}
    for item in cloud.list(plural, namespace):
        cloud.patch(plural, item["metadata"]["name"], body, namespace)


@pytest.mark.usefixtures("ids")
def test_all_guest_objects_deleted(cloud: CrashCloud) -> None:
    pids = cloud.qemu_pids()
    for guest in cloud.list("guests", MAILBOX):
        cloud.delete("guests", guest["metadata"]["name"], MAILBOX)
    strip(cloud, "guests", MAILBOX)
    stays(cloud, pids)
    for name in NAMES:
        running(cloud, name)
    assert cloud.qemu_pids() == pids
    deleting_destroys(cloud, "a")


@pytest.mark.usefixtures("ids")
def test_finalizers_and_owners_stripped(cloud: CrashCloud) -> None:
    pids = cloud.qemu_pids()
    for plural, namespace in (
        ("guests", MAILBOX), ("instances", NAMESPACE), ("ports", NAMESPACE),
        ("ipaddresses", NAMESPACE),
    ):  # fmt: skip
        strip(cloud, plural, namespace)
    stays(cloud, pids)
    for name in NAMES:
        running(cloud, name)
    assert cloud.qemu_pids() == pids
    deleting_destroys(cloud, "a")


@pytest.mark.usefixtures("ids")
def test_the_nodes_namespace_deleted(cloud: CrashCloud) -> None:
    pids = cloud.qemu_pids()
    old = cloud.call("GET", f"/api/v1/namespaces/{MAILBOX}")["metadata"]["uid"]
    cloud.call("DELETE", f"/api/v1/namespaces/{MAILBOX}")
    stays(cloud, pids)

    def made_again() -> bool:
        found = cloud.call("GET", "/api/v1/namespaces")["items"]
        return any(
            item["metadata"]["name"] == MAILBOX and item["metadata"]["uid"] != old for item in found
        )

    cloud.until("the node's namespace is there again", made_again, SETTLE_S)
    for name in NAMES:
        running(cloud, name)
    assert cloud.qemu_pids() == pids
    deleting_destroys(cloud, "a")


@pytest.mark.parametrize("plural", ["guests", "instances"])
def test_a_crd_deleted(cloud: CrashCloud, ids: dict[str, str], plural: str) -> None:
    pids = cloud.qemu_pids()
    name = f"{plural}.novakube.dev"
    cloud.call("DELETE", f"{CRD}/{name}")
    stays(cloud, pids)
    strip(cloud, plural, MAILBOX if plural == "guests" else NAMESPACE)

    def gone() -> bool:
        return all(i["metadata"]["name"] != name for i in cloud.call("GET", CRD)["items"])

    cloud.until(f"CRD {plural} gone", gone, SETTLE_S)
    cloud.up()
    taken_over(cloud, ids, pids)


def test_etcd_restored_from_an_older_snapshot(cloud: CrashCloud, ids: dict[str, str]) -> None:
    snapshot = cloud.root / "snapshot"
    with_etcd_stopped(cloud, lambda data: shutil.copytree(data, snapshot))
    cloud.make("instances", "late", INSTANCE, NAMESPACE)
    late = running(cloud, "late")["status"]["id"]
    pids = cloud.qemu_pids()

    def restore(data: Path) -> None:
        shutil.rmtree(data)
        shutil.move(snapshot, data)

    with_etcd_stopped(cloud, restore)
    stays(cloud, pids)
    reported(cloud, late)
    taken_over(cloud, ids | {"late": late}, pids)
    deleting_destroys(cloud, "late")


def test_an_empty_api_server(cloud: CrashCloud, ids: dict[str, str]) -> None:
    pids = cloud.qemu_pids()
    with_etcd_stopped(cloud, shutil.rmtree)
    cloud.up()
    stays(cloud, pids)
    for id in ids.values():
        reported(cloud, id)
    cloud.fill()
    taken_over(cloud, ids, pids)


def reported(cloud: CrashCloud, id: str) -> None:
    """The node tells of a domain that belongs to nobody, and an alarm says so."""

    def told() -> bool:
        report = cloud.get("hypervisorreports", "node", MAILBOX) or {}
        orphans = report.get("status", {}).get("orphans", [])
        node = cloud.get("hypervisors", NODE, "") or {}
        conditions = node.get("status", {}).get("conditions", [])
        alarm = any(c["type"] == "DomainsOwned" and c["status"] == "False" for c in conditions)
        return alarm and any(item["instanceID"] == id for item in orphans)

    cloud.until(f"{id} reported", told, SETTLE_S)


def taken_over(cloud: CrashCloud, ids: dict[str, str], pids: set[int]) -> None:
    """Instances that are missing are applied again with their ids: the same VMs are theirs."""
    for name, id in ids.items():
        if cloud.get("instances", name, NAMESPACE) is None:
            cloud.make("instances", name, {**INSTANCE, "id": id}, NAMESPACE)
        running(cloud, name)
    assert cloud.qemu_pids() == pids


def with_etcd_stopped(cloud: CrashCloud, act: Callable[[Path], object]) -> None:
    """etcd and API server end, ``act`` gets etcd's folder, both are started again."""
    supervisor = members.alive(cloud.layout.load(), CLOUD)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGSTOP)
    try:
        for victim in ("kube-apiserver", "etcd"):
            pid = cloud.kill(victim)
            cloud.until(f"{victim} ended", lambda pid=pid: ended(pid), READY_S)
        act(cloud.layout.control_plane / "etcd")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    cloud.until("the API server serves", cloud.answers, READY_S)


def ended(pid: int) -> bool:
    """Gone, or nothing but its entry until its parent goes on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
