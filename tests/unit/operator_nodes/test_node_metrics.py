"""What alerts about nodes rest on: conditions, ends of certificates, orphans, the standby."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest

from novakube_crds.base import API_VERSION, SYSTEM_NAMESPACE
from novakube_crds.conditions import set_condition
from novakube_crds.v1alpha1.hypervisor import HYPERVISOR, HypervisorSpec, HypervisorStatus
from novakube_crds.v1alpha1.hypervisorreport import HYPERVISORREPORT, REPORT_NAME
from novakube_kit.clock import timestamp
from novakube_kit.events import EventRecorder
from novakube_kit.leader import LeaderElection
from novakube_kit.metrics import REGISTRY
from novakube_kit.objects import Object
from novakube_kit.resources import SECRETS, resource_of
from novakube_operator.core.certificates import AUTHORITY_LIFE, LEAF_LIFE
from novakube_operator.core.nodes import namespace_of_node
from novakube_operator.lifecycle import Lifecycle
from novakube_operator.nodes.authority import API_SECRET, Authority
from novakube_operator.nodes.controller import Builds
from novakube_operator.nodes.wiring import node_controller
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube

UID = "11111111-2222-3333-4444-555555555555"
Hypervisor = Object[HypervisorSpec, HypervisorStatus]


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"novakube_{name}", labels)


async def nothing(_: object) -> None:
    """No Instance held anything."""


def hypervisor(node: str, status: str, reason: str) -> Hypervisor:
    conditions = set_condition([], "AgentAlive", status, reason, "", now=ManualClock().now())
    raw = {
        "metadata": {"name": node, "uid": "u", "resourceVersion": "1",
                     "creationTimestamp": "2030-01-01T12:00:00Z"},
        "spec": {}, "status": HypervisorStatus(conditions=conditions).wire(),
    }  # fmt: skip
    stores = Stores(lambda *_: None)
    return cast("Hypervisor", stores.of("hypervisors").observe(raw))


def test_a_condition_has_one_series_with_its_present_reason() -> None:
    lifecycle = Lifecycle(ManualClock(), lambda: False)
    heard, silent = hypervisor("c1", "True", "Heartbeat"), hypervisor("c1", "False", "Lost")
    key = {"node": "c1", "condition": "AgentAlive"}
    lifecycle.changed("hypervisors", None, heard)
    assert sample("hypervisor_condition", **key, reason="Heartbeat") == 1
    lifecycle.changed("hypervisors", heard, silent)
    assert sample("hypervisor_condition", **key, reason="Heartbeat") is None
    assert sample("hypervisor_condition", **key, reason="Lost") == 0
    lifecycle.changed("hypervisors", silent, None)
    assert sample("hypervisor_condition", **key, reason="Lost") is None


async def test_ends_of_the_authority_and_of_the_api() -> None:
    kube, clock = FakeKube(), ManualClock()
    began = clock.now()
    await Authority(kube, clock, "https://cloud.example").ensure_api()
    ends = {
        name: sample("certificate_end_timestamp_seconds", certificate=name)
        for name in ("novakube-ca", "novakube-api")
    }
    assert ends["novakube-ca"] == pytest.approx((began + AUTHORITY_LIFE).timestamp(), abs=1)
    assert ends["novakube-api"] == pytest.approx((began + LEAF_LIFE).timestamp(), abs=1)
    clock.advance((LEAF_LIFE - timedelta(days=1)).total_seconds())
    await Authority(kube, clock, "https://cloud.example").ensure_api()
    renewed = sample("certificate_end_timestamp_seconds", certificate="novakube-api")
    assert renewed == pytest.approx((clock.now() + LEAF_LIFE).timestamp(), abs=1)
    assert await kube.get(SECRETS, API_SECRET, SYSTEM_NAMESPACE)


async def test_a_node_shows_its_orphans_and_certificate_until_it_is_gone() -> None:
    kube, clock = FakeKube(), ManualClock()
    stores = Stores(lambda *_: None)
    ends = clock.now() + timedelta(days=40)
    orphan = {"instanceID": UID, "instanceNamespace": "t", "instanceName": "lost"}
    for kind, name, namespace, status in (
        (HYPERVISOR, "m1", None, {}),
        (HYPERVISORREPORT, REPORT_NAME, namespace_of_node("m1"),
         {"driver": "libvirt", "orphans": [orphan], "certificateExpiresAt": timestamp(ends)}),
    ):  # fmt: skip
        resource = resource_of(kind)
        body = {"apiVersion": API_VERSION, "kind": kind.kind, "spec": {}, "status": status,
                "metadata": {"name": name, "namespace": namespace}}  # fmt: skip
        stores.of(resource.plural).observe(kube.seed(resource, body))
    nodes = node_controller(
        stores, kube, clock, "https://cloud.example", lambda _: None, Builds(lambda _: 0, 0),
        EventRecorder(kube, "test", clock=clock), nothing,
    )  # fmt: skip
    await nodes.controller.reconcile("m1")
    name = "novakube-node:m1"
    assert sample("orphan_domains", node="m1") == 1
    found = sample("certificate_end_timestamp_seconds", certificate=name)
    assert found == pytest.approx(ends.timestamp(), abs=1)
    shown = stores.of("hypervisors").get(None, "m1")
    assert shown is not None
    stores.of("hypervisors").forget(shown.uid)
    await nodes.controller.reconcile("m1")
    assert sample("orphan_domains", node="m1") is None
    assert sample("certificate_end_timestamp_seconds", certificate=name) is None


def test_a_standby_says_that_it_does_not_lead() -> None:
    LeaderElection(FakeKube(), "ns", "standby", "one")
    assert sample("leader", lease="standby") == 0
