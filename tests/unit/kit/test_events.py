import asyncio
from collections.abc import AsyncIterator

import pytest

from novakube_kit.errors import Forbidden
from novakube_kit.events import MESSAGE_MAX, QUEUE_MAX, EventRecorder, Regarding
from novakube_kit.kube import Json
from novakube_kit.metrics import EVENTS_DROPPED
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube

WEB = Regarding("novakube.dev/v1alpha1", "Instance", "demo", "web", "u1")
NODE = Regarding("novakube.dev/v1alpha1", "Hypervisor", "", "n1", "u2")


@pytest.fixture
async def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
async def recorder(kube: FakeKube) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(kube, "novakube-operator", instance="pod", clock=ManualClock())
    task = asyncio.create_task(recorder.run())
    yield recorder
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def written(kube: FakeKube) -> list[Json]:
    return [obj for (plural, _, _), obj in kube.objects.items() if plural == "events"]


async def test_an_event_says_what_kubectl_describe_shows(kube: FakeKube, recorder: EventRecorder):
    recorder.record(WEB, "Warning", "NoNode", "3 nodes: n1 short of 512 MiB memory")
    await recorder.drain()
    (event,) = written(kube)
    assert event["metadata"]["namespace"] == "demo"
    assert event["involvedObject"] == {
        "apiVersion": "novakube.dev/v1alpha1",
        "kind": "Instance",
        "namespace": "demo",
        "name": "web",
        "uid": "u1",
    }
    shown = {key: event[key] for key in ("type", "reason", "message", "firstTimestamp", "count")}
    assert shown == {
        "type": "Warning",
        "reason": "NoNode",
        "message": "3 nodes: n1 short of 512 MiB memory",
        "firstTimestamp": "2030-01-01T12:00:00Z",
        "count": 1,
    }


async def test_only_transitions_are_written(kube: FakeKube, recorder: EventRecorder):
    for message in ("n1 full", "n1 full", "n2 full", "n1 full"):
        recorder.record(WEB, "Warning", "NoNode", message)
    recorder.record(WEB, "Normal", "Scheduled", "n1 full")
    recorder.record(NODE, "Warning", "NoNode", "n1 full")
    await recorder.drain()
    assert [event["message"] for event in written(kube)] == ["n1 full", "n2 full"] + ["n1 full"] * 3


async def test_events_of_cluster_objects_are_in_default(kube: FakeKube, recorder: EventRecorder):
    recorder.record(NODE, "Normal", "Ready", "ready")
    await recorder.drain()
    (event,) = written(kube)
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]


async def test_long_messages_are_cut_between_characters(kube: FakeKube, recorder: EventRecorder):
    recorder.record(WEB, "Normal", "Long", "ä" * 2000)
    await recorder.drain()
    assert written(kube)[0]["message"] == "ä" * (MESSAGE_MAX // 2)


async def test_refused_events_are_counted_and_the_next_ones_go_on(
    kube: FakeKube, recorder: EventRecorder
):
    before = EVENTS_DROPPED.labels("Forbidden")._value.get()
    kube.errors = [Forbidden("no right")]
    recorder.record(WEB, "Normal", "One", "1")
    recorder.record(WEB, "Normal", "Two", "2")
    await recorder.drain()
    assert [event["reason"] for event in written(kube)] == ["Two"]
    assert EVENTS_DROPPED.labels("Forbidden")._value.get() == before + 1


@pytest.mark.parametrize(
    ("reason", "loud"), [("NamespaceTerminating", False), (None, True)], ids=str
)
async def test_only_a_loss_that_somebody_feels_is_a_warning(
    kube: FakeKube,
    recorder: EventRecorder,
    caplog: pytest.LogCaptureFixture,
    reason: str | None,
    loud: bool,
):
    caplog.set_level("INFO")
    kube.errors = [Forbidden("namespace demo is being terminated", reason=reason)]
    recorder.record(WEB, "Normal", "Deleted", "gone")
    await recorder.drain()
    (said,) = [record for record in caplog.records if "dropped" in record.message]
    assert (said.levelname == "WARNING") == loud


async def test_a_full_queue_drops_and_never_blocks(kube: FakeKube):
    recorder = EventRecorder(kube, "novakube-operator")
    before = EVENTS_DROPPED.labels("QueueFull")._value.get()
    for number in range(QUEUE_MAX + 7):
        recorder.record(WEB, "Normal", "Reason", str(number))
    assert EVENTS_DROPPED.labels("QueueFull")._value.get() == before + 7
