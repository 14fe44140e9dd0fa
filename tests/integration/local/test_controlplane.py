"""The control plane that every integration test builds on."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from novakube_local.controlplane import ControlPlane
from novakube_local.errors import LocalCloudError
from novakube_local.kubehttp import ApiError, KubeHttp
from tests.deadlines import EVENT_S, STOP_S
from tests.waiting import wait_until_sync


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("controlplane"), controller_manager=True)
    with plane:
        yield plane


def account(plane: ControlPlane, name: str) -> str:
    plane.admin().ensure("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
    return name


def claims(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_the_server_tells_the_version_it_was_built_from(plane: ControlPlane) -> None:
    assert plane.admin().call("GET", "/version")["gitVersion"] == "v1.34.4"


def test_the_administrator_is_bound_to_cluster_admin_and_not_a_master(plane: ControlPlane) -> None:
    review = plane.admin().call(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
    )
    user = review["status"]["userInfo"]
    assert user["username"] == "novakube-admin"
    assert "system:masters" not in user["groups"]


def test_a_token_bound_to_a_node_names_it(plane: ControlPlane) -> None:
    plane.admin().ensure("/api/v1/nodes", {"metadata": {"name": "n1"}})
    token = plane.token("default", account(plane, "worker"), node="n1")
    assert claims(token)["kubernetes.io"]["node"]["name"] == "n1"  # type: ignore[index]


def test_a_token_has_only_the_rights_bound_to_it(plane: ControlPlane) -> None:
    token = plane.token("default", account(plane, "worker"))
    as_worker = KubeHttp(plane.server, plane.ca_file, token=token)
    assert as_worker.call("GET", "/version")["major"] == "1"
    with pytest.raises(ApiError, match="system:serviceaccount:default:worker"):
        as_worker.call("GET", "/api/v1/nodes")


def test_a_deleted_namespace_ends(plane: ControlPlane) -> None:
    admin = plane.admin()
    admin.ensure("/api/v1/namespaces", {"metadata": {"name": "short-lived"}})
    admin.call("DELETE", "/api/v1/namespaces/short-lived")
    wait_until_sync(
        lambda: admin.get("/api/v1/namespaces/short-lived") is None, "namespace gone", EVENT_S
    )


def test_objects_outlive_a_stop(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as first:
        first.admin().ensure("/api/v1/namespaces", {"metadata": {"name": "kept"}})
    with ControlPlane(tmp_path) as second:
        assert second.admin().get("/api/v1/namespaces/kept") is not None


def test_a_dead_process_is_named_with_its_log(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path)
    try:
        plane.start()
        dead = plane.pid("etcd")
        os.kill(dead, signal.SIGKILL)
        with pytest.raises(LocalCloudError, match=r"etcd ended with -9\n  end of .*etcd\.log:"):
            wait_until_sync(lambda: plane.wait_ready(STOP_S), "etcd found dead", STOP_S)
    finally:
        plane.stop()


def test_a_port_in_use_is_shown_from_the_log(tmp_path: Path, plane: ControlPlane) -> None:
    other = ControlPlane(tmp_path, ports=plane.ports)
    with pytest.raises(LocalCloudError, match="address already in use"):
        other.start()
