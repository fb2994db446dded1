"""One caller's connection: one request after another, with our own loop, timers and error answers.

aiohttp's own loop is replaced because it answers errors with the bad line in them, sends 100 Continue before
authentication, keeps working for callers that have left, and makes objects that a proxy has no use for.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.errors import RequestError, RequestTimeout
from proxy.forwarding.limits import KEEP_ALIVE_S, ServerLimits
from proxy.forwarding.receiving import Receiving
from proxy.forwarding.repeat import Repeat
from proxy.forwarding.timeline import Timeline
from proxy.forwarding.upstream import UpstreamConnection

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER_S = 2.0  # how long a refused caller may go on sending before the connection is cut


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The address of the other end; empty on a unix socket."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


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


class CallerConnection(Receiving):
    """One caller's connection: requests are answered in order, one at a time (R17).

    ``keep`` is set by the handler for each request: whether the connection may carry another one.
    ``listener``: the service that the listener is for, if it is for one only. ``source`` is the upstream
    connection whose body is being written to this caller. ``repeat``: see there. ``switching``: the caller's
    bytes, once it has asked for another protocol.
    """

    __slots__ = (
        "_direct",
        "_refuse",
        "_unsent",
        "_unsent_since",
        "keep",
        "listener",
        "peer",
        "repeat",
        "server",
        "source",
        "tls",
    )

    def __init__(self, server: "Callers", *, loop: asyncio.AbstractEventLoop, limits: ServerLimits) -> None:
        super().__init__(server, loop=loop, limits=limits)
        self.server = server
        self._refuse = server.refuse
        self._direct: UnderWay | None = None
        self._unsent = 0
        self._unsent_since = self._since
        self.keep = True
        self.source: UpstreamConnection | None = None
        self.repeat = Repeat()
        self.listener: str | None = None
        self.peer = ""
        self.tls = False

    # --- life of the connection ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has come."""
        self.peer = peer_of(transport)
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

        While a body is relayed the service waits with the caller, and its timeouts count. This time has an
        end where that of idle connections has none: what is unsent takes memory.
        """
        unsent = 0 if self.source is not None else transport.get_write_buffer_size()
        if unsent != self._unsent or not unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since > (self._limits.keep_alive_s or KEEP_ALIVE_S)

    # --- the short way --------------------------------------------------------------------------------

    def _wake(self) -> None:
        waiter = self._waiter
        if self._direct is not None:
            return  # its turn comes after the request under way
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

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
                self.end(linger=not self.payload_read(payload))
                return
            self._state = "head"
            self._since = loop.time()

    @staticmethod
    def payload_read(payload: StreamReader) -> bool:
        """Whether all of a request's body has come."""
        return payload is EMPTY_PAYLOAD or payload.is_eof()

    # --- for whoever looks on -------------------------------------------------------------------------

    def begun(self, timeline: Timeline) -> None:
        """A request goes the long way."""

    def refused(self, error: RequestError) -> None:
        """It was refused."""

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
