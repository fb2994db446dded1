"""A small HTTP proxy that knows CONNECT: real sockets, names by its own table, everything it saw is kept."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping


class ConnectProxy:
    """Relays bytes both ways once it has connected.

    ``places``: ``host:port`` -> local port. ``wants``: value of Proxy-Authorization, None: anybody.
    ``answer``: said instead of connecting. ``heads``: of the requests that came. ``sent``: what went through.
    """

    def __init__(
        self, places: Mapping[str, int], *, wants: str | None = None, answer: bytes | None = None
    ) -> None:
        self.places = places
        self.wants = wants
        self.answer = answer
        self.heads: list[bytes] = []
        self.sent = bytearray()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
            if self.answer is not None:
                writer.write(self.answer)
            elif self.wants is not None and f"Proxy-Authorization: {self.wants}\r\n".encode() not in head:
                writer.write(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n")
            elif method != "CONNECT" or target not in self.places:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
                await self._relay(reader, writer, self.places[target])

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seen: bytearray) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    seen += data
                    sink.write(data)
                    await sink.drain()
            sink.close()

        with contextlib.closing(far_writer):
            await asyncio.gather(pump(reader, far_writer, self.sent), pump(far_reader, writer, bytearray()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["ConnectProxy"]:
        """Listens inside the block."""

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.01)  # closed transports end a turn of the loop later
