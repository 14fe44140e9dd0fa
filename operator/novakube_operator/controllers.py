"""The seam between stores and reconcilers.

A Controller names itself, says which keys a change of any object wakes, and reconciles one
key. Only the leader's workers run; keys wait otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from novakube_kit.store import AnyObject
from novakube_kit.workqueue import WorkQueue

Change = tuple[str, AnyObject | None, AnyObject | None]
"""Plural, old and new object."""
Wakes = Callable[[str, AnyObject | None, AnyObject | None], Iterable[tuple[Any, float]]]


@dataclass(frozen=True, slots=True)
class Controller:
    """One reconciler and what wakes it."""

    name: str
    """For metrics and logs, such as ``Instance``."""
    reconcile: Callable[[Any], Awaitable[float | None]]
    """One pass over one key; the seconds after which to look again, None: on a change only."""
    wakes: Wakes
    """Keys, each with a delay in seconds, that a change of one object wakes."""
    keys: Callable[[], Iterable[Any]]
    """All keys: looked at when leadership begins."""
    workers: int = 8


class Controllers:
    """All controllers of the process and their queues."""

    def __init__(self) -> None:
        """Makes an empty set."""
        self._entries: list[tuple[Controller, WorkQueue[Any]]] = []

    def add(self, controller: Controller) -> WorkQueue[Any]:
        """Registers a controller; returns its queue, for wakes that no object announces."""
        queue: WorkQueue[Any] = WorkQueue(controller.name, workers=controller.workers)
        self._entries.append((controller, queue))
        return queue

    def changed(self, plural: str, old: AnyObject | None, new: AnyObject | None) -> None:
        """Tells every controller of a change. Called by the stores."""
        for controller, queue in self._entries:
            for key, delay_s in controller.wakes(plural, old, new):
                queue.add_after(key, delay_s)

    async def run(self) -> None:
        """Works until cancelled: call it when leadership begins, cancel it when it ends."""
        async with asyncio.TaskGroup() as group:
            for controller, queue in self._entries:
                everything = controller.keys()
                for key in everything:
                    queue.add(key)
                group.create_task(queue.run(controller.reconcile), name=controller.name)
