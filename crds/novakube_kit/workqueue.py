"""The keyed work queue in front of every reconciler.

Event sources only ``add`` keys; all work happens in ``reconcile(key)``, which looks at the
present state and not at the event. Not thread-safe: everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, TypeVar

from novakube_kit.errors import (
    ApiUnavailable,
    Conflict,
    Forbidden,
    HostBusy,
    NovakubeError,
    Retryable,
    Terminal,
)
from novakube_kit.logging import bind_reconcile
from novakube_kit.metrics import (
    QUEUE_DEPTH,
    QUEUE_ERRORS,
    QUEUE_WAIT_SECONDS,
    RECONCILE_SECONDS,
)

K = TypeVar("K", bound=Hashable)
Reconcile = Callable[[K], Awaitable[float | None]]
"""One pass; the result says after how many seconds to look again without an event."""

_log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0
CONFLICTS_AT_ONCE = 5
"""Conflicts in a row that are retried without delay; then they back off like the rest."""
PASS_DEADLINE_S = 300.0
OWN_EVENTS_S = 1.0
"""So long after a failed pass its own events may still come in."""
_LEVELS: Mapping[type[NovakubeError], int] = {
    Retryable: logging.INFO,
    ApiUnavailable: logging.INFO,
    HostBusy: logging.INFO,
    Forbidden: logging.ERROR,
}


class _Outcome(NamedTuple):
    """What a failed pass leads to."""

    reason: str
    delay_s: float
    level: int
    traceback: bool = False


class WorkQueue(Generic[K]):
    """Keys waiting for a pass: each at most once in line and never in two passes at a time.

    A key added during its pass gets another one afterwards. Of several delays the earliest
    holds: a pass must answer when it wants to be looked at next. Failures back off per key
    from 1 s, doubling to 5 min, with jitter; the first success forgets them.
    """

    def __init__(
        self,
        name: str,
        *,
        workers: int = 8,
        pass_deadline_s: float = PASS_DEADLINE_S,
        conflict: Callable[[K], None] | None = None,
    ) -> None:
        """Makes an empty queue.

        Args:
            name: for metrics and as ``kind`` in logs, such as ``Instance``.
            workers: passes at a time.
            pass_deadline_s: a longer pass is cancelled and backs off.
            conflict: called after a Conflict, e.g. to drop a stale copy from a store.
        """
        self._name = name
        self._workers = workers
        self._pass_deadline_s = pass_deadline_s
        self._conflict = conflict
        self._ready: deque[K] = deque()
        self._added_at: dict[K, float] = {}
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._conflicts: dict[K, int] = {}
        self._failed_at: dict[K, float] = {}
        self._nudged: dict[K, float] = {}
        self._tokens = asyncio.Semaphore(0)
        self._depth = QUEUE_DEPTH.labels(name)

    def __len__(self) -> int:
        """Keys in line, those in a pass or waiting for a delay excepted."""
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing in line and no pass under way; delays may run."""
        return not self._ready and not self._running

    def add(self, key: K) -> None:
        """Puts the key in line unless it is there."""
        if key in self._running:
            self._again.add(key)
            return
        if key in self._added_at:
            return
        self._added_at[key] = asyncio.get_running_loop().time()
        self._ready.append(key)
        self._depth.set(len(self._ready))
        self._tokens.release()

    def add_after(self, key: K, delay_s: float) -> None:
        """Adds the key after a delay, unless it waits for an earlier one."""
        if delay_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        pending = self._timers.get(key)
        if pending is not None:
            if pending.when() <= loop.time() + delay_s:
                return
            pending.cancel()
        self._timers[key] = loop.call_later(delay_s, self._due, key)

    def nudge(self, key: K, delay_s: float) -> None:
        """``add_after`` for an event that the key's own pass may have caused.

        What comes while a pass is under way counts if that pass succeeds. If it fails, it and
        what comes within OWN_EVENTS_S is dropped: it would end the backoff just begun.
        """
        if key in self._running:
            self._nudged[key] = delay_s
            return
        since_s = asyncio.get_running_loop().time() - self._failed_at.get(key, -OWN_EVENTS_S)
        if since_s >= OWN_EVENTS_S:
            self.add_after(key, delay_s)

    def forget(self, key: K) -> None:
        """Drops the key's failures and delays: its object is gone. A pass under way goes on."""
        self._settled(key)
        self._nudged.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def run(self, reconcile: Reconcile[K]) -> None:
        """Works until cancelled; passes under way are cancelled with it."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._work(reconcile), name=f"{self._name}-{number}")
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    async def _work(self, reconcile: Reconcile[K]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._tokens.acquire()
            key = self._ready.popleft()
            self._depth.set(len(self._ready))
            QUEUE_WAIT_SECONDS.labels(self._name).observe(loop.time() - self._added_at.pop(key))
            self._running.add(key)
            try:
                with RECONCILE_SECONDS.labels(self._name).time(), self._bound(key):
                    await self._pass(key, reconcile)
            finally:
                self._running.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def _bound(self, key: K) -> AbstractContextManager[str]:
        match key:
            case (str() as namespace, str() as name):
                return bind_reconcile(self._name, namespace, name)
            case _:
                return bind_reconcile(self._name, name=str(key))

    async def _pass(self, key: K, reconcile: Reconcile[K]) -> None:
        try:
            async with asyncio.timeout(self._pass_deadline_s):
                again_s = await reconcile(key)
        except Exception as error:  # whatever it is, the key is tried again
            outcome = self._outcome(key, error)
            QUEUE_ERRORS.labels(self._name, outcome.reason).inc()
            _log.log(
                outcome.level,
                "reconcile failed (%s), again in %.1f s: %s",
                outcome.reason,
                outcome.delay_s,
                error,
                exc_info=outcome.traceback,
            )
            self._nudged.pop(key, None)
            self._failed_at[key] = asyncio.get_running_loop().time()
            self._retry(key, outcome.delay_s)
            return
        self._settled(key)
        if key in self._nudged:
            self.add_after(key, self._nudged.pop(key))
        if again_s is not None:
            self._retry(key, again_s)

    def _settled(self, key: K) -> None:
        """The key's failures are history."""
        self._failures.pop(key, None)
        self._conflicts.pop(key, None)
        self._failed_at.pop(key, None)

    def _retry(self, key: K, delay_s: float) -> None:
        if delay_s <= 0:
            self._again.add(key)
        else:
            self.add_after(key, delay_s)

    def _outcome(self, key: K, error: Exception) -> _Outcome:
        if isinstance(error, Conflict):
            return self._conflicted(key, error)
        if isinstance(error, Retryable) and error.after_s is not None:
            return _Outcome(error.reason, float(error.after_s), logging.INFO)
        if isinstance(error, Terminal):
            # Waiting for a change of the object is right; the slow retry covers a change of
            # what it depends on that nobody announces.
            return _Outcome(error.reason, BACKOFF_MAX_S, logging.ERROR)
        delay_s = self._backoff_s(key)
        if isinstance(error, NovakubeError):
            return _Outcome(error.reason, delay_s, _LEVELS.get(type(error), logging.WARNING))
        if isinstance(error, TimeoutError):
            return _Outcome("PassDeadline", delay_s, logging.ERROR)
        return _Outcome(type(error).__name__, delay_s, logging.ERROR, traceback=True)

    def _conflicted(self, key: K, error: Conflict) -> _Outcome:
        if self._conflict is not None:
            self._conflict(key)
        count = self._conflicts[key] = self._conflicts.get(key, 0) + 1
        if count <= CONFLICTS_AT_ONCE:
            return _Outcome(error.reason, 0.0, logging.DEBUG)
        return _Outcome(error.reason, self._backoff_s(key), logging.WARNING)

    def _backoff_s(self, key: K) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        full_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures, 30))
        # Jitter shortens only, so that the stated maximum holds.
        return full_s * random.uniform(0.75, 1.0)  # noqa: S311
