"""A clock moved by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Starts at noon of 2030-01-01 UTC and monotonic second 1000."""

    def __init__(self) -> None:
        self._now = datetime(2030, 1, 1, 12, tzinfo=UTC)
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def set_wall_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock by so much; no time passes."""
        self._now += timedelta(seconds=seconds)


class LoopClock(ManualClock):
    """Both times follow the event loop's, virtual in tests marked ``looptime``."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()
