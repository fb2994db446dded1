"""A TCP relay that spoils what passes: the eight faults that networks and peers are known for.

Put it between caller and proxy or between proxy and upstream. A toxic acts on one direction of every
connection made while it is set; times are seconds, rates bytes a second.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

Direction = Literal["up", "down"]  # towards the target; back to who connected


@dataclass(frozen=True, slots=True)
class Latency:
    """Every segment arrives ``seconds`` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """At most ``rate`` bytes a second."""

    rate: int


@dataclass(frozen=True, slots=True)
class SlowClose:
    """The end is passed on ``seconds`` late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Nothing passes; after ``seconds`` (0: never) the connection ends."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ResetPeer:
    """RST on both sides after ``after`` bytes."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Slicer:
    """Segments of at most ``size`` bytes, each sent by itself."""

    size: int = 1
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class LimitData:
    """The connection is closed in order after ``after`` bytes."""

    after: int


@dataclass(frozen=True, slots=True)
class Down:
    """New connections are reset at once."""


Toxic = Latency | Bandwidth | SlowClose | BlackHole | ResetPeer | Slicer | LimitData | Down


class Relay:
    """Listens on loopback and joins every connection to ``target``."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.toxics: dict[Direction, Toxic | None] = {"up": None, "down": None}
        self.port = 0
        self.accepted = 0
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def set(self, *, up: Toxic | None = None, down: Toxic | None = None) -> None:
        """What connections from now on suffer."""
        self.toxics = {"up": up, "down": down}

    async def passing(self, way: Direction, total: int) -> None:
        """Returns once so many bytes have passed that way, on all connections together."""
        while self.passed[way] < total:
            self._moved.clear()
            await self._moved.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Relay"]:
        """Listens inside the block."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        toxics = dict(self.toxics)
        if any(isinstance(toxic, Down) for toxic in toxics.values()):
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        try:
            await asyncio.gather(
                self._pump("up", reader, far_writer, writer, toxics["up"]),
                self._pump("down", far_reader, writer, far_writer, toxics["down"]),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _pump(
        self,
        way: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        toxic: Toxic | None,
    ) -> None:
        gone = 0
        if isinstance(toxic, BlackHole):
            if toxic.seconds:
                await asyncio.sleep(toxic.seconds)
                raise ConnectionAbortedError
            await asyncio.Event().wait()
        if isinstance(toxic, ResetPeer) and toxic.after == 0:
            _reset(writer)
            _reset(other)
            raise ConnectionResetError
        while data := await reader.read(65536):
            for piece in _pieces(data, toxic):
                part, last = piece, False
                if isinstance(toxic, (ResetPeer, LimitData)) and gone + len(piece) >= toxic.after:
                    part, last = piece[: toxic.after - gone], True
                await _delay(toxic, len(part))
                writer.write(part)
                await writer.drain()
                gone += len(part)
                self.passed[way] += len(part)
                self._moved.set()
                if last and isinstance(toxic, ResetPeer):
                    _reset(writer)
                    _reset(other)
                    raise ConnectionResetError
                if last:
                    writer.close()
                    other.close()
                    raise ConnectionAbortedError
        if isinstance(toxic, SlowClose):
            await asyncio.sleep(toxic.seconds)
        if writer.can_write_eof():
            writer.write_eof()


def _pieces(data: bytes, toxic: Toxic | None) -> list[bytes]:
    if isinstance(toxic, Slicer):
        size = toxic.size
    elif isinstance(toxic, Bandwidth):
        size = max(1, toxic.rate // 50)
    else:
        return [data]
    return [data[at : at + size] for at in range(0, len(data), size)]


async def _delay(toxic: Toxic | None, size: int) -> None:
    match toxic:
        case Latency(seconds):
            await asyncio.sleep(seconds)
        case Bandwidth(rate):
            await asyncio.sleep(size / rate)
        case Slicer(_, pause):
            await asyncio.sleep(pause)
        case _:
            return


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
