"""The short way: requests that need no waiting of our own, and everything that may happen to them meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from support import raw, strict
from support.plane import KEY, Scene, code, credential, scene, tokens
from support.upstream import Gone, Peer, answer, chunk

from proxy.forwarding.exchange import Exchange
from proxy.forwarding.limits import DataPlaneOptions
from proxy.forwarding.pool import UpstreamTimeouts

GET = raw.request("GET", "/svc/x", key=KEY)
OK = answer(200, b"fine")


def counting(on: Scene) -> Callable[[], tuple[int, int]]:
    """How many requests have gone the long way, and how many the short one."""
    long, short = on.server.answer, on.server.begin
    ways = [0, 0]

    async def answered(*given: object) -> None:
        ways[0] += 1
        await long(*given)  # type: ignore[arg-type]  # what it was given

    def begun(*given: object) -> object:
        found = short(*given)  # type: ignore[arg-type]  # likewise
        ways[1] += found is not None
        return found

    on.server.answer, on.server.begin = answered, begun  # type: ignore[assignment]  # the same shapes
    return lambda: (ways[0], ways[1])


async def with_two(on: Scene) -> Peer:
    """The service's first connection, once two requests have come on it."""
    peer = await on.upstream.peer()
    while peer.received.count(b"\r\n\r\n") < 2:
        await peer.more()
    return peer


@asynccontextmanager
async def second_under_way(
    then: Callable[[Peer], Awaitable[object]],
) -> AsyncIterator[tuple[Scene, raw.Caller, Peer]]:
    """A caller whose first request was answered and whose second, on the short way, has come to the service.

    The service does ``then`` before it answers that one too.
    """

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await then(peer)
        await peer.send(OK)

    async with scene(script) as on, on.calling() as caller:
        await on.ask(caller)
        await caller.send(GET)
        yield on, caller, await with_two(on)


def ended(peer: Peer) -> Awaitable[object]:
    """No answer."""
    return peer.ended.wait()


async def test_which_requests_go_it() -> None:
    """With a connection open and a token at hand, requests without bodies go the short way, other paths and keys' places too."""
    async with scene() as on:
        ways = counting(on)
        async with on.calling() as caller:
            for target in ("/svc/x", "/svc/x", "/svc/y?a=1", f"/svc/x?key={KEY}"):
                assert (await on.ask(caller, target)).status == 200
            assert ways() == (1, 3)
            assert (await on.ask(caller, "/-/health")).status == 200
            await caller.send(raw.request("POST", "/svc/x", key=KEY, body=b"x"))
            assert (await caller.answer()).status == 200
            assert code(await on.ask(caller, key=None)) == "invalid_key"
            assert code(await on.ask(caller, "/nothing/x")) == "unknown_service"
            assert code(await on.ask(caller, "/svc/oauth/x")) == "credential_path"
            on.source.later[None] = on.source.at_hand.pop(None)  # type: ignore[assignment]  # it is there
            assert (await on.ask(caller)).status == 200
            assert ways() == (7, 3)
        lines = await on.logged(10)
        assert len({line["request_id"] for line in lines}) == 10
        assert [line["status"] for line in lines] == [200] * 6 + [401, 404, 403, 200]
        assert all(line["upstream"].startswith("127.0.0.1:") for line in lines[:4])


async def test_requests_that_follow_too_early() -> None:
    """Pipelined requests are answered in order, one at a time, whichever way the first one goes (R17)."""
    async with scene() as on, on.calling() as caller:
        await on.ask(caller)
        await caller.send(b"".join(raw.request("GET", f"/svc/{n}", key=KEY) for n in range(3)))
        for n in range(3):
            assert raw.document(await caller.answer())["target"] == f"/{n}"
        for n in range(3, 6):  # each a segment of its own: the first is under way when the others come
            await caller.send(raw.request("GET", f"/svc/{n}", key=KEY))
            await asyncio.sleep(0)
        for n in range(3, 6):
            assert raw.document(await caller.answer())["target"] == f"/{n}"
        assert len(on.upstream.peers) == 1


async def test_the_same_bytes_elsewhere_are_something_else() -> None:
    """Bytes known as a whole request are a body where a body is due, and text where a head has begun (R18)."""
    async with scene() as on, on.calling() as caller:
        for _ in range(3):
            await on.ask(caller)
        size = [("Content-Length", str(2 * len(GET)))]
        await caller.send(raw.request("POST", "/svc/x", key=KEY, fields=size))
        peer = await on.upstream.peer()
        while b"POST" not in peer.received:
            await peer.more()
        await caller.send(GET)
        while not peer.received.endswith(GET):
            await peer.more()
        await caller.send(GET)
        assert raw.document(await caller.answer())["body"] == (GET * 2).decode()
        assert (await on.ask(caller)).status == 200
        await caller.send(b"GET /svc/y HTTP/1.1\r\nX-A: ")
        await asyncio.sleep(0.01)
        await caller.send(GET)
        assert raw.document(await caller.answer())["target"] == "/y"
        await caller.send(GET + GET)
        assert [(await caller.answer()).status for _ in range(2)] == [200, 200]
        chunks = (
            raw.request("POST", "/svc/x", key=KEY, fields=[("Transfer-Encoding", "chunked")]) + b"0\r\n\r\n"
        )
        await caller.send(chunks + GET)
        assert raw.document(await caller.answer())["method"] == "POST"
    methods = [message.method for message in on.upstream.seen()]
    assert methods == [b"GET"] * 3 + [b"POST"] + [b"GET"] * 4 + [b"POST"]


async def test_bad_bytes_behind_a_request_under_way() -> None:
    """A malformed message behind it is refused after its answer, and the connection ends (R17, R18)."""
    go_on = asyncio.Event()
    async with second_under_way(lambda _: go_on.wait()) as (_, caller, _):
        await caller.send(b"GET / HTTP/1.1\r\nHost: a b\r\nX\r\n\r\n")
        await asyncio.sleep(0.01)
        go_on.set()
        assert (await caller.answer()).status == 200
        assert (await caller.answer()).status == 400
        assert (await caller.ending()).closed


async def first_then(peer: Peer, *rest: bytes) -> None:
    """Answers one request well, and the next with these pieces."""
    await peer.request()
    await peer.send(OK)
    await peer.request()
    await peer.send(*rest)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", b"\r\nfi", b"ne"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"fine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi", b"ne"),
        (b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n", OK),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"fi"), chunk(b"ne"), b"0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"fine") + b"0\r\n\r\n",),
    ],
)
async def test_answers_in_pieces(pieces: tuple[bytes, ...]) -> None:
    """An answer that does not come at once is relayed as on the long way, and the connection serves on."""

    async def script(peer: Peer) -> None:
        await first_then(peer, *pieces)
        await peer.request()
        await peer.send(OK)

    async with scene(script) as on, on.calling() as caller:
        for _ in range(3):
            got = await on.ask(caller)
            assert (got.status, got.body) == (200, b"fine")
        assert len(on.upstream.peers) == 1
        assert {line["bytes_out"] for line in await on.logged(3)} == {4}


async def test_a_connection_that_died() -> None:
    """A reused connection that dies unanswered is replaced once; one that died with a byte of answer is a 502 (R62)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if (await peer.request()).target == b"/cut":
            await peer.send(b"HTTP/1.1 2")
        raise Gone

    async with scene(script) as on, on.calling() as caller:
        for _ in range(3):
            assert (await on.ask(caller)).status == 200
        assert on.counters.retried == 2
        assert code(await on.ask(caller, "/svc/cut")) == "upstream_protocol"
        assert (await on.ask(caller)).status == 200
        assert on.plane._at_work == {"svc": 0}


async def test_a_caller_that_leaves() -> None:
    """The service's connection is dropped at once, the place given back, and a 499 recorded (R58)."""
    async with second_under_way(ended) as (on, caller, peer):
        assert on.plane._at_work == {"svc": 1}
        caller.leave()
        await peer.ended.wait()
        assert [line["status"] for line in await on.logged(2)] == [200, 499]
        assert on.plane._at_work == {"svc": 0}


async def test_no_place_is_taken_beyond_the_limit() -> None:
    """While a service's places are taken, the next request is told so, and the places come back (R64)."""
    hold = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.target == b"/held":
                await hold.wait()
            await peer.send(OK)

    options = DataPlaneOptions(upstream_per_service=1)
    async with scene(script, options=options) as on, on.calling() as first, on.calling() as second:
        await on.ask(first)
        await first.send(raw.request("GET", "/svc/held", key=KEY))
        await with_two(on)
        assert code(await on.ask(second)) == "overloaded"
        hold.set()
        assert (await first.answer()).status == 200
        assert (await on.ask(second)).status == 200


async def test_a_service_that_does_not_answer() -> None:
    """The first-byte timeout counts: a 504 (R57)."""
    async with second_under_way(ended) as (on, caller, _):
        on.pool.sweep(on.pool.clock() + UpstreamTimeouts().first_byte + 1)
        assert code(await caller.answer()) == "upstream_timeout"


async def test_a_refused_token() -> None:
    """It is renewed and the request sent once more, as on the long way (R63)."""
    old = True

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            fine = old or request.value("authorization") == b"Bearer token-two"
            await peer.send(OK if fine else answer(401, b"no"))

    async with scene(script) as on, on.calling() as caller:
        await on.ask(caller)
        old = False
        on.source.newer = credential("token-two")
        assert (await on.ask(caller)).body == b"fine"
        assert tokens(on.upstream)[1:] == [b"Bearer token-one", b"Bearer token-two"]


async def test_an_echoed_token_is_masked() -> None:
    """The account's token in a head or a body is masked on the short way too."""
    token = credential().access_token.reveal().encode() + b"-of-some-length"

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer(200, b"<" + token + b">", (b"X-Echo", token)))

    async with scene(script) as on, on.calling() as caller:
        on.source.at_hand[None] = credential(token.decode())
        for _ in range(2):
            got = await on.ask(caller)
            assert token not in got.body
            assert got.value("x-echo") == b"*" * len(token)
        assert on.metrics.echoes == 4


async def test_draining_lets_it_finish() -> None:
    """A request under way when draining begins gets its answer, and then the connection ends (R70)."""
    hold = asyncio.Event()
    async with second_under_way(lambda _: hold.wait()) as (on, caller, _):
        draining = asyncio.ensure_future(on.server.drain(5))
        await asyncio.sleep(0)
        hold.set()
        got = await caller.answer()
        assert (got.status, got.value("connection")) == (200, b"close")
        assert (await caller.ending()).how == "eof"
        assert await draining


async def test_a_fault_of_ours_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What should not happen cuts that connection, and other callers go on; nothing is left behind."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with scene() as on:
        async with on.calling() as caller:
            await on.ask(caller)
            with monkeypatch.context() as patched:
                patched.setattr(Exchange, "relay_at_once", broken)
                await caller.send(GET)
                assert (await caller.ending()).closed
        assert (await on.call()).status == 200
        assert on.plane._at_work == {"svc": 0}
        assert "data_path_failed" in on.text.getvalue()


FIELDS: tuple[tuple[bytes, bytes], ...] = (
    (b"Connection", b"close"),
    (b"Connection", b"keep-alive, X-A"),
    (b"Content-Length", b"5"),
    (b"Transfer-Encoding", b"chunked"),
    (b"X-B", b" a "),
    (b"X-B", b"\x80\xff"),
    (b"X-B", b"a\tb"),
    (b"X-B", b""),
    (b"X-B", b"a\x00b"),
    (b"X-B", b"a\r\n b"),
    (b"X-B", b"a\rb"),
    (b"Proxy-Status", b"forged"),
)
METHODS = ("GET", "GET", "GET", "HEAD", "DELETE", "POST")


def odd_answer(dice: random.Random, method: str) -> tuple[bytes, ...]:
    """An answer, well-formed or nearly so, in one to five segments."""
    status = dice.choice([200, 200, 200, 204, 206, 304, 401, 404, 500])
    body = dice.choice([b"", b"fine", b"x" * 3000, b"y" * 70_000])
    fields = [(b"X-A", b"1"), *(dice.sample(FIELDS, 1) if dice.random() < 0.3 else ())]
    bodyless = method == "HEAD" or status in {204, 304}
    framing = dice.choice(["length", "length", "length", "chunked", "eof"])
    if framing == "length":
        data = answer(status, body, *fields)[: -len(body) if bodyless and body else None]
    elif framing == "chunked":
        data = answer(status, b"", *fields, (b"Transfer-Encoding", b"chunked"), length=False)
        data += b"" if bodyless else (chunk(body) if body else b"") + dice.choice([b"0\r\n\r\n", b"z\r\n"])
    else:
        data = answer(status, b"" if bodyless else body, *fields, length=False)
    if dice.random() < 0.1:
        data = b"HTTP/1.1 103 Early\r\n\r\n" + data
    if dice.random() < 0.1:
        data += answer(200, b"second")
    if dice.random() < 0.1:
        data = data[: dice.randrange(len(data))]
    cuts = sorted(dice.sample(range(1, len(data)), min(dice.randrange(5), len(data) - 1))) if data else []
    return tuple(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))


async def told(seed: int, *, short: bool) -> list[object]:
    """What callers get, services see and the log says of many odd answers, on the short way or the long one."""
    dice = random.Random(seed)
    asked = [dice.choice(METHODS) for _ in range(60)]
    answers = [odd_answer(dice, method) for method in asked]

    async def script(peer: Peer) -> None:
        number = (await peer.request()).target
        while number == b"/warm":
            await peer.send(answer(200, b"warm", (b"X-A", b"1")))
            number = (await peer.request()).target
        await peer.send(*answers[int(number[1:])])

    heard: list[object] = []
    async with scene(script) as on:
        ways = counting(on)
        if not short:
            on.server.begin = lambda *_: None
        for number, method in enumerate(asked):
            async with on.calling() as caller:
                await on.ask(caller, "/svc/warm")
                await caller.send(raw.request(method, f"/svc/{number}", key=KEY))
                try:
                    got = await caller.answer(method.encode())
                    own = got.value("proxy-status") is not None
                    heard.append((got.status, code(got) if own and got.body else (got.fields, got.body)))
                except strict.Incomplete:
                    heard.append(caller.ended)
        lines = await on.logged(2 * len(asked))
        heard += [tuple(line.get(name) for name in ("path", "status", "error", "outcome")) for line in lines]
        heard += [(message.method, message.target) for message in on.upstream.seen()]
        heard += tokens(on.upstream)
        assert not any(on.plane._at_work.values())
        assert ways()[1] >= len(asked) if short else not ways()[1]
    return heard


@pytest.mark.parametrize("seed", range(2))
async def test_nobody_can_tell_which_way_it_went(seed: int) -> None:
    """Callers, services and the log are told the same on both ways, whatever services answer (R42, R45-R50)."""
    assert await told(seed, short=True) == await told(seed, short=False)
