"""Usage per project and period."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from novakube_kit.clock import SystemClock
from novakube_operator.sql import schema
from novakube_operator.sql.usage import hours_within, usage
from novakube_operator.sql.writer import Writer
from tests.integration.sql.rows import AT, created

HOUR = timedelta(hours=1)
LIVES = [
    # name, project, launched, terminated (hours after AT; None: never)
    ("before", "p", -9, -5), ("into", "p", -2, 1), ("within", "p", 1, 3), ("open", "p", 3, None),
    ("after", "p", 5, 6), ("unlaunched", "p", None, None), ("other", "q", 0, 4),
    ("unbound", None, 0, 1),
]  # fmt: skip


def at(hours: int | None) -> datetime | None:
    return None if hours is None else AT + hours * HOUR


@pytest.fixture
def session(engine: Engine) -> Session:
    schema.sync(engine)
    entries = [
        created(f"{n}" * 8 + "-0000-0000-0000-000000000000", name=name, project_id=project,
                launched_at=at(launched), terminated_at=at(terminated))
        for n, (name, project, launched, terminated) in enumerate(LIVES)
    ]  # fmt: skip
    Writer(engine, SystemClock()).commit(entries)
    with Session(engine) as session:
        yield session


def test_of_all_projects(session: Session) -> None:
    found = {one.project_id: one for one in usage(session, AT, AT + 4 * HOUR)}
    assert set(found) == {"p", "q", None}
    names = {server.record.name: server.hours for server in found["p"].servers}
    assert names == {"into": 1.0, "within": 2.0, "open": 1.0}
    p = found["p"]
    assert (p.hours, p.vcpu_hours, p.memory_mib_hours, p.disk_gib_hours) == (4, 8, 2048, 40)
    assert found["q"].hours == 4
    assert found[None].hours == 1


def test_of_one_project(session: Session) -> None:
    assert [one.project_id for one in usage(session, AT, AT + HOUR, ["q"])] == ["q"]
    assert usage(session, AT, AT + HOUR, ["nobody"]) == []


MOMENTS = st.integers(0, 1000).map(lambda hours: AT + hours * HOUR)


@given(MOMENTS, st.none() | MOMENTS, MOMENTS, MOMENTS, MOMENTS)
def test_periods_add_up(
    launched: datetime, terminated: datetime | None, a: datetime, b: datetime, c: datetime
) -> None:
    """What is used in two periods side by side is what is used in both together."""
    if terminated is not None:
        launched, terminated = sorted((launched, terminated))
    start, middle, end = sorted((a, b, c))
    parts = [
        hours_within(launched, terminated, *period) for period in ((start, middle), (middle, end))
    ]
    whole = hours_within(launched, terminated, start, end)
    assert sum(parts) == whole
    assert 0 <= whole <= (end - start) / HOUR
