"""The conductor's pen: history, written once, in order, never in anybody's way.

``note`` only queues; a thread commits batches. While the database is away, entries that no
living object can tell again become HistoryRecords; when it is back, those are copied first, in
the order in which they were made, then living objects tell what is missing, then the queue
goes on. ``keep`` is for what is about to vanish: it returns once its entry is in the database
or waits as an object.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import structlog
from prometheus_client import Counter, Gauge

from novakube_kit.backoff import Backoff
from novakube_kit.clock import Clock
from novakube_kit.errors import NovakubeError
from novakube_operator.sql.entries import Entry, Key
from novakube_operator.sql.waiting import Records
from novakube_operator.sql.writer import Writer

QUEUE_MAX = 20_000
BATCH_MAX = 200
RECALL_BATCH = 500
KEEP_S = 2.0
"""A database that has not answered for so long holds up no deletion."""
LOOK_S = 60.0
"""How often records that another leader left behind are looked for."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 30.0
DROPPED = Counter("novakube_history_dropped_total", "Entries given up, by cause.", ["reason"])
for _reason in ("Fault", "Full", "Overflow", "Refused", "Unreadable"):
    # There from the start: a rate does not see the first of a series that begins with it.
    DROPPED.labels(_reason)
WRITTEN = Counter("novakube_history_written_total", "Entries committed.")
WAITING = Gauge("novakube_history_waiting", "Entries not committed yet, queue and objects.")
RECORDS = Gauge("novakube_history_records", "Of these, entries that wait as HistoryRecords.")
OLDEST = Gauge("novakube_history_oldest_seconds", "Age of the oldest that waits; 0: none.")
DATABASE_UP = Gauge("novakube_history_database_up", "1 while the database takes history.")
log = structlog.get_logger(__name__)
T = TypeVar("T")

Recall = Iterable[tuple[Key, Callable[[], Entry]]]
"""What living objects can tell: its key, and how to make the entry when it is missing."""


@dataclass(eq=False, slots=True)
class _Queued:
    entry: Entry
    safe: asyncio.Future[None] | None = field(default=None)
    """Resolved once the entry is in the database, waits as an object, or was dropped."""


class History:
    """Takes entries from the event loop; ``run`` writes them. One leader at a time."""

    def __init__(self, writer: Writer, records: Records, clock: Clock) -> None:
        """Connects to nothing yet."""
        self._writer = writer
        self._records = records
        self._clock = clock
        self._queue: deque[_Queued] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = False
        self._why: str | None = "not connected yet"
        self._backoff = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S)
        self.recall: Callable[[], Recall] = tuple
        """Set by the wiring: what the living objects can tell."""
        OLDEST.set_function(self._oldest_s)
        WAITING.set_function(lambda: len(self._queue) + len(self._records))
        RECORDS.set_function(lambda: len(self._records))
        DATABASE_UP.set_function(lambda: float(self._why is None))

    def note(self, entry: Entry) -> None:
        """Queues an entry; never blocks, never raises. A standby notes nothing."""
        if self._running:
            self._enqueue(_Queued(entry))

    async def keep(self, entry: Entry) -> None:
        """Returns once the entry survives this process, in SQL or as an object.

        Raises:
            NovakubeError: neither the database nor the Kubernetes API took it.
        """
        if self._running:
            item = _Queued(entry, asyncio.get_running_loop().create_future())
            self._enqueue(item)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEP_S):
                    await item.safe  # type: ignore[misc]
                    return
        # The queue may write it too, later: once, by its key.
        await self._as_record(entry)

    async def settled(self, deadline_s: float) -> bool:
        """Whether nothing is left in memory alone within the deadline."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), deadline_s)
        return not self._queue

    def detail(self) -> str:
        """One sentence for ``/healthz``: history that waits makes no process unhealthy."""
        if not self._running:
            return "not leading"
        if self._why is None:
            return "ok" if not self._queue else f"{len(self._queue)} entries to write"
        waiting = len(self._queue) + len(self._records)
        return f"{self._why}; {waiting} entries wait, the oldest {self._oldest_s():.0f} s old"

    async def run(self) -> None:
        """Writes for ever; cancel it to stop (after ``settled``)."""
        self._running = True
        try:
            while True:
                pause_s = await self._until_away()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._as_records()
        finally:
            self._running = False

    async def _until_away(self) -> float:
        """Works with the database until it is away; seconds until the next attempt."""
        try:
            await asyncio.to_thread(self._writer.ready)
            await self._copy_records()
            await self._recall()
            self._why = None
            self._backoff.reset()
            await self._write_queue()
        except NovakubeError as error:
            # The database, or the API server while records were copied or deleted.
            return self._away(error.message)
        except Exception as error:
            # A fault of ours must not end the process that machines depend on.
            log.exception("History failed")
            return self._away(f"history failed: {type(error).__name__}: {error}")
        return 0.0

    def _away(self, why: str) -> float:
        first, self._why = self._why is None, why
        pause_s = self._backoff.next_s()
        level = log.warning if first else log.info
        level("History waits", error=why, waiting=len(self._queue),
              records=len(self._records), retryIn=round(pause_s, 1))  # fmt: skip
        return pause_s

    async def _copy_records(self) -> None:
        """What waited as objects goes first: it is older than all in the queue."""
        found, unreadable = await self._records.load()
        for batch in _batches(found, BATCH_MAX):
            await self._commit([one.entry for one in batch])
            await self._records.drop(one.name for one in batch)
        DROPPED.labels("Unreadable").inc(len(unreadable))
        await self._records.drop(unreadable)

    async def _recall(self) -> None:
        """Living objects tell what is not recorded: what this process was too dead to note."""
        for batch in _batches(self.recall(), RECALL_BATCH):
            missing = await asyncio.to_thread(self._writer.missing, [key for key, _ in batch])
            entries = [_made(make) for key, make in batch if key in missing]
            for part in _batches(filter(None, entries), BATCH_MAX):
                await self._commit(part)

    async def _write_queue(self) -> None:
        while True:
            batch = list(islice(self._queue, BATCH_MAX))
            if batch:
                await self._commit([item.entry for item in batch])
                for item in batch:
                    self._done(item)
            elif not await self._more(LOOK_S):
                await self._copy_records()

    async def _as_records(self) -> None:
        """While the database is away: empties the queue into objects, until cancelled."""
        pause = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S)
        while True:
            while self._queue:
                item = self._queue[0]
                try:
                    if not item.entry.told_again:
                        await self._as_record(item.entry)
                except NovakubeError as error:
                    log.warning("History waits in memory", error=error.message)
                    await asyncio.sleep(pause.next_s())
                    continue
                self._done(item)
            await self._more(None)

    async def _as_record(self, entry: Entry) -> None:
        if not await self._records.keep(entry):
            DROPPED.labels("Full").inc()
            log.error("History entry dropped: too many wait", uid=entry.uid,
                      transition=entry.transition)  # fmt: skip

    async def _commit(self, batch: Sequence[Entry]) -> None:
        refused = await asyncio.to_thread(self._writer.commit, batch)
        WRITTEN.inc(len(batch) - len(refused))
        for one in refused:
            DROPPED.labels("Refused").inc()
            log.error("History entry dropped: the database refuses it", uid=one.entry.uid,
                      transition=one.entry.transition, error=one.why)  # fmt: skip

    async def _more(self, deadline_s: float | None) -> bool:
        """Waits for the queue to fill; False when it did not within the deadline."""
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._wake.wait()
        return bool(self._queue)

    def _enqueue(self, item: _Queued) -> None:
        if len(self._queue) >= QUEUE_MAX:
            DROPPED.labels("Overflow").inc()
            self._done(self._queue[0])
        self._queue.append(item)
        self._idle.clear()
        self._wake.set()

    def _done(self, item: _Queued) -> None:
        """Takes an item off the queue's head; an overflow may have done so before."""
        if item.safe is not None and not item.safe.done():
            item.safe.set_result(None)
        if self._queue and self._queue[0] is item:
            self._queue.popleft()
        if not self._queue:
            self._idle.set()

    def _oldest_s(self) -> float:
        moments = [item.entry.at for item in islice(self._queue, 1)]
        if self._records.oldest is not None:
            moments.append(self._records.oldest)
        if not moments:
            return 0.0
        return max(0.0, (self._clock.now() - min(moments)).total_seconds())


def _made(make: Callable[[], Entry]) -> Entry | None:
    """An object that cannot tell must not keep the others from telling."""
    try:
        return make()
    except Exception:
        DROPPED.labels("Fault").inc()
        log.exception("History could not be told again")
        return None


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
