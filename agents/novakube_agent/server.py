"""The agent's mutual-TLS server: console logs for novakube-api, and nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from novakube_agent.identity import NodeCertificate

_log = logging.getLogger(__name__)
CLIENT_NAME = "novakube-api"
TAIL_DEFAULT = 64 * 1024
TAIL_MAX = 8 * 1024 * 1024
FOLLOW_POLL_S = 0.5
FOLLOW_DEADLINE_S = 3600.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def read_tail(log: Path, tail_bytes: int) -> tuple[bytes, int] | None:
    """The last bytes of a log, its rotated piece included, and the size of the current one.

    None when there is no log. Blocking.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - tail_bytes))
            current = file.read(tail_bytes)
    except FileNotFoundError:
        return None
    missing = tail_bytes - len(current)
    older = log.with_name(log.name + ".0")
    if missing <= 0 or not older.exists():
        return current, size
    with older.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - missing))
        return file.read(missing) + current, size


class AgentServer:
    """Serves while the node has a certificate; a renewed one is used for new connections."""

    def __init__(
        self,
        certificate: NodeCertificate,
        host: str,
        port: int,
        log_of: Callable[[str], Path | None],
        listening: Callable[[int], None],
    ) -> None:
        """Args: log_of: console log by Guest name, None: unknown; listening: told the port."""
        self._certificate = certificate
        self._host = host
        self._port = port
        self._log_of = log_of
        self._listening = listening

    async def run(self) -> None:
        """Until cancelled. Raises OSError when the address cannot be bound."""
        application = web.Application(middlewares=[_only_api])
        application.router.add_get("/v1/guests/{guest}/console-log", self._console_log)
        await self._certificate.changed.wait()
        self._certificate.changed.clear()
        context = await asyncio.to_thread(self._certificate.server_context)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, ssl_context=context).start()
            self._listening(int(runner.addresses[0][1]))
            while True:
                await self._certificate.changed.wait()
                self._certificate.changed.clear()
                context.load_cert_chain(
                    self._certificate.certificate_file, self._certificate.key_file
                )
                context.load_verify_locations(self._certificate.ca_file)
                _log.info("node certificate renewed")
        finally:
            await runner.cleanup()

    async def _console_log(self, request: web.Request) -> web.StreamResponse:
        tail = _tail(request.query.get("tail", str(TAIL_DEFAULT)))
        log = self._log_of(request.match_info["guest"])
        found = None if log is None else await asyncio.to_thread(read_tail, log, tail)
        if log is None or found is None:
            raise web.HTTPNotFound(text="no console log")
        content, offset = found
        if request.query.get("follow") != "true":
            return web.Response(body=content, content_type="text/plain")
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        await answer.write(content)
        async with asyncio.timeout(FOLLOW_DEADLINE_S):
            await _follow(answer, log, offset)
        return answer


def _tail(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= TAIL_MAX:
        raise web.HTTPBadRequest(text=f"tail is {text!r}; allowed: 1 to {TAIL_MAX} bytes")
    return int(text)


async def _follow(answer: web.StreamResponse, log: Path, offset: int) -> None:
    """New bytes as they come, until the log or the reader goes away."""
    while True:
        await asyncio.sleep(FOLLOW_POLL_S)
        more = await asyncio.to_thread(_after, log, offset)
        if more is None:
            return
        content, offset = more
        if content:
            await answer.write(content)


def _after(log: Path, offset: int) -> tuple[bytes, int] | None:
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            # Shorter than before: it was rotated, and begins anew.
            start = offset if size >= offset else 0
            file.seek(start)
            content = file.read(TAIL_MAX)
            return content, start + len(content)
    except FileNotFoundError:
        return None


@web.middleware
async def _only_api(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The CA signs nodes too; only the API's own name may read guests' consoles."""
    peer = request.get_extra_info("peercert") or {}
    names = [value for group in peer.get("subject", ()) for key, value in group
             if key == "commonName"]  # fmt: skip
    if names != [CLIENT_NAME]:
        raise web.HTTPForbidden(text=f"only {CLIENT_NAME} may ask")
    return await handler(request)
