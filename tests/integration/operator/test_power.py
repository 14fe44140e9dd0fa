"""Power by ``spec.powerState`` and by actions."""

from __future__ import annotations

import pytest

from novakube_kit.kube import Json
from tests.deadlines import EVENT_S
from tests.integration.operator.cloud import Cloud, condition
from tests.integration.operator.test_create import WEB
from tests.waiting import wait_until_sync


@pytest.fixture
def web(cloud: Cloud, namespace: str) -> str:
    """The namespace of a running Instance ``web``."""
    cloud.make("Instance", "web", WEB, namespace)
    cloud.until("instances", "web", namespace, state="Running")
    return namespace


def wish(cloud: Cloud, namespace: str, power: str) -> None:
    cloud.patch("instances", "web", {"spec": {"powerState": power}}, namespace)


def action(cloud: Cloud, namespace: str, name: str, kind: str, **parameters: str) -> None:
    spec: Json = {"instance": {"name": "web"}, "action": kind}
    if parameters:
        spec["parameters"] = parameters
    cloud.make("InstanceAction", name, spec, namespace)


def test_by_spec(cloud: Cloud, web: str) -> None:
    for power in ("Stopped", "Running", "Paused", "Running"):
        wish(cloud, web, power)
        found = cloud.until("instances", "web", web, state=power, powerState=power)
        assert condition(found, "PowerAsSpecified")["status"] == "True"
        assert condition(found, "Ready")["status"] == "True"


def test_impossible_transition(cloud: Cloud, web: str) -> None:
    wish(cloud, web, "Stopped")
    cloud.until("instances", "web", web, state="Stopped")
    wish(cloud, web, "Paused")
    found = cloud.until("instances", "web", web, appliedPowerState="Paused")
    why = condition(found, "PowerAsSpecified")
    assert why["reason"] == "ImpossibleTransition"
    assert "only a running guest can be paused; start it first" in why["message"]
    assert found["status"]["state"] == "Stopped"


def test_actions(cloud: Cloud, web: str) -> None:
    for name, kind, state in (("a", "Stop", "Stopped"), ("b", "Start", "Running")):
        action(cloud, web, name, kind)
        cloud.until("instanceactions", name, web, state="Succeeded")
        cloud.until("instances", "web", web, state=state)
    action(cloud, web, "c", "Start")
    found = cloud.until("instanceactions", "c", web, state="Failed")
    assert found["status"]["reason"] == "ImpossibleTransition"


def test_reboot(cloud: Cloud, web: str) -> None:
    action(cloud, web, "again", "Reboot", type="Hard")
    cloud.until("instanceactions", "again", web, state="Succeeded")
    found = cloud.until("instances", "web", web, state="Running")
    assert "currentAction" not in found["status"]


def test_of_two_at_once_one_runs(cloud: Cloud, web: str) -> None:
    names = ("one", "two")
    for name in names:
        action(cloud, web, name, "Reboot", type="Hard")

    def ended() -> list[Json] | None:
        found = [cloud.get("instanceactions", name, web) or {} for name in names]
        states = [item.get("status", {}).get("state") for item in found]
        return found if all(state in ("Succeeded", "Failed") for state in states) else None

    found = wait_until_sync(ended, "both ended", EVENT_S) or []
    for item in found:
        if item["status"]["state"] == "Failed":
            assert item["status"]["reason"] == "Conflict"
    assert any(item["status"]["state"] == "Succeeded" for item in found)
