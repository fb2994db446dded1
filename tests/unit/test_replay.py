"""One refresh and one replay after a refused token, and answers that are looked at for it, over real sockets."""

import asyncio
import gzip
import json
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from support import raw
from support.plane import KEY, Scene, code, credential, scene, tokens
from support.upstream import Peer, Script, answer, chunk

from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Catalog, KeyPlace
from proxy.catalog.patterns import PathPattern
from proxy.errors import ReauthorizationRequired
from proxy.forwarding import exchange
from proxy.forwarding.limits import DataPlaneOptions
from proxy.forwarding.refusal import MOST_BYTES, MOST_S

SERVICES = load_catalog().services
OK = answer(200, b"fine")
REFUSED = answer(401, b"who are you?")
JSON = (b"Content-Type", b"application/json; charset=utf-8")
OLD, NEW = b"Bearer token-one", b"Bearer token-two"


def speaks(on: Scene, type_id: str, **more: Any) -> None:
    """From now on the scene's service has the words of this one of the catalog."""
    like = SERVICES[type_id]
    made = on.service("svc", failure=like.failure, verify=like.verify, **more)
    on.put(catalog=Catalog({"svc": made}))


def refusing(words: bytes, then: bytes = OK) -> Script:
    """Answers the first token with ``words`` and any other with ``then``, after the whole request."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            await peer.send(words if request.value("authorization") == OLD else then)

    return script


async def refusing_early(peer: Peer) -> None:
    """Refuses the first token before it reads any body."""
    while True:
        at = peer._at
        if OLD in await peer.head():
            await peer.send(REFUSED)
            return
        peer._at = at
        await peer.request()
        await peer.send(OK)


def bodies(on: Scene) -> list[bytes]:
    return [message.body for message in on.upstream.seen()]


def chunked(pieces: Iterable[bytes]) -> bytes:
    return b"".join(chunk(piece) for piece in pieces) + b"0\r\n\r\n"


# --- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_kept_body_is_replayed(size: int, framing: str) -> None:
    """A body of up to 64 KiB goes out again with the newer token, byte for byte, and the caller sees one answer (R63)."""
    body = random.Random(size).randbytes(size)
    async with scene(refusing(REFUSED)) as on, on.calling() as caller:
        on.source.newer = credential("token-two")
        fields = [("Transfer-Encoding", "chunked")] if framing == "chunked" else []
        head = raw.request("POST", "/svc/x", key=KEY, fields=fields, body=None)
        if framing == "length":
            await caller.send(raw.request("POST", "/svc/x", key=KEY, body=body))
        else:
            await caller.send(head + chunked([body[at : at + 5000] for at in range(0, size, 5000)]))
        got = await caller.answer()
        assert (got.status, got.body) == (200, b"fine")
        assert tokens(on.upstream) == [OLD, NEW]
        assert bodies(on) == [body, body]
        assert len(on.upstream.peers) == 1  # the refusal was read whole: its connection carried the replay
        assert on.counters.replayed == 1
        assert (await on.ask(caller)).status == 200
        assert (await on.logged())[0]["bytes_in"] == size


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_still_on_its_way_is_replayed(framing: str) -> None:
    """Refused in the middle of an upload: what was sent is sent again, then the rest as the caller sends it (R63)."""
    parts = [random.Random(n).randbytes(2_000) for n in range(5)]
    async with scene(refusing_early) as on, on.calling() as caller:
        on.source.newer = credential("token-two")
        size = [("Content-Length", "10000")] if framing == "length" else [("Transfer-Encoding", "chunked")]
        wrap = chunk if framing == "chunked" else bytes
        await caller.send(raw.request("PUT", "/svc/x", key=KEY, fields=size) + wrap(parts[0]))
        second = await on.upstream.peer(1)
        while len(second.received) < 2_000:
            await second.more()
        for part in parts[1:]:
            await caller.send(wrap(part))
        if framing == "chunked":
            await caller.send(b"0\r\n\r\n")
        assert (await caller.answer()).status == 200
        assert second.requests[0].body == b"".join(parts)
        assert second.requests[0].value("authorization") == NEW
        assert (await on.ask(caller)).status == 200
        assert (await on.logged())[0]["bytes_in"] == 10_000


async def test_an_unread_body_is_replayed_and_asked_for_once() -> None:
    """A caller that waits for 100-continue gets one, and its body reaches the service with the token that works (R63)."""
    async with scene(refusing_early) as on, on.calling() as caller:
        on.source.newer = credential("token-two")
        fields = [("Expect", "100-continue"), ("Content-Length", "5")]
        await caller.send(raw.request("POST", "/svc/x", key=KEY, fields=fields))
        assert await caller.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await on.upstream.peer(1)
        await caller.send(b"hello")
        assert (await caller.answer()).status == 200
        assert on.upstream.peers[1].requests[0].body == b"hello"
        assert caller.received.count(b"100 Continue") == 1


@pytest.mark.parametrize(("keep", "size", "replayed"), [(0, 1, False), (10, 10, True), (10, 11, False)])
async def test_no_more_is_kept_than_allowed(keep: int, size: int, replayed: bool) -> None:  # noqa: FBT001  # a column
    """``limits.replay_bytes`` bounds what is kept; a longer body's 401 passes, yet the next request has the newer token (R63)."""
    async with scene(refusing(REFUSED), options=DataPlaneOptions(replay_bytes=keep)) as on:
        on.source.newer = credential("token-two")
        assert (await on.call("POST", body=b"x" * size)).status == (200 if replayed else 401)
        assert len(on.source.refusals) == 1
        assert (await on.call("POST", body=b"x" * size)).status == 200
        assert len(on.upstream.seen()) == (3 if replayed else 2)


async def test_a_long_upload_is_not_replayed() -> None:
    """When more went out than is kept, the refusal passes at once and the connection ends, since the upload stops there (R61, R63)."""
    async with scene() as on, on.calling() as caller:

        async def script(peer: Peer) -> None:
            while len(peer.received) < 150_000:
                await peer.more()
            await peer.send(REFUSED)
            await peer.ended.wait()

        on.upstream.script = script
        on.source.newer = credential("token-two")
        head = raw.request("PUT", "/svc/x", key=KEY, fields=[("Content-Length", "10000000")])
        await caller.send(head + b"x" * 150_000)
        got = await caller.answer()
        assert (got.status, got.value("connection")) == (401, b"close")
        assert len(on.upstream.peers) == 1
        assert len(on.source.refusals) == 1


async def test_a_body_freed_of_the_key_is_replayed() -> None:
    """A form in which the key stood is replayed as it was sent: without the key (R31, R63)."""
    async with scene(refusing(REFUSED)) as on:
        place = KeyPlace("form", "token", (PathPattern("/**"),))
        on.put(catalog=Catalog({"svc": on.service("svc", key_places=(place,))}))
        on.source.newer = credential("token-two")
        fields = [("Content-Type", "application/x-www-form-urlencoded")]
        got = await on.call("POST", key=None, fields=fields, body=f"a=1&token={KEY}&b=2".encode())
        assert got.status == 200
        assert bodies(on) == [b"a=1&b=2"] * 2


async def test_a_second_refusal_of_a_body_passes() -> None:
    """The newer token is refused as well: that answer passes, nothing goes out a third time (R63)."""
    async with scene(refusing(REFUSED, REFUSED)) as on:
        on.source.newer = credential("token-two")
        got = await on.call("POST", body=b"abc")
        assert (got.status, got.body) == (401, b"who are you?")
        assert bodies(on) == [b"abc"] * 2
        assert len(on.source.refusals) == 1


async def test_a_dead_grant_is_told_with_the_way_out() -> None:
    """A refresh that proves the grant dead makes a 424 with ``connect_url``, for requests with bodies too (R63)."""
    options = DataPlaneOptions(connect_base_url="http://localhost:8081")
    async with scene(refusing(REFUSED), options=options) as on:
        on.source.failure = ReauthorizationRequired("connect again", service="svc")
        got = await on.call("POST", body=b"x" * 100_000)
        assert (got.status, code(got)) == (424, "reauthorization_required")
        assert json.loads(got.body)["connect_url"].startswith("http://localhost:8081/")


async def test_a_key_in_tiny_pieces_of_a_body() -> None:
    """A watched body is stopped however small the pieces are in which the key comes (R31)."""
    async with scene() as on, on.calling() as caller:
        place = KeyPlace("form", "token", (PathPattern("/**"),))
        on.put(catalog=Catalog({"svc": on.service("svc", key_places=(place,))}))
        fields = [("Content-Length", "1000"), ("Content-Type", "text/plain")]
        await caller.send(raw.request("POST", "/svc/x", key=KEY, fields=fields))
        peer = await on.upstream.peer(0)
        await peer.head()
        for at in range(len(KEY)):
            await caller.send(KEY[at : at + 1].encode())
            if at < len(KEY) - 1:
                while not peer.received.endswith(KEY[: at + 1].encode()):
                    await peer.more()
        assert (await caller.answer()).status == 400
        assert KEY.encode() not in peer.received


# --- refusals in answers that are no 401 ------------------------------------------------------------------


def graphql(kind: str) -> bytes:
    extensions = {"type": kind, "code": "AUTHENTICATION_ERROR", "userError": True}
    return json.dumps({"errors": [{"message": "no", "extensions": extensions}], "data": None}).encode()


EXPIRED = b'{"ok":false,"error":"token_expired"}'
WORDS = [
    ("slack", answer(200, EXPIRED, JSON)),
    ("slack", answer(200, gzip.compress(EXPIRED), JSON, (b"Content-Encoding", b"gzip"))),
    ("slack", answer(200, b"", JSON, (b"Transfer-Encoding", b"chunked"), length=False) + chunked([EXPIRED])),
    ("slack", answer(200, b'{"ok":false,"error":"invalid_auth"}', JSON)),
    ("linear", answer(200, graphql("authentication error"), JSON)),
    ("linear", answer(400, graphql("authentication error"), JSON)),
    ("salesforce", answer(400, b'{"exceptionCode":"InvalidSessionId","exceptionMessage":"x"}', JSON)),
    ("typeform", answer(403, b'{"code":"AUTHENTICATION_FAILED"}', JSON)),
]


@pytest.mark.parametrize(("type_id", "words"), WORDS)
async def test_the_services_own_words(type_id: str, words: bytes) -> None:
    """What Slack, Linear, Salesforce and Typeform say instead of 401 is followed by one refresh and one replay (R63, R127)."""
    async with scene(refusing(words)) as on:
        speaks(on, type_id)
        on.source.newer = credential("token-two")
        got = await on.call("POST", body=b"{}")
        assert (got.status, got.body) == (200, b"fine")
        assert tokens(on.upstream) == [OLD, NEW]


async def test_words_in_pieces() -> None:
    """An answer that comes in pieces, head first, is understood when its end comes soon (R127)."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.value("authorization") == NEW:
                await peer.send(OK)
                continue
            whole = answer(200, EXPIRED, JSON)
            await peer.send(*(whole[at : at + 40] for at in range(0, len(whole), 40)))

    async with scene(script) as on:
        speaks(on, "slack")
        on.source.newer = credential("token-two")
        assert (await on.call()).body == b"fine"


SCOPE = answer(
    200, b'{"ok":false,"error":"missing_scope","needed":"chat:write"}', JSON, (b"X-OAuth-Scopes", b"read")
)
FINE = answer(200, b'{"ok":true,"note":"token_expired"}', JSON)
NOT_ASKED = [
    ("slack", SCOPE),
    ("slack", FINE),
    ("slack", answer(200, EXPIRED, (b"Content-Type", b"text/plain"))),
    ("slack", answer(200, EXPIRED, JSON, (b"Content-Encoding", b"br"))),
    ("slack", answer(206, EXPIRED, JSON, (b"Content-Range", b"bytes 0-35/36"))),
    ("slack", answer(500, EXPIRED, JSON)),
    ("slack", answer(200, EXPIRED[:-1] + b" " * MOST_BYTES + b"}", JSON)),
    ("slack", answer(204, b"", JSON, length=False)),
    ("linear", answer(400, graphql("forbidden"), JSON)),
    ("dropbox", answer(401, b'{"error":{".tag":"missing_scope"}}', JSON)),
    ("clickup", answer(401, b'{"ECODE":"OAUTH_027"}', JSON)),
    ("github", answer(403, b'{"message":"Resource not accessible"}', JSON)),
]


@pytest.mark.parametrize(("type_id", "words"), NOT_ASKED)
async def test_what_is_no_refusal(type_id: str, words: bytes) -> None:
    """Missing scopes, good answers that mention a code, other types and long bodies pass unchanged; nobody is asked (R127)."""
    async with scene(refusing(words)) as on, on.calling() as caller:
        speaks(on, type_id)
        on.source.newer = credential("token-two")
        got = await on.ask(caller)
        assert b"\r\n\r\n" + got.body == words[words.index(b"\r\n\r\n") :]
        assert on.source.refusals == []
        assert len(on.upstream.seen()) == 1


async def test_no_body_no_words() -> None:
    """HEAD, 304 and a host without token: no body is waited for and nothing is asked."""
    async with scene(refusing(answer(200, b"", JSON, (b"Content-Length", b"36"), length=False))) as on:
        speaks(on, "slack")
        async with on.calling() as caller:
            await caller.send(raw.request("HEAD", "/svc/x", key=KEY))
            assert (await caller.answer(b"HEAD")).value("content-length") == b"36"
        assert on.source.refusals == []


@pytest.mark.parametrize("newer", [True, False])
async def test_a_held_answer_is_relayed_as_it_came(newer: bool) -> None:  # noqa: FBT001  # a column
    """An answer that was looked at reaches the caller byte for byte: without a newer token, and the second one (R63)."""
    words = answer(200, EXPIRED, JSON, (b"X-Slack-Req-Id", b"1"))
    async with scene(refusing(words, words)) as on:
        speaks(on, "slack")
        on.source.newer = credential("token-two") if newer else None
        got = await on.call()
        assert (got.status, got.body, got.value("x-slack-req-id")) == (200, EXPIRED, b"1")
        assert len(on.upstream.seen()) == 1 + newer


@pytest.mark.parametrize("seed", range(12))
async def test_bodies_in_any_pieces_pass_unchanged(seed: int) -> None:
    """However an answer is cut, around the bounds of looking too, the caller gets exactly its bytes."""
    chance = random.Random(seed)
    size = chance.choice([0, 5, 300, MOST_BYTES - 1, MOST_BYTES, MOST_BYTES + 1, 30_000])
    body = (b'{"a":"' + b"x" * size)[: size - 2] + b'"}'
    cuts = sorted(chance.randrange(len(body) + 1) for _ in range(chance.randrange(8)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]

    async def script(peer: Peer) -> None:
        await peer.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        match seed % 3:
            case 0:
                await peer.send(head + b"Content-Length: %d\r\n\r\n" % len(body), *pieces)
            case 1:
                await peer.send(
                    head + b"Transfer-Encoding: chunked\r\n\r\n", *map(chunk, pieces), b"0\r\n\r\n"
                )
            case _:
                await peer.send(head + b"\r\n", *pieces)
                await peer.finish()

    async with scene(script) as on:
        speaks(on, "slack")
        got = await on.call()
        assert (got.status, got.body) == (200, body)


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ((JSON, (b"Transfer-Encoding", b"chunked")), b""),
        ((JSON, (b"Transfer-Encoding", b"chunked")), chunk(b'{"ok":')),
        ((JSON, (b"Content-Length", b"30")), b'{"ok":'),
        ((JSON,), b'{"ok":'),
    ],
)
async def test_a_drip_is_held_for_a_moment_only(fields: Sequence[tuple[bytes, bytes]], first: bytes) -> None:
    """An answer whose body does not come passes after 50 ms, as far as it came (R56)."""
    assert MOST_S == 0.05
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, b"", *fields, length=False) + first)
        await go_on.wait()

    async with scene(script) as on, on.calling() as caller:
        speaks(on, "slack")
        began = time.monotonic()
        await caller.send(raw.request("GET", "/svc/x", key=KEY))
        await caller.until(b'{"ok":' if first else b"\r\n\r\n")
        assert time.monotonic() - began > MOST_S * 0.9
        go_on.set()


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        (((b"Content-Type", b"text/event-stream"),), b"data: 1\n\n"),
        ((JSON, (b"Content-Length", b"%d" % (MOST_BYTES + 1))), b""),
        ((JSON, (b"Transfer-Encoding", b"chunked")), chunk(b'{"ok":true,')),
        ((JSON, (b"Transfer-Encoding", b"chunked")), chunk(b'["a",')),
        ((JSON, (b"Transfer-Encoding", b"chunked")), chunk(b'{"ok":' + b" " * MOST_BYTES)),
    ],
)
async def test_streams_are_not_held(
    fields: Sequence[tuple[bytes, bytes]], first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Event streams, long answers and those that begin with success pass at once, without any timer (R56)."""
    monkeypatch.setattr(exchange, "MOST_S", 100.0)
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, b"", *fields, length=False) + first)
        await go_on.wait()

    async with scene(script) as on, on.calling() as caller:
        speaks(on, "slack")
        await caller.send(raw.request("GET", "/svc/x", key=KEY))
        await caller.until(b"\r\n\r\n")
        go_on.set()


async def test_a_caller_that_leaves_meanwhile() -> None:
    """A caller that leaves while an answer is held or a token is renewed takes the exchange with it, as a 499 (R58)."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.target == b"/held":
            await peer.send(answer(200, b"", JSON, (b"Content-Length", b"30"), length=False))
        else:
            await peer.send(REFUSED)
        await peer.ended.wait()

    async with scene(script) as on:
        speaks(on, "slack")
        asked = asyncio.Event()

        async def never(_: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        on.source.refused = never  # type: ignore[method-assign,assignment]  # the test's own source
        async with on.calling() as caller:
            await caller.send(raw.request("POST", "/svc/renewed", key=KEY, body=b"x"))
            await asked.wait()
            caller.leave()
        await on.upstream.peers[0].ended.wait()
        async with on.calling() as caller:
            await caller.send(raw.request("GET", "/svc/held", key=KEY))
            await (await on.upstream.peer(1)).head()
            caller.leave()
        await on.upstream.peers[1].ended.wait()
        assert {line["status"] for line in await on.logged(2)} == {499}


async def test_where_no_token_goes_none_is_refused() -> None:
    """A host that takes calls without a token says nothing about it with its 401: it passes, and nobody is asked."""
    async with scene(refusing(REFUSED, REFUSED)) as on:
        host = on.catalog.services["svc"].hosts[0]
        bare = type(host)(host.name, host.origin, none_when=(PathPattern("/free/**"),))
        service = on.service("svc")
        on.put(catalog=Catalog({"svc": type(service)(**{**fields_of(service), "hosts": (bare,)})}))
        on.source.newer = credential("token-two")
        assert (await on.call(target="/svc/free/x")).status == 401
        assert on.source.refusals == []
        assert (await on.call(target="/svc/x")).status == 401
        assert len(on.source.refusals) == 1


def fields_of(service: Any) -> dict[str, Any]:
    return {name: getattr(service, name) for name in type(service).__slots__}
