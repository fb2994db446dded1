"""One connection to a service, over a real socket to a scripted peer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from support.upstream import Gone, Peer, Script, Upstream

from proxy.errors import RequestError, RequestTimeout, UpstreamProtocol, UpstreamTimeout, UpstreamUnreachable
from proxy.forwarding.answering import BUFFER_BYTES
from proxy.forwarding.headers import Field
from proxy.forwarding.upstream import UpstreamConnection

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Kept:
    """A sink that remembers, and says when it is told something."""

    def __init__(self) -> None:
        self.body = b""
        self.trailers: list[Field] | None = None
        self.error: RequestError | None = None
        self.news = asyncio.Event()

    def data(self, chunk: bytes) -> None:
        assert chunk
        self.body += chunk
        self.news.set()

    def end(self, trailers: list[Field]) -> None:
        assert self.trailers is None
        self.trailers = trailers
        self.news.set()

    def broken(self, error: RequestError) -> None:
        assert self.error is None
        assert self.trailers is None
        self.error = error
        self.news.set()

    async def until(self, wanted: bytes) -> None:
        while self.body != wanted:
            self.news.clear()
            await self.news.wait()

    async def over(self) -> None:
        while self.trailers is None and self.error is None:
            self.news.clear()
            await self.news.wait()


class Line:
    """A connection, its peer and its clock (seconds, moved by the test)."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.now = 100.0
        self.lost: list[UpstreamConnection] = []
        self.gone = asyncio.Event()

    def _lost(self, connection: UpstreamConnection) -> None:
        self.lost.append(connection)
        self.gone.set()

    async def open(self) -> UpstreamConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: UpstreamConnection(lambda: self.now, self._lost), "127.0.0.1", self.upstream.port
        )
        return connection


@contextlib.asynccontextmanager
async def line(script: Script) -> AsyncIterator[Line]:
    upstream = Upstream()
    upstream.script = script
    await upstream.start()
    try:
        async with asyncio.timeout(10):
            yield Line(upstream)
    finally:
        await upstream.stop()


def answering(*parts: bytes) -> Script:
    """Answers every request with these parts, and stays."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*parts)

    return script


async def test_one_exchange_after_another() -> None:
    """An answer that came whole frees the connection for the next request; idle is counted from its last byte (R67)."""
    async with line(answering(OK)) as on:
        connection = await on.open()
        for _ in range(3):
            assert connection.usable
            connection.send(b"GET", REQUEST)
            assert not connection.usable
            on.now += 1
            head = await connection.wait_head()
            assert (head.status, connection.take_whole_body()) == (200, b"ok")
            arrived, on.now = on.now, on.now + 5
            assert connection.release()
            assert connection.idle_since == arrived
        assert len(on.upstream.peers) == 1
        connection.abort()


async def test_only_one_exchange_at_a_time() -> None:
    """A second request on a connection at work is refused, not mixed in (R41)."""
    async with line(answering()) as on:
        connection = await on.open()
        connection.send(b"GET", REQUEST)
        with pytest.raises(UpstreamUnreachable):
            connection.send(b"GET", REQUEST)
        connection.abort()


NOT_REUSED = [
    ("close", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
    ("old version", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("a byte more", OK + b"x"),
    ("a line end more", OK + b"\r\n"),
    ("an answer more", OK + OK),
]


@pytest.mark.parametrize("data", [case[1] for case in NOT_REUSED], ids=[case[0] for case in NOT_REUSED])
async def test_connections_that_are_not_kept(data: bytes) -> None:
    """A good answer on a connection that ends, or has said too much, is passed on and the connection dropped (R48, R67)."""
    async with line(answering(data)) as on:
        connection = await on.open()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        assert connection.take_whole_body() == b"ok"
        assert not connection.release()
        await on.gone.wait()
        assert on.lost == [connection]
        assert not connection.usable


async def test_an_unread_rest_is_not_kept() -> None:
    """A connection whose answer has not come whole is dropped when its exchange ends (R67)."""
    async with line(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")) as on:
        connection = await on.open()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        assert connection.take_whole_body() is None
        assert not connection.release()
        await on.gone.wait()


async def test_an_unfinished_upload_is_not_kept() -> None:
    """An early answer, whole and good, does not free a connection on which half a request was sent (R61, R67)."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK)
        await peer.more()

    async with line(script) as on:
        connection = await on.open()
        connection.send(b"POST", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe", uploading=True)
        assert not connection.waiting  # the service's time to answer has not begun
        head = await connection.wait_head()
        assert head.reusable
        assert connection.uploading
        assert not connection.release()
        await on.gone.wait()


async def test_bytes_nobody_asked_for() -> None:
    """Bytes on an idle connection end it: they are never the next answer (R48)."""

    async def script(peer: Peer) -> None:
        await peer.send(OK)
        await peer.more()

    async with line(script) as on:
        connection = await on.open()
        await on.gone.wait()
        assert not connection.usable
        with pytest.raises(UpstreamUnreachable):
            connection.send(b"GET", REQUEST)


async def test_lost_before_and_within_an_answer() -> None:
    """Lost before any byte is another thing than lost within the answer: only the first may be tried again (R62)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if len(peer._upstream.peers) > 1:
            await peer.send(b"HTTP/1.1 2")
        raise Gone

    async with line(script) as on:
        first = await on.open()
        first.send(b"GET", REQUEST)
        with pytest.raises(UpstreamUnreachable):
            await first.wait_head()
        assert not first.answered
        second = await on.open()
        second.send(b"GET", REQUEST)
        with pytest.raises(UpstreamProtocol):
            await second.wait_head()
        assert second.answered
        with pytest.raises(UpstreamUnreachable):
            await second.write(b"more")


async def test_a_body_streams_into_its_sink() -> None:
    """What was buffered comes first, then every piece as it arrives, then the trailers, once (R56)."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"1\r\na\r\n")
        await go_on.wait()
        await peer.send(b"1\r\nb\r\n")
        await peer.send(b"0\r\nX-Sum: 1\r\n\r\n")
        await peer.more()

    async with line(script) as on:
        connection, sink = await on.open(), Kept()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        connection.attach(sink)
        await sink.until(b"a")
        go_on.set()
        await sink.over()
        assert (sink.body, sink.trailers, sink.error) == (b"ab", [(b"X-Sum", b"1")], None)
        assert connection.trailers == [(b"X-Sum", b"1")]
        assert connection.release()
        connection.abort()


async def test_a_sink_that_comes_late() -> None:
    """An answer that was whole, or broken, before anybody took it is told so at once (R45)."""
    async with line(answering(CHUNKED + b"2\r\nab\r\n0\r\n\r\n")) as on:
        connection, sink = await on.open(), Kept()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        connection.attach(sink)
        await sink.over()
        assert (sink.body, sink.trailers) == (b"ab", [])
        connection.abort()
    async with line(answering(CHUNKED + b"2\r\nab\r\nx\r\n")) as on:
        connection, sink = await on.open(), Kept()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        await on.gone.wait()
        connection.attach(sink)
        assert sink.body == b"ab"
        assert isinstance(sink.error, UpstreamProtocol)


@pytest.mark.parametrize(
    ("head", "ends", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "finish", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", "reset", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "finish", False),
        (CHUNKED.removesuffix(b"\r\n") + b"\r\n9\r\n", "finish", False),
    ],
    ids=["no length, FIN", "no length, RST", "length, FIN", "chunked, FIN"],
)
async def test_how_a_body_ends(head: bytes, ends: str, *, whole: bool) -> None:
    """Only a body without a length is ended by the end of the connection, and only by an orderly one (R45)."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head + b"ab")
        await go_on.wait()
        if ends == "reset":
            peer.reset()
        raise Gone

    async with line(script) as on:
        connection, sink = await on.open(), Kept()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        connection.attach(sink)
        await sink.until(b"ab")
        go_on.set()
        await sink.over()
        assert (sink.error is None) is whole
        assert not connection.release()


async def test_broken_framing_within_a_body() -> None:
    """What was right before the fault reaches the sink, then the fault does, and the connection goes (R45, R47)."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        await go_on.wait()
        await peer.send(b"1\r\na\r\nxyz\r\n")
        await peer.more()

    async with line(script) as on:
        connection, sink = await on.open(), Kept()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        connection.attach(sink)
        go_on.set()
        await sink.over()
        assert sink.body == b"a"
        assert isinstance(sink.error, UpstreamProtocol)
        await on.gone.wait()


async def test_a_service_that_is_faster_than_its_reader() -> None:
    """Unattached, no more than a buffer's worth is taken in; attached, everything arrives (R60)."""
    size = 40 * BUFFER_BYTES
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await peer.send(b"x" * 65_536)
            sent += 65_536

    async with line(script) as on:
        connection = await on.open()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        while connection._reader.size <= BUFFER_BYTES:  # noqa: ASYNC110  # nobody is told while nobody takes it
            await asyncio.sleep(0.01)
        held = connection._reader.size
        for _ in range(20):  # the peer would go on now if anybody read
            await asyncio.sleep(0.005)
        assert connection._reader.size == held
        assert held < 3 * BUFFER_BYTES
        assert sent < size
        sink = Counting()
        connection.attach(sink)
        await sink.done.wait()
        assert sink.size == size
        connection.abort()


class Counting(Kept):
    """Counts and forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.done = asyncio.Event()

    def data(self, chunk: bytes) -> None:
        self.size += len(chunk)

    def end(self, trailers: list[Field]) -> None:
        self.trailers = trailers
        self.done.set()


async def test_a_service_that_does_not_read() -> None:
    """Writing waits while the service reads nothing, goes on when it does, and ends when it leaves (R60)."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.stop_reading()
        await go_on.wait()
        peer.go_on_reading()
        await peer.more()
        while not peer.ended.is_set() and peer.count < 16_000_000:
            await peer.more()
        peer.stop_reading()
        await asyncio.sleep(0.05)
        peer.reset()

    async with line(script) as on:
        on.upstream.keep = True
        connection = await on.open()
        connection.send(
            b"POST", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", uploading=True
        )
        writing = asyncio.ensure_future(connection.write(b"x" * 16_000_000))
        await asyncio.sleep(0.05)
        assert not writing.done()
        on.now += 40
        go_on.set()
        await writing
        assert connection.last_activity == on.now  # what drains is activity
        with pytest.raises(UpstreamUnreachable):
            await write_on(connection)


async def write_on(connection: UpstreamConnection) -> None:
    while True:
        await connection.write(b"x" * 4_000_000)


async def test_expiry_fails_what_waits() -> None:
    """An exchange that is failed from outside says why, to whoever waits for the head and to the sink alike (R57)."""
    async with line(answering()) as on:
        connection = await on.open()
        connection.send(b"GET", REQUEST)
        waiting = asyncio.ensure_future(connection.wait_head())
        await asyncio.sleep(0)
        connection.expire(RequestTimeout("slow"))
        with pytest.raises(RequestTimeout, match="slow"):
            await waiting
        await on.gone.wait()
    async with line(answering(CHUNKED)) as on:
        connection, sink = await on.open(), Kept()
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        connection.attach(sink)
        connection.expire(UpstreamTimeout("slow"))
        connection.expire(UpstreamProtocol("later"))
        assert isinstance(sink.error, UpstreamTimeout)
        await on.gone.wait()


async def test_abort_is_at_once_and_may_come_twice() -> None:
    """Aborting ends the peer's connection without waiting for it, and nothing goes wrong the second time (R58)."""
    async with line(answering()) as on:
        connection = await on.open()
        connection.send(b"GET", REQUEST)
        connection.abort()
        connection.abort()
        peer = await on.upstream.peer()
        await peer.ended.wait()
        await on.gone.wait()
        connection.abort()
        assert not connection.release()
