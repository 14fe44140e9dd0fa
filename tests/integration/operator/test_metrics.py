"""/metrics of the real processes, before and after a life of an Instance."""

from __future__ import annotations

import re
from pathlib import Path

from tests.deadlines import EVENT_S
from tests.integration.operator.cloud import NODE, Cloud
from tests.integration.operator.conftest import IMAGE
from tests.integration.operator.test_create import WEB
from tests.waiting import wait_until_sync

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"
PHASES = ("accepted", "scheduled", "claimed", "guest-made", "running")


def phase(name: str) -> str:
    return f'novakube_create_phase_seconds_count{{phase="{name}"}}'


def test_phases_of_a_create_and_a_delete(cloud: Cloud, namespace: str) -> None:
    before = cloud.operator.metrics()
    agent_before = cloud.agent.metrics()
    cloud.make("Instance", "web", WEB, namespace)
    cloud.until("instances", "web", namespace, state="Running")
    after = cloud.operator.metrics()
    for name in PHASES:
        assert after[phase(name)] - before.get(phase(name), 0) == 1, name
    sums = [after[phase(n).replace("_count", "_sum")] - before.get(
        phase(n).replace("_count", "_sum"), 0) for n in PHASES]  # fmt: skip
    assert sums == sorted(sums), "each phase ends after the one before"
    assert 'novakube_create_phase_seconds_bucket{le="0.01",phase="running"}' in after
    cloud.delete("instances", "web", namespace)
    cloud.gone("instances", "web", namespace)
    key = "novakube_delete_seconds_count"
    wait_until_sync(
        lambda: cloud.operator.metrics()[key] - before[key] == 1, "the delete counted", EVENT_S
    )
    agent = cloud.agent.metrics()
    for until in ("Ready", "Gone"):
        key = f'novakube_guest_seconds_count{{until="{until}"}}'
        assert agent[key] - agent_before.get(key, 0) == 1, until
    for action in ("EnsureDisks", "EnsureNics", "DefineDomain", "RemoveDisks"):
        key = f'novakube_host_action_seconds_count{{action="{action}"}}'
        assert agent[key] - agent_before.get(key, 0) >= 1, action


def test_errors_capacity_and_writes(cloud: Cloud, namespace: str) -> None:
    key = 'novakube_instance_errors_total{reason="FlavorTooSmall"}'
    before = cloud.operator.metrics().get(key, 0)
    cloud.make("Image", "vast", {**IMAGE, "minDiskGiB": 50}, namespace)
    cloud.make("Instance", "web", {**WEB, "image": {"name": "vast"}}, namespace)
    cloud.until("instances", "web", namespace, state="Error")
    now = cloud.operator.metrics()
    assert now[key] - before == 1
    assert now['novakube_instances{state="Error"}'] >= 1
    assert now[f'novakube_hypervisor_capacity{{node="{NODE}",resource="vcpus"}}'] == 64
    assert now[f'novakube_hypervisor_allocated{{node="{NODE}",resource="vcpus"}}'] >= 0
    assert now['novakube_queue_depth{queue="Instance"}'] >= 0
    assert any(n.startswith("novakube_api_requests_total") and 'verb="patch"' in n for n in now)
    agent = cloud.agent.metrics()
    assert agent[f'novakube_node_capacity{{node="{NODE}",resource="vcpus"}}'] == 64


def test_every_metric_is_in_the_operations_page(cloud: Cloud) -> None:
    told = set(re.findall(r"`(novakube_\w+)`", PAGE.read_text()))
    for process in (cloud.operator, cloud.agent):
        for name in process.metrics():
            base = re.sub(r"(_bucket|_sum|_count|_created)?(\{.*)?$", "", name)
            if base.startswith("novakube_") and not name.startswith(f"{base}_created"):
                assert base in told or f"{base}_total" in told, name
