"""What the tokens of novakube's own processes are good for, and for what not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.rights.conftest import (
    API,
    GUEST,
    SYSTEM,
    TENANT,
    TOKEN_REQUEST,
    Caller,
    Cloud,
    Names,
    custom,
    token_path,
)

NODE1 = f"{API}/namespaces/novakube-node-n1"
NODE2 = f"{API}/namespaces/novakube-node-n2"
LEASES = "/apis/coordination.k8s.io/v1/namespaces"
PHASE = {"status": {"phase": "Building", "observedGeneration": 1}}


# -- the agent's account ---------------------------------------------------------------------


def test_agent_takes_its_own_nodes_token(agent: Caller) -> None:
    assert agent.may("POST", token_path("n1"), TOKEN_REQUEST)["status"]["token"]


def test_agent_takes_no_other_nodes_token(agent: Caller) -> None:
    refusal = agent.refused("POST", token_path("n2"), TOKEN_REQUEST)
    assert "novakube-node-tokens" in refusal.message
    assert "is only for a caller on that node; the caller is on node n1" in refusal.message


def test_unbound_token_of_the_agent_is_refused(cloud: Cloud) -> None:
    unbound = cloud.account(SYSTEM, "novakube-agent")
    refusal = unbound.refused("POST", token_path("n1"), TOKEN_REQUEST)
    assert "novakube-node-tokens" in refusal.message
    assert "the caller is on no node" in refusal.message


@pytest.mark.parametrize(
    ("namespace", "account"),
    [(SYSTEM, "novakube-operator"), (SYSTEM, "novakube-api"), (TENANT, "editor")],
)
def test_agent_takes_no_other_accounts_token(agent: Caller, namespace: str, account: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    assert "cannot create resource" in agent.refused("POST", path, TOKEN_REQUEST).message


FORBIDDEN_READS = [
    "/api/v1/secrets", f"/api/v1/namespaces/{SYSTEM}/secrets/novakube-ca", "/api/v1/nodes",
    "/api/v1/nodes/n1", "/api/v1/namespaces", "/api/v1/pods", f"{API}/guests",
    f"{API}/instances", f"{API}/namespaces/{TENANT}/instances", f"{NODE2}/guests",
    f"{NODE2}/hypervisorreports/node", f"{LEASES}/novakube-node-n2/leases/heartbeat",
    "/api/v1/namespaces/novakube-node-n2/serviceaccounts",
]  # fmt: skip


@pytest.mark.parametrize("path", FORBIDDEN_READS)
def test_agent_and_node_read_nothing_else(agent: Caller, node: Caller, path: str) -> None:
    for caller in (agent, node):
        assert "cannot" in caller.refused("GET", path).message
    node.may("GET", f"{NODE1}/guests")


def test_agent_itself_reads_not_even_its_node(agent: Caller, node: Caller) -> None:
    for path in (f"{NODE1}/guests", f"{NODE1}/hypervisorreports/node"):
        assert "cannot" in agent.refused("GET", path).message
        node.may("GET", path)


# -- a node's account ------------------------------------------------------------------------


@pytest.fixture
def guests(operator: Caller, fresh: Names) -> Any:
    """One Guest on each node, made by the operator."""
    names = {}
    for node, base in (("n1", NODE1), ("n2", NODE2)):
        names[node] = fresh("guest")
        spec = {**GUEST, "hypervisor": node}
        operator.may("POST", f"{base}/guests", custom("Guest", names[node], spec))
    return names


def test_node_reports_its_guests_only(node: Caller, guests: Any) -> None:
    refusal = node.refused("PATCH", f"{NODE2}/guests/{guests['n2']}/status", PHASE)
    assert 'cannot patch resource "guests/status"' in refusal.message
    assert "cannot get" in node.refused("GET", f"{NODE2}/guests/{guests['n2']}").message
    node.may("PATCH", f"{NODE1}/guests/{guests['n1']}/status", PHASE)


def test_node_changes_no_spec_and_deletes_nothing(
    node: Caller, operator: Caller, guests: Any
) -> None:
    path = f"{NODE1}/guests/{guests['n1']}"
    assert "cannot patch" in node.refused("PATCH", path, {"spec": {"powerSequence": 2}}).message
    assert "cannot delete" in node.refused("DELETE", path).message
    assert (
        "cannot create"
        in node.refused("POST", f"{NODE1}/guests", custom("Guest", "own", GUEST)).message
    )
    report = f"{NODE1}/hypervisorreports/node"
    assert "cannot patch" in node.refused("PATCH", report, {"spec": {"fenced": []}}).message
    operator.may("PATCH", path, {"spec": {"powerSequence": 2}})
    operator.may("DELETE", path)


def test_node_reports_itself_and_beats(node: Caller) -> None:
    report = {"status": {"driver": "libvirt"}}
    node.may("PATCH", f"{NODE1}/hypervisorreports/node/status", report)
    beat = {"spec": {"holderIdentity": "n1"}}
    node.may("PATCH", f"{LEASES}/novakube-node-n1/leases/heartbeat", beat)
    for method, path, body in (
        ("PATCH", f"{NODE2}/hypervisorreports/node/status", report),
        ("PATCH", f"{LEASES}/novakube-node-n2/leases/heartbeat", beat),
        ("PATCH", f"{LEASES}/{SYSTEM}/leases/novakube-operator", beat),
    ):
        assert "cannot patch resource" in node.refused(method, path, body).message


def test_node_reads_what_all_nodes_share(node: Caller, agent: Caller, cloud: Cloud) -> None:
    leader = f"{LEASES}/{SYSTEM}/leases"
    cloud.admin.may("POST", leader, {"metadata": {"name": "novakube-operator"}})
    shared = [
        f"{API}/{kind}" for kind in ("addressslices", "networks", "securitygroups", "subnets")
    ]
    for path in (*shared, f"{leader}/novakube-operator"):
        node.may("GET", path)
        assert "cannot" in agent.refused("GET", path).message
    assert "cannot list" in node.refused("GET", leader).message


def test_node_account_cannot_renew_itself(node: Caller, agent: Caller) -> None:
    assert "cannot create" in node.refused("POST", token_path("n1"), TOKEN_REQUEST).message
    agent.may("POST", token_path("n1"), TOKEN_REQUEST)


# -- the operator ----------------------------------------------------------------------------


def test_operator_reads_a_secret_it_is_pointed_to_but_lists_none(
    cloud: Cloud, operator: Caller
) -> None:
    secrets = f"/api/v1/namespaces/{TENANT}/secrets"
    cloud.admin.may("POST", secrets, {"metadata": {"name": "user-data"}})
    operator.may("GET", f"{secrets}/user-data")
    assert "cannot list" in operator.refused("GET", secrets).message
    assert "cannot list" in operator.refused("GET", "/api/v1/secrets").message


def test_operator_grants_only_the_nodes_roles(operator: Caller, fresh: Names) -> None:
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/novakube-node-n1/rolebindings"

    def binding(role: str) -> dict[str, Any]:
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        return {"metadata": {"name": fresh("grant")}, "roleRef": ref, "subjects": []}

    refusal = operator.refused("POST", path, binding("cluster-admin"))
    assert "attempting to grant RBAC permissions not currently held" in refusal.message
    operator.may("POST", path, binding("novakube-node"))


def test_operator_takes_no_tokens(operator: Caller, agent: Caller) -> None:
    assert "cannot create" in operator.refused("POST", token_path("n1"), TOKEN_REQUEST).message
    agent.may("POST", token_path("n1"), TOKEN_REQUEST)


def test_operator_makes_history_wait_in_its_own_namespace_only(
    operator: Caller, fresh: Names
) -> None:
    spec = {"type": "Instance", "uid": "11111111-2222-3333-4444-555555555555",
            "transition": "deleted", "time": "2026-01-02T03:04:05Z", "row": "[]"}  # fmt: skip
    body = custom("HistoryRecord", fresh("h"), spec)
    name = body["metadata"]["name"]
    elsewhere = f"{API}/namespaces/{TENANT}/historyrecords"
    assert "cannot create resource" in operator.refused("POST", elsewhere, body).message
    records = f"{API}/namespaces/{SYSTEM}/historyrecords"
    operator.may("POST", records, body)
    operator.may("DELETE", f"{records}/{name}")


# -- novakube-api ----------------------------------------------------------------------------


def test_api_reviews_and_reads_but_writes_nothing(api: Caller, fresh: Names) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:tenant:editor",
            "groups": ["system:serviceaccounts"],
            "resourceAttributes": {
                "group": "novakube.dev", "resource": "instances", "subresource": "console",
                "verb": "get", "namespace": TENANT,
            },
        },
    }  # fmt: skip
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert api.may("POST", path, review)["status"]["allowed"]
    api.may("GET", f"{API}/instances")
    api.may("GET", f"{API}/guests")
    for plural, kind in (("networks", "Network"), ("instances", "Instance")):
        refusal = api.refused(
            "POST", f"{API}/namespaces/{TENANT}/{plural}", custom(kind, fresh("x"), {})
        )
        assert "cannot create resource" in refusal.message
    assert "cannot" in api.refused("GET", f"/api/v1/namespaces/{TENANT}/secrets").message
