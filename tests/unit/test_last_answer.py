"""The last answer on a connection says that it is the last: callers do not send a POST again when it is not."""

import asyncio
import socket

import pytest
from support import raw
from support.plane import KEY, scene
from support.upstream import Peer

from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.limits import KEEP_ALIVE_S, ServerLimits

CHUNKED = [("Transfer-Encoding", "chunked")]
UNREADABLE_ENDS = {
    "a size of two digits": b"00\r\n\r\n",
    "a trailer": b"0\r\nA: b\r\n\r\n",
    "an extension": b"0;x=1\r\n\r\n",
    "a request": b"0\r\n\r\n" + raw.request("GET", "/svc/behind", key=KEY),
}


def in_chunks(target: str, end: bytes, key: str = KEY) -> bytes:
    return raw.request("POST", target, key=key, fields=CHUNKED) + b"3\r\nabc\r\n" + end


async def streaming(peer: Peer) -> None:
    """Answers in pieces, the way of long answers."""
    while True:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        await asyncio.sleep(0.01)  # as a segment of its own
        await peer.send(b"def")


@pytest.mark.parametrize("end", UNREADABLE_ENDS)
@pytest.mark.parametrize(
    ("target", "known", "status"),
    [("/svc/x", True, 200), ("/svc/x", False, 401), ("/none/x", True, 404), ("/-/health", True, 200)],
)
async def test_an_answer_behind_which_nothing_is_read_says_so(
    end: str, target: str, status: int, *, known: bool
) -> None:
    """After a chunked body with trailers and its like the answer, whoever made it, says close, and so it is (R17)."""
    async with scene() as on, on.calling() as caller:
        await caller.send(in_chunks(target, UNREADABLE_ENDS[end], KEY if known else "none"))
        got = await caller.answer(b"POST")
        assert (got.status, got.value("connection")) == (status, b"close")
        ending = await caller.ending()
        assert (ending.how, ending.data.count(b"HTTP/1.1 ")) == ("eof", 1)


@pytest.mark.parametrize("end", UNREADABLE_ENDS)
async def test_an_answer_in_pieces_says_so_too(end: str) -> None:
    """The same for an answer that begins before all of it is there, and for a body whose end comes later (R17)."""
    async with scene(streaming) as on, on.calling() as caller:
        data = in_chunks("/svc/x", UNREADABLE_ENDS[end])
        at = len(data) - len(UNREADABLE_ENDS[end])
        await caller.send(data[:at])
        await asyncio.wait_for(on.upstream.arrival.wait(), raw.DEADLINE)
        await caller.send(data[at:])
        got = await caller.answer(b"POST")
        assert (got.body, got.value("connection")) == (b"abcdef", b"close")
        assert (await caller.ending()).how == "eof"


async def test_answers_before_the_last_do_not_say_so() -> None:
    """A request before such a body is answered as on any connection; a body that ends plainly ends nothing (R17)."""
    async with scene() as on, on.calling() as caller:
        for _ in range(2):
            await caller.send(in_chunks("/svc/x", b"0\r\n\r\n"))
            assert (await caller.answer(b"POST")).value("connection") is None
        first = raw.request("GET", "/svc/first", key=KEY)
        await caller.send(first + in_chunks("/svc/x", UNREADABLE_ENDS["a trailer"]))
        assert (await caller.answer()).value("connection") is None
        assert (await caller.answer(b"POST")).value("connection") == b"close"
        assert (await caller.ending()).how == "eof"


@pytest.mark.parametrize(("method", "target"), [("POST", "/-/health"), ("OPTIONS", "*")])
async def test_a_body_that_nobody_reads_ends_the_connection(method: str, target: str) -> None:
    """Health and OPTIONS * need no body: a long one is not read, the answer arrives, says close, and a FIN follows."""
    async with scene() as on:
        async with on.calling() as caller:
            sending = asyncio.ensure_future(
                caller.send(raw.request(method, target, key=None, body=b"x" * 2_000_000))
            )
            got = await caller.answer(method.encode())
            assert (got.status, got.value("connection")) == (200 if target != "*" else 204, b"close")
            ending = await caller.ending()
            assert (ending.how, ending.data.count(b"HTTP/1.1 ")) == ("eof", 1)
            await sending
        async with on.calling() as caller:
            for _ in range(2):  # one that has come whole is passed over
                await caller.send(raw.request(method, target, key=None, body=b"abc"))
                assert (await caller.answer(method.encode())).value("connection") is None


async def test_callers_that_do_not_read_are_cut_however_long_idle_ones_stay() -> None:
    """With ``timeouts.keep_alive = 0`` idle connections stay; one whose answers are not read goes after 75 s (R69)."""
    async with scene(limits=ServerLimits(keep_alive_s=0)) as on, on.calling() as idle, on.calling() as caller:
        assert (await on.ask(idle)).status == 200
        await caller.send(raw.request("GET", "/-/health", key=None))
        await caller.answer()
        reader = on.server.connections[-1]
        assert isinstance(reader, CallerConnection)
        assert reader.transport is not None
        reader.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        caller.stop_reading()
        sending = asyncio.ensure_future(caller.send(raw.request("GET", "/-/health", key=None) * 50_000))
        while not reader.writing_paused:  # noqa: ASYNC110  # the connection tells nobody
            await asyncio.sleep(0.005)
        now = asyncio.get_running_loop().time()
        for later in (0.0, KEEP_ALIVE_S - 1):
            reader.check(now + later)
            assert not reader.transport.is_closing()
        for one in on.server.connections:
            one.check(now + KEEP_ALIVE_S + 1)  # type: ignore[attr-defined]  # each one is made by the server
        assert reader.transport.is_closing()
        caller.go_on_reading()
        await caller.ending()
        await sending
        assert (await on.ask(idle)).status == 200
