"""What a create with a real machine costs the API server, by its own metrics."""

from __future__ import annotations

import pytest

from tests.deadlines import MACHINE_S
from tests.e2e.cloud import LocalCloud
from tests.e2e.test_bad_input import instance
from tests.integration.operator.test_create import COALESCED
from tests.waiting import wait_until_sync

pytestmark = pytest.mark.timeout(900)
WRITES = 9
EVENTS = 3
LEASE_WRITES = "novakube_guest_lease_writes_total"


def test_writes_of_a_create_with_a_real_machine(cloud: LocalCloud, namespace: str) -> None:
    instance(cloud, namespace, "warm")
    cloud.running("warm", namespace)
    cloud.leased("warm", namespace)
    before, leases = cloud.writes(), cloud.node.metric(LEASE_WRITES)
    instance(cloud, namespace)
    cloud.running("web", namespace)
    # The guest's lease is a rollup: once it is there, what it cost is known, and counted apart.
    cloud.leased("web", namespace)

    def events() -> list[str]:
        listed = cloud.admin.call("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        return [e["reason"] for e in listed if e["involvedObject"]["name"] == "web"]

    # Events come after what they tell.
    wait_until_sync(lambda: "Started" in events(), "the Event of the start", MACHINE_S)
    made = cloud.writes() - before
    made["PATCH guests/status"] -= int(cloud.node.metric(LEASE_WRITES) - leases)
    ours = {name: n for name, n in made.items() if name.split(" ")[1] not in COALESCED}
    print(f"writes of a create: {sum(ours.values())} {ours}, events {sorted(events())}")
    assert sum(ours.values()) <= WRITES, ours
    assert made["POST events"] + made["PATCH events"] <= EVENTS
