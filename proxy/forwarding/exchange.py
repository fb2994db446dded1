"""One request to a service and its answer back to the caller: connect, send, wait, relay (design §7)."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from proxy.catalog.origin import Origin
from proxy.errors import RequestError, UpstreamUnreachable
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.gate import Head
from proxy.forwarding.pool import Pool
from proxy.forwarding.refusal import MOST_S, Rule, is_readable, judge
from proxy.forwarding.relay import Relay
from proxy.forwarding.scrub import Scrubber, masked, worth_scrubbing
from proxy.forwarding.upload import END_OF_CHUNKS, Upload
from proxy.forwarding.upstream import UpstreamConnection

# RFC 9110 §9.2.2. Only these, without a body, are sent again when a reused connection died unanswered.
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


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


class Exchange:
    """Sends one request and waits for its head; then relays, or is dropped.

    ``await exchange.send(...)``, perhaps ``await exchange.send_again(...)``, then exactly one of
    ``await exchange.relay(...)`` and ``exchange.drop()``.

    Args:
        pool: where connections come from.
        head: of the request.
        caller: who waits for the answer.
        upload: the request's body; None when it has none.
        timeline: filled in as things happen.
        clock: monotonic seconds.
    """

    __slots__ = ("_caller", "_clock", "_connection", "_head", "_pool", "_timeline", "_upload")

    def __init__(
        self,
        pool: Pool,
        head: Head,
        caller: CallerConnection,
        *,
        upload: Upload | None,
        timeline: Timeline,
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._head = head
        self._caller = caller
        self._timeline = timeline
        self._clock = clock
        self._connection: UpstreamConnection | None = None
        self._upload = upload

    @property
    def replayable(self) -> bool:
        """Everything of the request is at hand: it could be sent once more (R63)."""
        return self._upload is None or self._upload.replayable

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
        self._connection = connection
        self._timeline.upstream = connection.address
        if self._upload is None:
            connection.send(self._head.method, outgoing)
        else:
            self._upload.start(connection, outgoing)

    async def is_refused(self, rule: Rule, answer: AnswerHead) -> bool:
        """True when the answer says that the token was refused; its body stays to be relayed.

        Waits for the body only where it may tell, for at most ``refusal.MOST_S`` seconds and
        ``refusal.MOST_BYTES``.

        Args:
            rule: for the status of the answer.
            answer: its head.
        """
        connection = self._connection
        if connection is None or not rule.literals or answer.body == "none":
            return rule.otherwise
        coding = connection.value(b"content-encoding")
        if not is_readable(connection.value(b"content-type"), coding, answer.length):
            return rule.otherwise
        verdict = judge(rule, connection.peek(), coding, complete=connection.complete)
        if verdict is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOST_S):
                    while verdict is None and await connection.wait_more():
                        verdict = judge(rule, connection.peek(), coding, complete=connection.complete)
        return rule.otherwise if verdict is None else verdict

    async def send_again(self, origin: Origin, outgoing: bytes) -> AnswerHead:
        """Send the request once more, with another head; only where :attr:`replayable`. As :meth:`send`."""
        if self._upload is not None:
            await self._upload.stop()
        connection = self._connection
        if connection is not None and connection.take_whole_body() is not None:
            self._connection = None
            self._pool.give_back(connection)
        self.drop()
        self._pool.counters.replayed += 1
        return await self.send(origin, outgoing)

    async def relay(self, answer: AnswerHead, token: bytes = b"") -> None:
        """Write the answer to the caller: head at once, body as it arrives.

        Args:
            answer: its head.
            token: of the account, masked where the service echoes it.
        """
        connection, caller, timeline = self._connection, self._caller, self._timeline
        if connection is None:
            raise RuntimeError("relay before send")
        if self._upload is not None:
            self._upload.forget()
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
        if self._upload is not None:
            self._upload.cancel()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._pool.give_back(connection)

    def drop(self) -> None:
        """End the exchange without an answer for the caller: the upstream connection is cut (R58)."""
        if self._upload is not None:
            self._upload.cancel()
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
