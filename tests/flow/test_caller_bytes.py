"""Whose bytes are whose on a caller's connection: bodies, beginnings of heads, answers nobody reads."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from support import strict
from support.certificates import Authority
from support.lab import SHORT, Lab
from support.upstream import Peer

HEAD = b"%b /test/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n"


@pytest.fixture(scope="module")
def hasty(
    runner: asyncio.Runner, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A proxy with short timeouts (seconds: head 1, keep-alive 6)."""
    folder = tmp_path_factory.mktemp("hasty")
    lab = Lab(authority, folder, settings={"timeouts": {**SHORT, "keep_alive": 6.0}})
    runner.run(lab.start())
    with lab.proxy:
        yield lab
    runner.run(lab.stop())


def head(lab: Lab, method: bytes = b"POST") -> bytes:
    return HEAD % (method, lab.proxy.key.encode())


@pytest.mark.parametrize("pieces", [(b"abc",), (b"ab", b"c")])
async def test_idle_connection_after_a_body_is_idle(hasty: Lab, pieces: tuple[bytes, ...]) -> None:
    """The end of a body is not the beginning of a head: no 408 comes on an idle connection (R57, R17)."""
    async with hasty.calling() as caller:
        await caller.send(head(hasty) + b"Content-Length: 3\r\n\r\n" + pieces[0])
        for piece in pieces[1:]:
            await asyncio.sleep(0.1)  # as segments of their own
            await caller.send(piece)
        assert (await caller.answer(b"POST")).status == 200
        size = len(caller.received)
        ending = await caller.ending(1.7)  # longer than head_s and a sweep, shorter than keep_alive_s
        assert (len(ending.data), ending.how) == (size, "open")


@pytest.mark.parametrize("last", [b"\rABCD", b"\r", b"GET / HTTP/1.1\r\n\r\n", b"\r\nA RTSP/1.0\r\n"])
async def test_body_bytes_are_never_read_as_a_head(lab: Lab, last: bytes) -> None:
    """What the last segment of a body begins with is the service's alone; the connection goes on (R1, R17)."""
    async with lab.calling() as caller:
        await caller.send(head(lab) + b"Content-Length: %d\r\n\r\nabcde" % (5 + len(last)))
        await asyncio.sleep(0.1)  # as a segment of its own
        await caller.send(last)
        assert (await caller.answer(b"POST")).status == 200
        await caller.send(head(lab, b"GET") + b"\r\n")
        assert (await caller.answer()).status == 200
        assert (await caller.ending(0.3)).how == "open"


@pytest.mark.parametrize("second", [b"GET", b"POST"])
async def test_trailer_never_becomes_a_field_of_the_next_request(lab: Lab, second: bytes) -> None:
    """Also where the body began in an earlier segment, nothing behind a trailer is run (R7)."""
    rest = b"\r\n" if second == b"GET" else b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    async with lab.calling() as caller:
        await caller.send(head(lab) + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.1)  # as a segment of its own
        await caller.send(b"0\r\nX-Evil: 1\r\n\r\n" + head(lab, second) + rest)
        ending = await caller.ending()
        reading = strict.responses(ending.data, [b"POST"] * 2, closed=ending.closed)
        assert [one.status for one in reading.messages] == [200]
        assert b"X-Evil" not in ending.data


async def test_many_requests_in_one_piece_are_all_answered(lab: Lab) -> None:
    """More requests at once than are queued, with bodies and empty lines between them, and a head in two halves."""
    one = head(lab) + b"Content-Length: 5\r\n\r\n\rGET "
    async with lab.calling() as caller:
        await caller.send((one + b"\r\n") * 99 + one[:30])
        for _ in range(99):
            assert (await caller.answer(b"POST")).status == 200
        await caller.send(one[30:])
        assert (await caller.answer(b"POST")).status == 200
        assert (await caller.ending(0.3)).how == "open"


async def test_large_body_does_not_count_for_the_next_head(lab: Lab) -> None:
    """A body longer than any head may be, then a head in two halves: both are answered (R22)."""
    async with lab.calling() as caller:
        for _ in range(2):
            await caller.send(head(lab) + b"Content-Length: 250000\r\n\r\n" + b"x" * 250000 + b"GE")
            assert (await caller.answer(b"POST")).status == 200
            await caller.send(head(lab, b"GET")[2:])
            await asyncio.sleep(0.1)  # as a segment of its own
            await caller.send(b"\r\n")
            assert (await caller.answer()).status == 200


async def test_caller_that_reads_no_answers_loses_its_place(hasty: Lab) -> None:
    """Requests that need no key, pipelined and their answers never read, hold a connection for a bounded time (R69)."""
    loop = asyncio.get_running_loop()
    piece = b"GET /-/health HTTP/1.1\r\nHost: a\r\n\r\n" * 500
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        await loop.sock_connect(one, hasty.proxy.address)
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while True:
                    await loop.sock_sendall(one, piece)


OFFER = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize(
    "offered",
    [
        (b"GET", b"\r\n"),
        (b"POST", b"Content-Length: 3\r\n\r\nabc"),
        (b"POST", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("before", [b"", b"\r\n"])
async def test_what_stands_behind_an_offer_to_upgrade(
    lab: Lab, offered: tuple[bytes, bytes], before: bytes
) -> None:
    """The body of a request that came in one piece with an offer of h2c before it never counts as a request (R1, R17)."""
    await lab.fresh()
    method, rest = offered
    first = before + head(lab, method) + OFFER + rest
    inner = head(lab, b"DELETE") + b"\r\n"
    async with lab.calling() as caller:
        await caller.send(first + head(lab) + b"Content-Length: %d\r\n\r\n" % len(inner))
        assert (await caller.answer(method)).value("connection") == b"close"
        await caller.send(inner)
        assert (await caller.ending()).closed
    async with lab.calling() as caller:
        await caller.send(first[:-2])
        await asyncio.sleep(0.05)  # as a segment of its own
        await caller.send(first[-2:] + head(lab) + b"Content-Length: %d\r\n\r\n" % len(inner))
        assert (await caller.answer(method)).status == 200
        await caller.send(inner)
        assert (await caller.ending()).closed
    assert [seen.method for seen in lab.upstream.seen()] == [method, method]


async def test_an_offer_to_upgrade_alone_is_ignored(lab: Lab) -> None:
    """With nothing behind it, a connection on which h2c was offered goes on in HTTP/1.1 (RFC 9110 §7.8)."""
    async with lab.calling() as caller:
        for _ in range(3):
            await caller.send(head(lab, b"GET") + OFFER + b"\r\n")
            assert (await caller.answer()).status == 200
        await caller.send(head(lab, b"GET") + b"\r\n")
        assert (await caller.answer()).status == 200


async def test_a_caller_that_ends_its_side_sees_a_body_cut(lab: Lab) -> None:
    """It has left (R58); a body that would end with the connection does not seem whole to it (R45)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await peer.ended.wait()

    await lab.fresh()
    lab.upstream.script = script
    async with lab.calling() as caller:
        await caller.send(head(lab, b"GET").replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n")
        await caller.until(b"hello")
        caller.half_close()
        assert (await caller.ending()).how == "reset"
    await (await lab.upstream.peer()).ended.wait()
