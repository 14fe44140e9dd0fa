"""Entries as the conductor makes them, and what the tables say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from novakube_operator.sql.entries import Entry, entry
from novakube_operator.sql.history import History
from novakube_operator.sql.models import SHADOWS, TABLES, InstanceRecord
from tests.deadlines import EVENT_S
from tests.waiting import wait_until

UID = "11111111-2222-3333-4444-555555555555"
AT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - the tables keep UTC without a zone


def instance(uid: str = UID, **more: Any) -> tuple[str, dict[str, Any]]:
    values = {
        "uid": uid, "id": uid, "namespace": "a", "name": "b", "display_name": "b", "flavor": "f",
        "vcpus": 2, "memory_mib": 512, "disk_gib": 10, "image": "i", "vm_state": "active",
        "addresses": "[]", "created_at": AT, "updated_at": AT, **more,
    }  # fmt: skip
    return "instances", values


def action(uid: str, instance_uid: str = UID, **more: Any) -> tuple[str, dict[str, Any]]:
    values = {"uid": uid, "instance_uid": instance_uid, "action": "Stop", "request_id": "",
              "started_at": AT, **more}  # fmt: skip
    return "instance_actions", values


def event(action_uid: str, name: str = "Stop") -> tuple[str, dict[str, Any]]:
    values = {"action_uid": action_uid, "event": name, "started_at": AT, "result": "Success"}
    return "instance_action_events", values


def created(uid: str = UID, transition: str = "created", **more: Any) -> Entry:
    at = AT.replace(tzinfo=UTC)
    return entry("Instance", uid, transition, at, instance(uid, **more))


def ended(uid: str, at: datetime, *more: tuple[str, dict[str, Any]]) -> Entry:
    row = instance(
        uid, vm_state="deleted", launched_at=at - timedelta(hours=1), terminated_at=at
    )  # fmt: skip
    return entry("Instance", uid, "deleted", at.replace(tzinfo=UTC), row, *more)


@contextlib.asynccontextmanager
async def running(history: History) -> AsyncIterator[None]:
    task = asyncio.create_task(history.run())
    await wait_until(lambda: history.detail() != "not leading", "history runs", EVENT_S)
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def states(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(InstanceRecord.vm_state)))


def count(engine: Engine, table: str, *, shadow: bool = False) -> int:
    found = SHADOWS[table] if shadow else TABLES[table].__table__
    with engine.connect() as connection:
        return len(connection.execute(select(found)).all())
