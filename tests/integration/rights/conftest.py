"""A real API server with controllers, the chart's rights and policies, and callers with the
tokens of novakube's own accounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from novakube_crds.v1alpha1 import hypervisor, hypervisorreport
from novakube_kit.kube import Json
from novakube_kit.resources import resource_of
from novakube_local.chart import render_chart
from novakube_local.controlplane import ControlPlane
from novakube_local.kubehttp import ApiError, KubeHttp
from novakube_operator.core.nodes import mailbox
from tests.deadlines import EVENT_S, READY_S
from tests.waiting import wait_until_sync

SYSTEM = "novakube-system"
NODES = ("n1", "n2")
TENANT = "tenant"
API = "/apis/novakube.dev/v1alpha1"


@dataclass(frozen=True)
class Refusal:
    """What the API server said to a refused request."""

    code: int
    message: str


@dataclass(frozen=True)
class Caller:
    """Requests with one account's own token."""

    name: str
    http: KubeHttp

    def may(self, method: str, path: str, body: Json | None = None) -> Json:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        return self.http.call(method, path, body, kind)

    def refused(self, method: str, path: str, body: Json | None = None) -> Refusal:
        with pytest.raises(ApiError) as caught:
            self.may(method, path, body)
        assert caught.value.code in (403, 422), str(caught.value)
        return Refusal(caught.value.code, str(caught.value))


class Cloud:
    """The control plane and its callers."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.admin = Caller("admin", plane.admin())

    def account(self, namespace: str, name: str, node: str | None = None) -> Caller:
        """A caller with a token of a service account by TokenRequest."""
        return self.with_token(name, self.plane.token(namespace, name, node))

    def with_token(self, name: str, token: str) -> Caller:
        return Caller(name, KubeHttp(self.plane.server, self.plane.ca_file, token=token))


def _namespace(cloud: Cloud, name: str) -> None:
    cloud.admin.may("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


def _tenant_account(cloud: Cloud, name: str, role: str) -> None:
    account = {"metadata": {"name": name}}
    cloud.admin.may("POST", f"/api/v1/namespaces/{TENANT}/serviceaccounts", account)
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{TENANT}/rolebindings"
    cloud.admin.may("POST", rbac, {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": TENANT}],
    })  # fmt: skip


def _enforced(cloud: Cloud) -> bool:
    """Whether the API server evaluates our policies yet: it learns of them by a watch."""
    body = custom("Guest", "probe", GUEST)
    probe = cloud.account(TENANT, "policy-probe")
    try:
        probe.may("POST", f"{API}/namespaces/{TENANT}/guests?dryRun=All", body)
    except ApiError as error:
        return "novakube-internal-kinds" in str(error)
    return False


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ControlPlane(tmp_path_factory.mktemp("rights"), controller_manager=True) as plane:
        cloud = Cloud(plane)
        _namespace(cloud, SYSTEM)
        chart = render_chart("workloads=false", crds=True)
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=chart)
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        _namespace(cloud, TENANT)
        for name, role in (
            ("editor", "edit"), ("viewer", "view"), ("operator", "novakube-cloud-admin"),
            ("policy-probe", "cluster-admin"),
        ):  # fmt: skip
            _tenant_account(cloud, name, role)
        for node in NODES:
            cloud.admin.may("POST", "/api/v1/nodes", {"metadata": {"name": node}})
        _make_mailboxes(cloud)
        wait_until_sync(
            lambda: "networks" in str(cloud.admin.may(
                "GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/edit")),
            "edit aggregates our kinds", EVENT_S)  # fmt: skip
        wait_until_sync(lambda: _enforced(cloud), "policies enforced", READY_S)
        yield cloud


def _make_mailboxes(cloud: Cloud) -> None:
    """What the operator makes for each node, made with the operator's own token."""
    operator = cloud.account(SYSTEM, "novakube-operator")
    report, hypervisors = (
        resource_of(hypervisorreport.HYPERVISORREPORT),
        resource_of(hypervisor.HYPERVISOR),
    )
    for node in NODES:
        for wanted in mailbox(node, report, hypervisors):
            body = {**wanted.body, "metadata": {**wanted.body["metadata"], "name": wanted.name}}
            operator.may("POST", wanted.resource.path(wanted.namespace), body)


@pytest.fixture(scope="session")
def operator(cloud: Cloud) -> Caller:
    return cloud.account(SYSTEM, "novakube-operator")


@pytest.fixture(scope="session")
def agent(cloud: Cloud) -> Caller:
    """The DaemonSet's account on node n1."""
    return cloud.account(SYSTEM, "novakube-agent", "n1")


@pytest.fixture(scope="session")
def node(cloud: Cloud, agent: Caller) -> Caller:
    """Node n1's account, by the agent's own request."""
    answer = agent.may("POST", token_path("n1"), TOKEN_REQUEST)
    return cloud.with_token("n1", answer["status"]["token"])


@pytest.fixture(scope="session")
def api(cloud: Cloud) -> Caller:
    return cloud.account(SYSTEM, "novakube-api")


@pytest.fixture(scope="session")
def editor(cloud: Cloud) -> Caller:
    return cloud.account(TENANT, "editor")


@pytest.fixture(scope="session")
def cloud_admin(cloud: Cloud) -> Caller:
    """In the tenant's namespace with the role of the cloud's administrators."""
    return cloud.account(TENANT, "operator")


UID = "0a7f3a3e-3c5e-4d0e-9a51-0f6f2b6c1d22"
GUEST = {
    "instance": {"namespace": TENANT, "name": "web", "uid": UID, "id": UID},
    "incarnation": 1,
    "hypervisor": "n1",
    "hostname": "web",
    "vcpus": 1,
    "memoryMiB": 128,
}
TOKEN_REQUEST: Json = {
    "apiVersion": "authentication.k8s.io/v1",
    "kind": "TokenRequest",
    "spec": {"expirationSeconds": 600},
}


def token_path(node: str) -> str:
    return f"/api/v1/namespaces/novakube-node-{node}/serviceaccounts/novakube-node/token"


Names = Callable[[str], str]


@pytest.fixture
def fresh() -> Names:
    """Names no other test uses."""
    return lambda prefix: f"{prefix}-{time.monotonic_ns()}"


def custom(kind: str, name: str, spec: dict[str, Any]) -> Json:
    return {
        "apiVersion": "novakube.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
