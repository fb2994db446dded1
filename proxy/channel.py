"""What supervisor and worker tell each other: frames over a socket that only the two of them hold.

A frame is its length (4 bytes), its kind, a zero byte, and its body. Settings and services travel as a pickle
that may hold secrets; nothing of it is on a command line, in the environment or in a file.
"""

import asyncio
import io
import pickle
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import orjson

from proxy.catalog.model import Catalog
from proxy.forwarding.addresses import Dial
from proxy.secret import Secret
from proxy.settings import Settings

_LENGTH = struct.Struct(">I")
_WAITING_BYTES = 1 << 20  # a peer that reads nothing costs no more than this


@dataclass(frozen=True, slots=True)
class InForce:
    """The settings and services that every process of the server works by."""

    settings: Settings
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker needs to know.

    Args:
        number: its own, from 1; of: how many there are.
        data, tls: descriptors of listening sockets; own: those for one service each.
        dials: every address that the server listens on.
        log_lock: descriptor of the log's lock.
        has_vault: whether the server keeps one.
        connect_url: where people connect accounts.
    """

    number: int
    of: int
    in_force: InForce
    data: tuple[int, ...]
    tls: tuple[int, ...]
    own: tuple[tuple[str, int], ...]
    dials: tuple[Dial, ...]
    log_lock: int
    has_vault: bool
    connect_url: str | None


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Secret):
            return Secret, (value.reveal(),)  # refused everywhere else; this pickle goes to our own child
        if isinstance(value, MappingProxyType):
            return _read_only, (dict(value),)
        return NotImplemented


def _read_only(of: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(of)  # a type that cannot itself be named in a pickle


def packed(value: Start | InForce) -> bytes:
    """As bytes for :meth:`Channel.send`; they hold secrets."""
    out = io.BytesIO()
    _Pickler(out, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return out.getvalue()


def unpacked(raw: bytes) -> Any:
    """What :func:`packed` was given; only for bytes from the supervisor."""
    return pickle.loads(raw)  # noqa: S301  # our parent sent them, through a socket that nobody else has


def first_frame(one: socket.socket) -> tuple[str, bytes]:
    """The first frame on a blocking socket, and not a byte more.

    Raises:
        EOFError: the other side has ended.
    """

    def exactly(size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = one.recv(size - len(parts))
            if not part:
                raise EOFError("the supervisor has ended")
            parts += part
        return bytes(parts)

    return _split(exactly(_LENGTH.unpack(exactly(_LENGTH.size))[0]))


def _split(frame: bytes) -> tuple[str, bytes]:
    kind, _, body = frame.partition(b"\0")
    return kind.decode(), body


class Channel:
    """One end; made by :meth:`over`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, one: socket.socket) -> Self:
        """A channel on one socket of a pair, which belongs to it from now on."""
        one.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=one))

    def send(self, kind: str, body: bytes = b"") -> None:
        """Send a frame without waiting; to an end that is gone nothing is sent."""
        if self._writer.is_closing():
            return
        frame = kind.encode() + b"\0" + body
        self._writer.write(_LENGTH.pack(len(frame)) + frame)

    def tell(self, kind: str, facts: Mapping[str, object]) -> None:
        """Send a frame whose body is JSON."""
        self.send(kind, orjson.dumps(facts))

    @property
    def is_clogged(self) -> bool:
        """The other side has not read for a while: what can wait should."""
        return self._writer.transport.get_write_buffer_size() > _WAITING_BYTES

    async def receive(self) -> tuple[str, bytes] | None:
        """The next frame; None when the other side has ended."""
        try:
            size = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
            return _split(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Send what is waiting and end."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
