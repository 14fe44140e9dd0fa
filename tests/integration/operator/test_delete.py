"""Deletion wins from any state, and is the only thing that destroys."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.deadlines import EVENT_S, READY_S
from tests.integration.operator.cloud import NODE, Cloud, condition
from tests.integration.operator.conftest import a_cloud, furnished
from tests.integration.operator.test_adoption import domain, uid_of
from tests.integration.operator.test_create import WEB, guests_of
from tests.waiting import wait_until_sync


def test_without_its_image(cloud: Cloud, namespace: str) -> None:
    missing = {**WEB, "image": {"name": "none"}}
    cloud.make("Instance", "never", missing, namespace)
    cloud.message("never", namespace, "Pending", "image")
    cloud.make("Instance", "web", WEB, namespace)
    web = cloud.until("instances", "web", namespace, READY_S, state="Running")
    cloud.delete("images", "guest", namespace)
    cloud.gone("images", "guest", namespace)
    for name in ("never", "web"):
        cloud.delete("instances", name, namespace)
        cloud.gone("instances", name, namespace)
    assert domain(cloud, web) is None


def test_of_a_node_that_is_dead_and_declared_so(cloud: Cloud, namespace: str) -> None:
    cloud.make("Instance", "web", WEB, namespace)
    web = cloud.until("instances", "web", namespace, READY_S, state="Running")
    guest = guests_of(cloud, "web", namespace)[0]
    cloud.agent.end(signal.SIGKILL)
    try:
        cloud.delete("instances", "web", namespace)
        wait_until_sync(
            lambda: guests_of(cloud, "web", namespace)[0]["spec"].get("teardown"),
            "teardown ordered", EVENT_S,
        )  # fmt: skip
        # Silence alone releases nothing: the VM may run.
        assert cloud.get("instances", "web", namespace) is not None
        assert len(cloud.list("ipaddresses", namespace)) == 1
        cloud.patch("hypervisors", NODE, {"spec": {"forcedDown": True}})
        cloud.gone("instances", "web", namespace)
        assert cloud.list("ipaddresses", namespace) == []
        found = cloud.get("hypervisors", NODE) or {}
        assert found["status"]["fenced"] == [uid_of(guest)]
        assert domain(cloud, web) is not None
    finally:
        cloud.agent.start()
    wait_until_sync(lambda: domain(cloud, web) is None, "destroyed by the fence", READY_S)

    def unfenced() -> bool:
        return not (cloud.get("hypervisors", NODE) or {})["status"].get("fenced")

    wait_until_sync(unfenced, "the fence is taken down", READY_S)
    cloud.patch("hypervisors", NODE, {"spec": {"forcedDown": False}})
    cloud.until_schedulable()


def test_with_its_namespace(cloud: Cloud, namespace: str) -> None:
    cloud.make("Instance", "web", WEB, namespace)
    web = cloud.until("instances", "web", namespace, READY_S, state="Running")
    path = f"/api/v1/namespaces/{namespace}"
    cloud.admin.call("DELETE", path)
    cloud.gone("instances", "web", namespace)
    assert domain(cloud, web) is None
    # Addresses, Ports and all: nothing of ours holds the namespace.
    names = "/api/v1/namespaces"

    def gone() -> bool:
        items = cloud.admin.call("GET", names)["items"]
        return all(item["metadata"]["name"] != namespace for item in items)

    wait_until_sync(gone, "namespace gone", READY_S)


def test_not_with_its_crd(tmp_path: Path) -> None:
    """Instances that go because their CRD does are no order: guests and finalizers stay."""
    with a_cloud(tmp_path) as cloud:
        cloud.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": "t"}})
        namespace = furnished(cloud, "t")
        cloud.make("Instance", "web", WEB, namespace)
        web = cloud.until("instances", "web", namespace, READY_S, state="Running")
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        cloud.admin.call("DELETE", f"{crds}/instances.novakube.dev")

        def alarmed() -> bool:
            name = "novakube_reconcile_errors_total"
            return cloud.operator.metric(name, reason="CRDTerminating") >= 1

        wait_until_sync(alarmed, "the operator refuses", READY_S)
        found = cloud.get("instances", "web", namespace) or {}
        assert found["metadata"]["deletionTimestamp"]
        assert found["metadata"]["finalizers"]
        guest = guests_of(cloud, "web", namespace)[0]
        assert "teardown" not in guest["spec"]
        assert condition(guest, "Ready")["status"] == "True"
        now = domain(cloud, web)
        assert now is not None
        assert now["state"] == "Running"
