"""Archive and purge: bounded batches, children first, nothing that lives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from novakube_kit.clock import SystemClock
from novakube_operator.sql import schema
from novakube_operator.sql.archive import archive, purge
from novakube_operator.sql.models import TABLES, Transition
from novakube_operator.sql.writer import Writer
from tests.integration.sql.rows import AT, action, count, created, ended
from tests.integration.sql.rows import event as step

OLD, NEW, ALIVE = (f"{digit * 8}-0000-0000-0000-000000000000" for digit in "123")
EACH = {"instances": 1, "instance_actions": 2, "instance_action_events": 4, "dhcp_leases": 1,
        "migrations": 1}  # fmt: skip
LATER = AT + timedelta(days=30)


def things_of(uid: str) -> list[tuple[str, dict[str, object]]]:
    """Two actions of two events, a migration, a lease."""
    rows = []
    for number in "ab":
        key = f"{number}{uid[1:]}"[:-1] + uid[0]
        rows += [action(key, uid), step(key, "one"), step(key, "two")]
    move = {"uid": uid, "instance_uid": uid, "type": "Migrate", "status": "completed",
            "created_at": AT, "updated_at": AT}  # fmt: skip
    lease = {"uid": uid, "instance_uid": uid, "guest_uid": uid, "node": "n", "network_uid": "",
             "mac": "02:00:00:00:00:01", "address": "10.0.0.2", "hostname": "",
             "started_at": AT}  # fmt: skip
    return [*rows, ("migrations", move), ("dhcp_leases", lease)]


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Three Instances: deleted long ago, deleted later, alive."""
    schema.sync(engine)
    Writer(engine, SystemClock()).commit([
        ended(OLD, AT, *things_of(OLD)), ended(NEW, LATER, *things_of(NEW)), created(ALIVE),
    ])  # fmt: skip
    return engine


def counts(engine: Engine, *, shadow: bool = False) -> dict[str, int]:
    return {name: count(engine, name, shadow=shadow) for name in TABLES}


def times(number: int, *, alive: int = 0) -> dict[str, int]:
    return {name: each * number + (alive if name == "instances" else 0)
            for name, each in EACH.items()}  # fmt: skip


def test_only_what_was_deleted_before_goes(filled: Engine) -> None:
    moved = archive(filled, AT + timedelta(days=1), until_complete=True)
    assert moved.rows == times(1)
    assert counts(filled, shadow=True) == times(1)
    assert counts(filled) == times(1, alive=1)
    assert archive(filled, AT + timedelta(days=1), until_complete=True).total == 0


def test_what_lives_is_never_archived(filled: Engine) -> None:
    archive(filled, None, until_complete=True)
    assert counts(filled) == times(0, alive=1)
    assert counts(filled, shadow=True) == times(2)


def test_transactions_are_bounded_and_may_be_broken_off(filled: Engine) -> None:
    first = archive(filled, None, 3, until_complete=False)
    assert (first.total, first.complete) == (3, False)
    assert counts(filled)["instances"] == 3  # an Instance's own row goes last
    sizes: list[int] = []
    deleted: list[int] = [0]

    def executed(_c: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM") and "shadow" not in statement:
            deleted[0] += cursor.rowcount  # type: ignore[attr-defined]

    def committed(_: object) -> None:
        sizes.append(deleted[0])
        deleted[0] = 0

    event.listen(filled, "after_cursor_execute", executed)
    event.listen(filled, "commit", committed)
    rest = archive(filled, None, 3, until_complete=True)
    assert rest.complete
    assert first.total + rest.total == sum(times(2).values())
    assert max(sizes) == 3
    assert counts(filled, shadow=True) == times(2)


def test_a_late_entry_of_an_archived_instance_is_archived_anew(filled: Engine) -> None:
    archive(filled, None, until_complete=True)
    late = ended(OLD, AT, action("late", OLD))
    Writer(filled, SystemClock()).commit(
        [type(late)(late.type, OLD, "late", late.at, late.rows)]
    )  # fmt: skip
    archive(filled, None, until_complete=True)
    assert counts(filled) == times(0, alive=1)
    assert count(filled, "instance_actions", shadow=True) == 5
    assert count(filled, "instances", shadow=True) == 2


def test_purge_takes_archived_rows_and_their_guards(filled: Engine) -> None:
    archive(filled, None, until_complete=True)
    gone = purge(filled, AT + timedelta(days=1), 2)
    assert gone.rows == times(1)
    assert counts(filled, shadow=True) == times(1)
    with Session(filled) as session:
        assert set(session.scalars(select(Transition.uid))) == {NEW, ALIVE}
    purge(filled, None)
    assert counts(filled, shadow=True) == times(0)
    assert counts(filled) == times(0, alive=1)


def test_purge_leaves_what_is_not_archived(filled: Engine) -> None:
    assert purge(filled, None).total == 0
    assert counts(filled) == times(2, alive=1)
