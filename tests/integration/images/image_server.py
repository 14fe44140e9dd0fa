"""A real HTTP server with the habits of bad ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

ADDRESS = "127.0.0.2"
"""Tests allow this loopback address alone, so that 127.0.0.1 stays a forbidden target."""


@dataclass
class ImageServer:
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of each request."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ADDRESS
    port: int = 0

    def url(self, path: str) -> str:
        return f"http://{self.address}:{self.port}{path}"

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/status/{code}", self.status)
        app.router.add_get("/to/{target:.*}", self.redirect)
        app.router.add_get("/loop", self.loop)
        app.router.add_get("/slow/{name}", self.slow)
        app.router.add_get("/gated/{name}", self.gated)
        app.router.add_get("/cut/{name}", self.cut)
        app.router.add_get("/short/{name}", self.short)
        app.router.add_get("/{name}", self.file)
        return app

    def note(self, request: web.Request) -> bytes:
        self.requests.append((request.path, request.headers.get("Range")))
        return self.files[request.match_info.get("name", "")]

    async def status(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["code"]), headers={"Retry-After": "7"})

    async def redirect(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.match_info["target"]})

    async def loop(self, request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "/loop"})

    async def file(self, request: web.Request) -> web.Response:
        body = self.note(request)
        etag = self.etags.get(request.path)
        headers = {"ETag": etag} if etag else {}
        if etag and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        span = request.headers.get("Range")
        if span and etag and request.headers.get("If-Range") == etag:
            start = int(span.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return web.Response(status=206, body=body[start:], headers=headers)
        return web.Response(body=body, headers=headers)

    async def _begin(
        self, request: web.Request, body: bytes, etag: str | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": etag} if etag else {})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        return response

    async def slow(self, request: web.Request) -> web.StreamResponse:
        response = await self._begin(request, self.note(request), None)
        await self.gate.wait()
        return response

    async def gated(self, request: web.Request) -> web.StreamResponse:
        body = self.note(request)
        response = await self._begin(request, body, None)
        await self.gate.wait()
        await response.write(body[len(body) // 2 :])
        return response

    async def cut(self, request: web.Request) -> web.StreamResponse:
        """Half the bytes once, then as it should be."""
        if any(path == request.path for path, _ in self.requests):
            return await self.file(request)
        return await self.short(request)

    async def short(self, request: web.Request) -> web.StreamResponse:
        """Half the bytes, each time."""
        response = await self._begin(request, self.note(request), self.etags.get(request.path))
        assert request.transport is not None
        request.transport.close()
        return response
