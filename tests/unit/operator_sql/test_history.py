"""History on a real SQLite file: once each, in order, and nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.orm import Session

from novakube_kit.clock import SystemClock
from novakube_kit.errors import InvalidSpec
from novakube_operator import manage
from novakube_operator.sql import schema
from novakube_operator.sql.engine import open_engine
from novakube_operator.sql.history import History, Row
from novakube_operator.sql.models import Base, InstanceRecord, Transition

UID = "11111111-2222-3333-4444-555555555555"
AT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - the tables keep UTC without a zone


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/history/h.sqlite"


@pytest.fixture
def engine(url: str) -> Engine:
    return open_engine(url)


def created(uid: str = UID, transition: str = "created", **more: object) -> Row:
    values = {
        "uid": uid, "id": uid, "namespace": "a", "name": "b", "vm_state": "building",
        "created_at": AT, "updated_at": AT, **more,
    }  # fmt: skip
    return Row(InstanceRecord, uid, transition, values)


@contextlib.asynccontextmanager
async def running(history: History) -> AsyncIterator[None]:
    task = asyncio.create_task(history.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def names(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(InstanceRecord.vm_state)))


async def test_a_transition_is_recorded_once(engine: Engine) -> None:
    schema.sync(engine)
    history = History(engine, SystemClock())
    async with running(history):
        history.note(created())
        history.note(created(transition="active", vm_state="active"))
        history.note(created())  # the same again, as after a restart
        assert await history.settled(10)
    assert names(engine) == ["active"]
    with Session(engine) as session:
        assert len(session.scalars(select(Transition)).all()) == 2


async def test_rows_wait_for_the_schema_and_arrive_in_order(engine: Engine) -> None:
    history = History(engine, SystemClock())
    async with running(history):
        history.note(created())
        history.note(created(transition="active", vm_state="active"))
        assert not await history.settled(0.2)  # no tables: refused as not answering
        schema.sync(engine)
        assert await history.settled(30)
    assert names(engine) == ["active"]


async def test_a_refused_row_holds_nobody_up(engine: Engine) -> None:
    schema.sync(engine)
    history = History(engine, SystemClock())
    async with running(history):
        history.note(created(uid="bad", created_at=None))
        history.note(created())
        assert await history.settled(10)
    assert names(engine) == ["building"]


def test_the_migrations_make_the_models(engine: Engine) -> None:
    schema.sync(engine)
    assert schema.version(engine) == schema.head()
    found = inspect(engine)
    for table in Base.metadata.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {c.name: bool(c.nullable) for c in table.columns}, table.name
        assert {i["name"] for i in found.get_indexes(table.name)} == {i.name for i in table.indexes}


def test_db_sync_and_version(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run: Callable[..., None] = lambda *verb: manage.main(["--database-url", url, "db", *verb])  # noqa: E731
    run("version")
    assert capsys.readouterr().out.startswith("empty (this program needs ")
    run("sync")
    assert capsys.readouterr().out == f"schema brought from empty to {schema.head()}\n"
    run("sync")
    assert "nothing to do" in capsys.readouterr().out
    run("version")
    assert capsys.readouterr() == (f"{schema.head()}\n", "")
    run("version", "--json")
    assert json.loads(capsys.readouterr().out)["version"] == schema.head()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is no URL"),
        ("oracle://u:secret@h/d", "allowed: mysql, postgresql, sqlite"),
        ("sqlite:////proc/nowhere/h.sqlite", "cannot be made"),
    ],
)
def test_a_bad_url_is_named_and_its_password_is_not(url: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message) as caught:
        open_engine(url)
    assert "secret" not in str(caught.value)


def test_wal_lets_readers_read_while_somebody_writes(engine: Engine) -> None:
    schema.sync(engine)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
