"""Applying the same tree again changes nothing, and nobody fights for a field of it."""

from __future__ import annotations

import signal
from typing import Any

import yaml

from novakube_kit.kube import Json
from tests.deadlines import READY_S
from tests.integration.api.cloud import rendered_chart
from tests.integration.gitops.tree import MANAGER, STATES, Tenant
from tests.integration.operator.cloud import Cloud, condition
from tests.waiting import wait_until_sync

CHART = ("apply", "--server-side", "-f", "-")


def test_the_tree_ends_as_it_says(blue: Tenant) -> None:
    for role, state in STATES.items():
        found = blue.cloud.get("instances", blue.instance(role), blue.namespace) or {}
        assert found["status"]["state"] == state
    degrees = {name: found.status for name, found in blue.health().items()}
    assert degrees == dict.fromkeys(degrees, "Healthy")


def test_applied_again_nothing_changes(blue: Tenant) -> None:
    before = blue.all_live()
    blue.apply()
    assert blue.all_live() == before
    # Nor does it on another day: an operator that starts anew looks at everything again.
    assert blue.cloud.operator.end(signal.SIGTERM) == 0
    blue.cloud.operator.start()
    key = {"userID": "later", "publicKey": _key(blue)}
    blue.cloud.make("KeyPair", "after-the-restart", key)

    def judged() -> bool:
        made = blue.cloud.get("keypairs", "after-the-restart") or {}
        return condition(made, "Ready").get("status") == "True"

    wait_until_sync(judged, "the operator is back", READY_S)
    blue.apply()
    assert blue.all_live() == before


def _key(tenant: Tenant) -> str:
    pairs = [one for one in tenant.objects if one["kind"] == "KeyPair"]
    return str(pairs[0]["spec"]["publicKey"])


def test_a_dry_run_finds_no_difference(blue: Tenant) -> None:
    """Argo CD's and Flux's own comparison."""
    told = blue.apply(None, "--dry-run=server", "-o", "yaml")
    compared = list(yaml.safe_load_all(told))
    listed = compared[0]["items"] if compared[0]["kind"] == "List" else compared
    there = blue.all_live()
    assert len(listed) == len(there)
    for would_be in listed:
        name = f"{would_be['kind']} {would_be['metadata']['name']}"
        assert still(would_be) == still(there[name])


def still(obj: Json) -> Json:
    """Without what kubectl does not print."""
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}


def test_nobody_else_owns_what_the_tree_sets(blue: Tenant) -> None:
    for name, obj in blue.all_live().items():
        for entry in obj["metadata"]["managedFields"]:
            if entry["manager"] == MANAGER or entry.get("subresource") == "status":
                continue
            assert entry["manager"] == "novakube-operator" or name.startswith("Namespace "), entry
            ours, theirs = leaves(entry["fieldsV1"]), owned(obj, MANAGER)
            assert ours & theirs == set(), f"{name}: {entry['manager']}"
            # All that novakube writes outside of the status; an empty spec is the Quota that it
            # made before the tree's came.
            assert all(path[:2] == ("f:metadata", "f:finalizers") for path in ours), (name, ours)
        assert any(entry["manager"] == MANAGER for entry in obj["metadata"]["managedFields"])


def owned(obj: Json, manager: str) -> set[tuple[str, ...]]:
    entries = [one for one in obj["metadata"]["managedFields"] if one["manager"] == manager]
    return {path for entry in entries for path in leaves(entry["fieldsV1"])}


def leaves(fields: dict[str, Any], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of a managedFields entry at which values are owned, not merely their parents."""
    found = set()
    for name, below in fields.items():
        if name == ".":
            continue
        found |= leaves(below, (*above, name)) if below else {(*above, name)}
    return found - {("f:spec",)}


def test_an_action_is_no_drift_and_outlives_the_next_apply(cloud: Cloud, blue: Tenant) -> None:
    """Someone stops what Git wants running: the Instance stays stopped, Git is not touched."""
    name = blue.instance("web")
    for action, state in (("Stop", "Stopped"), ("Start", "Running")):
        spec = {"instance": {"name": name}, "action": action, "ttlSecondsAfterFinished": 0}
        cloud.make("InstanceAction", f"{name}-{action.lower()}", spec, blue.namespace)
        cloud.until("instances", name, blue.namespace, READY_S, state=state)
        cloud.gone("instanceactions", f"{name}-{action.lower()}", blue.namespace)
        cloud.until("instances", name, blue.namespace, currentAction=None)
        before = blue.all_live()
        blue.apply()
        assert blue.all_live() == before
        assert blue.health()[f"Instance {name}"].status == "Healthy"


def test_the_chart_applied_again_changes_nothing(cloud: Cloud) -> None:
    """What the operator has written since into what the chart sets would be put back now."""
    newest = cloud.admin.call("GET", "/api/v1/namespaces")["metadata"]["resourceVersion"]
    again = yaml.safe_load(cloud.kubectl(*CHART, "-o", "yaml", stdin=rendered_chart()))["items"]
    assert again
    changed = [
        f"{one['kind']} {one['metadata']['name']}"
        for one in again
        if int(one["metadata"]["resourceVersion"]) > int(newest) and not only_told_of(one)
    ]
    assert changed == []


def only_told_of(obj: Json) -> bool:
    """Kubernetes' own controller applies the status of policies, and the next apply sorts
    managedFields anew; the spec is what it was."""
    return obj["kind"] == "ValidatingAdmissionPolicy" and obj["metadata"]["generation"] == 1
