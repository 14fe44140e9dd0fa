"""What objects say in the history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.instanceaction import INSTANCEACTION
from novakube_kit.objects import Object, parse
from novakube_operator.instances import records

UID = "11111111-2222-3333-4444-555555555555"
ACTION_UID = "22222222-2222-3333-4444-555555555555"
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def made(
    kind: Kind, uid: str, spec: dict[str, Any], status: dict[str, Any], **metadata: str
) -> Any:
    head = {"name": "web", "namespace": "a", "uid": uid, "resourceVersion": "1",
            "creationTimestamp": "2026-01-02T03:04:05Z", **metadata}  # fmt: skip
    return parse(kind, {"metadata": head, "spec": spec, "status": status})


def instance(status: dict[str, Any], **metadata: str) -> Object[Any, Any]:
    spec = {"flavor": {"name": "tiny"}, "image": {"name": "i"}, "networks": [], "userID": "u"}
    return made(INSTANCE, UID, spec, status, **metadata)


def action(kind: str, status: dict[str, Any], **spec: Any) -> Object[Any, Any]:
    wanted = {"instance": {"name": "web"}, "action": kind, "requestID": "req-1", **spec}
    return made(INSTANCEACTION, ACTION_UID, wanted, status)


def of(entry: Any, table: str) -> list[dict[str, Any]]:
    return [dict(values) for name, values in entry.rows if name == table]


def test_the_end_of_an_instance_says_its_launch_too() -> None:
    status = {"state": "Running", "launchedAt": "2026-01-02T03:05:00Z", "node": "n1"}
    ended = records.deleted(
        instance(status, deletionTimestamp="2026-01-02T11:00:00Z"), "p", NOW
    )  # fmt: skip
    assert not ended.told_again
    (row,) = of(ended, "instances")
    assert (row["vm_state"], row["project_id"], row["user_id"]) == ("deleted", "p", "u")
    assert row["terminated_at"] == NOW.replace(tzinfo=None)
    assert row["launched_at"].minute == 5
    create, delete = of(ended, "instance_actions")
    assert (create["action"], delete["action"]) == ("Create", "Delete")
    launched = records.launched(instance(status), "p")
    assert launched.told_again
    assert of(launched, "instance_actions") == [create]  # merged into the same row
    events = of(ended, "instance_action_events")
    assert [event["action_uid"] for event in events] == [create["uid"], delete["uid"]]


def test_a_create_that_failed_says_why() -> None:
    status = {"state": "Error", "fault": {"message": "no room", "code": 500,
                                          "created": "2026-01-02T03:05:00Z"}}  # fmt: skip
    ended = records.deleted(instance(status, deletionTimestamp="2026-01-02T11:00:00Z"), None, NOW)
    create, _ = of(ended, "instance_actions")
    assert create["message"] == "no room"
    assert of(ended, "instance_action_events")[0]["result"] == "Error"


def test_an_action_has_its_events() -> None:
    steps = [
        {"name": "one", "startedAt": "2026-01-02T03:04:06Z", "result": "Success", "node": "n1"},
        {"name": "two", "startedAt": "2026-01-02T03:04:07Z", "result": "Error", "message": "no"},
    ]
    status = {"state": "Failed", "message": "no", "startedAt": "2026-01-02T03:04:05Z",
              "finishedAt": "2026-01-02T03:04:08Z", "events": steps}  # fmt: skip
    entry = records.finished(action("Stop", status, userID="someone"), UID, "p")
    (row,) = of(entry, "instance_actions")
    assert (row["uid"], row["instance_uid"], row["message"]) == (ACTION_UID, UID, "no")
    assert (row["request_id"], row["user_id"], row["project_id"]) == ("req-1", "someone", "p")
    events = of(entry, "instance_action_events")
    assert [(e["event"], e["result"], e["host"]) for e in events] == [
        ("one", "Success", "n1"), ("two", "Error", None)
    ]  # fmt: skip
    assert of(entry, "migrations") == []


@pytest.mark.parametrize(
    ("state", "message", "word"), [("Succeeded", "", "completed"), ("Failed", "broke", "error")]
)
def test_a_move_is_a_migration(state: str, message: str, word: str) -> None:
    status = {"state": state, "message": message, "startedAt": "2026-01-02T03:04:05Z",
              "finishedAt": "2026-01-02T03:04:08Z", "result": {"sourceNode": "n1"}}  # fmt: skip
    entry = records.finished(action("LiveMigrate", status, parameters={"host": "n2"}), UID, None)
    (row,) = of(entry, "migrations")
    assert (row["source_node"], row["dest_node"], row["status"]) == ("n1", "n2", word)
    assert of(entry, "instance_action_events")[0]["event"] == "LiveMigrate"


def test_a_move_that_never_began_is_none() -> None:
    status = {"state": "Failed", "reason": "Conflict", "finishedAt": "2026-01-02T03:04:08Z"}
    entry = records.finished(action("Migrate", status), UID, None)
    assert of(entry, "migrations") == []
    assert of(entry, "instance_actions")[0]["message"] == "Conflict"


def test_rows_of_one_object_have_one_uid() -> None:
    assert records.derived(UID, "Create") == records.derived(UID, "Create")
    assert records.derived(UID, "Create") != records.derived(UID, "Delete")
