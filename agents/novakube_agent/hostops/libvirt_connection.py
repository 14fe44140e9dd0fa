"""One supervised connection to libvirt: calls with deadlines, events, signs of life, reconnect.

Used by ``drivers/libvirt`` only. Three kinds of threads, none of them the event loop's: the
process-wide event thread, a few for calls (see ``libvirt_threads``), and one that opens the
connection for events. What runs in them gets a ``virConnect`` and must return plain data:
the last reference to a libvirt object may cost a call, so none may reach the event loop.

The daemon is asked for a sign of life by a call of our own: libvirt's keepalive sends from
the event thread, past the calls of others, which is what ``libvirt_threads`` keeps apart.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import libvirt

from novakube_agent.hostops.libvirt_errors import translate, translate_open
from novakube_agent.hostops.libvirt_threads import CallThreads, Outcome, close_connection, in_thread
from novakube_kit.errors import HostBusy, HostFailure, NovakubeError

log = logging.getLogger(__name__)
T = TypeVar("T")

MINIMUM_VERSION = 8_000_000
"""libvirt 8.0.0, in libvirt's own numbering."""
CALL_DEADLINE_S = 10.0
OPEN_DEADLINE_S = 10.0
FIRST_BACKOFF_S = 0.2
LAST_BACKOFF_S = 5.0

_CLOSE_REASONS = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "input/output error",
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "libvirt closed it",
}


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A daemon silent for about ``interval_s * (count + 1)`` is given up."""

    interval_s: int = 5
    count: int = 3


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A lifecycle event as libvirt numbers it."""

    uuid: str
    name: str
    event: int
    detail: int


@functools.cache
def _start_event_thread() -> None:
    """Runs libvirt's own event loop, once per process; it must exist before any connection."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, name="libvirt-events", daemon=True).start()


def _run_events() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.error("libvirt's event loop failed, trying again", extra={"cause": str(error)})
            time.sleep(1)


def _close_late(future: Future[libvirt.virConnect]) -> None:
    if not future.cancelled() and future.exception() is None:
        close_connection(future.result())


def _sign_of_life(conn: libvirt.virConnect) -> None:
    conn.getLibVersion()  # asked of the daemon; it answers without a driver's lock


class _Session:
    """Threads for calls, as long as the daemon answers.

    A new one has threads of its own: those of the last may hang in calls for ever.
    """

    def __init__(self, uri: str, events: libvirt.virConnect, workers: int) -> None:
        self.short = CallThreads(uri, "libvirt-call", workers)
        self.long = CallThreads(uri, "libvirt-long", workers)
        self.ping = CallThreads(uri, "libvirt-ping", 1)
        self._events = events

    def drop(self) -> None:
        """No more calls; waits for none of those that hang, nor for the daemon."""
        for threads in (self.short, self.long, self.ping):
            threads.stop()
        in_thread("libvirt-close", functools.partial(close_connection, self._events))


class LibvirtConnection:
    """See the module. ``start`` first, ``close`` last, both on the same event loop."""

    def __init__(
        self,
        uri: str,
        *,
        prepare: Callable[[libvirt.virConnect], None],
        on_connected: Callable[[], None],
        on_event: Callable[[RawEvent], None],
        keepalive: Keepalive,
        workers: int = 6,
    ) -> None:
        """Nothing is opened yet.

        Args:
            uri: libvirt's connection URI.
            prepare: called with each new connection in the opening thread, before calls.
            on_connected: called on the event loop after each (re)connection.
            on_event: called on the event loop.
            keepalive: when a silent daemon is given up.
            workers: calls at once; as many again for long ones.
        """
        self._uri = uri
        self._prepare = prepare
        self._on_connected = on_connected
        self._on_event = on_event
        self._keepalive = keepalive
        self._workers = workers
        self._session: _Session | None = None
        self._why: NovakubeError = HostBusy(
            f"not yet connected to libvirt at {uri}", reason="HypervisorUnreachable"
        )
        self._attempted = asyncio.Event()
        self._lost = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the supervision and waits for the outcome of the first attempt.

        A hypervisor that is not there is no error here: calls say so, and the connection
        comes up by itself once it is.
        """
        _start_event_thread()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._supervise(), name="libvirt-connection")
        await self._attempted.wait()

    async def close(self) -> None:
        """Ends supervision and connection; waits for no call that hangs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._drop(HostBusy("the libvirt driver is closed", reason="HypervisorUnreachable"))

    def check(self) -> None:
        """Raises why there is no connection, if there is none."""
        self._current()

    def _current(self) -> _Session:
        if self._session is None:
            raise type(self._why)(self._why.message, reason=self._why.reason)
        return self._session

    async def call(
        self,
        what: str,
        work: Callable[[libvirt.virConnect], T],
        *,
        deadline_s: float = CALL_DEADLINE_S,
        long: bool = False,
    ) -> T:
        """Runs ``work(connection)`` in a worker.

        Args:
            what: a clause for messages: "start domain X".
            work: blocking; returns plain data.
            deadline_s: how long the caller waits.
            long: uses the workers of calls that may take minutes.

        Raises:
            HostBusy: no connection, or no answer within the deadline. The call may then
                still take effect: look before deciding again.
            NovakubeError: libvirt's refusal, translated.
        """
        session = self._current()
        threads = session.long if long else session.short
        return await self._answer(session, threads.submit(what, work), what, deadline_s)

    async def _answer(
        self, session: _Session, future: Future[Outcome[T]], what: str, deadline_s: float
    ) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                outcome = await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise HostBusy(
                f"libvirt did not answer within {deadline_s:g} s when asked to {what}",
                reason="HypervisorTimeout",
            ) from error
        if outcome.lost and session is self._session:
            self._lost.set()
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[return-value]  # no error, so it is a T

    async def _supervise(self) -> None:
        delay_s = FIRST_BACKOFF_S
        while True:
            self._lost.clear()
            try:
                events = await self._opened()
            except NovakubeError as error:
                self._report(error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, LAST_BACKOFF_S)
                continue
            self._session = _Session(self._uri, events, self._workers)
            delay_s = FIRST_BACKOFF_S
            log.info("connected to libvirt", extra={"uri": self._uri})
            self._attempted.set()
            self._on_connected()
            await self._until_lost(self._session)
            self._drop(self._why)

    async def _until_lost(self, session: _Session) -> None:
        """Returns once the connection broke or the daemon gave no sign of life."""
        alive = self._keepalive
        while not self._lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(alive.interval_s):
                    await self._lost.wait()
                    return
            future = session.ping.submit("give a sign of life", _sign_of_life)
            deadline_s = float(alive.interval_s * alive.count)
            try:
                await self._answer(session, future, "give a sign of life", deadline_s)
            except HostBusy as error:
                if error.reason == "HypervisorTimeout":
                    self._connection_lost("libvirt stopped answering")
            except NovakubeError as error:
                self._connection_lost(error.message)

    async def _opened(self) -> libvirt.virConnect:
        """A new connection. One attempt hangs at most: the next waits for the same one."""
        future = in_thread("libvirt-open", self._open)
        pending = asyncio.wrap_future(future)
        try:
            while not (await asyncio.wait({pending}, timeout=OPEN_DEADLINE_S))[0]:
                self._report(
                    HostBusy(
                        f"libvirt at {self._uri} accepts connections but does not answer; "
                        "see whether libvirtd or virtqemud hangs on this node",
                        reason="HypervisorTimeout",
                    )
                )
        except asyncio.CancelledError:
            future.add_done_callback(_close_late)
            raise
        return pending.result()

    def _open(self) -> libvirt.virConnect:
        try:
            conn = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            raise translate_open(error, self._uri) from error
        try:
            self._check_version(conn.getLibVersion())
            conn.registerCloseCallback(self._closed, None)
            conn.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle, None
            )
            self._prepare(conn)
        except libvirt.libvirtError as error:
            close_connection(conn)
            raise translate(error, "set up the connection") from error
        except NovakubeError:
            close_connection(conn)
            raise
        return conn

    @staticmethod
    def _check_version(version: int) -> None:
        if version < MINIMUM_VERSION:
            major, rest = divmod(version, 1_000_000)
            raise HostFailure(
                f"libvirt {major}.{rest // 1000}.{rest % 1000} is too old; "
                "install libvirt 8.0 or newer on this node",
                reason="HypervisorTooOld",
            )

    def _report(self, error: NovakubeError) -> None:
        if error.message != self._why.message:
            log.warning("no libvirt", extra={"reason": error.reason, "cause": error.message})
        self._why = error
        self._attempted.set()

    def _drop(self, why: NovakubeError) -> None:
        self._why = why
        session, self._session = self._session, None
        if session is not None:
            session.drop()

    def _on_loop(self, call: Callable[..., None], *args: object) -> None:
        """From the event thread to the event loop."""
        if self._loop is None or self._loop.is_closed():
            return  # the agent is stopping: nobody is left to be told
        self._loop.call_soon_threadsafe(call, *args)

    def _closed(self, _conn: libvirt.virConnect, reason: int, _opaque: object) -> None:
        if reason != libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT:  # else we did it ourselves
            self._on_loop(self._connection_lost, _CLOSE_REASONS.get(reason, f"reason {reason}"))

    def _connection_lost(self, reason: str) -> None:
        self._report(
            HostBusy(
                f"the connection to libvirt at {self._uri} is lost ({reason}); reconnecting",
                reason="HypervisorUnreachable",
            )
        )
        self._lost.set()

    def _lifecycle(
        self,
        _conn: libvirt.virConnect,
        domain: libvirt.virDomain,
        event: int,
        detail: int,
        _opaque: object,
    ) -> None:
        raw = RawEvent(domain.UUIDString(), domain.name(), event, detail)
        self._on_loop(self._on_event, raw)
