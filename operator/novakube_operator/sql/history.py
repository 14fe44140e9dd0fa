"""The conductor's pen: history rows, written once each, in order, never in anybody's way.

``note`` only queues. A thread of its own commits batches; while the database is away rows wait
in memory (bounded: the oldest are dropped and counted, because losing history is allowed and
losing a VM is not). A row whose transition is already recorded is skipped, so noting the same
transition again (after a restart) is free.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from novakube_kit.backoff import Backoff
from novakube_kit.clock import Clock
from novakube_kit.failpoints import failpoint
from novakube_operator.sql.engine import unavailable
from novakube_operator.sql.models import (
    ActionEventRecord,
    ActionRecord,
    Base,
    InstanceRecord,
    Transition,
)

WAITING_MAX = 20_000
BATCH_MAX = 200
DROPPED = Counter("novakube_history_dropped_total", "History rows given up, by cause.", ["reason"])
WRITTEN = Counter("novakube_history_written_total", "History rows committed.")
WAITING = Gauge("novakube_history_waiting", "History rows not committed yet.")
log = structlog.get_logger(__name__)

Table = type[InstanceRecord] | type[ActionRecord] | type[ActionEventRecord]


@dataclass(frozen=True, slots=True)
class Row:
    """One change of one record.

    ``values`` are merged into the row with the primary key among them: what they do not name
    keeps its value.
    """

    table: Table
    uid: str
    transition: str
    """Which change of which object: together with ``uid`` it is recorded once."""
    values: Mapping[str, Any] = field(hash=False)


class History:
    """Takes rows from the event loop and commits them in a thread."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Connects to nothing yet."""
        self._engine = engine
        self._clock = clock
        self._rows: deque[Row] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def note(self, row: Row) -> None:
        """Queues a row; never blocks, never raises."""
        if len(self._rows) >= WAITING_MAX:
            self._rows.popleft()
            DROPPED.labels("Overflow").inc()
        self._rows.append(row)
        WAITING.set(len(self._rows))
        self._idle.clear()
        self._wake.set()

    async def settled(self, deadline_s: float) -> bool:
        """Whether all noted rows were committed within the deadline."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), deadline_s)
        return not self._rows

    async def run(self) -> None:
        """Commits for ever; cancel it to stop (after ``settled``)."""
        backoff = Backoff(0.5, 30.0)
        while True:
            await self._wake.wait()
            batch = [self._rows[i] for i in range(min(BATCH_MAX, len(self._rows)))]
            if not batch:
                self._wake.clear()
                self._idle.set()
                continue
            try:
                await asyncio.to_thread(self._commit, batch)
            except OperationalError as error:
                delay_s = backoff.next_s()
                log.warning(
                    "History waits for the database",
                    error=unavailable(error).message,
                    rows=len(self._rows),
                    retryIn=round(delay_s, 1),
                )
                await asyncio.sleep(delay_s)
                continue
            except DBAPIError as error:
                await self._one_by_one(batch, error)
            backoff.reset()
            self._drop_head(batch)

    def _drop_head(self, batch: list[Row]) -> None:
        """Takes the batch off the queue; an overflow may have dropped some of it meanwhile."""
        for row in batch:
            if self._rows and self._rows[0] is row:
                self._rows.popleft()
        WAITING.set(len(self._rows))

    async def _one_by_one(self, batch: list[Row], cause: DBAPIError) -> None:
        """A row that the database refuses must not hold up the others."""
        log.error("A batch of history was refused", error=str(cause.orig), rows=len(batch))
        for row in batch:
            try:
                await asyncio.to_thread(self._commit, [row])
            except DBAPIError as error:
                DROPPED.labels("Refused").inc()
                log.error("History row dropped", uid=row.uid, transition=row.transition,
                          error=str(error.orig))  # fmt: skip

    def _commit(self, batch: list[Row]) -> None:
        with failpoint("sql.commit"), Session(self._engine) as session, session.begin():
            for row in batch:
                self._merge(session, row)
        WRITTEN.inc(len(batch))

    def _merge(self, session: Session, row: Row) -> None:
        if session.get(Transition, (row.uid, row.transition)) is not None:
            return
        record: Base = row.table(**row.values)
        session.merge(record)
        now = self._clock.now().replace(tzinfo=None)
        session.add(Transition(uid=row.uid, transition=row.transition, recorded_at=now))
        session.flush()


def naive(moment: datetime | None) -> datetime | None:
    """A moment as the tables keep it: UTC without zone."""
    return moment.replace(tzinfo=None) if moment is not None else None
