"""Threads for calls into libvirt, which block for as long as the daemon likes.

``concurrent.futures.ThreadPoolExecutor`` joins its threads when the interpreter exits: one
call into a hung libvirtd would keep the whole agent from stopping. These threads are
daemons, and an abandoned call keeps its thread until libvirt lets go of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class DaemonThreads:
    """A fixed number of daemon threads that run submitted calls in order of arrival."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._started = 0
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queues ``work``. A future cancelled before its turn is never run."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:  # the waiter's, whatever it is
                future.set_exception(error)
            else:
                future.set_result(result)

        self._queue.put(run)
        if self._started < self._count:
            self._started += 1
            threading.Thread(
                target=self._serve, name=f"{self._name}-{self._started}", daemon=True
            ).start()
        return future

    def stop(self) -> None:
        """Lets each thread end after the call it is in; waits for none of them."""
        for _ in range(self._started):
            self._queue.put(None)

    def _serve(self) -> None:
        while (run := self._queue.get()) is not None:
            run()
            del run  # what the call refers to is released here, not at the next call
