"""The label that binds a namespace to a project is set by who has that right, not by the way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deadlines import EVENT_S
from tests.integration.rights.conftest import SYSTEM, Caller, Names
from tests.waiting import wait_until_sync

RBAC = "/apis/rbac.authorization.k8s.io/v1"
LABEL = {"metadata": {"labels": {"novakube.dev/project-id": "p1"}}}
ANNOTATION = {"metadata": {"annotations": {"novakube.dev/project-bound-at": "2000-01-01"}}}
OTHER = {"metadata": {"labels": {"team": "blue"}}}


def grant(cloud: Any, account: str, name: str, rule: dict[str, Any]) -> None:
    """A ClusterRole for an account of novakube's namespace."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    cloud.admin.may("POST", f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": [rule]})
    binding = {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
    cloud.admin.may("POST", f"{RBAC}/clusterrolebindings", binding)


@pytest.fixture
def keeper(cloud: Any, fresh: Names) -> Caller:
    """Somebody who makes and changes namespaces."""
    name = fresh("keeper")
    cloud.admin.may("POST", f"/api/v1/namespaces/{SYSTEM}/serviceaccounts",
                    {"metadata": {"name": name}})  # fmt: skip
    rule = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create", "patch"]}
    grant(cloud, name, name, rule)
    caller: Caller = cloud.account(SYSTEM, name)
    return caller


def test_binding_needs_its_own_right(cloud: Any, keeper: Caller, fresh: Names) -> None:
    name = fresh("bound")
    path = f"/api/v1/namespaces/{name}"
    keeper.may("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    keeper.may("PATCH", path, OTHER)
    born = {"metadata": {"name": fresh("born"), **LABEL["metadata"]}}
    for method, where, body in (
        ("PATCH", path, LABEL), ("PATCH", path, ANNOTATION), ("POST", "/api/v1/namespaces", born),
    ):  # fmt: skip
        refusal = keeper.refused(method, where, body)
        assert "novakube-projects" in refusal.message
        assert "needs the right to use namespaces/project" in refusal.message
    rule = {"apiGroups": ["novakube.dev"], "resources": ["namespaces/project"], "verbs": ["use"]}
    grant(cloud, keeper.name, f"{keeper.name}-binds", rule)
    reviewed = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "group": "novakube.dev", "resource": "namespaces", "subresource": "project",
            "verb": "use",
        }},
    }  # fmt: skip
    review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    wait_until_sync(
        lambda: keeper.may("POST", review, reviewed)["status"]["allowed"], "the right", EVENT_S
    )
    keeper.may("PATCH", path, LABEL)
    keeper.may("PATCH", path, OTHER)
    keeper.may("PATCH", path, {"metadata": {"labels": {"novakube.dev/project-id": None}}})
