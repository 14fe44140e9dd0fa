"""Argo CD's health of our kinds, by statuses that the operator's own code makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from novakube_crds.base import API_VERSION
from novakube_crds.conditions import rfc3339
from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.instanceaction import INSTANCEACTION
from novakube_crds.v1alpha1.kinds import KINDS
from novakube_kit.kube import Json
from novakube_operator.core.follow import plan
from novakube_operator.core.instance_status import Draft
from novakube_operator.core.resources.verdict import Verdict, accepted, not_supported_yet
from tests.argocd import health, script
from tests.kstatus import kstatus
from tests.unit.operator_core.plan_objects import (
    FACTS,
    MADE,
    NOW,
    a_guest,
    an_instance,
    running,
)

GENERATION = an_instance().generation
OF_OBJECTS = [kind for kind in KINDS if kind.status is not None]
RAN: dict[str, Any] = {
    "state": "Running", "wantedPowerState": "Running", "powerSequence": 1,
    "launchedAt": rfc3339(MADE), "vmState": "active",
}  # fmt: skip


def instance(status: Any, **metadata: Any) -> Json:
    return {
        "apiVersion": API_VERSION, "kind": "Instance",
        "metadata": {"name": "web", "generation": GENERATION, **metadata},
        "spec": {}, "status": status.wire(),
    }  # fmt: skip


def followed(spec: dict[str, Any], status: dict[str, Any], guest: Any, **facts: Any) -> Json:
    """The Instance as the operator leaves it after one pass."""
    outcome = plan(an_instance(spec, status), guest, replace(FACTS, **facts))
    return instance(outcome.status)


def refused(reason: str) -> Json:
    """As an Instance waits or fails before it has a Guest."""
    return instance(Draft(an_instance(), NOW).working("Pending", reason, "so it is").done())


def guest_at(power: str) -> Any:
    return running(powerState=power, stopReason="Ordered" if power == "Stopped" else None)


def wanted(power: str) -> dict[str, Any]:
    return {**RAN, "state": power, "wantedPowerState": power}


DELETED = {"deletionTimestamp": rfc3339(NOW)}
INSTANCES: dict[str, tuple[Json, str, str]] = {
    "just created": (instance(an_instance().status), "Progressing", "InProgress"),
    "running": (followed({}, RAN, running()), "Healthy", "Current"),
    "running as specified": (
        followed({"powerState": "Running"}, RAN, running()), "Healthy", "Current",
    ),
    "stopped as wanted": (
        followed({}, wanted("Stopped"), guest_at("Stopped")), "Healthy", "Current",
    ),
    "stopped by an action": (
        followed(
            {"powerState": "Running"}, {**wanted("Stopped"), "appliedPowerState": "Running"},
            guest_at("Stopped"),
        ), "Healthy", "Current",
    ),
    "paused": (followed({}, wanted("Paused"), guest_at("Paused")), "Suspended", "Current"),
    "suspended": (
        followed({}, wanted("Suspended"), guest_at("Suspended")), "Suspended", "Current",
    ),
    "soft-deleted": (
        followed(
            {}, {**wanted("Stopped"), "softDeleted": {"at": rfc3339(MADE)}}, guest_at("Stopped")
        ), "Suspended", "Current",
    ),
    "building": (
        followed({}, {}, a_guest(status={"phase": "Building"})), "Progressing", "InProgress",
    ),
    "starting": (
        followed({}, {**wanted("Running"), "powerSequence": 2}, guest_at("Stopped")),
        "Progressing", "InProgress",
    ),
    "node silent": (
        followed({}, RAN, running(), silent="no heartbeat of n1"), "Degraded", "InProgress",
    ),
    "build failed": (
        followed({}, {}, a_guest(status={"phase": "Lost", "message": "disk lost"})),
        "Degraded", "Failed",
    ),
    "power order failed": (
        followed({}, RAN, running(powerError="the guest does not suspend")), "Degraded", "Failed",
    ),
    "impossible wish": (
        followed({"powerState": "Paused"}, wanted("Stopped"), guest_at("Stopped")),
        "Degraded", "Current",
    ),
    "image missing": (refused("NotFound"), "Progressing", "InProgress"),
    "network not ready": (refused("NotReady"), "Progressing", "InProgress"),
    "no room": (refused("NoValidHost"), "Degraded", "InProgress"),
    "over quota": (refused("QuotaExceeded"), "Degraded", "InProgress"),
    "network full": (refused("NetworkFull"), "Degraded", "InProgress"),
    "cannot be": (
        instance(Draft(an_instance(), NOW).error("FlavorTooSmall", "2 GiB").done()),
        "Degraded", "Failed",
    ),
    "deleted while it runs": (
        instance(plan(an_instance({}, RAN), running(), FACTS).status, **DELETED),
        "Progressing", "Terminating",
    ),
    "deleted after it failed": (
        instance(Draft(an_instance(), NOW).error("Lost", "disk lost").done(), **DELETED),
        "Progressing", "Terminating",
    ),
    "changed since": (
        {**followed({}, RAN, running()), "metadata": {"name": "web", "generation": GENERATION + 1}},
        "Progressing", "InProgress",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INSTANCES)
def test_an_instances_health(case: str) -> None:
    obj, argocd, flux = INSTANCES[case]
    assert (health(obj).status, kstatus(obj)) == (argocd, flux), obj["status"]


def test_the_message_is_the_cause() -> None:
    assert health(INSTANCES["no room"][0]).message == "so it is"
    assert health(INSTANCES["cannot be"][0]).message == "2 GiB"


def judged(kind: Kind, verdict: Verdict | None) -> Json:
    """An object as it is created, or with a verdict on it."""
    status: Json = dict(kind.status_default or {})
    if verdict is not None:
        conditions = verdict.conditions([], GENERATION, NOW)
        wire = [one.wire() for one in conditions]
        status |= {"conditions": wire, "observedGeneration": GENERATION}
    return {
        "apiVersion": API_VERSION, "kind": kind.kind,
        "metadata": {"name": "x", "generation": GENERATION}, "status": status,
    }  # fmt: skip


OUT_OF_REACH = {"Guest", "IPAddress", "AddressSlice", "HypervisorReport", "HistoryRecord"}
"""Internal kinds: in nobody's tree."""
JUDGED = [
    kind for kind in OF_OBJECTS if kind.kind not in ("Instance", "InstanceAction", *OUT_OF_REACH)
]


def test_every_kind_of_users_says_when_it_was_not_looked_at_yet() -> None:
    """Without the default an object would be there for kstatus before anybody saw it."""
    for kind in OF_OBJECTS:
        if kind.kind not in OUT_OF_REACH:
            assert (kind.status_default or {}).get("observedGeneration") == -1, kind.kind


@pytest.mark.parametrize("kind", JUDGED, ids=lambda kind: kind.kind)
def test_a_kinds_health(kind: Kind) -> None:
    waits = "Degraded" if kind.kind == "Hypervisor" else "Progressing"
    for verdict, argocd, flux in (
        (None, "Progressing", "InProgress"),
        (accepted(), "Healthy", "Current"),
        (Verdict(False, "NotFound", "no network"), waits, "InProgress"),
        (Verdict(False, "QuotaExceeded", "used 2 of 2"), "Degraded", "InProgress"),
        (not_supported_yet("it"), "Degraded", "Failed"),
    ):
        obj = judged(kind, verdict)
        assert (health(obj).status, kstatus(obj)) == (argocd, flux), verdict


@pytest.mark.parametrize(
    ("state", "expected"),
    [("Pending", "Progressing"), ("Running", "Progressing"), ("Succeeded", "Healthy"),
     ("Failed", "Degraded")],
)  # fmt: skip
def test_an_actions_health(state: str, expected: str) -> None:
    obj = judged(INSTANCEACTION, None)
    obj["status"] |= {"state": state, "reason": "Conflict", "message": "another runs"}
    found = health(obj)
    assert found.status == expected
    assert state != "Failed" or found.message == "Conflict: another runs"


def test_kinds_without_a_status_are_healthy() -> None:
    without = [kind for kind in KINDS if kind.status is None]
    assert without
    for kind in without:
        assert health({"apiVersion": API_VERSION, "kind": kind.kind, "metadata": {}}).status == (
            "Healthy"
        )


def test_a_port_that_the_operator_made_goes_with_its_instance() -> None:
    port = judged(next(kind for kind in KINDS if kind.kind == "Port"), None)
    port["metadata"]["ownerReferences"] = [{"kind": "Instance", "name": "web"}]
    assert health(port).status == "Healthy"


def test_every_kind_has_one_script() -> None:
    for kind in KINDS:
        assert script("novakube.dev", kind.kind)


def test_a_script_has_no_libraries_but_those_of_argo_cd() -> None:
    text = script("novakube.dev", "Instance")
    for library in ("string.", "math.", "io.", "os.", ":find(", ":match(", ":format(", ":sub("):
        assert library not in text
