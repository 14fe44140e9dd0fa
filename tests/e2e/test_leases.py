"""The lease that a real guest takes: in its Guest's status, and in the history."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from novakube_kit.kube import Json
from tests.deadlines import HISTORY_S, MACHINE_S
from tests.e2e.cloud import LocalCloud
from tests.e2e.test_bad_input import instance
from tests.waiting import wait_until_sync

pytestmark = pytest.mark.timeout(900)


def recorded(cloud: LocalCloud, instance_uid: str) -> list[Json]:
    """Rows of the operator's own database."""
    path = cloud.layout.local / "operator" / "history.db"
    query = "SELECT * FROM dhcp_leases WHERE instance_uid = ?"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query, (instance_uid,))]


def test_a_guests_lease_is_in_its_status_and_in_the_history(
    cloud: LocalCloud, namespace: str
) -> None:
    instance(cloud, namespace)
    found = cloud.running("web", namespace)
    lease = cloud.leased("web", namespace)
    (guest,) = cloud.guests_of("web", namespace)
    nic = guest["spec"]["nics"][0]
    assert (lease["mac"], lease["address"]) == (nic["mac"], nic["addresses"][0]["address"])
    assert lease["networkUID"] == nic["networkUID"]
    assert lease["hostname"]  # the guest gave itself one
    began = datetime.fromisoformat(lease["startedAt"])
    assert datetime.fromisoformat(guest["metadata"]["creationTimestamp"]) <= began
    assert began <= datetime.now(UTC)
    uid = found["metadata"]["uid"]
    wait_until_sync(lambda: recorded(cloud, uid), "the lease in the history", HISTORY_S)
    (row,) = recorded(cloud, uid)
    assert (row["mac"], row["address"], row["ended_at"]) == (lease["mac"], lease["address"], None)
    assert datetime.fromisoformat(row["started_at"]).replace(tzinfo=UTC) == began
    # An agent that was away loses nothing of it.
    cloud.node.agent.kill()
    cloud.delete("instances", "web", namespace)
    wait_until_sync(lambda: cloud.get("instances", "web", namespace) is None, "web gone", MACHINE_S)
    wait_until_sync(
        lambda: all(row["ended_at"] for row in recorded(cloud, uid)), "its end", HISTORY_S
    )
    (after,) = recorded(cloud, uid)
    assert after["started_at"] == row["started_at"]
    assert after["guest_uid"] == guest["metadata"]["uid"]
