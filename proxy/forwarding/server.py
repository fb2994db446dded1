"""The caller's side: aiohttp's low-level server and C parser, with our own loop, timers and error answers.

aiohttp's own loop is replaced because it answers errors with the bad line in them, sends 100 Continue before
authentication, keeps working for callers that have left, and makes objects that a proxy has no use for.
What is used of its ``RequestHandler`` is pinned by ``tests/unit/test_aiohttp_surface.py``.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import http_parser
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from proxy.errors import BadRequest, HeadersTooLarge, Overloaded, RequestError, RequestTimeout, TargetTooLong
from proxy.forwarding.repeat import Repeat
from proxy.forwarding.upstream import UpstreamConnection

SWEEP_S = 0.5
LINGER_S = 2.0  # how long a refused caller may go on sending before the connection is cut
_FOREIGN = re.compile(rb"^([^\r\n ]+) ([^\r\n ]+) (?:RTSP|ICE)/[0-9.]+\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Sizes in bytes, times in seconds (0: none)."""

    connections: int = 10_000
    request_line: int = 65_536
    header_bytes: int = 131_072
    headers: int = 256
    head_s: float = 15.0
    body_idle_s: float = 60.0
    keep_alive_s: float = 75.0


Answerer = Callable[[RawRequestMessage, StreamReader, "CallerConnection"], Awaitable[None]]
Refuser = Callable[[RequestError, "CallerConnection"], None]


class CallerConnection(RequestHandler):
    """One caller's connection: requests are answered in order, one at a time (R17).

    ``keep`` is set by the handler for each request: whether the connection may carry another one.
    ``source`` is the upstream connection whose body is being written to this caller. ``repeat``: see there.
    """

    __slots__ = (
        "_body",
        "_head_raw",
        "_limits",
        "_refuse",
        "_since",
        "_state",
        "keep",
        "local",
        "peer",
        "repeat",
        "server",
        "source",
        "tls",
    )

    def __init__(
        self, server: "DataServer", *, loop: asyncio.AbstractEventLoop, limits: ServerLimits
    ) -> None:
        super().__init__(
            server,
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
        self._body: StreamReader | None = None
        self._state = "head"  # head | busy | lingering
        self._since = loop.time()
        self.keep = True
        self.source: UpstreamConnection | None = None
        self.repeat = Repeat()
        self.peer = ""
        self.local = ""
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
        super().connection_lost(exc)

    def check(self, now: float) -> None:
        """Enforce the timers that concern this side; called by the server's sweep with loop time."""
        if self.transport is None:
            return
        waited = now - self._since
        if self._state == "lingering":
            if waited > LINGER_S:
                self.transport.abort()
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

    # --- bytes in ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a malformed message ends the connection after what came before it is answered."""
        if self._force_close or self._close or self._state == "lingering" or self._upgraded:
            return
        raw = self._head_raw + data if self._head_raw else data
        try:
            messages, upgraded, _ = self._parser.feed_data(data)  # type: ignore[union-attr]  # set while connected
        except Exception as error:  # noqa: BLE001  # whatever the parser says, the message is bad
            self._malformed(error, raw)
            return
        if messages:
            self._request_count += len(messages)
            suspicious = b"RTSP/" in raw or b"ICE/" in raw
            for message in messages:
                if suspicious and self._is_foreign(message[0], raw):
                    self._malformed(ValueError("another protocol"), raw)
                    return
                self._messages.append(message)
                self._body = message[1]
            waiter = self._waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            if not self._buffer_paused and len(self._messages) >= self._max_msg_queue_size:
                self._pause_reading_for_buffer()
            self._head_raw = b"" if data.endswith(b"\r\n\r\n") or not self._body_ended() else data
        elif self._body is not None and not self._body.is_eof():
            self._head_raw = b""
        else:
            if self._state == "head" and not self._head_raw and data:
                self._since = self._loop.time()
            self._head_raw = raw
            if len(raw) > self._limits.request_line + self._limits.header_bytes + len(data):
                self._malformed(LineTooLong(b"", 0), raw)
        self._upgraded = upgraded

    def _body_ended(self) -> bool:
        return self._body is None or self._body is EMPTY_PAYLOAD or self._body.is_eof()

    @staticmethod
    def _is_foreign(message: RawRequestMessage, raw: bytes) -> bool:
        """True for a message that was really RTSP or ICE, which llhttp reports as HTTP (R11)."""
        method, path = message.method.encode(), message.path.encode("utf-8", "surrogateescape")
        return any(hit.group(1) == method and hit.group(2) == path for hit in _FOREIGN.finditer(raw))

    def _malformed(self, error: Exception, raw: bytes) -> None:
        """Queue the refusal of a message that could not be parsed; nothing behind it is read (R17, R18)."""
        body = self._body
        problem: RequestError
        if isinstance(error, LineTooLong):
            if b"\r\n" in raw.lstrip(b"\r\n")[: self._limits.request_line + 16]:
                problem = HeadersTooLarge("the header section of the request is too large")
            else:
                problem = TargetTooLong("the request line is too long")
        elif "Too many headers" in str(error):
            problem = HeadersTooLarge("the request has too many header fields")
        else:
            problem = BadRequest("the request is not well-formed HTTP/1.1")
        if body is not None and body is not EMPTY_PAYLOAD and not body.is_eof():
            body.set_exception(problem)
            self._upgraded = True  # nothing behind a broken body is read
            return
        self._upgraded = True
        self._messages.append((problem, EMPTY_PAYLOAD))  # type: ignore[arg-type]  # our own mark, see start()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

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
            message, payload = self._messages.popleft()
            if isinstance(message, RequestError):
                self._refuse(message, self)  # type: ignore[unreachable]  # our own mark, put there by _malformed
                return
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            self._state = "busy"
            self.keep = True
            self.server.requests_count += 1
            if self._paused:
                await self._drain_helper()
            await answer(message, payload, self)  # type: ignore[arg-type]  # aiohttp's own errors never get here
            if self._state == "lingering" or self.transport is None:
                return
            if not self.keep or self._close or self.server.draining:
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


class DataServer(Server):
    """Makes a CallerConnection for each socket and keeps their number and their time in bounds.

    Args:
        answer: the data path, called once a request.
        refuse: writes the answer to a message that is no request and ends the connection.
        limits: see ServerLimits.
    """

    def __init__(self, answer: Answerer, refuse: Refuser, limits: ServerLimits) -> None:
        super().__init__(_unused, handler_cancellation=True)
        self.answer = answer
        self.refuse = refuse
        self.limits = limits
        self.draining = False
        self._sweeper: asyncio.Task[None] | None = None

    def __call__(self) -> CallerConnection:
        """The protocol of a new connection."""
        return CallerConnection(self, loop=asyncio.get_running_loop(), limits=self.limits)

    @property
    def callers(self) -> int:
        """Open connections."""
        return len(self._connections)

    def opened(self, connection: CallerConnection) -> None:
        """Turn away what comes over the limit (R64)."""
        if len(self._connections) > self.limits.connections or self.draining:
            self.refuse_overload(connection)

    def refuse_overload(self, connection: CallerConnection) -> None:
        """Answer 503 before any request is read."""
        self.refuse(
            Overloaded("the proxy has as many connections as it may have", retry_after=1.0), connection
        )

    def start(self) -> None:
        """Begin to enforce timers; needs a running loop."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="caller timers")

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            for connection in self.connections:
                connection.check(now)  # type: ignore[attr-defined]  # every one is made by __call__

    async def drain(self, seconds: float) -> bool:
        """Let requests in flight finish for at most ``seconds``; True when all of them did (R70)."""
        self.draining = True
        deadline = asyncio.get_running_loop().time() + seconds
        for connection in self.connections:
            if isinstance(connection, CallerConnection) and connection._state == "head":  # noqa: SLF001  # own class
                connection.end(linger=False)
        # aiohttp's own table of connections tells nobody when it changes
        while self._connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.02)
        clean = not self._connections
        tasks = [c._task_handler for c in self.connections if c._task_handler is not None]  # noqa: SLF001
        for connection in self.connections:
            connection.abort()  # type: ignore[attr-defined]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        return clean


async def _unused(_: Any) -> Any:
    raise RuntimeError("CallerConnection.start answers requests itself")


def require_c_parser() -> None:
    """Refuse to run on aiohttp's pure-Python parser (R159).

    Raises:
        RuntimeError: saying what to do.
    """
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise RuntimeError(
            "aiohttp's C parser is not in use: unset AIOHTTP_NO_EXTENSIONS and install aiohttp from a wheel "
            f"for this Python ({sys.version.split()[0]})"
        )
