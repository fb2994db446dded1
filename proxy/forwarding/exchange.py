"""One request to a service and its answer back to the caller: connect, send, wait, relay (design §7)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.catalog.origin import Origin
from proxy.errors import (
    BadRequest,
    BodyTooLarge,
    RequestError,
    RequestTimeout,
    UpstreamError,
    UpstreamUnreachable,
)
from proxy.forwarding.caller import CONTINUE, CallerConnection
from proxy.forwarding.form import refuse_key
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.gate import Head
from proxy.forwarding.pool import Pool
from proxy.forwarding.relay import Relay
from proxy.forwarding.scrub import Scrubber, masked, worth_scrubbing
from proxy.forwarding.upstream import UpstreamConnection

# RFC 9110 §9.2.2. Only these, without a body, are sent again when a reused connection died unanswered.
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
END_OF_CHUNKS = b"0\r\n\r\n"


@dataclass(slots=True)
class Timeline:
    """What the record needs to know of an exchange, filled in as it happens; times in seconds of the clock.

    ``sent_at``: when a connection was looked for; ``head_at``: the answer's head was there; ``written_at``:
    it was written to the caller. ``echoes``: how often the service's answer held the account's token.
    """

    sent_at: float | None = None
    head_at: float | None = None
    written_at: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    upstream: str | None = None
    status: int | None = None
    cut: RequestError | None = None
    echoes: int = 0


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """``bytes``: most a request body may have; ``idle_s``: seconds between two pieces of it; 0: no limit."""

    bytes: int = 0
    idle_s: float = 60.0


class Exchange:
    """Sends one request and waits for its head; then relays, or is dropped.

    ``body``: of the request, when it was read already; else it streams from ``payload``, and is stopped where
    ``watch`` (the caller's key) stands in it.

    ``await exchange.send(...)``, then exactly one of ``await exchange.relay(...)`` and ``exchange.drop()``.
    """

    __slots__ = (
        "_body",
        "_caller",
        "_clock",
        "_connection",
        "_head",
        "_limits",
        "_payload",
        "_pool",
        "_timeline",
        "_upload",
        "_watch",
    )

    def __init__(
        self,
        pool: Pool,
        head: Head,
        payload: StreamReader,
        caller: CallerConnection,
        *,
        limits: BodyLimits,
        timeline: Timeline,
        clock: Callable[[], float],
        body: bytes | None = None,
        watch: bytes | None = None,
    ) -> None:
        self._watch = watch
        self._pool = pool
        self._body = body
        self._head = head
        self._payload = payload
        self._caller = caller
        self._limits = limits
        self._timeline = timeline
        self._clock = clock
        self._connection: UpstreamConnection | None = None
        self._upload: asyncio.Task[None] | None = None

    async def send(self, origin: Origin, outgoing: bytes) -> AnswerHead:
        """Send the request (its body streams) and wait for the head of the final answer.

        Args:
            origin: where to.
            outgoing: the whole head as bytes.

        Raises:
            UpstreamError: what the service did; CallerError: what the caller's body did.
        """
        self._timeline.sent_at = self._clock()
        connection = self._pool.take(origin)
        if connection is None and await self._pool.resolved_anew(origin):
            connection = self._pool.take(origin)
        if connection is None:
            connection = await self._pool.connect(origin)
            self._start(connection, outgoing)
            answer = await connection.wait_head()
        else:
            self._start(connection, outgoing)
            try:
                answer = await connection.wait_head()
            except UpstreamUnreachable:
                if not self._may_repeat(connection):
                    raise
                self.drop()
                self._pool.counters.retried += 1
                connection = await self._pool.connect(origin)
                self._start(connection, outgoing)
                answer = await connection.wait_head()
        self._timeline.head_at = self._clock()
        return answer

    def _may_repeat(self, connection: UpstreamConnection) -> bool:
        """Nothing was answered, and nothing but a bodyless idempotent request can have been seen (R62)."""
        return not connection.answered and self._head.body == "none" and self._head.method in IDEMPOTENT

    def _start(self, connection: UpstreamConnection, outgoing: bytes) -> None:
        """Write the head and what is there of the body; one that is still coming streams in its own task."""
        self._connection = connection
        timeline = self._timeline
        timeline.upstream = connection.address
        head, payload = self._head, self._payload
        if self._body is not None:
            timeline.bytes_in = len(self._body)
            connection.send(head.method, outgoing + self._body)
        elif head.body == "none":
            connection.send(head.method, outgoing)
        elif payload.is_eof() and payload.exception() is None:
            body = payload.read_nowait(-1) if payload is not EMPTY_PAYLOAD else b""
            self._check_size(len(body))
            refuse_key(body, self._watch)
            timeline.bytes_in = len(body)
            if head.body == "chunked":
                body = b"%x\r\n%b\r\n%b" % (len(body), body, END_OF_CHUNKS) if body else END_OF_CHUNKS
            connection.send(head.method, outgoing + body)
        else:
            connection.send(head.method, outgoing, uploading=True)
            if head.expects_continue:
                self._caller.write(CONTINUE)
            self._upload = asyncio.get_running_loop().create_task(self._stream_body(connection))

    def _check_size(self, size: int) -> None:
        if self._limits.bytes and size > self._limits.bytes:
            raise BodyTooLarge(f"the request body is larger than {self._limits.bytes} bytes")

    async def _stream_body(self, connection: UpstreamConnection) -> None:
        """Pass the request body on, piece by piece; on trouble fail the exchange with what went wrong."""
        loop = asyncio.get_running_loop()
        idle = self._limits.idle_s
        chunked = self._head.body == "chunked"
        before = b""
        try:
            async with asyncio.timeout(None) as timer:
                while True:
                    timer.reschedule(loop.time() + idle if idle else None)
                    piece = await self._payload.readany()
                    if not piece:
                        break
                    self._timeline.bytes_in += len(piece)
                    self._check_size(self._timeline.bytes_in)
                    if self._watch is not None:
                        refuse_key(before + piece, self._watch)
                        before = piece[-len(self._watch) :]
                    timer.reschedule(None)  # from here it is the service's time, which the pool watches
                    await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                timer.reschedule(None)
                if chunked:
                    await connection.write(END_OF_CHUNKS)
        except TimeoutError:
            connection.expire(RequestTimeout("the request body did not arrive in time"))
        except UpstreamError:
            return  # the answer may be there already (an early 413); waiting for the head tells
        except RequestError as error:
            connection.expire(error)
        except ConnectionError:
            connection.abort()
        except Exception:  # noqa: BLE001  # the parser's payload errors have no common base
            connection.expire(BadRequest("the request body is not well-formed"))
        else:
            connection.upload_finished()

    async def relay(self, answer: AnswerHead, token: bytes = b"") -> None:
        """Write the answer to the caller: head at once, body as it arrives.

        Args:
            answer: its head.
            token: of the account, masked where the service echoes it.
        """
        connection, caller, timeline = self._connection, self._caller, self._timeline
        if connection is None:
            raise RuntimeError("relay before send")
        if connection.uploading or caller.server.draining:
            caller.keep = False
        http10 = self._head.http10
        trailers = answer.trailers
        if trailers and (http10 or not self._head.accepts_trailers):
            trailers = frozenset()
        chunked = answer.body == "chunked" or answer.body == "eof"  # noqa: PLR1714  # a set lookup costs more
        if chunked and http10:
            caller.keep = chunked = False
        timeline.status = answer.status
        start = _head_bytes(answer, self._head, trailers, keep=caller.keep, chunked=chunked)
        scrub = worth_scrubbing(token)
        if scrub and token in start:
            timeline.echoes = start.count(token)
            start = masked(start, token)
        scrub = scrub and not answer.coded
        body = None if trailers and chunked else connection.take_whole_body()
        if body is not None:
            if scrub and token in body:
                timeline.echoes += body.count(token)
                body = masked(body, token)
            timeline.bytes_out = len(body)
            if chunked:
                body = b"%x\r\n%b\r\n%b" % (len(body), body, END_OF_CHUNKS) if body else END_OF_CHUNKS
            caller.write(start + body)
            timeline.written_at = self._clock()
        else:
            caller.write(start)
            timeline.written_at = self._clock()
            scrubber = Scrubber(token) if scrub else None
            relay = Relay(caller, chunked=chunked, trailers=trailers, scrubber=scrubber)
            await self._stream_answer(connection, relay)
            if scrubber is not None:
                timeline.echoes += scrubber.found
        self._finish()

    async def _stream_answer(self, connection: UpstreamConnection, relay: Relay) -> None:
        caller = self._caller
        caller.source = connection
        try:
            if caller.writing_paused:
                connection.pause_reading()
            connection.attach(relay)
            if caller.writing_paused:
                connection.pause_reading()
            await relay.done
        finally:
            caller.source = None
            self._timeline.bytes_out = relay.bytes_out
            self._timeline.cut = relay.error

    def _finish(self) -> None:
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._pool.give_back(connection)

    def drop(self) -> None:
        """End the exchange without an answer for the caller: the upstream connection is cut (R58)."""
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.abort()


def _head_bytes(
    answer: AnswerHead, head: Head, trailers: frozenset[bytes], *, keep: bool, chunked: bool
) -> bytes:
    """The head for the caller, in the caller's version."""
    status, reason, lines, length = answer.status, answer.reason, answer.lines, answer.length
    if keep and length is not None and not head.http10:
        return b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n" % (status, reason, lines, length)
    parts = [b"HTTP/1.%d %d %b\r\n%b" % (0 if head.http10 else 1, status, reason, lines)]
    if chunked:
        if trailers:
            parts.append(b"Trailer: %b\r\n" % b", ".join(sorted(trailers)))
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif length is not None:
        parts.append(b"Content-Length: %d\r\n" % length)
    if not keep:
        parts.append(b"Connection: close\r\n")
    elif head.http10:
        parts.append(b"Connection: keep-alive\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
