"""One request to a service and its answer back to the caller: connect, send, wait, relay (design §7)."""

import asyncio
import contextlib

from proxy.catalog.origin import Origin
from proxy.errors import UpstreamUnreachable
from proxy.forwarding.answer_start import head_bytes
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.gate import Head
from proxy.forwarding.handshake import SWITCHED
from proxy.forwarding.links.rewriting import Changes, Links
from proxy.forwarding.pool import Pool
from proxy.forwarding.refusal import MOST_S, Rule, is_readable, judge
from proxy.forwarding.relay import Relay
from proxy.forwarding.scrub import Scrubber, masked, worth_scrubbing
from proxy.forwarding.timeline import Timeline
from proxy.forwarding.upload import END_OF_CHUNKS, Upload
from proxy.forwarding.upstream import UpstreamConnection
from proxy.forwarding.websocket import Judge, Tunnel

_NO_TRAILERS: frozenset[bytes] = frozenset()
# RFC 9110 §9.2.2. Only these, without a body, are sent again when a reused connection died unanswered.
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


class Exchange:
    """Sends one request and waits for its head; then relays, or is dropped.

    A WebSocket handshake goes out on a connection of its own, which serves nothing else.

    ``await exchange.send(...)``, perhaps ``await exchange.send_again(...)``, then exactly one of
    ``await exchange.relay(...)`` and ``exchange.drop()``.

    Args:
        pool: where connections come from, and the time.
        head: of the request.
        caller: who waits for the answer.
        upload: the request's body; None when it has none.
        timeline: filled in as things happen.
        judge: of a WebSocket that is open, see Tunnel.
    """

    __slots__ = ("_connection", "_judge", "_pool", "_upload", "caller", "request", "timeline")

    def __init__(
        self,
        pool: Pool,
        head: Head,
        caller: CallerConnection,
        upload: Upload | None,
        timeline: Timeline,
        *,
        judge: Judge | None = None,
    ) -> None:
        self._pool = pool
        self._judge = judge
        self.request = head
        self.caller = caller
        self.timeline = timeline
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
        self.timeline.sent_at = self._pool.clock()
        if self.request.websocket:
            return await self._send_on_new(origin, outgoing)
        connection = self._pool.take(origin)
        if connection is None and await self._pool.resolved_anew(origin):
            connection = self._pool.take(origin)
        if connection is not None:
            self._start(connection, outgoing)
            return await self.head(origin, outgoing)
        return await self._send_on_new(origin, outgoing)

    def now(self) -> float:
        """Monotonic seconds."""
        return self._pool.clock()

    def waited_for_token(self, since: float) -> None:
        """A newer token was waited for, from ``since`` (monotonic seconds) until now."""
        self.timeline.token_s = self._pool.clock() - since
        if self.timeline.trace is not None:
            self.timeline.trace.refused(since)

    def begin(self, connection: UpstreamConnection, outgoing: bytes) -> None:
        """Send the request on an idle connection; :meth:`head` goes on."""
        self._start(connection, outgoing)
        self.timeline.sent_at = connection.started  # a clock is the same everywhere

    async def head(self, origin: Origin, outgoing: bytes) -> AnswerHead:
        """The head of the answer on a connection that served before; if it died unanswered, on another one.

        Raises:
            UpstreamError, CallerError: as :meth:`send`.
        """
        connection = self._connection
        if connection is None:
            raise RuntimeError("head before send")
        try:
            answer = await connection.wait_head()
        except UpstreamUnreachable:
            if not self._may_repeat(connection):
                raise
            self.drop()
            self._pool.counters.retried += 1
            return await self._send_on_new(origin, outgoing)
        self.timeline.head_at = self._pool.clock()
        return answer

    async def _send_on_new(self, origin: Origin, outgoing: bytes) -> AnswerHead:
        if self.timeline.trace is not None:
            self.timeline.trace.connecting(origin, outgoing)
        before = self._pool.clock()
        connection = await self._pool.connect(origin)
        self.timeline.connect_s = self._pool.clock() - before
        self._start(connection, outgoing)
        answer = await connection.wait_head()
        self.timeline.head_at = self._pool.clock()
        return answer

    def _may_repeat(self, connection: UpstreamConnection) -> bool:
        """Nothing was answered, and nothing but a bodyless idempotent request can have been seen (R62)."""
        return not connection.answered and self.request.body == "none" and self.request.method in IDEMPOTENT

    def _start(self, connection: UpstreamConnection, outgoing: bytes) -> None:
        self._connection = connection
        timeline = self.timeline
        timeline.upstream = connection.address
        if timeline.trace is not None:
            outgoing = timeline.trace.sent(connection, outgoing)
        if self._upload is None:
            connection.send(self.request.method, outgoing, switches=self.request.websocket)
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
        verdict = self.seems_refused(rule, answer)
        connection = self._connection
        if verdict is None and connection is not None:
            coding = connection.value(b"content-encoding")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOST_S):
                    while verdict is None and await connection.wait_more():
                        verdict = judge(rule, connection.peek(), coding, complete=connection.complete)
        return rule.otherwise if verdict is None else verdict

    def seems_refused(self, rule: Rule, answer: AnswerHead) -> bool | None:
        """As :meth:`is_refused`, by what has come of the body; None: more of it may tell."""
        connection = self._connection
        if connection is None or not rule.literals or answer.body == "none":
            return rule.otherwise
        coding = connection.value(b"content-encoding")
        if not is_readable(connection.value(b"content-type"), coding, answer.length):
            return rule.otherwise
        return judge(rule, connection.peek(), coding, complete=connection.complete)

    async def send_again(self, origin: Origin, outgoing: bytes) -> AnswerHead:
        """Send the request once more, with another head; only where :attr:`replayable`. As :meth:`send`."""
        if self._upload is not None:
            await self._upload.stop()
        connection = self._connection
        if connection is not None and connection.take_whole_body() is not None:
            self._let_go()
        self.drop()
        self._pool.counters.replayed += 1
        return await self.send(origin, outgoing)

    async def relay(self, answer: AnswerHead, token: bytes = b"", links: Links | None = None) -> None:
        """Write the answer to the caller: head at once, body as it arrives.

        Args:
            answer: its head.
            token: of the account, masked where the service echoes it.
            links: what becomes of its addresses; None: they stay.
        """
        connection, caller = self._connection, self.caller
        if connection is None:
            raise RuntimeError("relay before send")
        if answer.status == SWITCHED:
            await self._switch(connection, answer, token)
            return
        members = None
        if links is not None:
            answer, members = links.applied(answer, connection.value(b"content-type"))
        if self.relay_at_once(answer, token, members):
            return
        trailers = answer.trailers
        if self.request.http10 or not self.request.accepts_trailers:
            trailers = frozenset()
        chunked = self._chunked(answer)
        start = self._start_of_answer(answer, token, trailers, chunked=chunked)
        caller.write(start)
        self.timeline.written_at = self._pool.clock()
        scrubber = Scrubber(token) if worth_scrubbing(token) and not answer.coded else None
        relay = Relay(caller, chunked=chunked, trailers=trailers, scrubber=scrubber, members=members)
        await self._stream_answer(connection, relay)
        if scrubber is not None:
            self.timeline.echoes += scrubber.found
        self._finish()

    async def _switch(self, connection: UpstreamConnection, answer: AnswerHead, token: bytes) -> None:
        """Relay the 101 and then bytes both ways, until one side ends."""
        caller, timeline, judge = self.caller, self.timeline, self._judge
        if caller.switching is None or judge is None:
            raise RuntimeError("switched without an offer")
        start = b"HTTP/1.1 %d %b\r\n%b\r\n" % (answer.status, answer.reason, answer.lines)
        timeline.status = answer.status
        caller.write(self._masked(start, token))
        timeline.written_at = self._pool.clock()
        tunnel = Tunnel(caller, caller.switching, connection, judge)
        self._connection = None  # from here on it ends with the tunnel
        try:
            await tunnel.run()
        finally:
            timeline.bytes_in, timeline.bytes_out = tunnel.bytes_in, tunnel.bytes_out
            timeline.cut = tunnel.error

    def relay_at_once(self, answer: AnswerHead, token: bytes = b"", members: Changes | None = None) -> bool:
        """Write the whole answer to the caller, if all of it has arrived; as :meth:`relay`, without waiting.

        Returns False when there is more to come, or trailers to pass on: nothing was done then.
        """
        connection, timeline = self._connection, self.timeline
        if connection is None or not connection.complete:
            return False
        if answer.trailers and answer.body == "chunked" and self.request.accepts_trailers:
            return False
        body = None
        if members is not None:
            body = members.feed(connection.peek()) + members.flush()
            answer = answer._replace(body="length", length=len(body))
        chunked = self._chunked(answer)
        start = self._start_of_answer(answer, token, _NO_TRAILERS, chunked=chunked)
        taken = connection.take_whole_body() or b""
        body = taken if body is None else body
        if token in body and worth_scrubbing(token) and not answer.coded:
            timeline.echoes += body.count(token)
            body = masked(body, token)
        timeline.bytes_out = len(body)
        if chunked:
            body = b"%x\r\n%b\r\n%b" % (len(body), body, END_OF_CHUNKS) if body else END_OF_CHUNKS
        self.caller.write(start + body)
        timeline.written_at = self._pool.clock()
        self._finish()
        return True

    def _chunked(self, answer: AnswerHead) -> bool:
        """True when the caller gets the body in chunks; HTTP/1.0 gets it up to the end of the connection."""
        if answer.body == "length" or answer.body == "none":  # noqa: PLR1714  # a set lookup costs more
            return False
        if self.request.http10:
            self.caller.keep = False
            return False
        return True

    def _start_of_answer(
        self, answer: AnswerHead, token: bytes, trailers: frozenset[bytes], *, chunked: bool
    ) -> bytes:
        """The head for the caller; from here on the answer has begun."""
        connection, caller = self._connection, self.caller
        if self._upload is not None:
            self._upload.forget()
            if caller.is_last:  # the end of the body tells, after ``keep`` was set
                caller.keep = False
        if connection is None:
            raise RuntimeError("an answer before send")
        if caller.server.draining or connection.uploading:
            caller.keep = False
        self.timeline.status = answer.status
        if answer.budgeted:
            self.timeline.budget = connection.fields
        start = head_bytes(answer, self.request, trailers, keep=caller.keep, chunked=chunked)
        return self._masked(start, token)

    def _masked(self, start: bytes, token: bytes) -> bytes:
        if token in start and worth_scrubbing(token):
            self.timeline.echoes = start.count(token)
            start = masked(start, token)
        return start

    async def _stream_answer(self, connection: UpstreamConnection, relay: Relay) -> None:
        caller = self.caller
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
            self.timeline.bytes_out = relay.bytes_out
            self.timeline.cut = relay.error

    def _finish(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
        self._let_go()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self.request.websocket:
            connection.abort()
        elif connection is not None:
            self._pool.give_back(connection)

    def drop(self) -> None:
        """End the exchange without an answer for the caller: the upstream connection is cut (R58)."""
        if self._upload is not None:
            self._upload.cancel()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.abort()
