"""Archive and purge, as nova-manage's ``archive_deleted_rows`` and ``purge``.

Archive moves what belongs to Instances deleted before a moment to the shadow tables; purge
deletes from these, with the guards of their transitions. Both work in transactions of a
bounded number of rows, so that the operator's own commits wait for none of them, and both may
be killed and repeated at any moment: an Instance's own row moves last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, delete, insert, select, tuple_
from sqlalchemy.exc import DBAPIError

from novakube_kit.failpoints import failpoint
from novakube_operator.sql.engine import unavailable
from novakube_operator.sql.models import OF_INSTANCE, SHADOWS, TABLES, Transition

MAX_ROWS = 1000
"""Rows of one transaction. Source: nova-manage's default of --max_rows."""


@dataclass(slots=True)
class Moved:
    """What was moved or deleted."""

    rows: dict[str, int] = field(default_factory=dict)
    """By table."""
    complete: bool = True
    """False: more is left that matches."""

    @property
    def total(self) -> int:
        """Of all tables."""
        return sum(self.rows.values())


def archive(
    engine: Engine, before: datetime | None, max_rows: int = MAX_ROWS, *, until_complete: bool
) -> Moved:
    """Moves rows of Instances deleted before a moment (None: all deleted ones) to the archive.

    Without ``until_complete`` at most ``max_rows`` rows are moved.

    Raises:
        DatabaseUnavailable: no answer; what was moved stays moved.
    """

    def some(room: int) -> dict[str, int]:
        return _archive_some(engine, before, room)

    return _repeat(some, max_rows, until_complete=until_complete)


def purge(engine: Engine, before: datetime | None, max_rows: int = MAX_ROWS) -> Moved:
    """Deletes archived rows of Instances deleted before a moment (None: all), for good.

    Raises:
        DatabaseUnavailable: no answer; what was deleted stays deleted.
    """

    def some(room: int) -> dict[str, int]:
        return _purge_some(engine, before, room)

    return _repeat(some, max_rows, until_complete=True)


def _repeat(some: Callable[[int], dict[str, int]], max_rows: int, *, until_complete: bool) -> Moved:
    moved = Moved()
    try:
        while True:
            batch = some(max_rows)
            for table, count in batch.items():
                moved.rows[table] = moved.rows.get(table, 0) + count
            if sum(batch.values()) < max_rows:
                return moved
            if not until_complete:
                moved.complete = False
                return moved
    except DBAPIError as error:
        raise unavailable(error) from error


def _ended(table: Table, before: datetime | None, limit: int) -> Select[Any]:
    query = select(table.c.uid).where(table.c.terminated_at.is_not(None))
    if before is not None:
        query = query.where(table.c.terminated_at < before)
    return query.order_by(table.c.terminated_at, table.c.uid).limit(limit)


def _archive_some(engine: Engine, before: datetime | None, room: int) -> dict[str, int]:
    """One transaction of at most ``room`` rows."""
    live = {name: _table(name) for name in TABLES}
    with failpoint("sql.archive"), engine.begin() as connection:
        ended = list(connection.scalars(_ended(live["instances"], before, room)))
        moved: dict[str, int] = {}
        for name, query in _of_instances(live, ended):
            left = room - sum(moved.values())
            if left <= 0:
                break
            count = _move(connection, live[name], SHADOWS[name], query.limit(left))
            if count:
                moved[name] = count
        return moved


def _purge_some(engine: Engine, before: datetime | None, room: int) -> dict[str, int]:
    with failpoint("sql.purge"), engine.begin() as connection:
        ended = list(connection.scalars(_ended(SHADOWS["instances"], before, room)))
        gone: dict[str, int] = {}
        for name, query in _of_instances(SHADOWS, ended):
            left = room - sum(gone.values())
            if left <= 0:
                break
            if name == "instances":
                # Its guards go with it: nothing living can tell of it any more.
                ready = list(connection.scalars(query.limit(left)))
                guards = Transition.__table__
                connection.execute(delete(guards).where(guards.c.uid.in_(ready)))  # type: ignore[arg-type]
            keys = [tuple(row) for row in connection.execute(query.limit(left))]
            count = _delete(connection, SHADOWS[name], keys)
            if count:
                gone[name] = count
        return gone


def _of_instances(
    tables: dict[str, Table], uids: Sequence[str]
) -> Iterator[tuple[str, Select[Any]]]:
    """The keys of all that belongs to Instances; what refers to others comes first."""
    actions, events = tables["instance_actions"], tables["instance_action_events"]
    yield (
        "instance_action_events",
        select(events.c.action_uid, events.c.event)
        .join(actions, actions.c.uid == events.c.action_uid)
        .where(actions.c.instance_uid.in_(uids)),
    )
    for name in OF_INSTANCE:
        table = tables[name]
        yield name, select(table.c.uid).where(table.c.instance_uid.in_(uids))
    table = tables["instances"]
    yield "instances", select(table.c.uid).where(table.c.uid.in_(uids))


def _move(connection: Connection, source: Table, target: Table, query: Select[Any]) -> int:
    keys = [tuple(row) for row in connection.execute(query)]
    if not keys:
        return 0
    # A late entry of an archived Instance made the row anew: the newer one holds.
    _delete(connection, target, keys)
    connection.execute(
        insert(target).from_select(
            [c.name for c in source.columns], select(source).where(_matching(source, keys))
        )
    )
    return _delete(connection, source, keys)


def _delete(connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> int:
    if not keys:
        return 0
    return connection.execute(delete(table).where(_matching(table, keys))).rowcount


def _matching(table: Table, keys: Sequence[tuple[Any, ...]]) -> Any:
    columns = tuple(table.primary_key.columns)
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)


def _table(name: str) -> Table:
    table = TABLES[name].__table__
    assert isinstance(table, Table)
    return table
