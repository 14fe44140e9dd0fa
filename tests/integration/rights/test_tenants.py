"""What an editor of a namespace may not do, and the administrator who may."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.rights.conftest import API, TENANT, Caller, Names, custom

BASE = f"{API}/namespaces/{TENANT}"
ID = "0a7f3a3e-3c5e-4d0e-9a51-0f6f2b6c1d11"
INSTANCE = {"flavor": {"name": "tiny"}, "image": {"name": "guest"}}
IMAGE = {"source": {"url": "http://192.0.2.10/x"}, "diskFormat": "qcow2"}
SUBNET = {"network": {"name": "net"}, "cidr": "10.0.0.0/24"}

FIELDS = [
    ("Network", "networks", {}, {"segment": {"type": "flat"}}, "novakube-provider-fields",
     "spec.segment needs the right to use networks/provider"),
    ("Network", "networks", {}, {"external": True}, "novakube-provider-fields",
     "spec.external needs the right to use networks/provider"),
    ("Network", "networks", {}, {"shared": True}, "novakube-provider-fields",
     "spec.shared needs the right to use networks/provider"),
    ("Image", "images", IMAGE, {"visibility": "public"}, "novakube-public-images",
     "spec.visibility: public needs the right to use images/publicize"),
    ("Instance", "instances", INSTANCE, {"forcedHost": "n1"}, "novakube-instance-fields",
     "spec.forcedHost needs the right to use instances/forcehost"),
    ("Instance", "instances", INSTANCE, {"userID": "bob"}, "novakube-instance-fields",
     "spec.userID needs the right to use instances/userid"),
    ("Instance", "instances", INSTANCE, {"id": ID}, "novakube-ids",
     "spec.id needs the right to use instances/id"),
    ("Network", "networks", {}, {"id": ID}, "novakube-ids",
     "spec.id needs the right to use networks/id"),
    ("Subnet", "subnets", SUBNET, {"id": ID}, "novakube-ids",
     "spec.id needs the right to use subnets/id"),
]  # fmt: skip
FIELD_NAMES = [f"{row[0]}.{next(iter(row[3]))}" for row in FIELDS]
ADMIN_ACTIONS = [
    ("Migrate", {}), ("LiveMigrate", {}), ("Evacuate", {}), ("ResetState", {"state": "error"}),
    ("ResetNetwork", {}), ("InjectNetworkInfo", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "plural", "base", "extra", "policy", "message"), FIELDS, ids=FIELD_NAMES
)
def test_field_of_administrators_on_create(
    editor: Caller, cloud_admin: Caller, fresh: Names,
    kind: str, plural: str, base: Any, extra: Any, policy: str, message: str,
) -> None:  # fmt: skip
    plain = custom(kind, fresh("plain"), base)
    wanted = custom(kind, fresh("wanted"), {**base, **extra})
    refusal = editor.refused("POST", f"{BASE}/{plural}", wanted)
    assert policy in refusal.message
    assert message in refusal.message
    assert f"namespace {TENANT}" in refusal.message
    editor.may("POST", f"{BASE}/{plural}", plain)
    cloud_admin.may("POST", f"{BASE}/{plural}", wanted)


@pytest.mark.parametrize(
    ("kind", "plural", "base", "extra", "policy", "message"),
    [row for row in FIELDS if next(iter(row[3])) not in ("id", "segment")],
    ids=[name for name in FIELD_NAMES if not name.endswith((".id", ".segment"))],
)
def test_field_of_administrators_on_update(
    editor: Caller, cloud_admin: Caller, fresh: Names,
    kind: str, plural: str, base: Any, extra: Any, policy: str, message: str,
) -> None:  # fmt: skip
    name = fresh("later")
    path = f"{BASE}/{plural}/{name}"
    editor.may("POST", f"{BASE}/{plural}", custom(kind, name, base))
    assert message in editor.refused("PATCH", path, {"spec": extra}).message
    editor.may("PATCH", path, {"spec": {"displayName": "mine"}})
    cloud_admin.may("PATCH", path, {"spec": extra})
    # What an administrator set does not stand in its owner's way.
    editor.may("PATCH", path, {"spec": {"displayName": "still mine"}})


@pytest.mark.parametrize(("action", "parameters"), ADMIN_ACTIONS, ids=[a for a, _ in ADMIN_ACTIONS])
def test_action_of_administrators(
    editor: Caller, cloud_admin: Caller, fresh: Names, action: str, parameters: Any
) -> None:
    spec = {"instance": {"name": "web"}, "action": action}
    if parameters:
        spec["parameters"] = parameters
    path = f"{BASE}/instanceactions"
    refusal = editor.refused("POST", path, custom("InstanceAction", fresh("act"), spec))
    assert "novakube-admin-actions" in refusal.message
    assert f"needs the right to use instances/{action.lower()}" in refusal.message
    cloud_admin.may("POST", path, custom("InstanceAction", fresh("act"), spec))
    reboot = {"instance": {"name": "web"}, "action": "Reboot", "parameters": {"type": "Soft"}}
    editor.may("POST", path, custom("InstanceAction", fresh("act"), reboot))


def test_naming_the_host_of_an_action(editor: Caller, cloud_admin: Caller, fresh: Names) -> None:
    path = f"{BASE}/instanceactions"
    spec = {"instance": {"name": "web"}, "action": "Unshelve"}
    there = {**spec, "parameters": {"host": "n1"}}
    refusal = editor.refused("POST", path, custom("InstanceAction", fresh("act"), there))
    assert "spec.parameters.host needs the right to use instances/forcehost" in refusal.message
    editor.may("POST", path, custom("InstanceAction", fresh("act"), spec))
    cloud_admin.may("POST", path, custom("InstanceAction", fresh("act"), there))


@pytest.mark.parametrize(
    "plural",
    ["guests", "hypervisorreports", "ipaddresses", "addressslices", "historyrecords"],
)
def test_internal_kinds_are_out_of_reach(editor: Caller, operator: Caller, plural: str) -> None:
    for method, path in (("GET", plural), ("DELETE", f"{plural}/x")):
        assert (
            f"cannot {'list' if method == 'GET' else 'delete'} resource"
            in editor.refused(method, f"{BASE}/{path}").message
        )
    operator.may("GET", f"{BASE}/{plural}")


def test_internal_kinds_stay_internal_with_any_role(cloud: Any, operator: Caller) -> None:
    """Somebody who was given all verbs on our kinds by mistake meets the policy."""
    role = "/apis/rbac.authorization.k8s.io/v1"
    rule = {
        "apiGroups": ["novakube.dev"],
        "resources": ["ipaddresses"],
        "verbs": ["get", "create", "delete"],
    }
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "generous"}
    cloud.admin.may("POST", f"/api/v1/namespaces/{TENANT}/serviceaccounts",
                    {"metadata": {"name": "generous"}})  # fmt: skip
    cloud.admin.may("POST", f"{role}/namespaces/{TENANT}/roles",
                    {"metadata": {"name": "generous"}, "rules": [rule]})  # fmt: skip
    cloud.admin.may("POST", f"{role}/namespaces/{TENANT}/rolebindings", {
        "metadata": {"name": "generous"}, "roleRef": ref,
        "subjects": [{"kind": "ServiceAccount", "name": "generous", "namespace": TENANT}],
    })  # fmt: skip
    generous = cloud.account(TENANT, "generous")
    claim = custom("IPAddress", "stolen", IP_ADDRESS)
    refusal = generous.refused("POST", f"{BASE}/ipaddresses", claim)
    assert "novakube-internal-kinds" in refusal.message
    assert "ipaddresses are internal to novakube" in refusal.message
    operator.may("POST", f"{BASE}/ipaddresses", claim)
    assert (
        "novakube-internal-kinds"
        in generous.refused("DELETE", f"{BASE}/ipaddresses/stolen").message
    )
    operator.may("DELETE", f"{BASE}/ipaddresses/stolen")


IP_ADDRESS = {
    "network": {"name": "net", "uid": ID},
    "networkUID": ID,
    "subnet": {"name": "sub"},
    "subnetUID": ID,
    "address": "10.0.0.5",
    "claim": {"namespace": TENANT, "name": "web", "kind": "Instance", "uid": ID, "nic": 0},
}


def test_quota_is_read_only(editor: Caller, cloud_admin: Caller) -> None:
    quota = custom("Quota", "quota", {"hard": {"instances": 3}})
    refusal = editor.refused("POST", f"{BASE}/quotas", quota)
    assert "cannot create resource" in refusal.message
    cloud_admin.may("POST", f"{BASE}/quotas", quota)
    editor.may("GET", f"{BASE}/quotas/quota")
    assert (
        "cannot patch resource"
        in editor.refused(
            "PATCH", f"{BASE}/quotas/quota", {"spec": {"hard": {"instances": 9}}}
        ).message
    )


@pytest.mark.parametrize(
    ("kind", "plural", "spec"),
    [("Instance", "instances", INSTANCE), ("Network", "networks", {}), ("Image", "images", IMAGE),
     ("Subnet", "subnets", SUBNET)],
)  # fmt: skip
def test_status_is_the_operators(
    editor: Caller, operator: Caller, fresh: Names, kind: str, plural: str, spec: Any
) -> None:
    name = fresh("status")
    editor.may("POST", f"{BASE}/{plural}", custom(kind, name, spec))
    change = {"status": {"observedGeneration": 1}}
    path = f"{BASE}/{plural}/{name}/status"
    refusal = editor.refused("PATCH", path, change)
    assert f'cannot patch resource "{plural}/status"' in refusal.message
    operator.may("PATCH", path, change)


def test_kinds_of_the_cluster_are_read_only(editor: Caller, cloud: Any, fresh: Names) -> None:
    flavor = custom("Flavor", fresh("huge"), {"vcpus": 64, "memoryMiB": 262144})
    assert "cannot create resource" in editor.refused("POST", f"{API}/flavors", flavor).message
    editor.may("GET", f"{API}/flavors")
    cloud.admin.may("POST", f"{API}/flavors", flavor)


def test_a_viewer_changes_nothing(cloud: Any, editor: Caller, fresh: Names) -> None:
    viewer = cloud.account(TENANT, "viewer")
    network = custom("Network", fresh("net"), {})
    assert "cannot create resource" in viewer.refused("POST", f"{BASE}/networks", network).message
    editor.may("POST", f"{BASE}/networks", network)
    viewer.may("GET", f"{BASE}/networks/{network['metadata']['name']}")
