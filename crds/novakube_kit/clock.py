"""Time as an input: what decides by time takes a ``Clock``, tests move one by hand."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for what people read, monotonic time for every deadline and duration."""

    def now(self) -> datetime:
        """Current time in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow; unaffected by changes of the wall clock."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Current time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC in seconds; goes on while the process is stopped."""
        return time.monotonic()


def timestamp(moment: datetime) -> str:
    """``metav1.Time``: RFC 3339 in UTC with seconds, as conditions carry it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: datetime) -> str:
    """``metav1.MicroTime``: RFC 3339 in UTC with microseconds, as Leases carry it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> datetime:
    """A ``metav1.Time`` or ``MicroTime`` as an aware UTC datetime.

    Raises:
        ValueError: not RFC 3339.
    """
    return datetime.fromisoformat(text).astimezone(UTC)
