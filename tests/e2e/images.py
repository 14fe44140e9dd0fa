"""A real HTTP server inside the cloud's network, with the habits of bad ones."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web
from pyroute2 import netns

from novakube_local import members
from novakube_local.layout import CLOUD, IMAGES_ADDRESS
from tests.deadlines import READY_S, STOP_S
from tests.e2e.cloud import LocalCloud
from tests.integration.images.image_server import ImageServer

PORT = 8000


class Images:
    """Serves ``files`` to the cloud's nodes, from a thread of this process."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._supervisor = members.alive(cloud.layout.load(), CLOUD)
        self._loop = asyncio.new_event_loop()
        self._serving = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="images", daemon=True)
        self.server = ImageServer(address=IMAGES_ADDRESS, port=PORT)
        self.guest = (cloud.layout.images / "novakube-guest.qcow2").read_bytes()

    def url(self, path: str) -> str:
        """Of a path, as nodes reach it."""
        return self.server.url(path)

    def open_gate(self) -> None:
        """Slow answers go on."""
        self._loop.call_soon_threadsafe(self.server.gate.set)

    def close_gate(self) -> None:
        """Slow answers stop in the middle from now on."""
        self._loop.call_soon_threadsafe(self.server.gate.clear)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._serving.wait(READY_S), "the image server does not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open_gate()
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(STOP_S)
        assert not self._thread.is_alive(), "the image server does not end"

    def _serve(self) -> None:
        # Of this thread only; it ends with the server.
        netns.setns(str(Path(f"/proc/{self._supervisor}/ns/net")))
        listening = socket.create_server((IMAGES_ADDRESS, PORT))
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_ended(listening))

    async def _until_ended(self, listening: socket.socket) -> None:
        runner = web.AppRunner(self.server.application(), shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        self._serving.set()
        await self._ended.wait()
        await runner.cleanup()
