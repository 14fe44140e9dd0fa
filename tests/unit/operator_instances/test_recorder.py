"""Which changes of stores are history, and what living objects tell again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from novakube_crds.base import FINALIZER
from novakube_kit.kube import Json
from novakube_operator.instances.recorder import Recorder
from novakube_operator.sql.entries import Entry
from novakube_operator.sql.history import DROPPED
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock

UID = "11111111-2222-3333-4444-555555555555"
ACTION_UID = "22222222-2222-3333-4444-555555555555"
RAN: Json = {"state": "Running", "launchedAt": "2026-01-02T03:05:00Z"}
DONE: Json = {"state": "Succeeded", "instanceUID": UID, "finishedAt": "2026-01-02T03:06:00Z"}


class World:
    """Stores, the recorder behind them, and what it noted."""

    def __init__(self) -> None:
        self.noted: list[Entry] = []
        self.version = 1
        self.stores = Stores(lambda *change: self.recorder.changed(*change))
        context: Any = SimpleNamespace(
            stores=self.stores,
            history=SimpleNamespace(note=self.noted.append),
            clock=ManualClock(),
            project=lambda namespace: f"project of {namespace}",
            get=lambda plural, namespace, name: self.stores.of(plural).get(namespace, name),
        )
        self.recorder = Recorder(context)

    def put(self, plural: str, uid: str, spec: Json, status: Json, **more: Any) -> None:
        self.version += 1
        metadata = {"name": uid[:8], "namespace": "a", "uid": uid, "finalizers": [FINALIZER],
                    "resourceVersion": str(self.version), **more,
                    "creationTimestamp": "2026-01-02T03:04:05Z"}  # fmt: skip
        self.stores.of(plural).observe({"metadata": metadata, "spec": spec, "status": status})

    def instance(self, status: Json, **more: Any) -> None:
        spec: Json = {"flavor": {"name": "f"}, "image": {"name": "i"}, "networks": []}
        self.put("instances", UID, spec, status, **more)

    def action(self, status: Json) -> None:
        spec = {"instance": {"name": UID[:8]}, "action": "Stop"}
        self.put("instanceactions", ACTION_UID, spec, status)

    def told(self) -> list[str]:
        return [one.transition for one in self.noted]

    def recalled(self) -> list[str]:
        found = [(key, make()) for key, make in self.recorder.recall()]
        assert [entry.key for _, entry in found] == [key for key, _ in found]
        return [entry.transition for _, entry in found]


@pytest.fixture
def world() -> World:
    return World()


def test_a_launch_is_told_when_it_happens_and_again(world: World) -> None:
    world.instance({"state": "Building"})
    assert world.told() == []
    world.instance(RAN)
    world.instance({**RAN, "state": "Stopped"})
    assert world.told() == ["launched"]
    assert world.noted[0].rows[0][1]["project_id"] == "project of a"
    assert world.recalled() == ["launched"]


def test_one_that_goes_tells_nothing_again(world: World) -> None:
    """Its end holds the launch; told after it, the launch would bring it back to life."""
    world.instance(RAN, deletionTimestamp="2026-01-02T04:00:00Z")
    assert world.recalled() == []


def test_a_finished_action_is_told_once(world: World) -> None:
    world.instance({"state": "Running"})
    world.action({"state": "Running", "instanceUID": UID})
    world.action(DONE)
    world.action({**DONE, "message": "changed later"})
    assert world.told() == [f"action {ACTION_UID}"]
    assert world.recalled() == [f"action {ACTION_UID}"]


def test_an_action_of_an_instance_that_is_gone_is_not_told_again(world: World) -> None:
    """Its rows may be purged long since."""
    world.action(DONE)
    assert world.recalled() == []


def test_leases_that_come_and_go(world: World) -> None:
    spec: Json = {
        "instance": {"namespace": "a", "name": "web", "uid": UID, "id": UID}, "incarnation": 1,
        "hypervisor": "n1", "hostname": "web", "vcpus": 1, "memoryMiB": 64,
    }  # fmt: skip
    lease = {"mac": "02:00:00:00:00:01", "address": "10.0.0.2",
             "startedAt": "2026-01-02T03:04:05Z"}  # fmt: skip
    other = {**lease, "address": "10.0.0.3"}
    world.put("guests", ACTION_UID, spec, {"leases": [lease]})
    assert len(world.recalled()) == 1
    world.put("guests", ACTION_UID, spec, {"leases": [lease, other]})
    world.put("guests", ACTION_UID, spec, {"leases": [other]})
    world.stores.of("guests").forget(ACTION_UID)
    assert [name.rsplit(" ", 1)[1] for name in world.told()] == ["taken", "taken", "ended", "ended"]
    assert len({one.transition for one in world.noted}) == 4


def test_a_fault_in_telling_stops_no_store(world: World) -> None:
    before = DROPPED.labels("Fault")._value.get()
    world.instance({"state": "Running", "launchedAt": "no moment"})
    assert world.stores.of("instances").by_uid(UID) is not None
    assert DROPPED.labels("Fault")._value.get() == before + 1
