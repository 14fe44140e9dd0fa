"""Threads for calls into libvirt, each with a connection of its own.

Calls block for as long as the daemon likes, so they run in threads; and a connection serves
one thread only. libvirt's client hands its socket from waiting thread to waiting thread, and
before 10.4 it then follows a pointer into the stack of a thread that has left: the process
dies (CVE-2024-4418; Debian 12's libvirt 9.0 has no fix). libvirtd serves at most 5 calls of
one connection at once besides (``max_client_requests``).

``concurrent.futures.ThreadPoolExecutor`` joins its threads when the interpreter exits: one
call into a hung libvirtd would keep the whole agent from stopping. These threads are
daemons, and an abandoned call keeps its thread until libvirt lets go of it.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

import libvirt

from novakube_agent.hostops.libvirt_errors import is_disconnect, translate, translate_open
from novakube_kit.errors import NovakubeError

log = logging.getLogger(__name__)
T = TypeVar("T")
_Call = Callable[[libvirt.virConnect | None], libvirt.virConnect | None]
"""Gets the thread's connection, if it has one; gives the one to go on with."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What a thread hands back.

    Errors travel as values: a traceback would carry the thread's frames, and with them
    libvirt objects, to the event loop.
    """

    value: T | None = None
    error: NovakubeError | None = None
    lost: bool = False


def close_connection(conn: libvirt.virConnect) -> None:
    """Gives a connection back. A broken one has nothing left to give back."""
    try:
        conn.close()
    except libvirt.libvirtError as error:
        log.debug("closing a broken connection", extra={"cause": str(error)})


def in_thread(name: str, work: Callable[[], T]) -> Future[T]:
    """Runs ``work`` in a daemon thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(work())
        except BaseException as error:  # the waiter's, whatever it is
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


class CallThreads:
    """A fixed number of daemon threads that run submitted calls in order of arrival."""

    def __init__(self, uri: str, name: str, count: int) -> None:
        self._uri = uri
        self._name = name
        self._count = count
        self._started = 0
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()

    def submit(self, what: str, work: Callable[[libvirt.virConnect], T]) -> Future[Outcome[T]]:
        """Queues ``work``. A future cancelled before its turn is never run."""
        future: Future[Outcome[T]] = Future()
        self._queue.put(functools.partial(self._run, future, what, work))
        if self._started < self._count:
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        return future

    def stop(self) -> None:
        """Lets each thread end after the call it is in; waits for none of them."""
        for _ in range(self._started):
            self._queue.put(None)

    def _serve(self) -> None:
        conn: libvirt.virConnect | None = None
        while (run := self._queue.get()) is not None:
            conn = run(conn)  # the one to go on with
            del run  # what the call refers to is released here, not at the next call
        if conn is not None:
            close_connection(conn)

    def _run(
        self,
        future: Future[Outcome[T]],
        what: str,
        work: Callable[[libvirt.virConnect], T],
        conn: libvirt.virConnect | None,
    ) -> libvirt.virConnect | None:
        """Carries out one call; the thread's connection, None when it is broken."""
        if not future.set_running_or_notify_cancel():
            return conn
        try:
            conn = conn or self._open()
            outcome: Outcome[T] = Outcome(value=work(conn))
        except libvirt.libvirtError as failure:
            outcome = Outcome(error=translate(failure, what), lost=is_disconnect(failure))
        except NovakubeError as refusal:
            outcome = Outcome(error=refusal.with_traceback(None), lost=conn is None)
        except BaseException as defect:  # the waiter's, whatever it is
            future.set_exception(defect)
            return conn
        if outcome.lost and conn is not None:
            close_connection(conn)
            conn = None
        future.set_result(outcome)
        return conn

    def _open(self) -> libvirt.virConnect:
        try:
            return libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            raise translate_open(error, self._uri) from None
