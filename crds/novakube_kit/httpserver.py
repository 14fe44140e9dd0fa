"""``/healthz`` and ``/metrics`` of every process.

``/healthz`` answers 200 when all named checks pass, else 503; its JSON body names each check
with "ok" or the sentence that says what is wrong. Details are sentences about what is worth knowing
and makes no process unhealthy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from novakube_kit.errors import InvalidSpec
from novakube_kit.metrics import REGISTRY

Check = Callable[[], str | None]
"""None when all is well, else why not. Must not block."""
Detail = Callable[[], str]
"""A sentence that changes no verdict. Must not block."""


def parse_address(text: str, setting: str = "NOVAKUBE_HTTP") -> tuple[str, int]:
    """``host:port``; an IPv6 host stands in brackets, an empty host means all addresses.

    Raises:
        InvalidSpec: any other form; names the setting.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidSpec(
            f"{setting} is {text!r}; allowed is host:port, such as 127.0.0.1:8080",
            reason="InvalidConfiguration",
        )
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - only when asked for


def health_routes(
    checks: Mapping[str, Check], details: Mapping[str, Detail] | None = None
) -> list[web.RouteDef]:
    """The two routes, for a process that has an aiohttp application of its own."""

    async def healthz(_: web.Request) -> web.Response:
        outcome = {name: check() for name, check in checks.items()}
        healthy = all(why is None for why in outcome.values())
        body = {"checks": {name: why or "ok" for name, why in outcome.items()}}
        if details:
            body["details"] = {name: say() for name, say in details.items()}
        return web.Response(
            body=orjson.dumps(body),
            status=200 if healthy else 503,
            content_type="application/json",
        )

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return [web.get("/healthz", healthz), web.get("/metrics", metrics)]


class HttpServer:
    """Serves the two routes while it is entered."""

    def __init__(
        self,
        host: str,
        port: int,
        checks: Mapping[str, Check],
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Args: port: 0 takes a free one; see ``port``."""
        self._host = host
        self._port = port
        application = web.Application()
        application.add_routes(health_routes(checks, details))
        self._runner = web.AppRunner(application, access_log=None)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._runner.addresses[0][1])

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()
