"""What is sent again, and what never is (R62)."""

import asyncio
from collections import Counter

import pytest
from support import raw
from support.lab import Lab
from support.proxy import service_file
from support.raw import document
from support.toxic import Relay, ResetPeer
from support.upstream import Gone, Peer, Upstream, answer, chunk


def arrivals(*upstreams: Upstream) -> Counter[bytes]:
    """How often each target arrived."""
    return Counter(message.target for upstream in upstreams for message in upstream.seen())


async def dies_at_once(peer: Peer) -> None:
    await peer.request()
    raise Gone


async def dies_on_the_second(peer: Peer) -> None:
    """Serves one request a connection, then dies with the next one in its hands."""
    await peer.request()
    await peer.send(answer(200))
    await peer.request()
    raise Gone


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"])
async def test_a_fresh_connection_that_dies_is_the_end(lab: Lab, method: str) -> None:
    """On a fresh connection nothing is ever sent again, DELETE and PUT included (trap 5, NGX proxy_non_idempotent, R62)."""
    await lab.upstream.fresh(dies_at_once)
    got = await lab.call(method, "/test/once", body=b"x" if method in {"POST", "PATCH", "PUT"} else None)
    assert got.status == 502
    assert arrivals(lab.upstream) == {b"/once": 1}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_reused_connection_that_dies_is_tried_once_more(lab: Lab, method: str) -> None:
    """A request without a body on a pooled connection that died unanswered is sent once more on a fresh one (R62)."""
    await lab.upstream.fresh(dies_on_the_second)
    assert (await lab.call("GET", "/test/first")).status == 200
    async with lab.calling() as caller:
        await caller.send(raw.request(method, "/test/second", key=lab.proxy.key))
        got = await caller.answer(method.encode())
    assert got.status == 200
    assert arrivals(lab.upstream)[b"/second"] == 2


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "LOCK", "DELETE"])
async def test_what_has_a_body_or_an_effect_is_not_repeated(lab: Lab, method: str) -> None:
    """POST, PATCH, unknown methods and anything with a body arrive once, also on a reused connection (CAD, R62)."""
    await lab.upstream.fresh(dies_on_the_second)
    assert (await lab.call("GET", "/test/first")).status == 200
    got = await lab.call(method, "/test/second", body=b"x")
    assert got.status == 502
    assert arrivals(lab.upstream)[b"/second"] == 1


@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
async def test_unsafe_without_a_body_is_not_repeated(lab: Lab, method: str) -> None:
    """A POST without a body is as little repeatable (R62)."""
    await lab.upstream.fresh(dies_on_the_second)
    assert (await lab.call("GET", "/test/first")).status == 200
    assert (await lab.call(method, "/test/second")).status == 502
    assert arrivals(lab.upstream)[b"/second"] == 1


async def test_nothing_is_repeated_after_a_byte_of_answer(lab: Lab) -> None:
    """Once a byte of the answer came, even a GET is not sent again (R62)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, b"ok"))
        await peer.request()
        await peer.send(b"HTTP/1.1 2")
        raise Gone

    await lab.upstream.fresh(script)
    assert (await lab.call("GET", "/test/first")).status == 200
    assert (await lab.call("GET", "/test/second")).status == 502
    assert arrivals(lab.upstream)[b"/second"] == 1


async def test_the_second_try_is_the_last(lab: Lab) -> None:
    """When the fresh connection dies too, it is 502 (R62: at most once)."""
    first = True

    async def script(peer: Peer) -> None:
        nonlocal first
        await peer.request()
        if first:
            first = False
            await peer.send(answer(200, b"ok"))
            await peer.request()
        raise Gone

    await lab.upstream.fresh(script)
    assert (await lab.call("GET", "/test/first")).status == 200
    assert (await lab.call("GET", "/test/second")).status == 502
    assert arrivals(lab.upstream)[b"/second"] == 2


async def test_idle_connections_closed_by_the_upstream_cost_nothing(lab: Lab) -> None:
    """Pooled connections that the upstream closed meanwhile are noticed: a POST afterwards is answered (NHP keep-alive, R67)."""
    for number in range(5):
        assert (await lab.call("GET", f"/test/{number}")).status == 200
        await asyncio.gather(*(peer.finish() for peer in lab.upstream.peers if not peer.ended.is_set()))
        await asyncio.sleep(0.1)  # until the proxy has seen the end
        got = await lab.call("POST", f"/test/post-{number}", body=b"x")
        assert document(got)["body"] == "x"


@pytest.mark.timeout(120)
async def test_no_post_arrives_twice_through_resets(authority, tmp_path, report) -> None:
    """POSTs through a network that resets at every place: each arrives at most once, GETs at most twice (goal, R62)."""
    inner = Upstream()
    await inner.start()
    whole = answer(200, b"b" * 100)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(whole)

    inner.script = script
    async with (
        Relay(("127.0.0.1", inner.port)).running() as relay,
        Lab(authority, tmp_path, services={"relayed": service_file(f"http://127.0.0.1:{relay.port}")}) as one,
    ):
        statuses: Counter[int | str] = Counter()

        async def go(number: int) -> None:
            method = "POST" if number % 2 else "GET"
            try:
                got = await one.call(
                    method, f"/relayed/{method}-{number}", body=b"x" * 20 if number % 2 else None
                )
                statuses[got.status] += 1
            except Exception as error:  # noqa: BLE001  # a cut answer is right
                statuses[type(error).__name__] += 1

        for number in range(600):
            after = 1 + number * 7 % 400
            relay.set(up=ResetPeer(after)) if number % 4 < 2 else relay.set(down=ResetPeer(after))
            await go(number)
        counts = arrivals(inner)
        assert not [reading.dirty for reading in inner.readings() if reading.dirty]
    await inner.stop()
    twice = {target: count for target, count in counts.items() if target.startswith(b"/POST") and count > 1}
    report(f"600 requests through resets: {dict(statuses)}, POST twice: {len(twice)}")
    assert not twice
    assert max(counts.values()) <= 2
    assert statuses.keys() <= {200, 502, "Incomplete"}


async def test_a_dying_upload_is_not_repeated(lab: Lab) -> None:
    """An upload whose upstream goes away in the middle is 502 and not begun again (R62)."""

    async def script(peer: Peer) -> None:
        await peer.head()
        raise Gone

    await lab.upstream.fresh(script)
    async with lab.calling() as caller:
        await caller.send(
            b"POST /test/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n"
            % lab.proxy.key.encode()
        )
        await caller.send(chunk(b"part"))
        got = await caller.answer()
    assert got.status == 502
    assert len(lab.upstream.peers) == 1
