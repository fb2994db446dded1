"""A caller that sends exactly the bytes it is given, with a deadline on every wait."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from support import strict

Address = tuple[str, int]

DEADLINE = 20.0  # of a busy machine


class Hang(Exception):  # noqa: N818  # the finding itself
    """Nothing came until the deadline."""


@dataclass(frozen=True, slots=True)
class Ending:
    """All bytes of a connection and how it ended: eof, reset or open (the deadline passed)."""

    data: bytes
    how: str

    @property
    def closed(self) -> bool:
        return self.how != "open"


class Caller:
    """One connection to the proxy. ``received`` holds everything that came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._at = 0
        self._methods: list[bytes] = []
        self.received = bytearray()
        self.ended: str | None = None

    async def send(self, data: bytes) -> None:
        """Sends; a connection that the proxy has ended already is no failure of the sender."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def more(self, deadline: float = DEADLINE) -> bool:
        """Reads the next bytes; false at the end.

        Raises:
            Hang: nothing came in time.
        """
        if self.ended:
            return False
        try:
            data = await asyncio.wait_for(self._reader.read(65536), deadline)
        except TimeoutError:
            raise Hang(f"nothing for {deadline} s after {bytes(self.received[-80:])!r}") from None
        except ConnectionError:
            self.ended = "reset"
            return False
        except ssl.SSLError:
            self.ended = "reset"
            return False
        if not data:
            self.ended = "eof"
            return False
        self.received += data
        return True

    async def until(self, wanted: bytes, deadline: float = DEADLINE) -> bytes:
        """Everything up to and with ``wanted``, from where the last answer ended.

        Raises:
            Hang: it did not come in time.
            EOFError: the connection ended without it.
        """
        while (at := self.received.find(wanted, self._at)) < 0:
            if not await self.more(deadline):
                raise EOFError(f"ended without {wanted!r}: {bytes(self.received[-200:])!r}")
        data = bytes(self.received[self._at : at + len(wanted)])
        self._at = at + len(wanted)
        return data

    async def answer(self, method: bytes = b"GET", deadline: float = DEADLINE) -> strict.Message:
        """The next final answer, whole, by the strict reading.

        Raises:
            strict.Dirty: it is not well-formed.
            strict.Incomplete: the connection ended inside it.
            Hang: it did not come in time.
        """
        while True:
            data = bytes(self.received[self._at :])
            reading = strict.responses(data, [method] * 2, closed=self.ended is not None)
            if reading.messages:
                taken = sum(m.size for m in reading.interim) + reading.messages[0].size
                self._at += taken
                return reading.messages[0]
            if reading.dirty is not None:
                raise strict.Dirty(reading.dirty)
            if not await self.more(deadline):
                raise strict.Incomplete(f"ended ({self.ended}) inside an answer: {data[-200:]!r}")

    async def ending(self, deadline: float = DEADLINE) -> Ending:
        """Reads until the connection ends or stays silent for ``deadline`` seconds."""
        try:
            while await self.more(deadline):
                pass
        except Hang:
            return Ending(bytes(self.received), "open")
        return Ending(bytes(self.received), self.ended or "eof")

    def half_close(self) -> None:
        self._writer.write_eof()

    def leave(self) -> None:
        """Ends the connection at once."""
        self._writer.transport.abort()

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it

    def go_on_reading(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]  # a socket's transport has it

    async def close(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), 5)


@contextlib.asynccontextmanager
async def calling(
    address: Address, tls: ssl.SSLContext | None = None, *, name: str = "localhost"
) -> AsyncIterator[Caller]:
    """A connection for the length of the block."""
    reader, writer = await asyncio.open_connection(
        *address, ssl=tls, server_hostname=name if tls else None, limit=2**20
    )
    caller = Caller(reader, writer)
    try:
        yield caller
    finally:
        await caller.close()


def request(
    method: str | bytes,
    target: str | bytes,
    *,
    key: str | None,
    fields: Iterable[tuple[str | bytes, str | bytes]] = (),
    body: bytes | None = None,
    host: str = "proxy.example",
    close: bool = False,
) -> bytes:
    """A well-formed request; nothing is added but Host, the key as a bearer token, and a length when there is a body."""
    lines = [b"%s %s HTTP/1.1" % (_bytes(method), _bytes(target)), b"Host: " + host.encode()]
    if key is not None:
        lines.append(b"Authorization: Bearer " + key.encode())
    if close:
        lines.append(b"Connection: close")
    lines.extend(b"%s: %s" % (_bytes(n), _bytes(v)) for n, v in fields)
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body or b""])


async def call(
    address: Address,
    method: str,
    target: str | bytes,
    *,
    key: str | None,
    fields: Iterable[tuple[str | bytes, str | bytes]] = (),
    body: bytes | None = None,
    deadline: float = DEADLINE,
    host: str = "proxy.example",
) -> strict.Message:
    """One request on a connection of its own, and its answer."""
    async with calling(address) as caller:
        await caller.send(request(method, target, key=key, fields=fields, body=body, host=host))
        return await caller.answer(method.encode(), deadline)


def document(message: strict.Message) -> Any:
    """The JSON in an answer's body."""
    return json.loads(message.body)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
