"""One connection to a service: our HTTP/1.1 client protocol, one exchange at a time.

``ClientSession`` is not used on the data path: it re-sends requests by itself, drops header bytes and costs
four to five times as much.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from multidict import CIMultiDictProxy

from proxy.errors import RequestError, UpstreamProtocol, UpstreamUnreachable
from proxy.forwarding.answer import AnswerReader
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.headers import Field
from proxy.forwarding.headroom import Fields

BUFFER_BYTES = 262_144  # body bytes held before somebody takes them
LaneKey = tuple[str, str, int, str, int]


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


class UpstreamConnection(asyncio.Protocol):
    """Idle, or at work on one exchange; lost or aborted at any point.

    ``last_activity``, ``started`` and ``idle_since`` are seconds of ``clock``, read by the pool's sweep,
    which enforces the timeouts. ``lane`` is the pool's key, ``address`` what was dialled. ``on_head``: called
    once, when the head of the answer is there or never will be; then :meth:`wait_head` does not wait.
    """

    __slots__ = (
        "_at_work",
        "_ended",
        "_lost",
        "_on_lost",
        "_paused_reading",
        "_paused_writing",
        "_reader",
        "_sink",
        "_time",
        "_transport",
        "_waiter",
        "_write_waiter",
        "address",
        "answered",
        "idle_since",
        "lane",
        "last_activity",
        "on_head",
        "started",
        "uploading",
        "writer",
    )

    def __init__(self, clock: Callable[[], float], on_lost: Callable[["UpstreamConnection"], None]) -> None:
        self._time = clock
        self._on_lost = on_lost
        self._reader = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._at_work = self._lost = self._ended = self._paused_writing = self._paused_reading = False
        self.answered = self.uploading = False
        self.lane: LaneKey | None = None
        self.address = ""
        self.on_head: Callable[[], None] | None = None
        self.writer: Writer | None = None
        self.idle_since = self.last_activity = self.started = clock()

    # --- the exchange, for whoever forwards ---------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Open, idle and without surprises: another request may be sent."""
        return not self._lost and not self._ended and not self._at_work and self._transport is not None

    @property
    def waiting(self) -> bool:
        """The whole request is sent and the head of its answer has not come."""
        return self._reader.head is None and not self.uploading

    @property
    def head(self) -> AnswerHead | None:
        """The head of the final answer, once it is there."""
        return self._reader.head

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The fields of the answer as the service sent them, for looking up by name."""
        return self._reader.headers

    @property
    def fields(self) -> Fields:
        """Names and values of the answer's fields; they stay when the next exchange begins."""
        return self._reader.fields

    @property
    def trailers(self) -> list[Field]:
        """Trailer fields of a complete chunked answer."""
        return self._reader.trailers

    def send(self, method: bytes, data: bytes, *, uploading: bool = False, switches: bool = False) -> None:
        """Begin an exchange: write the head, and as much of the body as is there, of one request.

        ``switches``: it is a WebSocket handshake; after a 101 :meth:`push` sends more.

        Raises:
            UpstreamUnreachable: the connection has closed; nothing was sent.
        """
        if not self.usable or self._transport is None:
            raise UpstreamUnreachable("the connection to the service closed before the request was sent")
        self._reader.begin(method, switches=switches)
        self._at_work = True
        self.answered = False
        self.uploading = uploading
        self.started = self.last_activity = self._time()
        self._transport.write(data)

    async def write(self, data: bytes) -> None:
        """Send more of the request body; waits while the service does not read.

        Raises:
            UpstreamUnreachable: the connection is gone.
        """
        if self._lost or self._transport is None:
            raise UpstreamUnreachable("the service closed the connection while the request was being sent")
        self.last_activity = self._time()
        self._transport.write(data)
        if self._paused_writing:
            self._write_waiter = asyncio.get_running_loop().create_future()
            try:
                await self._write_waiter
            finally:
                self._write_waiter = None

    @property
    def gone(self) -> bool:
        """Closed, by whomever."""
        return self._lost

    @property
    def halves(self) -> bool:
        """One side can be ended without the other: not over TLS."""
        return self._transport is not None and self._transport.can_write_eof()

    def push(self, data: bytes) -> None:
        """Send bytes of another protocol; ``writer`` is told when to stop, and when they get lost."""
        if not self._lost and self._transport is not None:
            self.last_activity = self._time()
            self._transport.write(data)

    def end_writing(self) -> bool:
        """Tell the service that nothing more comes; false where that is not possible without closing."""
        if self._lost or self._transport is None or not self.halves:
            return False
        self._transport.write_eof()
        return True

    def close(self) -> None:
        """End the connection in order: what was written arrives."""
        if self._transport is not None and not self._lost:
            self._transport.close()

    def upload_finished(self) -> None:
        """The whole request is written: from now on the first-byte timeout counts."""
        self.uploading = False
        self.last_activity = self._time()

    async def wait_head(self) -> AnswerHead:
        """The head of the final answer.

        Raises:
            RequestError: the answer broke, is malformed, or did not come in time, or the upload failed.
        """
        reader = self._reader
        if reader.head is None and reader.fault is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if reader.head is not None:
            return reader.head
        raise reader.fault or UpstreamUnreachable("the service closed the connection before an answer")

    @property
    def complete(self) -> bool:
        """The whole answer has arrived."""
        return self._reader.complete

    def value(self, name: bytes) -> bytes:
        """The answer's field of that lower-case name; empty when there is none or more than one."""
        return self._reader.value(name)

    def peek(self) -> bytes:
        """The body bytes that wait to be taken; they stay."""
        return self._reader.peek()

    async def wait_more(self) -> bool:
        """Wait for more of the body, or its end; False when nothing more will come."""
        reader = self._reader
        if reader.complete or reader.fault is not None:
            return False
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True

    def take_whole_body(self) -> bytes | None:
        """The body, if all of it has arrived already; else None."""
        return self._reader.take() if self._reader.complete else None

    def attach(self, sink: Sink) -> None:
        """Stream the body into ``sink``, what is buffered first."""
        reader = self._reader
        if reader.size:
            sink.data(reader.take())
        if reader.complete:
            sink.end(reader.trailers)
        elif reader.fault is not None:
            sink.broken(reader.fault)
        else:
            self._sink = sink
            self.resume_reading()

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

    def release(self) -> bool:
        """End the exchange; True when the connection may carry another one (R48, R67)."""
        reader = self._reader
        head = reader.head
        reusable = (
            reader.complete
            and head is not None
            and head.reusable
            and not (reader.extra or self._lost or self._ended or self.uploading or self._paused_writing)
        )
        reader.finish()
        self._at_work = False
        self._sink = self.on_head = None
        if not reusable:
            self.abort()
            return False
        self.resume_reading()
        self.idle_since = self.last_activity  # the service counts from its last byte, too
        return True

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

    # --- bytes, from the event loop -----------------------------------------------------------------

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
        self._on_lost(self)

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
