"""One connection to a service: our HTTP/1.1 client protocol, one exchange at a time.

``ClientSession`` is not used on the data path: it re-sends requests by itself, drops header bytes and costs
four to five times as much.
"""

import asyncio
from collections.abc import Callable

from multidict import CIMultiDictProxy

from proxy.errors import UpstreamUnreachable
from proxy.forwarding.answering import Answering, Sink
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.headers import Field
from proxy.forwarding.headroom import Fields

LaneKey = tuple[str, str, int, str, int]


class UpstreamConnection(Answering):
    """Idle, or at work on one exchange; lost or aborted at any point.

    ``last_activity``, ``started`` and ``idle_since`` are seconds of ``clock``, read by the pool's sweep,
    which enforces the timeouts. ``lane`` is the pool's key, ``address`` what was dialled. ``on_head``: called
    once, when the head of the answer is there or never will be; then :meth:`wait_head` does not wait.
    """

    __slots__ = ("_on_lost", "address", "idle_since", "lane", "started")

    def __init__(self, clock: Callable[[], float], on_lost: Callable[["UpstreamConnection"], None]) -> None:
        super().__init__(clock)
        self._on_lost = on_lost
        self.lane: LaneKey | None = None
        self.address = ""
        self.idle_since = self.started = self.last_activity

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

    def _forgotten(self) -> None:
        self._on_lost(self)
