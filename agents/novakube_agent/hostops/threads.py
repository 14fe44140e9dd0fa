"""Blocking steps off the event loop, never abandoned half way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def in_thread(step: Callable[[], T], executor: Executor | None = None) -> T:
    """Runs the step in a thread (of the loop's executor by default) and waits for its end.

    A cancelled caller waits too: otherwise locks would be released and files closed while
    the thread still works on them. Steps carry their own deadlines.
    """
    work = asyncio.get_running_loop().run_in_executor(executor, step)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
