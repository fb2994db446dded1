"""WebSockets through the proxy: bytes both ways after the same steps as any request (R66)."""

import asyncio
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from support import raw, steps
from support.lab import SHORT, Lab
from support.plane import KEY, OTHER_KEY, Scene, code, credential, scene
from support.proxy import TOKEN, service_file
from support.raw import Caller
from support.upstream import Peer, replying, silent
from support.websockets import ACCEPT, NONCE, OFFER, SWITCH, handshake, mirror, quiet, switching, taken

from proxy.forwarding.limits import DataPlaneOptions, ServerLimits
from proxy.forwarding.pool import UpstreamTimeouts
from proxy.forwarding.server import SWEEP_S
from proxy.forwarding.switching import EARLY_BYTES

MIB = 2**20
CEILING = 16 * MIB  # R60


async def opened(caller: Caller, target: str = "/svc/live", key: str = KEY) -> bytes:
    """The head of the 101 to a handshake on an open connection."""
    await caller.send(handshake(target, key))
    head = await caller.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return head


async def ended(peer: Peer) -> None:
    """Waits until the service has been told that nothing more comes, or lost its connection."""
    async with asyncio.timeout(raw.DEADLINE):
        await peer.ended.wait()


# --- real client, real server, TLS ---------------------------------------------------------------------


class Service:
    """aiohttp's own WebSocket server over TLS, which keeps the handshakes that reached it."""

    def __init__(self) -> None:
        self.handshakes: list[web.Request] = []
        self.closings: list[int | None] = []

    async def talk(self, request: web.Request) -> web.WebSocketResponse:
        self.handshakes.append(request)
        socket = web.WebSocketResponse(protocols=("chat",), max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        self.closings.append(socket.close_code)
        return socket


async def _closed(_: web.Request) -> web.Response:
    return web.Response(status=403, text="not here")


async def _addresses(_: web.Request) -> web.Response:
    """As services tell where to go on: on the same host with the token, elsewhere with a ticket, or for others."""
    own, ticket = "wss://live.example/live/9?a=%2F", "wss://tickets.example/live/9?ticket=x%27y"
    told = {"url": own, "ticket_url": ticket, "other_url": "wss://other.example/live/9", "text": own}
    return web.json_response(told)


@contextlib.asynccontextmanager
async def serving(service: Service, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """Its address."""
    app = web.Application()
    app.router.add_get("/live/{compress}", service.talk)
    app.router.add_get("/closed", _closed)
    app.router.add_get("/connect", _addresses)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


@pytest.fixture(scope="module")
def own(runner, authority, service, tmp_path_factory) -> Iterator[Lab]:
    """A proxy before aiohttp's server, with short timeouts and the scripted services ``test`` and ``plain``."""
    stack = contextlib.AsyncExitStack()

    async def start() -> Lab:
        hosts = ("live.example", "tickets.example")
        address = await stack.enter_async_context(serving(service, authority.server(*hosts)))
        lab = Lab(
            authority,
            tmp_path_factory.mktemp("websocket"),
            services={"live": service_file("https://live.example") + ADDRESSED},
            connect_to={f"{host}:443": address for host in hosts},
            settings={"timeouts": SHORT},
        )
        await lab.start()
        return lab

    lab = runner.run(start())
    with lab.proxy:
        yield lab
    runner.run(lab.stop())
    runner.run(stack.aclose())


ADDRESSED = """
[[links]]
in = "websocket"
names = ["*url"]
paths = ["/connect"]

[[presigned]]
host = "tickets.example"
"""


@contextlib.asynccontextmanager
async def client(lab: Lab, target: str, **options) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Aiohttp's own client, with the key where SDKs put theirs."""
    url = "http://{}:{}{}".format(*lab.proxy.address, target)
    headers = {"Authorization": f"Bearer {lab.proxy.key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers=headers, max_msg_size=0, **options) as socket,
    ):
        yield socket


async def logged(lab: Lab, path: str) -> dict[str, object]:
    """The log's event of the request for ``path``, once it is there."""
    async with asyncio.timeout(raw.DEADLINE):
        while True:
            for event in lab.proxy.events():
                if event.get("event") == "request" and event.get("path") == path:
                    return event
            await asyncio.sleep(0.02)


async def test_addresses_in_answers_are_followed(own: Lab, service: Service) -> None:
    """A declared address of a WebSocket on the service's host needs the key, a presigned one none and gets no token; others stay."""
    told = json.loads((await own.call("GET", "/live/connect")).body)
    base = "ws://proxy.example/live/"
    assert told["url"] == base + "live/9?a=%2F"
    assert told["ticket_url"].startswith(base + "~~")
    assert (told["other_url"], told["text"]) == (
        "wss://other.example/live/9",
        "wss://live.example/live/9?a=%2F",
    )
    for address, is_open in ((told["url"], False), (told["ticket_url"], True)):
        target = address.removeprefix("ws://proxy.example")
        service.handshakes.clear()
        async with raw.calling(own.proxy.address) as caller:
            await caller.send(handshake(target, None if is_open else own.proxy.key))
            assert (await caller.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            frame = b"\x81\x82\0\0\0\0hi"
            await caller.send(frame)
            assert await caller.until(b"hi")
        (arrived,) = service.handshakes
        assert arrived.host == ("tickets.example" if is_open else "live.example")
        assert arrived.raw_path == ("/live/9?ticket=x%27y" if is_open else "/live/9?a=%2F")
        assert arrived.headers.get("Authorization") == (None if is_open else f"Bearer {TOKEN}")
    refused = await raw.call(own.proxy.address, "GET", urlsplit(told["url"]).path, key=None, fields=OFFER)
    assert refused.status == 401
    changed = told["ticket_url"].removeprefix("ws://proxy.example").replace("ticket=x", "ticket=z")
    assert (await raw.call(own.proxy.address, "GET", changed, key=None, fields=OFFER)).status == 403


@pytest.mark.parametrize("compress", [0, 15], ids=["plain", "permessage-deflate"])
async def test_aiohttp_on_both_sides_over_tls(own: Lab, service: Service, compress: int) -> None:
    """Text, binary, empty and large messages, a ping and the closing handshake pass; the account's token is sent, the key not (R66, R31)."""
    path = f"/live/live/{compress}"
    async with client(own, path, protocols=("other", "chat"), compress=compress) as socket:
        assert socket.protocol == "chat"
        await socket.send_str("grüße")
        assert await socket.receive_str() == "grüße"
        for size in (0, 1, 125, 126, 65535, 65536, 3 * MIB):
            message = bytes(range(256)) * (size // 256) + bytes(size % 256)
            await socket.send_bytes(message)
            assert await socket.receive_bytes() == message
        await socket.ping(b"there?")
        assert await socket.close(code=4001, message=b"done")
    assert service.closings[-1] == 4001
    came = service.handshakes[-1]
    assert came.headers["Authorization"] == f"Bearer {TOKEN}"
    assert came.headers["Host"] == "live.example"
    assert own.proxy.key not in str(came.headers) + came.raw_path
    event = await logged(own, path)
    assert (event["status"], event["outcome"]) == (101, "answered")
    assert min(event["bytes_in"], event["bytes_out"]) > (3 * MIB if not compress else 1000)


async def test_a_refusal_by_the_service_is_an_ordinary_answer(own: Lab) -> None:
    """What is no 101 reaches the caller as it is, its connection and the service's are used no more (R43, R66)."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client(own, "/live/closed"):
            pass
    assert refused.value.status == 403


async def test_100_mebibytes_both_ways_past_slow_peers(own: Lab, report) -> None:
    """Each direction stalls at times; every byte arrives, and memory stays within 16 MiB (R60, R66)."""
    total, block = 100 * MIB, bytes(range(256)) * 1024
    expected = hashlib.sha256(block * (total // len(block))).digest()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.keep, peer.count = False, 0
        await peer.send(SWITCH + b"\r\n")
        for number in range(total // len(block)):
            if number == 100:
                peer.stop_reading()
                await asyncio.sleep(0.3)
                peer.go_on_reading()
            await peer.send(block)
        while peer.count < total:
            await peer.more()
        await peer.send(peer.digest.digest())

    await own.upstream.fresh(script)
    async with own.calling() as caller:
        before = own.proxy.rss()
        await opened(caller, "/test/mib", own.proxy.key)

        async def up() -> None:
            for _ in range(total // len(block)):
                await caller.send(block)

        sending = asyncio.create_task(up())
        digest, got = hashlib.sha256(caller.received[caller._at :]), len(caller.received) - caller._at
        while got < total:
            data = await asyncio.wait_for(caller._reader.read(min(MIB, total - got)), 20)
            if not digest.copy().digest() or got // (30 * MIB) != (got + len(data)) // (30 * MIB):
                await asyncio.sleep(0.2)
            digest.update(data)
            got += len(data)
        grown = own.proxy.rss() - before
        await sending
        assert digest.digest() == expected
        assert await caller._reader.readexactly(32) == expected
    report(f"websocket: 2 x {total // MIB} MiB, RSS +{grown / MIB:.1f} MiB")
    assert grown < CEILING


async def test_a_service_cut_without_a_farewell_is_told_as_such(own: Lab) -> None:
    """A TLS stream that ends without its end is recorded as cut, and the caller's connection ends too (R45, R66)."""

    async def cut(peer: Peer) -> None:
        await taken(peer, 2)
        peer.reset()

    await own.upstream.fresh(switching(cut))
    async with own.calling() as caller:
        await opened(caller, "/test/cut", own.proxy.key)
        await caller.send(b"hi")
        assert (await caller.ending()).closed
    event = await logged(own, "/test/cut")
    assert (event["status"], event["outcome"], event["error"]) == (101, "cut", "upstream_protocol")


async def test_silence_both_ways_ends_it(own: Lab) -> None:
    """A tunnel that nobody uses ends at the idle timeout; one in use does not (R57, R66)."""
    await own.plain.fresh(switching(mirror))
    async with own.calling() as busy, own.calling() as idle:
        await opened(idle, "/plain/idle", own.proxy.key)
        await opened(busy, "/plain/busy", own.proxy.key)
        ending = asyncio.create_task(idle.ending(30))
        while not ending.done():
            await busy.send(b"x")
            await busy.until(b"x")
            await asyncio.sleep(0.3)
        assert (await ending).closed
        await busy.send(b"y")
        await busy.until(b"y")
    event = await logged(own, "/plain/idle")
    assert (event["outcome"], event["error"]) == ("cut", "upstream_timeout")


# --- the handshake -------------------------------------------------------------------------------------


async def test_what_is_answered_and_what_is_sent() -> None:
    """The 101 comes with the service's own fields; the service gets one clean handshake (R28, R31, R66)."""
    script = switching(mirror, more=b"Sec-WebSocket-Protocol: chat\r\nAlt-Svc: h3\r\nX-Own: 1\r\n")
    async with scene(script) as one, one.calling() as caller:
        offered = (("Sec-WebSocket-Protocol", f"chat, {KEY}"), ("Cookie", "a=1"))
        await caller.send(handshake(f"/svc/live?a=1&key={KEY}&b=2", KEY, offered))
        head = await caller.until(b"\r\n\r\n")
        assert head == (
            b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n"
            b"Sec-WebSocket-Protocol: chat\r\nX-Own: 1\r\nVia: 1.1 connector-proxy\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        sent = bytes((await one.upstream.peer()).received)
        assert sent == (
            b"GET /live?a=1&b=2 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Protocol: chat\r\nAuthorization: Bearer token-one\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % (one.upstream.port, NONCE)
        )


@pytest.mark.parametrize("split", [0, 1, 40, -1], ids=["glued", "first-byte", "inside", "behind-head"])
async def test_frames_right_behind_the_handshake_are_frames(split: int) -> None:
    """Bytes in the handshake's own segment, HTTP-like ones too, reach the service in order and are read as nothing else (R17, R66)."""
    early = b"GET /svc/smuggled HTTP/1.1\r\nHost: a\r\n\r\n" + bytes(range(256)) * 8
    async with scene(switching(mirror, behind=b"welcome")) as one, one.calling() as caller:
        whole = handshake("/svc/live", KEY)
        at = len(whole) if split == -1 else split
        for piece in (whole[:at], whole[at:] + early) if at else (whole + early,):
            await caller.send(piece)
            await asyncio.sleep(0.02)
        await caller.until(b"\r\n\r\nwelcome")
        assert await caller.until(early) == early
        assert len(one.upstream.peers) == 1
    assert len(await one.logged()) == 1


async def test_much_sent_before_the_answer_waits_in_the_network() -> None:
    """A caller that does not wait for the 101 is held back after 64 KiB, and nothing is lost (R60)."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await go.wait()
        await peer.send(SWITCH + b"\r\n")
        await mirror(peer)

    early = bytes(range(256)) * (40 * EARLY_BYTES // 256)
    async with scene(script) as one, one.calling() as caller:
        sending = asyncio.create_task(caller.send(handshake("/svc/live", KEY) + early))
        await one.upstream.peer()
        (connection,) = one.server.connections
        for _ in range(100):
            await asyncio.sleep(0.01)
            if connection.switching._paused:
                break
        assert EARLY_BYTES < len(connection.switching._early) < 8 * EARLY_BYTES
        go.set()
        await caller.until(b"\r\n\r\n")
        await caller.until(early)
        await sending


@pytest.mark.parametrize(
    ("offer", "status", "problem"),
    [
        (OFFER[:3], 400, "bad_request"),
        ((*OFFER, ("Content-Length", "5")), 400, "bad_request"),
        ((*OFFER[:2], ("Sec-WebSocket-Version", "8"), OFFER[3]), 400, "websocket_version"),
        ((OFFER[0], ("Upgrade", "websocket, h2c"), *OFFER[2:]), 501, "upgrade_unsupported"),
        ((OFFER[0], ("Upgrade", "tcp"), *OFFER[2:]), 501, "upgrade_unsupported"),
    ],
)
async def test_a_bad_handshake_reaches_nobody(offer, status: int, problem: str) -> None:
    """It is refused with its code, the connection ends, what stands behind it is not read (R17, R66)."""
    async with scene(switching(mirror)) as one, one.calling() as caller:
        await caller.send(handshake("/svc/live", KEY, offer=offer) + b"GET /svc/x HTTP/1.1\r\n\r\n")
        got = await caller.answer()
        assert (got.status, code(got)) == (status, problem)
        assert got.value("sec-websocket-version") == (b"13" if problem == "websocket_version" else None)
        assert (await caller.ending()).closed
        assert one.upstream.peers == []


async def test_a_handshake_behind_an_unanswered_request_is_refused() -> None:
    """Which bytes are whose would be unclear: the request before it is answered, the handshake is not made (R17)."""
    async with (
        scene(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as one,
        one.calling() as caller,
    ):
        await caller.send(raw.request("GET", "/svc/x", key=KEY) + handshake("/svc/live", KEY) + b"\x81\x00")
        assert (await caller.answer()).status == 200
        assert (await caller.answer()).status == 400
        assert (await caller.ending()).closed
        assert len(one.upstream.seen()) == 1


async def test_a_handshake_on_a_kept_connection() -> None:
    """After an ordinary request its connection may carry a handshake; the service's is another than the pooled one (R66, R67)."""
    async with scene() as one, one.calling() as caller:
        assert (await one.ask(caller)).status == 200
        one.upstream.script = switching(mirror)
        await opened(caller)
        await caller.send(b"hi")
        await caller.until(b"hi")
        assert len(one.upstream.peers) == 2
        assert one.pool.open_connections == 2


@pytest.mark.parametrize(
    ("target", "key", "status"),
    [
        ("/svc/live", "none", 401),
        ("/svc/live", "unknown", 401),
        ("/svc/oauth/token", "good", 403),
        ("/nothing/live", "good", 404),
        ("/svc/../other/live", "good", 400),
    ],
)
async def test_the_steps_of_any_request_come_first(target: str, key: str, status: int) -> None:
    """Key, service, path and permit are judged as ever, and nothing is dialled for what is refused (R66, R85)."""
    keys = {"none": None, "unknown": OTHER_KEY, "good": KEY}
    async with scene(switching(mirror)) as one, one.calling() as caller:
        await caller.send(handshake(target, keys[key]))
        assert (await caller.answer()).status == status
        assert one.upstream.peers == []


async def test_a_key_for_reading_opens_none() -> None:
    """A permit that names methods covers a WebSocket only if it names WEBSOCKET (R90)."""
    async with scene(switching(mirror)) as one:
        one.keys(steps.record("svc:GET"))
        async with one.calling() as caller:
            await caller.send(handshake("/svc/live", KEY))
            got = await caller.answer()
            assert (got.status, code(got)) == (403, "not_permitted")
        one.keys(steps.record("svc:GET,WEBSOCKET:/live"))
        async with one.calling() as caller:
            await opened(caller)


async def test_a_read_only_key_opens_none_and_an_observing_one_does() -> None:
    """No reviewed list holds a WebSocket; what only observes lets it be, from the handshake to its end (R66, R90)."""
    async with scene(switching(mirror)) as one:
        one.keys(steps.record("svc:read-only"))
        async with one.calling() as caller:
            await caller.send(handshake("/svc/live", KEY))
            assert code(await caller.answer()) == "not_permitted"
        one.keys(steps.record("svc:observe,GET"))
        async with one.calling() as caller:
            await opened(caller)
            for connection in one.server.connections:
                connection.check(asyncio.get_running_loop().time())  # what the sweep does
            await caller.send(b"still here")
            await caller.until(b"still here")


async def test_a_service_that_does_not_answer_or_answers_badly() -> None:
    """A hang-up or an impossible switch is 502, silence 504: the caller never sees half a 101 (R46, R49, R66)."""
    cases = [
        (replying(b"", then="finish"), 502),
        (replying(b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), 502),
        (silent, 504),
    ]
    async with scene() as one:
        one.pool._timeouts = UpstreamTimeouts(first_byte=0.3)
        one.pool.start()
        for script, status in cases:
            await one.upstream.fresh(script)
            async with one.calling() as caller:
                await caller.send(handshake("/svc/live", KEY))
                assert (await caller.answer()).status == status


async def test_a_refused_token_is_renewed_once() -> None:
    """A 401 to the handshake gets one newer token and one more handshake, on a new connection (R63, R127)."""

    async def script(peer: Peer) -> None:
        head = await peer.head()
        if b"token-one" in head:
            await peer.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
            await peer.ended.wait()
        await peer.send(SWITCH + b"\r\n")
        await mirror(peer)

    async with scene(script) as one, one.calling() as caller:
        one.source.newer = credential("token-two")
        await opened(caller)
        assert len(one.upstream.peers) == 2


async def test_the_token_in_a_101_is_masked() -> None:
    """A service that repeats the token in its head does not hand it to the caller (R143)."""
    token = "token-0123456789-abcdef"
    more = f"X-You-Sent: {token}\r\n".encode()
    async with scene(switching(mirror, more=more)) as one, one.calling() as caller:
        one.source.at_hand[None] = credential(token)
        head = await opened(caller)
        assert b"X-You-Sent: " in head
        assert token.encode() not in head


# --- ends ----------------------------------------------------------------------------------------------


async def test_the_caller_ends_its_side_first() -> None:
    """Its FIN reaches the service, whose last words still reach the caller (GO half-close, R66)."""

    async def script(peer: Peer) -> None:
        await ended(peer)
        await peer.send(b"last words")

    async with scene(switching(script)) as one, one.calling() as caller:
        one.upstream.half_open = True
        await opened(caller)
        caller.half_close()
        await caller.until(b"last words")
        assert (await caller.ending()).how == "eof"
        (event,) = await one.logged()
        assert (event["status"], event["outcome"], event["bytes_out"]) == (101, "answered", 10)


async def test_the_service_ends_its_side_first() -> None:
    """Its FIN reaches the caller, whose last words still reach the service (GO half-close, R66)."""

    async def script(peer: Peer) -> None:
        peer.transport.write_eof()
        assert await taken(peer, 10) == b"last words"
        await ended(peer)

    async with scene(switching(script)) as one, one.calling() as caller:
        await opened(caller)
        assert (await caller.ending()).how == "eof"
        await caller.send(b"last words")
        caller.half_close()
        peer = await one.upstream.peer()
        await ended(peer)
        assert peer.received.endswith(b"last words")
        (event,) = await one.logged()
        assert (event["outcome"], event["bytes_in"]) == ("answered", 10)


async def test_a_service_that_ends_in_the_segment_of_its_101() -> None:
    """Handshake, bytes and end at once are passed on in that order (R66)."""

    async def script(peer: Peer) -> None:
        peer.transport.write_eof()
        await ended(peer)

    async with scene(switching(script, behind=b"bye")) as one, one.calling() as caller:
        await opened(caller)
        await caller.until(b"bye")
        assert (await caller.ending()).how == "eof"
        caller.half_close()
        await ended(await one.upstream.peer())


@pytest.mark.parametrize("during", ["handshake", "tunnel"])
async def test_a_caller_that_leaves_ends_the_services_side(during: str) -> None:
    """The service's connection ends and the place at the service is free, without a timer (R58, R64)."""
    script = switching(quiet) if during == "tunnel" else silent
    async with scene(script, options=DataPlaneOptions(upstream_per_service=1)) as one:
        async with one.calling() as caller:
            await caller.send(handshake("/svc/live", KEY))
            if during == "tunnel":
                await caller.until(b"\r\n\r\n")
            peer = await one.upstream.peer()
            while b"\r\n\r\n" not in peer.received:
                await peer.more()
            caller.leave()
            await ended(peer)
        (event,) = await one.logged()
        told = ("answered", 101) if during == "tunnel" else ("caller_left", 499)
        assert (event["outcome"], event["status"]) == told
        assert one.plane._at_work["svc"] == 0


async def test_a_tunnel_holds_a_place_at_its_service() -> None:
    """Open WebSockets count as requests at work; one too many is 503 (R64)."""
    only_one = DataPlaneOptions(upstream_per_service=1)
    async with (
        scene(switching(mirror), options=only_one) as one,
        one.calling() as first,
        one.calling() as second,
    ):
        await opened(first)
        await second.send(handshake("/svc/live", KEY))
        got = await second.answer()
        assert (got.status, code(got)) == (503, "overloaded")


def _revoke(one: Scene) -> None:
    one.keys()


def _expire(one: Scene) -> None:
    one.wall += 1000


def _narrow(one: Scene) -> None:
    one.keys(steps.record("svc:GET"))


def _remove(one: Scene) -> None:
    one.source.removed.add("id-main")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_revoke, "invalid_key"),
        (_expire, "invalid_key"),
        (_narrow, "not_permitted"),
        (_remove, "not_connected"),
    ],
)
async def test_what_is_taken_back_ends_it_within_a_second(change, error: str) -> None:
    """Key revoked, expired or narrowed, connection removed: both sides are cut, and the record says why (R89)."""
    async with scene(switching(quiet)) as one, one.calling() as caller, one.calling() as reader:
        one.server.start()
        one.keys(steps.record("svc", expires_at=one.wall + 500))
        await opened(caller)
        peer = await one.upstream.peer()
        change(one)
        assert SWEEP_S <= 0.5
        assert (await caller.ending()).closed
        await ended(peer)
        (event,) = await one.logged()
        assert (event["status"], event["outcome"], event["error"]) == (101, "cut", error)
        reader.leave()


async def test_a_renewed_token_ends_nothing() -> None:
    """The account's token changes under an open WebSocket, which was let in with the one before (R89)."""
    async with scene(switching(mirror)) as one, one.calling() as caller:
        await opened(caller)
        one.source.at_hand[None] = credential("token-two")
        one.keys(steps.record("svc"), steps.record("*", key=steps.OTHER_KEY))
        for connection in one.server.connections:
            connection.check(asyncio.get_running_loop().time())  # what the sweep does
        await caller.send(b"still here")
        await caller.until(b"still here")


async def test_a_stop_gives_it_the_drain_time_then_cuts() -> None:
    """An open WebSocket works on while the server drains, and is cut when the time is over (R70)."""
    async with scene(switching(mirror)) as one, one.calling() as caller:
        await opened(caller)
        one.plane.draining = True
        drain = asyncio.create_task(one.server.drain(0.5))
        await asyncio.sleep(0.1)
        await caller.send(b"not yet")
        await caller.until(b"not yet")
        assert await drain is False
        assert (await caller.ending()).closed
        (event,) = await one.logged()
        assert (event["status"], event["outcome"]) == (101, "cut")


async def test_a_caller_that_reads_nothing_slows_the_service() -> None:
    """Back-pressure down: the service is not read while the caller does not read, whose connection is not taken for dead (R60, R69)."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        while True:
            await peer.send(bytes(65536))
            sent += 65536

    impatient = ServerLimits(keep_alive_s=0.2)
    async with scene(switching(script), limits=impatient) as one, one.calling() as caller:
        one.server.start()
        caller.stop_reading()
        await caller.send(handshake("/svc/live", KEY))
        await one.upstream.peer()
        seen = -1
        async with asyncio.timeout(raw.DEADLINE):
            while seen != sent or not sent:
                seen = sent
                await asyncio.sleep(0.3)
        assert len(one.server.connections) == 1
        caller.go_on_reading()
        await caller.until(b"\r\n\r\n" + bytes(1000))


async def test_metrics_and_log_tell_of_it() -> None:
    """Bytes and seconds of the tunnel stand in its one event; the latency histograms hold the handshake only (R154, R158)."""
    async with scene(switching(mirror)) as one:
        async with one.calling() as caller:
            await opened(caller)
            await caller.send(b"x" * 1000)
            await caller.until(b"x" * 1000)
            await asyncio.sleep(0.3)
        (event,) = await one.logged()
        counts = one.metrics.service("svc")
        assert (event["bytes_in"], event["bytes_out"], event["status"]) == (1000, 1000, 101)
        assert event["duration_ms"] >= 300  # the time that the tunnel was silent
        assert counts.requests == {("read", 101): 1}
        assert counts.duration.total < event["duration_ms"] / 1000 - 0.29
        assert KEY not in one.text.getvalue()
