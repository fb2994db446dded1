"""A recorder on the wire between an SDK and the proxy: what was really sent and received, not what the SDK tells."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from support.raw import Address


@dataclass(slots=True)
class Conversation:
    """One connection of an SDK: every byte of both ways."""

    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


class Tap:
    """Listens on loopback and joins every connection to ``target``.

    With ``tls`` it stands in the middle of TLS: it presents what the first of the pair holds, and trusts the
    target by the second.
    """

    def __init__(self, target: Address, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None) -> None:
        self._target = target
        self._near, self._far = tls or (None, None)
        self._tasks: set[asyncio.Task[None]] = set()
        self.conversations: list[Conversation] = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Tap"]:
        """Listens inside the block."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._near)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        conversation = Conversation()
        self.conversations.append(conversation)
        far_reader, far_writer = await asyncio.open_connection(*self._target, ssl=self._far)
        try:
            await asyncio.gather(
                _pump(reader, far_writer, conversation.sent), _pump(far_reader, writer, conversation.received)
            )
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            far_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray) -> None:
    """Keeps each piece before it goes on, so that the record is never behind."""
    while data := await reader.read(65536):
        record += data
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():  # TLS has no half-closed connections
        writer.write_eof()
    else:
        writer.close()
