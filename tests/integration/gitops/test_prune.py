"""What is taken out of the tree is deleted properly, however the tool deletes it."""

from __future__ import annotations

import random

import pytest

from novakube_kit.kube import Json
from tests.deadlines import READY_S
from tests.integration.gitops.tree import Tenant
from tests.integration.operator.cloud import NODE, Cloud
from tests.integration.operator.test_adoption import domain
from tests.waiting import wait_until_sync

PART_OF = "applyset.kubernetes.io/part-of"


def without(objects: list[Json], *names: str) -> list[Json]:
    """The tree without these Instances."""
    return [
        one for one in objects
        if one["kind"] != "Instance" or one["metadata"]["name"] not in names
    ]  # fmt: skip


def pruning(tenant: Tenant, objects: list[Json]) -> str:
    """Applies and deletes what was in the tree the last time and is not in it any more."""
    return tenant.apply(objects, "--prune", "--applyset=tree", f"--namespace={tenant.namespace}")


def nothing_is_left_of(tenant: Tenant, machine: Json) -> None:
    """Of an Instance that is gone: no domain, Guest, Port or address."""
    cloud, uid = tenant.cloud, machine["metadata"]["uid"]
    assert domain(cloud, machine) is None
    assert not [one for one in tenant.guests() if one["spec"]["instance"]["uid"] == uid]
    for port in cloud.list("ports", tenant.namespace):
        assert uid not in str(port["metadata"].get("ownerReferences", "")), port
        assert port["status"].get("claim", {}).get("instanceUID") != uid, port
    # An address that its own Port holds is the Port's.
    held = [one["spec"]["claim"] for one in cloud.list("ipaddresses", tenant.namespace)]
    assert all(claim["uid"] != uid for claim in held), held


def test_pruned_instances_leave_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL_APPLYSET", "true")
    tenant = Tenant(cloud, "red")
    # kubectl keeps its list of what it applied in the namespace, and prunes no namespaces.
    tenant.apply([one for one in tenant.objects if one["kind"] == "Namespace"])
    tree = [one for one in tenant.objects if one["kind"] != "Namespace"]
    pruning(tenant, tree)
    tenant.until_settled()
    web, worker = (
        cloud.get("instances", tenant.instance(role), tenant.namespace) or {}
        for role in ("web", "worker")
    )
    assert domain(cloud, worker) is not None
    for child in (*tenant.guests(), *cloud.list("ports", tenant.namespace)):
        # What a tool finds its own by: on a child it would be pruned, being in no tree.
        mine = child["metadata"]["name"] == f"{tenant.name}-web"
        assert (PART_OF in child["metadata"].get("labels", {})) == mine, child["metadata"]
    gone = (tenant.instance("web"), tenant.instance("worker"))
    told = pruning(tenant, without(tree, *gone))
    assert all(f"instance.novakube.dev/{name} pruned" in told for name in gone), told
    for name in gone:
        cloud.gone("instances", name, tenant.namespace)
    nothing_is_left_of(tenant, web)
    nothing_is_left_of(tenant, worker)
    # The Port is in the tree still: it keeps its address, and the next Instance gets it.
    port = cloud.get("ports", f"{tenant.name}-web", tenant.namespace) or {}
    assert port["status"]["addresses"][0]["address"] == "10.40.0.10"
    assert "pruned" not in pruning(tenant, tree)
    tenant.until_settled()
    again = cloud.get("instances", gone[0], tenant.namespace) or {}
    assert again["metadata"]["uid"] != web["metadata"]["uid"]
    assert again["status"]["addresses"][0]["address"] == "10.40.0.10"


def test_every_way_to_delete_ends(cloud: Cloud) -> None:
    """Argo CD deletes in the foreground: the garbage collector takes dependents first."""
    tenant = Tenant(cloud, "green")
    tenant.apply()
    tenant.until_settled()
    machines = cloud.list("instances", tenant.namespace)
    ways = {"web": "background", "worker": "foreground", "spare": "orphan"}
    for role, how in ways.items():
        options = (f"--cascade={how}", "--wait=false", "-n", tenant.namespace)
        cloud.kubectl("delete", "instance", tenant.instance(role), *options)
    for one in machines:
        cloud.gone("instances", one["metadata"]["name"], tenant.namespace)
        nothing_is_left_of(tenant, one)
    left = [one["metadata"]["name"] for one in cloud.list("ports", tenant.namespace)]
    assert left == [f"{tenant.name}-web"]


def test_a_whole_tree_goes_in_any_order(cloud: Cloud, order_seed: int) -> None:
    tenant = Tenant(cloud, "grey")
    tenant.apply()
    tenant.until_settled()
    machines = cloud.list("instances", tenant.namespace)
    rest = [one for one in tenant.objects if one["kind"] != "Namespace"]
    # Networks and Subnets first of all, while machines are on them.
    random.Random(order_seed).shuffle(rest)
    rest.sort(key=lambda one: one["kind"] not in ("Network", "Subnet"))
    for one in rest:
        cloud.admin.call("DELETE", tenant.path(one))
    # The bound namespace's Quota is made anew, empty: it is the operator's then.
    mine = [one for one in rest if one["kind"] != "Quota"]
    wait_until_sync(lambda: not any(map(tenant.live, mine)), "the tree gone", READY_S)
    for one in machines:
        nothing_is_left_of(tenant, one)
    assert cloud.list("ipaddresses", tenant.namespace) == []
    for namespace in [one for one in tenant.objects if one["kind"] == "Namespace"]:
        cloud.admin.call("DELETE", tenant.path(namespace))
        wait_until_sync(lambda: tenant.live(namespace) is None, "namespace gone", READY_S)  # noqa: B023
    assert (cloud.get("hypervisors", NODE) or {})["status"].get("orphans", []) == []
