"""Actions beyond power: soft deletion, reset states, what the agent is asked, who waits."""

from __future__ import annotations

import json
import signal
from typing import Any

from novakube_kit.kube import Json
from tests.deadlines import EVENT_S, READY_S
from tests.integration.operator.cloud import MAILBOX, Cloud, condition
from tests.integration.operator.test_create import WEB, guests_of
from tests.integration.operator.test_power import action, web, wish
from tests.waiting import wait_until_sync

__all__ = ["web"]


def done(cloud: Cloud, namespace: str, name: str, kind: str, **parameters: str) -> Json:
    action(cloud, namespace, name, kind, **parameters)
    return cloud.until("instanceactions", name, namespace, READY_S, state="Succeeded")


def refused(cloud: Cloud, namespace: str, name: str, kind: str, **parameters: str) -> str:
    action(cloud, namespace, name, kind, **parameters)
    found = cloud.until("instanceactions", name, namespace, state="Failed")
    assert found["status"]["reason"] == "ImpossibleTransition"
    return str(found["status"]["message"])


def status(cloud: Cloud, namespace: str) -> Json:
    found: Json = (cloud.get("instances", "web", namespace) or {})["status"]
    return found


def test_soft_delete_and_restore(cloud: Cloud, web: str) -> None:
    done(cloud, web, "away", "SoftDelete")
    found = cloud.until("instances", "web", web, state="SoftDeleted", powerState="Stopped")
    assert found["status"]["vmState"] == "soft-delete"
    assert "until" not in found["status"]["softDeleted"]  # the setting's default: never by itself
    text = refused(cloud, web, "early", "Start")
    assert text == "Start: the instance is soft-deleted; restore it first"
    wish(cloud, web, "Running")  # waits until it is restored
    done(cloud, web, "back", "Restore")
    found = cloud.until("instances", "web", web, state="Running", vmState="active")
    assert "softDeleted" not in found["status"]
    assert "it is Running" in refused(cloud, web, "again", "Restore")


def test_a_deletion_wins_over_a_soft_one(cloud: Cloud, web: str) -> None:
    done(cloud, web, "away", "SoftDelete")
    cloud.until("instances", "web", web, state="SoftDeleted")
    cloud.delete("instances", "web", web)
    cloud.gone("instances", "web", web)
    assert guests_of(cloud, "web", web) == []


def test_deadlines_of_the_operator(cloud: Cloud, web: str) -> None:
    """A soft-deleted Instance goes at its time; a guest that is never built is given up."""
    assert cloud.operator.end(signal.SIGTERM) == 0
    deadlines = {"NOVAKUBE_RECLAIM_INSTANCE_INTERVAL_S": "1", "NOVAKUBE_BUILD_DEADLINE_S": "2"}
    cloud.operator.start(**deadlines)
    try:
        action(cloud, web, "away", "SoftDelete")
        wait_until_sync(lambda: cloud.get("instances", "web", web) is None, "gone", READY_S)
        cloud.agent.end(signal.SIGKILL)
        cloud.make("Instance", "late", WEB, web)

        def given_up() -> bool:
            return (cloud.get("instances", "late", web) or {})["status"]["state"] == "Error"

        wait_until_sync(given_up, "given up", READY_S)
        late = cloud.get("instances", "late", web) or {}
        ready = condition(late, "Ready")
        assert ready["reason"] == "BuildTimeout"
        assert ready["message"].startswith("no guest after 2 s: ")
        ordered = guests_of(cloud, "late", web)[0]["spec"]["teardown"]
        assert ordered == "Destroy"
    finally:
        cloud.agent.start()
        assert cloud.operator.end(signal.SIGTERM) == 0
        cloud.operator.start()
    # What was given up leaves nothing, and a corrected one begins anew.
    wait_until_sync(lambda: guests_of(cloud, "late", web) == [], "torn down", READY_S)
    cloud.patch("instances", "late", {"spec": {"description": "again"}}, web)
    cloud.until("instances", "late", web, READY_S, state="Running")


def test_reset_state(cloud: Cloud, web: str) -> None:
    done(cloud, web, "broken", "ResetState", state="error")
    found = cloud.until("instances", "web", web, state="Error", vmState="error")
    assert condition(found, "Ready")["reason"] == "ResetState"
    assert "set the state to error" in refused(cloud, web, "soft", "Reboot")
    done(cloud, web, "well", "ResetState", state="active")
    found = cloud.until("instances", "web", web, state="Running", vmState="active")
    assert "fault" not in found["status"]
    done(cloud, web, "broken-again", "ResetState", state="error")
    done(cloud, web, "hard", "Reboot", type="Hard")  # as in Nova, it mends the state
    cloud.until("instances", "web", web, state="Running", vmState="active")


def test_a_crash_dump_is_one_interrupt(cloud: Cloud, web: str) -> None:
    id = status(cloud, web)["id"]
    done(cloud, web, "dump", "CrashDump")
    assert json.loads(cloud.host_file.read_text())["interrupts"][id] == 1
    done(cloud, web, "off", "Stop")
    assert "it is Stopped" in refused(cloud, web, "dump-off", "CrashDump")


def test_plumbing_is_ensured_and_network_facts_are_fresh(cloud: Cloud, web: str) -> None:
    before = nic(cloud, web)
    stored = json.loads(cloud.host_file.read_text())
    assert before["portUID"] in stored["nics"]
    cloud.patch("subnets", "net-v4", {"spec": {"dns": ["192.0.2.53"]}}, web)
    done(cloud, web, "plumb", "ResetNetwork")
    assert nic(cloud, web) == before
    done(cloud, web, "inform", "InjectNetworkInfo")
    after = nic(cloud, web)
    assert after["addresses"][0]["subnet"]["dns"] == ["192.0.2.53"]
    assert after["addresses"][0]["address"] == before["addresses"][0]["address"]
    assert after["mac"] == before["mac"]


def nic(cloud: Cloud, namespace: str) -> Json:
    found: Json = guests_of(cloud, "web", namespace)[0]["spec"]["nics"][0]
    return found


def held(cloud: Cloud, namespace: str) -> Any:
    """An action that runs and cannot end: its node's agent is not there."""
    cloud.agent.end(signal.SIGKILL)
    action(cloud, namespace, "held", "Reboot", type="Hard")

    def running() -> bool:
        found = cloud.get("instanceactions", "held", namespace) or {}
        return bool(found.get("status", {}).get("state") == "Running")

    wait_until_sync(running, "held runs", EVENT_S)


def test_one_meets_a_running_one(cloud: Cloud, web: str) -> None:
    """By hand: Conflict. A facade's, acknowledged already: it waits and runs afterwards."""
    id = status(cloud, web)["id"]
    held(cloud, web)
    try:
        action(cloud, web, "second", "Stop")
        action(cloud, web, f"{id}.1", "Stop")

        def conflict() -> Json | None:
            found = cloud.get("instanceactions", "second", web) or {}
            return found if found.get("status", {}).get("state") == "Failed" else None

        found = wait_until_sync(conflict, "second refused", EVENT_S) or {}
        assert found["status"]["reason"] == "Conflict"
        assert found["status"]["message"] == "action held (Reboot) is running"
        waits = cloud.get("instanceactions", f"{id}.1", web) or {}
        assert waits["status"]["state"] == "Pending"
        assert status(cloud, web)["currentAction"]["name"] == "held"
    finally:
        cloud.agent.start()
    cloud.until("instanceactions", "held", web, READY_S, state="Succeeded")
    cloud.until("instanceactions", f"{id}.1", web, READY_S, state="Succeeded")
    cloud.until("instances", "web", web, READY_S, state="Stopped", actionSeq=1, currentAction=None)


def test_a_reset_frees_an_instance_whose_action_is_stuck(cloud: Cloud, web: str) -> None:
    held(cloud, web)
    try:
        action(cloud, web, "reset", "ResetState", state="active")

        def state(name: str) -> Any:
            found = cloud.get("instanceactions", name, web) or {}
            return found.get("status", {}).get("state")

        wait_until_sync(lambda: state("reset") == "Succeeded", "reset", EVENT_S)
        wait_until_sync(lambda: state("held") == "Failed", "held ended", EVENT_S)
        found = cloud.get("instanceactions", "held", web) or {}
        assert found["status"]["reason"] == "Interrupted"
        wait_until_sync(
            lambda: "currentAction" not in status(cloud, web), "the instance is free", EVENT_S
        )
    finally:
        cloud.agent.start()
    cloud.until("instances", "web", web, READY_S, state="Running")


def test_impossible_transitions_as_a_user_reads_them(cloud: Cloud, web: str) -> None:
    for state, wanted, text in (
        ("Stopped", "Paused", "only a running guest can be paused; start it first"),
        ("Stopped", "Suspended", "only a running guest can be suspended; start it first"),
        ("Paused", "Suspended", "a paused guest cannot be suspended; unpause it first"),
        ("Suspended", "Paused", "a suspended guest cannot be paused; resume it first"),
        ("Suspended", "Stopped", "a suspended guest cannot be stopped; resume it first"),
    ):
        wish(cloud, web, "Running")
        cloud.until("instances", "web", web, READY_S, powerState="Running", state="Running")
        wish(cloud, web, state)
        cloud.until("instances", "web", web, READY_S, powerState=state, state=state)
        wish(cloud, web, wanted)
        found = cloud.until("instances", "web", web, appliedPowerState=wanted)
        why = condition(found, "PowerAsSpecified")
        assert why["reason"] == "ImpossibleTransition"
        assert why["message"] == f"spec.powerState {wanted}: {text}"
        assert (found["status"]["state"], found["status"]["powerState"]) == (state, state)


def test_a_guest_of_a_dead_leader_boots_once_the_next_confirms_it(
    cloud: Cloud, namespace: str
) -> None:
    lease = "/apis/coordination.k8s.io/v1/namespaces/novakube-system/leases/novakube-operator"
    cloud.agent.end(signal.SIGKILL)
    cloud.make("Instance", "web", WEB, namespace)
    wait_until_sync(lambda: guests_of(cloud, "web", namespace), "a Guest", EVENT_S)
    cloud.operator.end(signal.SIGKILL)
    old = guests_of(cloud, "web", namespace)[0]["spec"]["epoch"]
    # As if another leader had come and gone meanwhile: the boot must be held.
    body = {"spec": {"leaseTransitions": old + 1}}
    cloud.admin.call("PATCH", lease, body, "application/merge-patch+json")
    cloud.agent.start()
    name = guests_of(cloud, "web", namespace)[0]["metadata"]["name"]

    def held() -> bool:
        cloud.agent.check()
        found = (cloud.get("guests", name, MAILBOX) or {})["status"]
        return bool(found.get("reason") == "StaleEpoch" and found["phase"] == "Pending")

    wait_until_sync(held, "the boot is held", READY_S)
    cloud.operator.start()
    cloud.until("instances", "web", namespace, READY_S, state="Running")
    guests = guests_of(cloud, "web", namespace)
    assert [g["metadata"]["name"] for g in guests] == [name]
    assert guests[0]["spec"]["epoch"] > old + 1
