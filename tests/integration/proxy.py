"""A real TCP proxy in front of the API server that fails as networks and servers do.

TLS ends here (with the API server's own key pair, so that clients trust it), because a plain
answer can be put into the stream only by one who holds the keys.
"""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Self

from tests.integration.apiserver import ApiServer
from tests.ports import free_port


class FaultyProxy:
    """Passes bytes both ways until told otherwise."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._port = free_port()
        self.url = f"https://127.0.0.1:{self._port}"
        self.answers: list[bytes] = []
        """Given to the next requests of new connections, one each, instead of the server's."""
        self._muted: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Accepts connections."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certs = self._server.directory / "certs"
        context.load_cert_chain(certs / "apiserver.crt", certs / "apiserver.key")
        self._listener = await asyncio.start_server(
            self._accepted, "127.0.0.1", self._port, ssl=context
        )

    async def down(self) -> None:
        """Refuses new connections and breaks the open ones."""
        if self._listener is not None:
            self._listener.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def mute(self) -> None:
        """Open connections stay open but pass nothing any more; new ones work."""
        self._muted |= self._writers

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answers.pop(0))
                await writer.drain()
                return
            context = ssl.create_default_context(cafile=str(self._server.ca_file))
            up_reader, up_writer = await asyncio.open_connection(
                "127.0.0.1", self._server.port, ssl=context
            )
            self._writers.add(up_writer)
            try:
                await self._both(reader, writer, up_reader, up_writer)
            finally:
                self._writers.discard(up_writer)
                up_writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            self._writers.discard(writer)
            self._muted.discard(writer)
            writer.close()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        pumps = [
            asyncio.ensure_future(self._pump(reader, up_writer)),
            asyncio.ensure_future(self._pump(up_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if sink in self._muted:
                continue
            sink.write(data)
            await sink.drain()
