"""History on real databases: once each, in order, and nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

from novakube_crds.base import SYSTEM_NAMESPACE
from novakube_kit.clock import SystemClock
from novakube_kit.errors import ApiUnavailable, InvalidSpec
from novakube_kit.kube import Json
from novakube_operator.sql import schema
from novakube_operator.sql.engine import DatabaseUnavailable, open_engine
from novakube_operator.sql.entries import ROW_MAX, entry, from_record, to_record
from novakube_operator.sql.history import DROPPED, History
from novakube_operator.sql.models import ActionRecord, InstanceRecord, Transition
from novakube_operator.sql.waiting import RESOURCE, Records
from novakube_operator.sql.writer import Writer
from tests.deadlines import EVENT_S, HISTORY_S
from tests.fakes.kube import FakeKube
from tests.integration.sql.rows import AT, UID, action, created, instance, running, states
from tests.integration.sql.rows import event as step
from tests.waiting import wait_until

OTHER = "99999999-2222-3333-4444-555555555555"
THIRD = "77777777-2222-3333-4444-555555555555"


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def history(engine: Engine, kube: FakeKube) -> History:
    return History(Writer(engine, SystemClock()), Records(kube), SystemClock())


@pytest.fixture
def nowhere(kube: FakeKube) -> History:
    """A history whose database is away."""
    engine = open_engine("postgresql://nobody@127.0.0.1:1/none")
    return History(Writer(engine, SystemClock()), Records(kube), SystemClock())


def waiting(kube: FakeKube) -> list[Json]:
    return [obj for (plural, _, _), obj in kube.objects.items() if plural == "historyrecords"]


async def test_a_transition_is_recorded_once(engine: Engine, history: History) -> None:
    schema.sync(engine)
    async with running(history):
        history.note(created())
        history.note(created(transition="active", vm_state="stopped"))
        history.note(created())  # the same again, as after a restart
        assert await history.settled(EVENT_S)
    assert states(engine) == ["stopped"]
    with Session(engine) as session:
        assert len(session.scalars(select(Transition)).all()) == 2


async def test_entries_wait_for_the_schema_and_arrive_in_order(
    engine: Engine, history: History, kube: FakeKube
) -> None:
    async with running(history):
        history.note(created())
        history.note(created(transition="active", vm_state="stopped"))
        await wait_until(lambda: len(waiting(kube)) == 2, "both wait as objects", EVENT_S)
        assert "run novakube-manage db sync; 2 entries wait" in history.detail()
        schema.sync(engine)
        await wait_until(lambda: not waiting(kube), "objects copied", HISTORY_S)
        assert history.detail() == "ok"
    assert states(engine) == ["stopped"]


async def test_a_refused_entry_holds_nobody_up(engine: Engine, history: History) -> None:
    schema.sync(engine)
    refused = DROPPED.labels("Refused")._value.get()
    async with running(history):
        history.note(created(OTHER, created_at=None))
        history.note(created())
        assert await history.settled(EVENT_S)
    assert states(engine) == ["active"]
    assert DROPPED.labels("Refused")._value.get() == refused + 1


async def test_every_text_fits(engine: Engine, history: History) -> None:
    """Any Unicode, NUL, and texts longer than a column, on every database."""
    schema.sync(engine)
    name, message = "🐋 nül\0l" + "x" * 300, "€" * 50_000
    rows = (instance(display_name=name), action(OTHER, message=message), step(OTHER))
    async with running(history):
        history.note(entry("Instance", UID, "created", datetime.now(UTC), *rows))
        assert await history.settled(EVENT_S)
    with Session(engine) as session:
        stored = session.scalars(select(InstanceRecord)).one()
        assert stored.display_name == name.replace("\0", "")[:255]
        assert session.scalars(select(ActionRecord)).one().message == "€" * 16_000


async def test_keys_differ_by_case(engine: Engine, history: History) -> None:
    schema.sync(engine)
    async with running(history):
        history.note(created(transition="Action"))
        history.note(created(transition="action", vm_state="stopped"))
        assert await history.settled(EVENT_S)
    assert states(engine) == ["stopped"]


async def test_another_leader_copies_what_a_dead_one_left(
    engine: Engine, nowhere: History, history: History, kube: FakeKube
) -> None:
    async with running(nowhere):
        await nowhere.keep(created())
        await nowhere.keep(created(transition="ended", vm_state="deleted"))
    assert len(waiting(kube)) == 2
    schema.sync(engine)
    async with running(history):
        await wait_until(lambda: not waiting(kube), "objects copied", HISTORY_S)
    assert states(engine) == ["deleted"]


async def test_killed_between_copy_and_delete_it_is_copied_once(
    engine: Engine, nowhere: History, history: History, kube: FakeKube
) -> None:
    async with running(nowhere):
        await nowhere.keep(created())
    schema.sync(engine)
    Writer(engine, SystemClock()).commit([from_record(item) for item in waiting(kube)])
    async with running(history):
        await wait_until(lambda: not waiting(kube), "objects deleted", HISTORY_S)
    with Session(engine) as session:
        assert len(session.scalars(select(Transition)).all()) == 1


async def test_living_objects_tell_what_is_missing(engine: Engine, history: History) -> None:
    schema.sync(engine)
    made: list[str] = []

    def tell(uid: str) -> object:
        def make() -> object:
            if uid == THIRD:
                raise KeyError("a fault")
            made.append(uid)
            return created(uid)

        return make

    Writer(engine, SystemClock()).commit([created()])
    history.recall = lambda: [((uid, "created"), tell(uid)) for uid in (UID, THIRD, OTHER)]  # type: ignore[misc]
    async with running(history):
        await wait_until(lambda: len(states(engine)) == 2, "told again", EVENT_S)
    assert made == [OTHER]  # what is recorded is not even made


async def test_what_can_be_told_again_waits_as_no_object(nowhere: History, kube: FakeKube) -> None:
    at = AT.replace(tzinfo=UTC)
    async with running(nowhere):
        nowhere.note(entry("Instance", UID, "launched", at, instance(), told_again=True))
        await nowhere.keep(created(OTHER))
        assert await nowhere.settled(EVENT_S)
    assert [item["spec"]["uid"] for item in waiting(kube)] == [OTHER]


async def test_what_waits_is_bounded(kube: FakeKube) -> None:
    engine = open_engine("mariadb://nobody@127.0.0.1:1/none")
    history = History(Writer(engine, SystemClock()), Records(kube, most=2), SystemClock())
    full = DROPPED.labels("Full")._value.get()
    async with running(history):
        for number in range(3):
            await history.keep(created(transition=f"t{number}"))
    assert len(waiting(kube)) == 2
    assert DROPPED.labels("Full")._value.get() == full + 1


@pytest.mark.parametrize(
    "scheme", ["postgresql://u@{}/d?connect_timeout=60", "mysql://u@{}/d?read_timeout=60"]
)
async def test_a_database_that_never_answers_holds_up_nobody(scheme: str, kube: FakeKube) -> None:
    """It takes connections and says nothing: the deletion goes on, and so does the event loop."""
    silent: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: silent.append(writer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    engine = open_engine(scheme.format(f"{host}:{port}"))
    history = History(Writer(engine, SystemClock()), Records(kube), SystemClock())
    async with running(history):
        await history.keep(created())
        assert len(waiting(kube)) == 1
        assert len(silent) == 1  # the loop took the connection while the thread waits for it
        assert history.detail().startswith("not connected yet")  # nor has anybody given up
        for writer in silent:
            writer.close()
        why = "does not answer"
        await wait_until(lambda: why in history.detail(), "given up", HISTORY_S)
    for writer in silent:
        writer.close()
    server.close()
    engine.dispose()


async def test_without_database_and_api_nothing_is_let_go(nowhere: History, kube: FakeKube) -> None:
    kube.outage = ApiUnavailable("away")
    with pytest.raises(ApiUnavailable):  # not leading: straight to the API server
        await nowhere.keep(created())


async def test_an_unreadable_record_stops_nothing(
    engine: Engine, history: History, kube: FakeKube
) -> None:
    schema.sync(engine)
    odd = to_record(created(OTHER))
    odd["spec"]["row"] = '[["no_such_table", {}]]'
    odd["metadata"]["namespace"] = SYSTEM_NAMESPACE
    kube.seed(RESOURCE, odd)
    await Records(kube).keep(created())
    async with running(history):
        await wait_until(lambda: not waiting(kube), "objects gone", EVENT_S)
    assert states(engine) == ["active"]


async def test_a_standby_notes_nothing(engine: Engine, history: History) -> None:
    schema.sync(engine)
    history.note(created())
    assert await history.settled(0)
    assert history.detail() == "not leading"
    assert states(engine) == []


def test_missing_rights_and_tables_are_no_refusal(engine: Engine) -> None:
    """Else history would be thrown away because somebody forgot a GRANT."""
    with pytest.raises(DatabaseUnavailable):
        Writer(engine, SystemClock()).commit([created()])


def test_a_broken_commit_leaves_nothing(engine: Engine) -> None:
    """Rows and guard are one transaction: killed in between, it is as if never begun."""
    schema.sync(engine)
    writer = Writer(engine, SystemClock())

    def die(*_: object) -> None:
        raise RuntimeError("killed")

    event.listen(engine, "commit", die)
    with pytest.raises(RuntimeError):
        writer.commit([created()])
    event.remove(engine, "commit", die)
    assert states(engine) == []
    assert writer.missing([created().key]) == {created().key}
    writer.commit([created()])
    assert states(engine) == ["active"]


def test_two_leaders_write_it_once(engine: Engine) -> None:
    schema.sync(engine)
    entries = [created(transition=f"t{number}") for number in range(50)]
    begin = threading.Barrier(2)

    def write(_: int) -> list[object]:
        writer = Writer(engine, SystemClock())
        begin.wait(EVENT_S)
        refused: list[object] = []
        for one in entries:
            while True:
                try:
                    refused += writer.commit([one])
                    break
                except DatabaseUnavailable:  # a deadlock or a lock: as if it had been away
                    continue
        return refused

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(write, range(2))) == [[], []]
    with Session(engine) as session:
        found = sorted(session.scalars(select(Transition.transition)))
    assert found == sorted(one.transition for one in entries)
    assert states(engine) == ["active"]


async def test_a_fault_of_ours_ends_nothing(
    engine: Engine, history: History, kube: FakeKube
) -> None:
    schema.sync(engine)

    def fail() -> list[object]:
        raise KeyError("a fault")

    history.recall = fail  # type: ignore[assignment]
    async with running(history):
        await wait_until(lambda: "history failed: KeyError" in history.detail(), "told", EVENT_S)
        await history.keep(created())
        history.recall = tuple
        await wait_until(lambda: not waiting(kube), "copied", HISTORY_S)
    assert states(engine) == ["active"]


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=30_000)), max_size=12))
def test_a_record_holds_every_entry_and_is_small_enough(texts: list[tuple[str, str]]) -> None:
    rows = [
        action(f"{number:08}", message=text, user_id=user, finished_at=AT)
        for number, (user, text) in enumerate(texts)
    ]
    one = entry("Action", UID, "x" * 300, AT.replace(tzinfo=UTC), instance(), *rows)
    record = to_record(one)
    assert len(record["spec"]["row"]) <= ROW_MAX
    back = from_record(record)
    assert (back.key, back.at) == (one.key, one.at)
    if sum(len(text) for _, text in texts) < 8_000:
        assert back.rows == one.rows
    else:
        assert [table for table, _ in back.rows] == [table for table, _ in one.rows]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is no URL"),
        ("oracle://u:secret@h/d", "allowed: mariadb, mysql, postgresql, sqlite"),
        ("sqlite:////proc/nowhere/h.sqlite", "cannot be made"),
    ],
)
def test_a_bad_url_is_named_and_its_password_is_not(url: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message) as caught:
        open_engine(url)
    assert "secret" not in str(caught.value)


def test_wal_lets_readers_read_while_somebody_writes(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/h.sqlite")
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    engine.dispose()
