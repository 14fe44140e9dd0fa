"""``novakube-manage quota`` and ``project`` against a real API server."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from novakube_kit.kube import Json
from novakube_local.kubehttp import KubeHttp
from tests.integration.apiserver import ApiServer
from tests.integration.manage.test_cluster_verbs import (
    GROUP,
    Manage,
    admin,
    kubeconfig,
)

__all__ = ["admin"]


@pytest.fixture
def manage_(
    admin: KubeHttp, apiserver: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Manage:
    return Manage(kubeconfig(apiserver, tmp_path), capsys)


@pytest.fixture
def namespace(admin: KubeHttp) -> str:
    name = f"q-{uuid.uuid4().hex[:8]}"
    admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name


def rows(run: Manage, *verb: str) -> dict[str, tuple[object, object]]:
    return {row["dimension"]: (row["used"], row["limit"]) for row in run.rows(*verb)}


def spec(admin: KubeHttp, namespace: str) -> Json:
    found: Json = admin.call("GET", f"{GROUP}/namespaces/{namespace}/quotas/quota")["spec"]
    return found


def test_a_namespace_of_no_project_is_unlimited(manage_: Manage, namespace: str) -> None:
    assert rows(manage_, "quota", "show", namespace)["cores"] == (None, "unlimited")


def test_bind_then_limits_by_project(admin: KubeHttp, manage_: Manage, namespace: str) -> None:
    project = uuid.uuid4().hex
    said = manage_.says("project", "bind", namespace, project)
    assert said == f"{namespace} is bound to project {project}\n"
    labels = admin.call("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["labels"]
    assert labels["novakube.dev/project-id"] == project
    assert "already" in manage_.says("project", "bind", namespace, project)
    assert rows(manage_, "quota", "show", project)["cores"] == (0, 20)
    manage_.says("quota", "update", project, "--cores", "30", "--floating-ips", "-1")
    manage_.says("quota", "update", namespace, "--ports", "7")
    assert spec(admin, namespace)["hard"] == {"cores": 30, "floatingIPs": -1, "ports": 7}
    shown = rows(manage_, "quota", "show", project)
    assert shown["cores"] == (0, 30)
    assert shown["floatingIPs"] == (0, "unlimited")


def test_a_second_namespace_of_a_project_is_refused(
    admin: KubeHttp, manage_: Manage, namespace: str
) -> None:
    project, other = uuid.uuid4().hex, f"{namespace}-b"
    admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": other}})
    manage_.says("project", "bind", namespace, project)
    code, text = manage_.fails("project", "bind", other, project)
    assert (code, text) == (
        1, f"novakube-manage: project {project} is bound to namespace {namespace}\n",
    )  # fmt: skip
    code, text = manage_.fails("project", "bind", namespace, "another")
    assert f"namespace {namespace} is bound to project {project}" in text


def test_limits_of_a_user(admin: KubeHttp, manage_: Manage, namespace: str) -> None:
    manage_.says("quota", "update", namespace, "--user", "u1", "--cores", "2")
    manage_.says("quota", "update", namespace, "--user", "u2", "--cores", "3")
    manage_.says("quota", "update", namespace, "--user", "u1", "--instances", "1")
    assert spec(admin, namespace)["users"] == [
        {"userID": "u2", "hard": {"cores": 3}},
        {"userID": "u1", "hard": {"cores": 2, "instances": 1}},
    ]
    assert rows(manage_, "quota", "show", namespace, "--user", "u1")["cores"] == (0, 2)


def test_defaults(admin: KubeHttp, manage_: Manage) -> None:
    assert rows(manage_, "quota", "show")["instances"] == (None, 10)
    for value in ("11", "12"):
        manage_.says("quota", "update", "default", "--instances", value)
    try:
        assert rows(manage_, "quota", "show")["instances"] == (None, 12)
    finally:
        admin.call("DELETE", f"{GROUP}/quotaclasses/default")


def test_what_is_wrong_is_said(manage_: Manage, namespace: str) -> None:
    assert manage_.fails("quota", "update", namespace) == (
        1, "novakube-manage: no limit was given, such as --cores 20; -1 is unlimited\n",
    )  # fmt: skip
    assert "no project and no namespace is nobody" in manage_.fails("quota", "show", "nobody")[1]
    assert manage_.fails("quota", "update", namespace, "--cores", "-2")[0] == 2
    assert "is no project id" in manage_.fails("project", "bind", namespace, "a/b")[1]
