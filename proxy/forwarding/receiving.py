"""What a caller sends, up to whole requests: aiohttp's protocol and C parser, and what that parser lets pass.

What is used of aiohttp's ``RequestHandler`` is pinned by ``tests/unit/test_aiohttp_surface.py``.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from proxy.forwarding.limits import ServerLimits
from proxy.forwarding.malformed import behind, is_foreign, last_before_close, refusal_of
from proxy.forwarding.switching import Switching

_LONGEST_SAME = 8192  # bytes of a request kept to know it again


class Receiving(RequestHandler):
    """The receiving side of a caller's connection: queues what is to be answered, in order (R17).

    A request of which every byte is that of the one before is not parsed again. ``switching``: the caller's
    bytes, once it has asked for another protocol.
    """

    __slots__ = (
        "_body",
        "_chunk_tail",
        "_deaf",
        "_head_raw",
        "_limits",
        "_same",
        "_since",
        "_state",
        "switching",
    )

    def __init__(self, server: Any, *, loop: asyncio.AbstractEventLoop, limits: ServerLimits) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=0,  # timers are ours, see CallerConnection.check
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no access log"
            auto_decompress=False,
            max_line_size=limits.request_line,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
            lingering_time=0,
        )
        self._limits = limits
        self._head_raw = b""
        self._chunk_tail: bytes | None = None
        self._deaf = False
        self._same: tuple[bytes, RawRequestMessage] | None = None
        self._body: StreamReader | None = None
        self._state = "head"  # head | busy | lingering
        self._since = loop.time()
        self.switching: Switching | None = None

    @property
    def is_last(self) -> bool:
        """Nothing is taken any more, and nothing waits: the request under way is the connection's last."""
        return self._deaf and not self._messages

    @abstractmethod
    def _begun_directly(self, message: RawRequestMessage) -> bool:
        """Let the data path take a request without a body at once, if it can."""

    @abstractmethod
    def _wake(self) -> None:
        """Something is in the queue."""

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
