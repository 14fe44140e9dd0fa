"""``novakube-manage uninstall`` against a real API server: it refuses, and lets go on demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from novakube_crds.base import FINALIZER
from novakube_kit.kube import Json
from novakube_local.chart import CHART
from novakube_local.controlplane import ControlPlane
from novakube_local.kubehttp import KubeHttp
from novakube_operator import manage_uninstall
from tests.integration.manage.test_cluster_verbs import GROUP, Manage

SYSTEM = "novakube-system"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/novakube-system/leases"
INSTANCE = {"flavor": {"name": "f"}, "image": {"name": "i"}, "networks": []}
FOREIGN = "example.org/backup"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("uninstall")) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(CHART / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        plane.admin().ensure("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        yield plane


@pytest.fixture
def run(plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(plane.kubeconfig, capsys)


def made(admin: KubeHttp, plural: str, kind: str, name: str, spec: Json) -> str:
    """An object of namespace ``default`` that the operator holds, and somebody else too."""
    api = {"apiVersion": "novakube.dev/v1alpha1", "kind": kind}
    meta = {"name": name, "finalizers": [FINALIZER, FOREIGN]}
    path = f"{GROUP}/namespaces/default/{plural}"
    admin.call("POST", path, {**api, "metadata": meta, "spec": spec})
    return f"{path}/{name}"


def finalizers(admin: KubeHttp, path: str) -> list[str]:
    return list(admin.call("GET", path)["metadata"].get("finalizers", []))


def test_it_refuses_while_objects_are_held_and_lets_go_without_an_operator(
    plane: ControlPlane, run: Manage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(manage_uninstall, "WATCHED_S", 0.5)
    admin = plane.admin()
    assert "nothing holds novakube" in run.says("uninstall")
    instance = made(admin, "instances", "Instance", "web", INSTANCE)
    network = made(admin, "networks", "Network", "net", {})
    before = {path: admin.call("GET", path)["spec"] for path in (instance, network)}

    code, said = run.fails("uninstall")
    assert code == 1
    assert "1 Instance, 1 Network" in said
    assert "uninstall --release" in said

    assert "let go of 2 objects" in run.says("uninstall", "--release")
    for path, spec in before.items():
        assert finalizers(admin, path) == [FOREIGN]
        found = admin.call("GET", path)
        assert found["spec"] == spec
        assert "deletionTimestamp" not in found["metadata"]
    assert "nothing holds novakube" in run.says("uninstall")


def test_it_lets_go_of_nothing_while_an_operator_leads(
    plane: ControlPlane, run: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Lease changes while it is watched, as a leader renews it."""
    admin = plane.admin()
    network = made(admin, "networks", "Network", "led", {})
    admin.ensure(LEASE, {"metadata": {"name": "novakube-operator"}, "spec": {}})

    async def renew(_: float) -> None:
        patch = {"spec": {"holderIdentity": "operator-1", "leaseTransitions": 1}}
        path = f"{LEASE}/novakube-operator"
        admin.call("PATCH", path, patch, "application/merge-patch+json")

    monkeypatch.setattr(manage_uninstall.asyncio, "sleep", renew)
    code, said = run.fails("uninstall", "--release")
    assert code == 1
    assert "--replicas=0" in said
    assert FINALIZER in finalizers(admin, network)
