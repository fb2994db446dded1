"""One connection to a service: our HTTP/1.1 client protocol, one exchange at a time.

llhttp (httptools) cuts the bytes into tokens; framing, truncation and reuse are decided here and in
``framing``. ``ClientSession`` is not used on the data path: it re-sends requests by itself, drops header bytes
and costs four to five times as much.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import httptools

from proxy.errors import RequestError, UpstreamProtocol, UpstreamUnreachable
from proxy.forwarding.framing import AnswerHead, answer_head, check_trailers
from proxy.forwarding.headers import Field

MAX_HEAD_BYTES = 262_144  # twice what the largest known services send; requirement is 64 KiB and 200 fields
MAX_FIELDS = 1_000
MAX_INTERIM = 16  # 1xx answers before the final one
BUFFER_BYTES = 262_144  # body bytes held before somebody takes them
_INTERIM_END = 200
_SWITCHING = 101


class Sink(Protocol):
    """Takes an answer's body as it arrives."""

    def data(self, chunk: bytes) -> None:
        """Some bytes of the body, never empty."""

    def end(self, trailers: list[Field]) -> None:
        """The body is whole."""

    def broken(self, error: RequestError) -> None:
        """The body will never be whole."""


class UpstreamConnection(asyncio.Protocol):
    """States: idle (``_method`` is None), waiting for a head, body, complete. Lost or aborted at any point.

    ``last_activity`` and ``started`` are loop times, read by the pool's sweep, which enforces the timeouts.
    """

    __slots__ = (
        "_extra",
        "_fault",
        "_head_bytes",
        "_interim",
        "_lost",
        "_method",
        "_names",
        "_on_lost",
        "_parser",
        "_parts",
        "_parts_size",
        "_paused_reading",
        "_paused_writing",
        "_reason",
        "_sink",
        "_time",
        "_trailers",
        "_values",
        "_waiter",
        "_write_waiter",
        "address",
        "answered",
        "complete",
        "eof_seen",
        "head",
        "idle_since",
        "lane",
        "last_activity",
        "started",
        "transport",
        "uploading",
        "uses",
    )

    def __init__(self, clock: Callable[[], float], on_lost: Callable[["UpstreamConnection"], None]) -> None:
        self._time = clock
        self._on_lost = on_lost
        self.transport: asyncio.Transport | None = None
        self.lane: tuple[str, str, int, str, int] | None = None
        self.address = ""
        self._parser = httptools.HttpResponseParser(self)
        self._method: bytes | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._paused_writing = self._paused_reading = False
        self._lost = False
        self._sink: Sink | None = None
        self.uses = 0
        self.idle_since = self.last_activity = self.started = clock()
        self._reset()

    def _reset(self) -> None:
        self.head: AnswerHead | None = None
        self.answered = False
        self.complete = False
        self.eof_seen = False
        self.uploading = False
        self._fault: RequestError | None = None
        self._names: list[bytes] = []
        self._values: list[bytes] = []
        self._trailers: list[Field] = []
        self._reason = b""
        self._interim = 0
        self._head_bytes = 0
        self._extra = False
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._sink = None

    # --- the exchange, for the handler -------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Open, idle and without surprises: another request may be sent."""
        return not self._lost and self._method is None and self.transport is not None

    def send(self, method: bytes, data: bytes, *, uploading: bool = False) -> None:
        """Begin an exchange: write the head (and as much of the body as is there) of one request."""
        if not self.usable or self.transport is None:
            raise UpstreamUnreachable("the connection to the service closed before the request was sent")
        self._reset()
        self._method = method
        self.uses += 1
        self.uploading = uploading
        self.started = self.last_activity = self._time()
        self.transport.write(data)

    async def write(self, data: bytes) -> None:
        """Send more of the request body; waits while the service does not read.

        Raises:
            UpstreamUnreachable: the connection is gone.
        """
        if self._lost or self.transport is None:
            raise UpstreamUnreachable("the service closed the connection while the request was being sent")
        self.last_activity = self._time()
        self.transport.write(data)
        if self._paused_writing:
            self._write_waiter = asyncio.get_running_loop().create_future()
            try:
                await self._write_waiter
            finally:
                self._write_waiter = None

    def upload_finished(self) -> None:
        """The whole request is written: from now on the first-byte timeout counts."""
        self.uploading = False
        self.started = self.last_activity = self._time()

    async def wait_head(self) -> AnswerHead:
        """The head of the final answer.

        Raises:
            UpstreamError: the answer broke, is malformed, or did not come in time.
        """
        if self.head is None and self._fault is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._fault is not None and self.head is None:
            raise self._fault
        if self.head is None:
            raise UpstreamUnreachable("the service closed the connection before an answer")
        return self.head

    def take_whole_body(self) -> bytes | None:
        """The body, if all of it has arrived already; else None."""
        if not self.complete:
            return None
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def trailers(self) -> list[Field]:
        """Trailer fields of a complete chunked answer."""
        return self._trailers

    def attach(self, sink: Sink) -> None:
        """Stream the body into ``sink``, what is buffered first."""
        if self._parts:
            buffered, self._parts, self._parts_size = b"".join(self._parts), [], 0
            sink.data(buffered)
        if self.complete:
            sink.end(self._trailers)
        elif self._fault is not None:
            sink.broken(self._fault)
        else:
            self._sink = sink
            self.resume_reading()

    def pause_reading(self) -> None:
        """Stop reading: whoever takes the body is slower than the service."""
        if not self._paused_reading and self.transport is not None and not self._lost:
            self._paused_reading = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused_reading and self.transport is not None:
            self._paused_reading = False
            self.last_activity = self._time()
            if not self._lost:
                self.transport.resume_reading()

    def release(self) -> bool:
        """End the exchange; True when the connection may carry another one (R48, R67)."""
        head = self.head
        reusable = (
            self.complete
            and head is not None
            and head.reusable
            and not (self._extra or self._lost or self.uploading or self._fault or self._paused_writing)
        )
        if head is not None and head.body == "none" and self._method == b"HEAD":
            self._parser = httptools.HttpResponseParser(self)  # llhttp still waits for the body HEAD has not
        self._method = None
        self._sink = None
        self._parts = []
        if not reusable:
            self.abort()
        else:
            self.resume_reading()
            self.idle_since = self._time()
        return reusable

    def abort(self) -> None:
        """Drop the connection at once."""
        if self.transport is not None and not self._lost:
            self.transport.abort()

    def expire(self, error: RequestError) -> None:
        """The exchange took too long: fail it and drop the connection."""
        self._fail(error)
        self.abort()

    # --- bytes, for the event loop ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ready (after the TLS handshake, if there is one)."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports have no common base class

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer; bytes nobody asked for end the connection (R48)."""
        if self._method is None:
            self.abort()
            return
        self.answered = True
        self.last_activity = self._time()
        if self.complete:
            self._extra = True
            return
        had_head = self.head is not None
        if not had_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fault = self._fault or UpstreamProtocol(
                "the service switched protocols without being asked"
            )
        except httptools.HttpParserError:
            if self.complete:
                self._extra = True
            else:
                self._fault = self._fault or UpstreamProtocol(
                    "the service's answer is not well-formed HTTP/1.1"
                )
        if not had_head and self.head is None and self._head_bytes > MAX_HEAD_BYTES:
            self._fault = self._fault or UpstreamProtocol("the head of the service's answer is too large")
        self._deliver(had_head=had_head)

    def _deliver(self, *, had_head: bool) -> None:
        if self._fault is not None and not self.complete:
            self._flush_to_sink()
            self._fail(self._fault)
            self.abort()
            return
        if not had_head and self.head is not None:
            self._wake()
        if self._sink is not None:
            self._flush_to_sink()
            if self.complete:
                sink, self._sink = self._sink, None
                sink.end(self._trailers)
        elif self._parts_size > BUFFER_BYTES:
            self.pause_reading()

    def _flush_to_sink(self) -> None:
        if self._sink is not None and self._parts:
            parts, self._parts, self._parts_size = self._parts, [], 0
            self._sink.data(parts[0] if len(parts) == 1 else b"".join(parts))

    def eof_received(self) -> bool:
        """An orderly end (FIN, under TLS a close_notify): it ends a body that has no other end."""
        self.eof_seen = True
        if (
            self._method is not None
            and self.head is not None
            and self.head.body == "eof"
            and not self.complete
        ):
            self.complete = True
            if self._sink is not None:
                sink, self._sink = self._sink, None
                sink.end([])
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; an exchange that was not complete has failed."""
        self._lost = True
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
        if self._method is not None and not self.complete:
            if not self.answered:
                self._fail(UpstreamUnreachable("the service closed the connection before an answer"))
            else:
                self._fail(UpstreamProtocol("the service closed the connection in the middle of its answer"))
        self._on_lost(self)

    def pause_writing(self) -> None:
        """The service does not read as fast as we write."""
        self._paused_writing = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused_writing = False
        self.last_activity = self._time()
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)

    def _fail(self, error: RequestError) -> None:
        if self._fault is None:
            self._fault = error
        self._wake()
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.broken(self._fault)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- tokens, from llhttp ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A message begins; after the final one that is a byte too many."""
        if self.complete:
            self._extra = True
        else:
            self._names = []
            self._values = []
            self._reason = b""

    def on_status(self, reason: bytes) -> None:
        """A piece of the reason phrase."""
        if not self.complete:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head, or of the trailer section."""
        if self.complete:
            return
        if self.head is None:
            self._names.append(name)
            self._values.append(value)
        else:
            self._trailers.append((name, value))
            if len(self._trailers) > MAX_FIELDS:
                self._fault = UpstreamProtocol("the service's answer has too many trailer fields")

    def on_headers_complete(self) -> None:
        """The head is whole: interim answers are dropped (R49), the final one is checked and kept."""
        if self.complete or self._fault is not None or self._method is None:
            return
        status = self._parser.get_status_code()
        if 100 <= status < _INTERIM_END:  # noqa: PLR2004  # RFC 9110 §15.2
            self._interim += 1
            if status == _SWITCHING:
                self._fault = UpstreamProtocol("the service switched protocols without being asked")
            elif self._interim > MAX_INTERIM:
                self._fault = UpstreamProtocol("the service sent too many interim answers")
            return
        try:
            if len(self._names) > MAX_FIELDS:
                raise UpstreamProtocol("the service's answer has too many header fields")  # noqa: TRY301
            self.head = answer_head(
                version=self._parser.get_http_version(),
                status=status,
                reason=self._reason,
                names=self._names,
                values=self._values,
                method=self._method,
            )
        except UpstreamProtocol as error:
            self._fault = error
            return
        if self.head.body == "none":
            self.complete = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            self._extra = True
        elif self.head is not None:
            self._parts.append(body)
            self._parts_size += len(body)

    def on_message_complete(self) -> None:
        """A message has ended: an interim one, or the final one."""
        if self.complete or self.head is None:
            return
        if self._trailers:
            try:
                check_trailers(self._trailers)
            except UpstreamProtocol as error:
                self._fault = self._fault or error
                return
        self.complete = True
