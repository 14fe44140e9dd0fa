"""SQL away for any time: machines go on, and their history is caught up, once."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine, select

from novakube_kit.kube import Json
from novakube_operator.sql import schema
from novakube_operator.sql.engine import open_engine
from novakube_operator.sql.models import TABLES
from tests.deadlines import HISTORY_S, READY_S
from tests.integration.api.cloud import SYSTEM
from tests.integration.operator.cloud import MAILBOX, Cloud
from tests.integration.operator.test_create import WEB, guests_of
from tests.integration.sql.servers import Server
from tests.waiting import wait_until_sync

OPERATOR_STARTS_S = 300
"""For a test in which the operator's process starts three times, once after a dead leader."""


@pytest.fixture(scope="module")
def engine(cloud: Cloud, postgresql: Server) -> Iterator[Engine]:
    """The cloud's operator works with a PostgreSQL of this module's own."""
    name = f"t{uuid.uuid4().hex[:12]}"
    postgresql.administer(f"CREATE DATABASE {name}")
    engine = open_engine(postgresql.url(name))
    schema.sync(engine)
    usual = cloud.operator
    assert usual.end(signal.SIGTERM) == 0
    cloud.operator = usual.with_environment(NOVAKUBE_DATABASE_URL=postgresql.url(name))
    cloud.operator.start()
    try:
        wait_until_sync(lambda: leading(cloud), "the operator leads, with its database", READY_S)
        yield engine
    finally:
        cloud.operator.end(signal.SIGTERM)
        cloud.operator = usual
        usual.start()
        wait_until_sync(lambda: leading(cloud), "the usual operator leads", READY_S)
        engine.dispose()


def rows(engine: Engine, table: str, namespace: str) -> list[Json]:
    """The rows that belong to a namespace's Instances."""
    instances, found = TABLES["instances"].__table__, TABLES[table].__table__
    uids = select(instances.c.uid).where(instances.c.namespace == namespace)
    query = select(found)
    if table == "instance_action_events":
        actions = TABLES["instance_actions"].__table__
        query = query.join(actions, actions.c.uid == found.c.action_uid)
        query = query.where(actions.c.instance_uid.in_(uids))
    else:
        column = found.c.uid if table == "instances" else found.c.instance_uid
        query = query.where(column.in_(uids))
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def records(cloud: Cloud) -> list[Json]:
    return cloud.list("historyrecords", SYSTEM)


def order(cloud: Cloud, namespace: str, name: str, instance: str, action: str, **spec: int) -> None:
    wanted: Json = {"instance": {"name": instance}, "action": action, **spec}
    cloud.make("InstanceAction", name, wanted, namespace)


def ask(cloud: Cloud, what: str) -> httpx.Response:
    # No TLS: its trust store takes longer to read than the answer.
    with httpx.Client(verify=False, trust_env=False) as client:
        return client.get(f"{cloud.operator.http}/{what}")


def leading(cloud: Cloud) -> bool:
    cloud.operator.check()
    try:
        return health(cloud) == (200, "ok")
    except httpx.TransportError:
        return False


def health(cloud: Cloud) -> tuple[int, str]:
    answer = ask(cloud, "healthz")
    return answer.status_code, answer.json()["details"]["history"]


@pytest.mark.timeout(OPERATOR_STARTS_S)
def test_a_database_outage_and_a_killed_operator_lose_nothing(
    cloud: Cloud, namespace: str, engine: Engine, postgresql: Server
) -> None:
    cloud.make("Instance", "before", WEB, namespace)
    cloud.until("instances", "before", namespace, state="Running")
    wait_until_sync(lambda: rows(engine, "instances", namespace), "launch recorded", HISTORY_S)

    engine.dispose()
    postgresql.stop()
    try:
        order(cloud, namespace, "off", "before", "Stop", ttlSecondsAfterFinished=0)
        cloud.until("instances", "before", namespace, state="Stopped")
        cloud.gone("instanceactions", "off", namespace)
        cloud.delete("instances", "before", namespace)
        cloud.make("Instance", "short", WEB, namespace)
        cloud.until("instances", "short", namespace, state="Running")
        cloud.delete("instances", "short", namespace)
        cloud.make("Instance", "stays", WEB, namespace)
        cloud.until("instances", "stays", namespace, state="Running")
        cloud.gone("instances", "before", namespace)
        cloud.gone("instances", "short", namespace)
        # Two deletions and one action; a launch waits in its Instance.
        types = sorted(record["spec"]["type"] for record in records(cloud))
        assert types == ["Action", "Instance", "Instance"]
        status, detail = health(cloud)
        assert status == 200
        assert "3 entries wait, the oldest" in detail
        metrics = ask(cloud, "metrics").text
        assert "novakube_history_records 3.0" in metrics
        assert "novakube_history_database_up 0.0" in metrics
        cloud.operator.end(signal.SIGKILL)
    finally:
        postgresql.start()
    cloud.operator.start()
    wait_until_sync(lambda: leading(cloud), "the next operator leads", READY_S)

    wait_until_sync(
        lambda: not records(cloud) and len(rows(engine, "instances", namespace)) == 3,
        "history caught up",
        HISTORY_S,
    )
    found = {row["name"]: row for row in rows(engine, "instances", namespace)}
    assert {name: (row["vm_state"], row["terminated_at"] is not None)
            for name, row in found.items()} == {
        "before": ("deleted", True), "short": ("deleted", True), "stays": ("active", False),
    }  # fmt: skip
    assert all(row["launched_at"] for row in found.values())
    actions = rows(engine, "instance_actions", namespace)
    assert sorted(row["action"] for row in actions) == [
        "Create", "Create", "Create", "Delete", "Delete", "Stop"
    ]  # fmt: skip
    assert all(row["finished_at"] and row["message"] is None for row in actions)
    events = rows(engine, "instance_action_events", namespace)
    assert {row["action_uid"] for row in events} == {row["uid"] for row in actions}
    assert len(events) == len(actions)


def a_lease(guest: Json, hostname: str = "web") -> Json:
    """As the node's agent reports it."""
    nic = guest["spec"]["nics"][0]
    return {"mac": nic["mac"], "address": nic["addresses"][0]["address"], "hostname": hostname,
            "networkUID": nic["networkUID"], "startedAt": "2026-01-02T03:04:05Z"}  # fmt: skip


def report(cloud: Cloud, guest: Json, *leases: Json) -> None:
    cloud.admin.call(
        "PATCH", cloud.path("guests", guest["metadata"]["name"], MAILBOX) + "/status",
        {"status": {"leases": list(leases)}}, "application/merge-patch+json",
    )  # fmt: skip


@pytest.mark.timeout(OPERATOR_STARTS_S)
def test_leases_are_recorded(cloud: Cloud, namespace: str, engine: Engine) -> None:
    cloud.make("Instance", "web", WEB, namespace)
    instance = cloud.until("instances", "web", namespace, state="Running")
    guest = guests_of(cloud, "web", namespace)[0]
    lease = a_lease(guest)
    report(cloud, guest, lease)
    wait_until_sync(
        lambda: rows(engine, "dhcp_leases", namespace), "lease recorded", HISTORY_S
    )  # fmt: skip
    assert [row["ended_at"] for row in rows(engine, "dhcp_leases", namespace)] == [None]
    cloud.delete("instances", "web", namespace)
    cloud.gone("instances", "web", namespace)
    wait_until_sync(
        lambda: all(row["ended_at"] for row in rows(engine, "dhcp_leases", namespace)),
        "end of the lease recorded", HISTORY_S,
    )  # fmt: skip
    (row,) = rows(engine, "dhcp_leases", namespace)
    assert (row["mac"], row["address"], row["hostname"]) == (
        lease["mac"], lease["address"], "web"
    )  # fmt: skip
    assert row["network_uid"] == lease["networkUID"]
    assert row["guest_uid"] == guest["metadata"]["uid"]
    assert row["instance_uid"] == instance["metadata"]["uid"]
    assert row["started_at"].isoformat() == "2026-01-02T03:04:05"
    assert row["ended_at"] > row["started_at"]


@pytest.mark.timeout(OPERATOR_STARTS_S)
def test_leases_of_an_outage_are_caught_up(
    cloud: Cloud, namespace: str, engine: Engine, postgresql: Server
) -> None:
    """One that began and ended meanwhile, and one that began and is still held."""
    cloud.make("Instance", "web", WEB, namespace)
    cloud.until("instances", "web", namespace, state="Running")
    wait_until_sync(lambda: rows(engine, "instances", namespace), "launch recorded", HISTORY_S)
    guest = guests_of(cloud, "web", namespace)[0]
    short = a_lease(guest, "short")
    stays = {**short, "hostname": "stays", "startedAt": "2026-01-02T04:00:00Z"}
    engine.dispose()
    postgresql.stop()
    try:
        report(cloud, guest, short)
        report(cloud, guest)
        report(cloud, guest, stays)
        wait_until_sync(
            lambda: [record["spec"]["type"] for record in records(cloud)] == ["Lease"] * 3,
            "three entries wait", HISTORY_S,
        )  # fmt: skip
    finally:
        postgresql.start()
    wait_until_sync(
        lambda: not records(cloud) and len(rows(engine, "dhcp_leases", namespace)) == 2,
        "leases caught up", HISTORY_S,
    )  # fmt: skip
    found = {row["hostname"]: row["ended_at"] for row in rows(engine, "dhcp_leases", namespace)}
    assert found["short"] is not None
    assert found["stays"] is None
