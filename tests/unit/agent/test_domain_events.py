"""Which domain events wake a Guest."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from novakube_agent.drivers.fake import FakeState, fake_ports
from novakube_agent.node import NodeAgent
from novakube_agent.ports import DomainEvent
from novakube_agent.settings import FakeSettings, Settings
from novakube_kit.objects import Key
from novakube_kit.workqueue import WorkQueue
from tests.fakes.host import a_guest
from tests.fakes.kube import FakeKube


class Woken:
    """A queue that remembers."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def add(self, key: Key) -> None:
        """Not what events do."""

    def nudge(self, key: Key, _: float) -> None:
        self.keys.append(key[1])


@pytest.mark.parametrize(
    ("change", "wakes"),
    [("Started", True), ("Stopped", True), ("Undefined", True), ("Defined", False)],
)
def test_our_own_definition_wakes_nobody(tmp_path: Path, change: str, wakes: bool) -> None:
    """A pass that fails after it would come past its backoff, ten times a second."""
    settings, woken = Settings(node="n1", driver="fake"), Woken()
    ports = fake_ports(FakeState("n1"), FakeSettings(), tmp_path)
    queue = cast("WorkQueue[Key]", woken)
    agent = NodeAgent("n1", settings, FakeKube(), ports, queue, tmp_path)
    guest = a_guest()
    metadata = {
        "name": guest.name, "namespace": guest.namespace, "uid": guest.uid,
        "resourceVersion": "1", "creationTimestamp": "2030-01-01T12:00:00Z",
    }  # fmt: skip
    agent._guests.observe({"metadata": metadata, "spec": guest.spec.wire(), "status": {}})
    agent._on_domain_event(DomainEvent(guest.spec.instance.id, change))  # type: ignore[arg-type]
    assert woken.keys == ([guest.name] if wakes else [])
