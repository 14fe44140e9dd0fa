"""One supervised connection to libvirt: calls with deadlines, events, keepalive, reconnect.

Used by ``drivers/libvirt`` only. Three kinds of threads, none of them the event loop's:
the process-wide event thread (keepalive and events), a few workers for calls, and one that
opens connections. What runs in them gets the ``virConnect`` and must return plain data:
the last reference to a libvirt object may cost a call, so none may reach the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

import libvirt

from novakube_agent.hostops.libvirt_errors import is_disconnect, translate, translate_open
from novakube_agent.hostops.libvirt_threads import DaemonThreads
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
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "libvirt stopped answering",
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "closed by us",
}


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A connection silent for about ``interval_s * (count + 1)`` is given up."""

    interval_s: int = 5
    count: int = 3


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A lifecycle event as libvirt numbers it."""

    uuid: str
    name: str
    event: int
    detail: int


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    """What a worker hands back.

    Errors travel as values: a traceback would carry the worker's frames, and with them
    libvirt objects, to the event loop.
    """

    value: T | None = None
    error: NovakubeError | None = None
    lost: bool = False


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


def _close(conn: libvirt.virConnect) -> None:
    """Gives a connection back. A broken one has nothing left to give back."""
    try:
        conn.close()
    except libvirt.libvirtError as error:
        log.debug("closing a broken connection", extra={"cause": str(error)})


def _close_late(future: Future[libvirt.virConnect]) -> None:
    if not future.cancelled() and future.exception() is None:
        _close(future.result())


def _guarded(
    conn: libvirt.virConnect, what: str, work: Callable[[libvirt.virConnect], T]
) -> _Outcome[T]:
    try:
        return _Outcome(value=work(conn))
    except libvirt.libvirtError as error:
        return _Outcome(error=translate(error, what), lost=is_disconnect(error))
    except NovakubeError as error:
        return _Outcome(error=error.with_traceback(None))


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
            keepalive: when a silent connection is given up.
            workers: calls at once; as many again for long ones.
        """
        self._uri = uri
        self._prepare = prepare
        self._on_connected = on_connected
        self._on_event = on_event
        self._keepalive = keepalive
        self._short = DaemonThreads("libvirt-call", workers)
        self._long = DaemonThreads("libvirt-long", workers)
        self._opener = DaemonThreads("libvirt-open", 1)
        self._conn: libvirt.virConnect | None = None
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
        for threads in (self._short, self._long, self._opener):
            threads.stop()

    def check(self) -> None:
        """Raises why there is no connection, if there is none."""
        if self._conn is None:
            raise type(self._why)(self._why.message, reason=self._why.reason)

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
        self.check()
        threads = self._long if long else self._short
        future = threads.submit(functools.partial(_guarded, self._conn, what, work))
        try:
            async with asyncio.timeout(deadline_s):
                outcome = await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise HostBusy(
                f"libvirt did not answer within {deadline_s:g} s when asked to {what}",
                reason="HypervisorTimeout",
            ) from error
        if outcome.lost:
            self._lost.set()
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[return-value]  # no error, so it is a T

    async def _supervise(self) -> None:
        delay_s = FIRST_BACKOFF_S
        while True:
            self._lost.clear()
            try:
                self._conn = await self._opened()
            except NovakubeError as error:
                self._report(error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, LAST_BACKOFF_S)
                continue
            delay_s = FIRST_BACKOFF_S
            log.info("connected to libvirt", extra={"uri": self._uri})
            self._attempted.set()
            self._on_connected()
            await self._lost.wait()
            self._drop(self._why)

    async def _opened(self) -> libvirt.virConnect:
        """A new connection. One attempt hangs at most: the next waits for the same one."""
        future = self._opener.submit(self._open)
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
            conn.setKeepAlive(self._keepalive.interval_s, self._keepalive.count)
            conn.registerCloseCallback(self._closed, None)
            conn.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle, None
            )
            self._prepare(conn)
        except libvirt.libvirtError as error:
            _close(conn)
            raise translate(error, "set up the connection") from error
        except NovakubeError:
            _close(conn)
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
        conn, self._conn = self._conn, None
        if conn is not None:
            self._short.submit(functools.partial(_close, conn))

    def _on_loop(self, call: Callable[..., None], *args: object) -> None:
        """From the event thread to the event loop."""
        if self._loop is None or self._loop.is_closed():
            return  # the agent is stopping: nobody is left to be told
        self._loop.call_soon_threadsafe(call, *args)

    def _closed(self, _conn: libvirt.virConnect, reason: int, _opaque: object) -> None:
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
