"""No sync waves: whichever order the objects of a tree come in, it ends the same."""

from __future__ import annotations

import random

from novakube_kit.kube import Json
from novakube_local.kubehttp import ApiError
from tests.deadlines import EVENT_S
from tests.integration.gitops.tree import MANAGER, STATES, Tenant
from tests.integration.operator.cloud import Cloud
from tests.waiting import wait_until_sync

APPLY = "application/apply-patch+yaml"
RANDOM_ORDERS = 3


def namespace_first(tenant: Tenant, seed: int | None) -> list[Json]:
    """Backwards, or shuffled; the API server takes nothing into a namespace that is not there."""
    rest = list(reversed(tenant.objects))
    if seed is not None:
        random.Random(seed).shuffle(rest)
    return sorted(rest, key=lambda one: one["kind"] != "Namespace")


def looked_at(tenant: Tenant, obj: Json) -> bool:
    """Whether the operator has answered: with a status, or with the wish to have more."""
    live = tenant.live(obj) or {}
    observed = live.get("status", {}).get("observedGeneration")
    return obj["kind"] == "Namespace" or observed == live["metadata"]["generation"]


def ended(tenant: Tenant) -> None:
    tenant.until_settled()
    instances = {
        role: (tenant.cloud.get("instances", tenant.instance(role), tenant.namespace) or {})
        for role in STATES
    }
    assert {role: one["status"]["state"] for role, one in instances.items()} == STATES
    assert {found.status for found in tenant.health().values()} == {"Healthy"}


def test_one_by_one_backwards(cloud: Cloud) -> None:
    """Each waits for what is not there yet, and goes on by itself."""
    tenant = Tenant(cloud, "back")
    waited = set()
    for obj in namespace_first(tenant, None):
        assert taken(tenant, obj)
        wait_until_sync(lambda: looked_at(tenant, obj), f"{obj['kind']} looked at", EVENT_S)  # noqa: B023
        for role in STATES:
            found = cloud.get("instances", tenant.instance(role), tenant.namespace)
            if found is not None and found["status"]["state"] == "Pending":
                waited.add(role)
    assert waited == set(STATES)
    ended(tenant)


def test_all_at_once_in_random_orders(cloud: Cloud, order_seed: int) -> None:
    tenants = [Tenant(cloud, f"r{number}") for number in range(RANDOM_ORDERS)]
    for number, tenant in enumerate(tenants):
        tenant.apply(namespace_first(tenant, order_seed + number))
    for tenant in tenants:
        ended(tenant)
        tenant.until_counted()
        before = tenant.all_live()
        tenant.apply()
        assert tenant.all_live() == before


def test_a_tree_whose_namespace_comes_last_ends_at_the_second_try(cloud: Cloud) -> None:
    """As tools retry: the first round fails for all that is namespaced, the next one does not."""
    tenant = Tenant(cloud, "last")
    last = sorted(tenant.objects, key=lambda one: one["kind"] == "Namespace")
    refused = [one for one in last if not taken(tenant, one)]
    assert {one["metadata"].get("namespace") for one in refused} == {tenant.namespace}
    assert all(taken(tenant, one) for one in last)
    ended(tenant)


def taken(tenant: Tenant, obj: Json) -> bool:
    """Applies one object; False when its namespace is not there."""
    try:
        tenant.cloud.admin.call("PATCH", f"{tenant.path(obj)}?fieldManager={MANAGER}", obj, APPLY)
    except ApiError as error:
        if error.code != 404:
            raise
        return False
    return True
