"""One caller's connection: aiohttp's protocol and C parser, with our own loop, timers and error answers.

aiohttp's own loop is replaced because it answers errors with the bad line in them, sends 100 Continue before
authentication, keeps working for callers that have left, and makes objects that a proxy has no use for.
What is used of its ``RequestHandler`` is pinned by ``tests/unit/test_aiohttp_surface.py``.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from proxy.errors import RequestError, RequestTimeout
from proxy.forwarding.limits import ServerLimits
from proxy.forwarding.malformed import behind, is_foreign, last_before_close, refusal_of
from proxy.forwarding.repeat import Repeat
from proxy.forwarding.switching import Switching
from proxy.forwarding.upstream import UpstreamConnection

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LONGEST_SAME = 8192  # bytes of a request kept to know it again
LINGER_S = 2.0  # how long a refused caller may go on sending before the connection is cut


class UnderWay(Protocol):
    """A request on the short way (``direct``)."""

    def caller_left(self) -> None:
        """Nobody waits for the answer any more."""

    async def go_on(self) -> None:
        """See it through on the long way."""


class Callers(Protocol):
    """What a connection needs of its server.

    ``answer`` is the data path, called once a request, unless ``begin`` has taken the request the short way.
    ``refuse`` writes the answer to a message that is no request and ends the connection.
    """

    draining: bool
    requests_count: int

    answer: Callable[[RawRequestMessage, StreamReader, "CallerConnection"], Awaitable[None]]
    begin: Callable[[RawRequestMessage, "CallerConnection"], UnderWay | None]
    refuse: Callable[[RequestError, "CallerConnection"], None]

    def opened(self, connection: "CallerConnection") -> None:
        """A caller has come."""


class CallerConnection(RequestHandler):
    """One caller's connection: requests are answered in order, one at a time (R17).

    ``keep`` is set by the handler for each request: whether the connection may carry another one.
    ``listener``: the service that the listener is for, if it is for one only. ``source`` is the upstream
    connection whose body is being written to this caller. ``repeat``: see there. ``switching``: the caller's
    bytes, once it has asked for another protocol.
    """

    __slots__ = (
        "_body",
        "_chunk_tail",
        "_deaf",
        "_direct",
        "_head_raw",
        "_limits",
        "_refuse",
        "_same",
        "_since",
        "_state",
        "_unsent",
        "_unsent_since",
        "keep",
        "listener",
        "peer",
        "repeat",
        "server",
        "source",
        "switching",
        "tls",
    )

    def __init__(self, server: "Callers", *, loop: asyncio.AbstractEventLoop, limits: ServerLimits) -> None:
        super().__init__(
            server,  # type: ignore[arg-type]  # a Server; Callers is what is used of it here
            loop=loop,
            keepalive_timeout=0,  # timers are ours, see check()
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no access log"
            auto_decompress=False,
            max_line_size=limits.request_line,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
            lingering_time=0,
        )
        self.server = server
        self._limits = limits
        self._refuse = server.refuse
        self._head_raw = b""
        self._chunk_tail: bytes | None = None
        self._deaf = False
        self._direct: UnderWay | None = None
        self._same: tuple[bytes, RawRequestMessage] | None = None
        self._body: StreamReader | None = None
        self._state = "head"  # head | busy | lingering
        self._since = self._unsent_since = loop.time()
        self._unsent = 0
        self.keep = True
        self.source: UpstreamConnection | None = None
        self.switching: Switching | None = None
        self.repeat = Repeat()
        self.listener: str | None = None
        self.peer = ""
        self.tls = False

    # --- life of the connection ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has come."""
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.tls = transport.get_extra_info("sslcontext") is not None
        super().connection_made(transport)
        self.server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The caller has left: whatever is done for it is cancelled (R58)."""
        body, self._body = self._body, None
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(ConnectionResetError("the caller left"))
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.caller_left()
        if self.switching is not None:
            self.switching.left(in_order=exc is None)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp says None; asyncio takes both
        """A caller that ends its side has left; a body under way is cut and cannot seem whole (R45)."""
        if self.switching is not None:
            return self.switching.ended()
        if self.source is not None:
            self.abort()
        return False

    def check(self, now: float) -> None:
        """Enforce the timers that concern this side; called by the server's sweep with loop time."""
        if self.transport is None:
            return
        waited = now - self._since
        if self._state == "lingering":
            if waited > LINGER_S:
                self.transport.abort()
        elif self._reads_nothing(self.transport, now):
            self.transport.abort()
        elif self.switching is not None:
            self.switching.check()
        elif self._state == "head" and not self._messages:
            limit = (
                self._limits.head_s
                if self._head_raw or not self._request_count
                else self._limits.keep_alive_s
            )
            if limit and waited > limit:
                if self._head_raw:
                    self._refuse(RequestTimeout("the request head did not arrive in time"), self)
                elif self.transport.get_write_buffer_size():
                    self.transport.abort()
                else:
                    self.force_close()

    def is_waiting(self, *, arriving: bool) -> bool:
        """Whether nothing is being answered here; without ``arriving``, and the next request has not begun.

        A new connection counts as one whose request has begun.
        """
        if self._state != "head" or self._messages:
            return False
        return arriving or bool(self._request_count and not self._head_raw)

    def _reads_nothing(self, transport: asyncio.WriteTransport, now: float) -> bool:
        """True when answers have waited for the caller too long: behind each other, or at the end (R69).

        While a body is relayed the service waits with the caller, and its timeouts count.
        """
        unsent = 0 if self.source is not None else transport.get_write_buffer_size()
        if unsent != self._unsent or not unsent:
            self._unsent, self._unsent_since = unsent, now
        return bool(self._limits.keep_alive_s) and now - self._unsent_since > self._limits.keep_alive_s

    # --- bytes in ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a malformed message ends the connection after what came before it is answered."""
        if self._force_close or self._close or self._deaf or self._state == "lingering":
            if self.switching is not None:
                self.switching.data(data)
            return
        if self._is_same(data):
            self._request_count += 1
            return
        raw = self._head_raw + data if self._head_raw else data
        body = None if self._body_ended() else self._body
        before = 0 if body is None else body.total_bytes
        try:
            messages, upgraded, _ = self._parser.feed_data(data)  # type: ignore[union-attr]  # set while connected
        except Exception as error:  # noqa: BLE001  # whatever the parser says, the message is bad
            self._malformed(error, raw if body is None else self._after(body, before, raw))
            return
        self._deaf = upgraded  # an upgrade is refused, so nothing behind it is HTTP
        if body is not None:
            raw = self._after(body, before, raw)
            if self._chunk_tail is not None:
                self._end_of_chunks(data)
                if self._deaf or messages:
                    self._deaf = True
                    return
        if messages:
            self._arrived(messages, raw, data)
        else:
            self._begun(raw, data)

    def _after(self, body: StreamReader, before: int, raw: bytes) -> bytes:
        """What of ``raw`` stands behind a body that had ``before`` bytes when ``raw`` came.

        Behind a chunked body either nothing stands, or nobody listens to it (see _end_of_chunks).
        """
        return raw[body.total_bytes - before :] if self._chunk_tail is None else b""

    def _begun(self, raw: bytes, data: bytes) -> None:
        """Remember the beginning of a head, of which ``data`` is the last piece; refuse what can be none."""
        if raw and self._state == "head" and not self._head_raw:
            self._since = self._loop.time()
        self._head_raw = raw
        if self._buffer_paused or self._reading_paused or not self._body_ended():
            return  # the parser may hold back what it has not looked at
        if raw[:1] == b"\r" and raw[:2] not in {b"\r", b"\r\n"}:
            self._malformed(ValueError("a bare CR"), raw)
        elif len(raw) > self._limits.request_line + self._limits.header_bytes + len(data):
            self._malformed(LineTooLong(b"", 0), raw)

    def _arrived(
        self, messages: Sequence[tuple[RawRequestMessage, StreamReader]], raw: bytes, data: bytes
    ) -> None:
        """Queue messages whose heads are whole, up to the first that must be the last.

        Args:
            messages: what the parser made of the bytes.
            raw: the bytes, from where the first message begins.
            data: the last piece of them.
        """
        self._request_count += len(messages)
        self._same = None
        suspicious = b"RTSP/" in raw or b"ICE/" in raw or raw[:1] == b"\r"
        for message, body in messages:
            if suspicious and is_foreign(message, raw):
                self._malformed(ValueError("another protocol"), raw)
                return
            self._messages.append((message, body))
            self._body = body
            if message.chunked:
                self._chunk_tail = b""
                self._end_of_chunks(raw)
                if self._deaf or message is not messages[-1][0]:
                    self._deaf = True  # the parser has mixed a trailer into what follows; see _end_of_chunks
                    break
        self._head_raw = b"" if messages[-1][0].chunked else behind(raw, messages)
        if messages[-1][0].upgrade and messages[-1][1] is EMPTY_PAYLOAD:
            # aiohttp's parser loses what stands behind in the same piece (3.14.5), or would if it is paused:
            # the rest of it would be read as a request of its own
            alone = len(self._messages) == 1
            if self._deaf and alone and self.transport is not None:  # an upgrade that the parser knows
                self.switching = Switching(self.transport, self._head_raw)
            self._deaf = self._deaf or bool(self._head_raw) or not alone
        message, body = messages[0]
        if len(messages) == 1 and body is EMPTY_PAYLOAD and not message.chunked and not self._head_raw:
            if raw is data and len(data) <= _LONGEST_SAME:
                self._same = (data, message)
            if len(self._messages) == 1 and self._begun_directly(message):
                self._messages.clear()
                self._parser.message_consumed()  # type: ignore[union-attr]  # set while connected
                return
        self._wake()
        if not self._buffer_paused and len(self._messages) >= self._max_msg_queue_size:
            self._pause_reading_for_buffer()

    def _end_of_chunks(self, data: bytes) -> None:
        """Take no further request after a chunked body that did not end in ``CRLF 0 CRLF CRLF`` exactly.

        aiohttp's parser gives the last trailer field of a body to the next request on the connection as a
        header field (3.14.5): whoever shares the connection would get it.
        """
        self._chunk_tail = ((self._chunk_tail or b"") + data)[-7:]
        if self._body_ended():
            self._deaf = self._deaf or self._chunk_tail != b"\r\n0\r\n\r\n"
            self._chunk_tail = None

    def _body_ended(self) -> bool:
        return self._body is None or self._body is EMPTY_PAYLOAD or self._body.is_eof()

    def _wake(self) -> None:
        waiter = self._waiter
        if self._direct is not None:
            return  # its turn comes after the request under way
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _malformed(self, error: Exception, raw: bytes) -> None:
        """Queue the refusal of a message that could not be parsed; nothing behind it is read (R17, R18)."""
        body = self._body
        problem = refusal_of(error, raw, self._limits)
        self._deaf = True
        if body is not None and body is not EMPTY_PAYLOAD and not body.is_eof():
            body.set_exception(problem)
            return
        last = last_before_close(self, self._loop, raw, self._limits)
        self._messages.append(last or (problem, EMPTY_PAYLOAD))  # type: ignore[arg-type]  # our mark, see start()
        self._wake()

    # --- the short way --------------------------------------------------------------------------------

    def _begun_directly(self, message: RawRequestMessage) -> bool:
        """Let the data path take a request without a body, while :meth:`start` waits for one."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._direct is not None:
            return False
        if self._deaf or self._paused or self._buffer_paused or self._close:
            return False
        self.keep = True
        self._direct = self.server.begin(message, self)
        if self._direct is None:
            return False
        self._state = "busy"
        self.server.requests_count += 1
        return True

    def _is_same(self, data: bytes) -> bool:
        """Take bytes that were one whole request: where a request begins they are that request again."""
        same = self._same
        return (
            same is not None
            and same[0] == data
            and not self._messages
            and not self._head_raw
            and self._begun_directly(same[1])
        )

    def finished(self) -> None:
        """The request on the short way is answered; as the end of a turn of :meth:`start`."""
        self._direct = None
        if not self.keep or self._close or self.server.draining or (self._deaf and not self._messages):
            self.end(linger=False)
            return
        self._state = "head"
        self._since = self._loop.time()
        if self._messages:
            self._wake()

    def hand_over(self) -> None:
        """The request on the short way needs to wait for something: :meth:`start` goes on with it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- one request after another -------------------------------------------------------------------

    async def start(self) -> None:
        """Answer requests until the connection ends; replaces aiohttp's loop, which see for the order."""
        loop = self._loop
        answer = self.server.answer
        while not self._force_close:
            if not self._messages:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            direct, self._direct = self._direct, None
            payload = EMPTY_PAYLOAD
            if direct is not None:
                await direct.go_on()
            else:
                message, payload = self._messages.popleft()
                if isinstance(message, RequestError):
                    self._refuse(message, self)  # type: ignore[unreachable]  # our own mark, put there by _malformed
                    return
                if self._parser is not None:
                    self._parser.message_consumed()
                if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                    self._resume_reading_if_drained()
                self._state = "busy"
                upgrade = message.upgrade  # type: ignore[union-attr]  # aiohttp's own errors never get here
                # behind an offer to upgrade the parser loses bytes, see _arrived
                self.keep = not upgrade or (payload is EMPTY_PAYLOAD and not self._deaf)
                self.server.requests_count += 1
                if self._paused:
                    await self._drain_helper()
                await answer(message, payload, self)  # type: ignore[arg-type]  # aiohttp's own errors never get here
            if self._state == "lingering" or self.transport is None:
                return
            if not self.keep or self._close or self.server.draining or (self._deaf and not self._messages):
                self.end(linger=not self._payload_read(payload))
                return
            self._state = "head"
            self._since = loop.time()

    @staticmethod
    def _payload_read(payload: StreamReader) -> bool:
        return payload is EMPTY_PAYLOAD or payload.is_eof()

    # --- bytes out -----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes to the caller, if it is still there."""
        if self.transport is not None:
            self.transport.write(data)

    def end(self, *, linger: bool) -> None:
        """Close in order: what was written arrives; ``linger`` while the caller is still sending."""
        transport = self.transport
        self._close = True
        if transport is None:
            return
        if not linger:
            transport.close()
            return
        self._state = "lingering"
        self._since = self._loop.time()
        if transport.can_write_eof() and not self.tls:
            transport.write_eof()
        if self._reading_paused or self._buffer_paused:
            self._reading_paused = self._buffer_paused = False
            self._resume_transport_reading()

    def abort(self) -> None:
        """Cut the connection, so that a truncated answer is seen as truncated (R45)."""
        self._force_close = True
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                # A FIN would end the body of an HTTP/1.0 answer well; a reset does not.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def pause_writing(self) -> None:
        """The caller reads slower than the service sends: stop reading from the service (R60)."""
        super().pause_writing()
        if self.source is not None:
            self.source.pause_reading()

    def resume_writing(self) -> None:
        """The caller has caught up."""
        super().resume_writing()
        if self.source is not None:
            self.source.resume_reading()
