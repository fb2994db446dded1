"""The service's side of a connection: what its bytes, its pauses and its end do to the exchange."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from proxy.errors import RequestError, UpstreamProtocol, UpstreamUnreachable
from proxy.forwarding.answer import AnswerReader
from proxy.forwarding.headers import Field

BUFFER_BYTES = 262_144  # body bytes held before somebody takes them


class Sink(Protocol):
    """Takes an answer's body as it arrives."""

    def data(self, chunk: bytes) -> None:
        """Some bytes of the body, never empty."""

    def end(self, trailers: list[Field]) -> None:
        """The body is whole."""

    def broken(self, error: RequestError) -> None:
        """The body will never be whole."""


class Writer(Protocol):
    """Whoever writes to a service that has switched protocols, for as long as both want."""

    def pause(self) -> None:
        """The service does not read as fast as is written."""

    def resume(self) -> None:
        """It has caught up."""

    def lost(self) -> None:
        """The connection is gone."""


class Answering(asyncio.Protocol):
    """Reads the answers of a service, one exchange at a time; lost or aborted at any point.

    ``last_activity``: seconds of ``clock``. ``answered``: bytes have come. ``uploading``: the request is not
    all sent. ``on_head``: called once, when the head of the answer is there or never will be. ``writer``: see
    there.
    """

    __slots__ = (
        "_at_work",
        "_ended",
        "_lost",
        "_paused_reading",
        "_paused_writing",
        "_reader",
        "_sink",
        "_time",
        "_transport",
        "_waiter",
        "_write_waiter",
        "answered",
        "last_activity",
        "on_head",
        "uploading",
        "writer",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self._time = clock
        self._reader = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._at_work = self._lost = self._ended = self._paused_writing = self._paused_reading = False
        self.answered = self.uploading = False
        self.on_head: Callable[[], None] | None = None
        self.writer: Writer | None = None
        self.last_activity = clock()

    @property
    def halves(self) -> bool:
        """One side can be ended without the other: not over TLS."""
        return self._transport is not None and self._transport.can_write_eof()

    @abstractmethod
    def _forgotten(self) -> None:
        """The connection is gone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ready (after the TLS handshake, if there is one)."""
        self._transport = transport  # type: ignore[assignment]  # transports share no base class

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer; bytes nobody asked for end the connection (R48)."""
        if not self._at_work:
            self.abort()
            return
        self.answered = True
        self.last_activity = self._time()
        reader = self._reader
        reader.feed(data)
        if reader.fault is not None:
            if self._sink is not None and reader.size:
                self._sink.data(reader.take())
            self._fail(reader.fault)
            self.abort()
            return
        if reader.head is not None:
            self._wake()
        sink = self._sink
        if sink is not None:
            if reader.size:
                sink.data(reader.take())
            if reader.complete:
                self._sink = None
                sink.end(reader.trailers)
        elif reader.size > BUFFER_BYTES:
            self.pause_reading()

    def eof_received(self) -> bool:
        """An orderly end: FIN, under TLS a close_notify. A TLS stream cut without one ends no body."""
        self._ended = True
        self._reader.feed_eof()
        if self._reader.complete:
            self._wake()
        if self._at_work and self._reader.complete and self._sink is not None:
            sink, self._sink = self._sink, None
            sink.end([])
        return self.writer is not None and self.halves

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """The connection is gone; an exchange that was not complete has failed."""
        self._lost = True
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
        writer = self.writer
        if self._at_work and not self._reader.complete:
            if self.answered:
                self._fail(UpstreamProtocol("the service closed the connection in the middle of its answer"))
            else:
                self._fail(UpstreamUnreachable("the service closed the connection before an answer"))
        if writer is not None:
            writer.lost()
        self._forgotten()

    def pause_writing(self) -> None:
        """The service does not read as fast as we write."""
        self._paused_writing = True
        if self.writer is not None:
            self.writer.pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused_writing = False
        self.last_activity = self._time()
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
        if self.writer is not None:
            self.writer.resume()

    def _wake(self) -> None:
        if self.on_head is not None:
            on_head, self.on_head = self.on_head, None
            on_head()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: RequestError) -> None:
        reader = self._reader
        if reader.fault is None and not reader.complete:
            reader.fault = error
        self._wake()
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.broken(reader.fault or error)

    def pause_reading(self) -> None:
        """Stop reading: whoever takes the body is slower than the service."""
        if not self._paused_reading and not self._lost and self._transport is not None:
            self._paused_reading = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused_reading and self._transport is not None:
            self._paused_reading = False
            self.last_activity = self._time()
            if not self._lost:
                self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.on_head = None
        if self._transport is not None and not self._lost:
            self._lost = True  # connection_lost comes a turn of the loop later: nobody may take it until then
            self._transport.abort()

    def expire(self, error: RequestError) -> None:
        """Fail the exchange with ``error`` and drop the connection."""
        self._fail(error)
        self.abort()
