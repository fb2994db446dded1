"""What the data path does when it is misused, overloaded, or wrong itself."""

import asyncio
import json
import time

import pytest
from support import raw, strict
from support.plane import KEY, OTHER_KEY, code, credential, scene
from support.upstream import Gone, Peer, answer

from proxy.forwarding import caller as caller_module
from proxy.forwarding import slowdown
from proxy.forwarding.limits import DataPlaneOptions, ServerLimits
from proxy.forwarding.places import Place
from proxy.forwarding.slowdown import FIRST_DELAY_S, FREE_FAILURES, LONGEST_DELAY_S, Slowdown
from proxy.forwarding.upstream import UpstreamConnection

CANARY = "canary-of-an-error-text"


# --- wrong keys are slowed ------------------------------------------------------------------------------


def test_failures_are_slowed_more_and_more() -> None:
    """The first failures of an address cost nothing, then each waits longer, up to a bound (R92)."""
    counts = Slowdown()
    delays = [counts.failed("192.0.2.1", float(n)) for n in range(FREE_FAILURES + 30)]
    assert delays[:FREE_FAILURES] == [0.0] * FREE_FAILURES
    assert delays[FREE_FAILURES] == FIRST_DELAY_S
    assert sorted(delays) == delays
    assert delays[-1] == LONGEST_DELAY_S
    assert counts.failed("192.0.2.2", 40.0) == 0.0


def test_failures_are_forgotten() -> None:
    """An address that was quiet for a minute begins anew, and so does one pushed out by many others (R92)."""
    counts = Slowdown()
    for n in range(FREE_FAILURES + 1):
        counts.failed("192.0.2.1", float(n))
    assert counts.failed("192.0.2.1", FREE_FAILURES + slowdown.FORGET_S) > 0
    assert counts.failed("192.0.2.1", FREE_FAILURES + 2 * slowdown.FORGET_S + 1) == 0.0
    for _ in range(FREE_FAILURES + 1):
        counts.failed("192.0.2.3", 500.0)
    for n in range(slowdown.MOST_ADDRESSES):
        counts.failed(f"2001:db8::{n:x}", 500.0)
    assert len(counts._counts) == slowdown.MOST_ADDRESSES
    assert counts.failed("192.0.2.3", 500.0) == 0.0


async def test_a_valid_key_is_never_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While wrong keys from an address wait for their answers, a valid one from there is answered at once (R92)."""
    for name in ("FIRST_DELAY_S", "LONGEST_DELAY_S"):
        monkeypatch.setattr(slowdown, name, 2.0)
    async with scene() as on:
        for _ in range(FREE_FAILURES):
            assert code(await on.call(key=OTHER_KEY)) == "invalid_key"
        began = time.monotonic()
        wrong = asyncio.ensure_future(on.call(key=OTHER_KEY))
        right = await on.call()
        assert right.status == 200
        assert not wrong.done()
        assert code(await wrong) == "invalid_key"
        assert time.monotonic() - began >= 1.9


# --- limits ---------------------------------------------------------------------------------------------


async def test_places_of_one_service() -> None:
    """Over ``upstream_per_service`` requests at work are refused with 503 and Retry-After, not queued; other services go on (R64)."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.target == b"/slow":
            await go_on.wait()
        await peer.send(answer(200, b"ok"))

    async with scene(script, options=DataPlaneOptions(upstream_per_service=2)) as on:
        on.source.at_hand["other"] = credential("token", "other", "other")
        slow = [asyncio.ensure_future(on.call(target="/svc/slow")) for _ in range(2)]
        await on.upstream.peer(1)
        got = await on.call()
        assert (got.status, code(got), got.value("retry-after")) == (503, "overloaded", b"1")
        assert (await on.call(target="/other@other/x")).status == 200
        go_on.set()
        assert [answer_.status for answer_ in await asyncio.gather(*slow)] == [200, 200]
        assert (await on.call()).status == 200


def test_a_place_is_given_back() -> None:
    """A place is free again however the work ended; none taken by a refusal (R64)."""
    at_work: dict[str, int] = {}
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), Place(at_work, "svc", 1):
            raise ZeroDivisionError
    assert at_work == {"svc": 0}
    with Place(at_work, "svc", 0), Place(at_work, "svc", 0):  # zero: no limit
        assert at_work == {"svc": 2}


async def test_a_place_is_free_after_the_caller_left() -> None:
    """A caller that leaves gives its place back and its upstream connection is cut (R58, R64)."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.target == b"/slow":
            await peer.more()
        await peer.send(answer(200, b"ok"))

    async with scene(script, options=DataPlaneOptions(upstream_per_service=1)) as on:
        async with on.calling() as caller:
            await caller.send(raw.request("GET", "/svc/slow", key=KEY))
            peer = await on.upstream.peer()
        await peer.ended.wait()
        (event,) = await on.logged()
        assert (event["status"], event["outcome"]) == (499, "caller_left")
        assert (await on.call()).status == 200


async def test_connections_over_the_limit() -> None:
    """A caller over the limit of connections is told 503 before it has asked anything (R64)."""
    async with scene(limits=ServerLimits(connections=1)) as on, on.calling() as first:
        assert (await on.ask(first)).status == 200
        async with on.calling() as second:
            got = await second.answer()
            assert (got.status, code(got)) == (503, "overloaded")
            assert (await second.ending()).closed
        assert (await on.ask(first)).status == 200


@pytest.mark.parametrize("speaks", [False, True])
async def test_callers_over_the_limit_are_not_kept(monkeypatch: pytest.MonkeyPatch, *, speaks: bool) -> None:
    """Each one gets its 503, also if it sends a request at once, and its place is free without a wait (R64)."""
    monkeypatch.setattr(caller_module, "LINGER_S", 100.0)
    async with scene(limits=ServerLimits(connections=1)) as on, on.calling() as first:
        assert (await on.ask(first)).status == 200
        for _ in range(50):
            async with on.calling() as late:
                if speaks:
                    await late.send(raw.request("GET", "/svc/x", key=KEY))
                assert (await late.answer()).status == 503
                async with asyncio.timeout(raw.DEADLINE):  # the far end, although this one stays open
                    while on.server.callers > 1:  # noqa: ASYNC110  # the table of connections tells nobody
                        await asyncio.sleep(0)
        assert (await on.ask(first)).status == 200


@pytest.mark.parametrize("coded", [False, True])
async def test_a_body_over_the_limit(*, coded: bool) -> None:
    """A declared length over the limit is refused before anything leaves; a chunked one as soon as it is over (R23)."""
    async with scene(options=DataPlaneOptions(body_bytes=10)) as on:
        if coded:
            async with on.calling() as caller:
                await caller.send(
                    raw.request("POST", "/svc/x", key=KEY, fields=[("Transfer-Encoding", "chunked")])
                    + b"8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n"
                )
                got = await caller.answer(b"POST")
        else:
            got = await on.call("POST", body=b"x" * 11)
        assert (got.status, code(got)) == (413, "body_too_large")
        assert not any(reading.messages for reading in on.upstream.readings())
        assert (await on.call("POST", body=b"x" * 10)).status == 200


# --- faults of our own ----------------------------------------------------------------------------------


async def test_a_fault_of_ours_before_an_answer() -> None:
    """An exception nobody foresaw becomes a 500 that tells nothing; log and answer have its type, never its text (R143)."""
    async with scene() as on:
        on.source.at_hand.clear()
        on.source.failure = RuntimeError(CANARY)
        async with on.calling() as caller:
            await caller.send(raw.request("GET", "/svc/x", key=KEY))
            got = await caller.answer()
            assert (got.status, code(got)) == (500, "internal_error")
            assert got.value("connection") == b"close"
            assert (await caller.ending()).closed
        (event,) = await on.logged()
        assert (event["status"], event["outcome"], event["error"]) == (500, "failed", "internal_error")
        lines = [json.loads(line) for line in on.text.getvalue().splitlines()]
        (crash,) = [line for line in lines if line["event"] == "data_path_failed"]
        assert crash["error_type"] == "RuntimeError"
        assert crash["request_id"] == event["request_id"] == json.loads(got.body)["instance"]
        assert any("plane.py" in frame for frame in crash["frames"])
        assert CANARY not in on.text.getvalue()
        assert CANARY.encode() not in got.body
        on.source.failure = None
        on.source.later = {None: credential("token", "other")}
        assert (await on.call()).status == 200


async def test_a_fault_of_ours_within_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the head is out, a fault can only cut the connection: no second answer, no text in the body (R45)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")
        await peer.more()
        raise Gone

    def broken(*_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(UpstreamConnection, "attach", broken)
    async with scene(script) as on:
        async with on.calling() as caller:
            await caller.send(raw.request("GET", "/svc/x", key=KEY))
            ending = await caller.ending()
        assert ending.how in {"reset", "eof"}
        assert ending.data.count(b"HTTP/1.1") <= 1
        assert b"internal" not in ending.data
        (event,) = await on.logged()
        assert (event["outcome"], event["error"]) == ("failed", "internal_error")
        assert CANARY not in on.text.getvalue()
        peer = await on.upstream.peer()
        await peer.ended.wait()  # and the service's connection is cut with it


async def test_health_needs_no_key_and_nothing_else_does_without() -> None:
    """Only the exact health path is answered without a key, and says when the process is on its way out (R87)."""
    async with scene() as on:
        got = await on.call(target="/-/health", key=None)
        assert (got.status, got.body) == (200, b'{"status":"ok"}')
        for target in ("/-/health/", "/-/health?", "/-/healthz", "/-//health", "/-/Health", "/-/health%00"):
            assert (await on.call(target=target, key=None)).status == 401, target
        on.plane.draining = True
        got = await on.call(target="/-/health", key=None)
        assert (got.status, got.value("connection")) == (503, b"close")
        got = await on.call("OPTIONS", "*", key=None)
        assert got.status == 204


@pytest.mark.parametrize("framing", [b"Content-Length: 50", b"Transfer-Encoding: chunked"])
async def test_a_body_that_breaks_off(framing: bytes) -> None:
    """A cut upstream body is a cut answer: no last chunk, no length made good, no error text (R45)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        await peer.send(b"5\r\nbegin\r\n")
        raise Gone

    async with scene(script) as on, on.calling() as caller:
        await caller.send(raw.request("GET", "/svc/x", key=KEY))
        ending = await caller.ending()
        assert ending.closed
        reading = strict.responses(ending.data, [b"GET"], closed=True)
        assert reading.messages == ()
        assert not ending.data.endswith(b"\r\n0\r\n\r\n")
        assert b"upstream" not in ending.data
        (event,) = await on.logged()
        assert event["outcome"] == "cut"


async def test_what_is_sent_again() -> None:
    """A GET on a reused connection that died goes out once more; a POST never does (R62)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, b"ok"))
        await peer.request()
        raise Gone

    async with scene(script) as on:
        for method, status in (("GET", 200), ("POST", 502)):
            assert (await on.call()).status == 200
            assert (await on.call(method, "/svc/second")).status == status
            sent = [m for m in on.upstream.seen() if m.target == b"/second"]
            assert len(sent) == (2 if status == 200 else 1)
            await on.upstream.fresh(script)
        assert on.counters.retried == 1


async def test_a_body_that_breaks_off_for_an_old_caller() -> None:
    """An HTTP/1.0 caller, whose bodies end with the connection, sees a cut one as a reset, not as an orderly end (R45)."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")
        await go_on.wait()
        raise Gone

    async with scene(script) as on, on.calling() as caller:
        await caller.send(b"GET /svc/x HTTP/1.0\r\nAuthorization: Bearer %b\r\n\r\n" % KEY.encode())
        await caller.until(b"begin")
        go_on.set()
        assert (await caller.ending()).how == "reset"
