"""The only place where tests wait: for a condition, with a deadline, never for time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.02


async def wait_until(condition: Callable[[], T | Awaitable[T]], what: str, deadline_s: float) -> T:
    """The first true value of the condition; AssertionError with ``what`` after the deadline."""
    give_up_at = time.monotonic() + deadline_s
    while True:
        outcome = condition()
        value = await outcome if isawaitable(outcome) else outcome
        if value:
            return value  # type: ignore[return-value]
        if time.monotonic() >= give_up_at:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        await asyncio.sleep(POLL_S)


def wait_until_sync(condition: Callable[[], T], what: str, deadline_s: float) -> T:
    """The same for code without an event loop."""
    give_up_at = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= give_up_at:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(POLL_S)


async def pass_time(seconds: float) -> None:
    """Lets virtual time pass; only in tests marked ``looptime``, where it takes none."""
    loop = asyncio.get_running_loop()
    if not getattr(loop, "looptime_on", False):
        raise AssertionError("pass_time outside a looptime test would really sleep")
    await asyncio.sleep(seconds)
