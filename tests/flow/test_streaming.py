"""Bodies in motion: flushed at once, paced by the slower side, ended when either side goes."""

import asyncio
import hashlib
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support import raw, strict
from support.lab import SHORT, Lab
from support.proxy import service_file
from support.raw import Caller, calling, document
from support.toxic import Bandwidth, Latency, LimitData, Relay, ResetPeer, Slicer, SlowClose
from support.upstream import Gone, Peer, Upstream, answer, chunk, replying, silent

MIB = 2**20
GIB = 2**30
CEILING = 16 * MIB  # R60


def auth(lab: Lab) -> bytes:
    return b"Host: a\r\nAuthorization: Bearer %s\r\n" % lab.proxy.key.encode()


async def logged(lab: Lab, path: str) -> dict[str, object]:
    """The log's event of the request for ``path``, once it is there."""
    for _ in range(1000):
        for event in lab.proxy.events():
            if event.get("event") == "request" and event.get("path") == path:
                return event
        await asyncio.sleep(0.02)
    raise AssertionError(f"no event for {path} in:\n{lab.proxy.log[-2000:]}")


class TestFlushing:
    """R56: what comes in goes out."""

    @pytest.mark.parametrize(
        "kind", [b"text/event-stream", b"text/event-stream; charset=utf-8", b"application/json", b""]
    )
    async def test_each_piece_arrives_before_the_next_is_sent(self, lab: Lab, kind: bytes) -> None:
        """Head and events reach the caller one by one, while the upstream waits for each (GO 8 to 10 and 26, NHP, R56)."""
        turns = asyncio.Queue[bytes]()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            while data := await turns.get():
                await peer.send(chunk(data))
            await peer.send(chunk(b""))

        await lab.upstream.fresh(script)
        async with lab.calling() as caller:
            await caller.send(raw.request("GET", "/test/events", key=lab.proxy.key))
            head = await caller.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            for number in range(5):
                event = b"data: %d\n\n" % number
                await turns.put(event)
                assert event in await caller.until(event)
            await turns.put(b"")
            await caller.until(b"0\r\n\r\n")

    async def test_unknown_length_is_flushed(self, lab: Lab) -> None:
        """A body that lasts until the upstream closes arrives piece by piece, and its end is an end (GO 26, R56)."""
        turns = asyncio.Queue[bytes]()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while data := await turns.get():
                await peer.send(data)

        await lab.upstream.fresh(script)
        async with lab.calling() as caller:
            await caller.send(raw.request("GET", "/test/x", key=lab.proxy.key))
            for piece in (b"first", b"second"):
                await turns.put(piece)
                await caller.until(piece)
            await turns.put(b"")
            await caller.until(b"\r\n0\r\n\r\n")
        message = strict.responses(bytes(caller.received), [b"GET"], closed=False)
        assert (message.dirty, message.messages[0].body) == (None, b"firstsecond")

    async def test_upload_is_not_buffered(self, lab: Lab) -> None:
        """The upstream gets the first half of a body before the caller has sent the second (NGX proxy_request_buffering, R56)."""
        async with lab.calling() as caller:
            await caller.send(b"POST /test/x HTTP/1.1\r\n" + auth(lab) + b"Content-Length: 10\r\n\r\nfirst")
            peer = await asyncio.wait_for(lab.upstream.peer(), 20)
            async with asyncio.timeout(raw.DEADLINE):
                while not bytes(peer.received).endswith(b"first"):
                    await peer.more()
            await caller.send(b"after")
            assert document(await caller.answer())["body"] == "firstafter"

    async def test_answer_may_begin_before_the_upload_ends(self, lab: Lab) -> None:
        """An upstream that answers while it reads is heard at once (NGX proxy_unbuffered, GO 25)."""

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"early"))
            while not bytes(peer.received).endswith(b"after"):
                await peer.more()
            await peer.send(chunk(b"late") + chunk(b""))

        await lab.upstream.fresh(script)
        async with lab.calling() as caller:
            await caller.send(b"POST /test/x HTTP/1.1\r\n" + auth(lab) + b"Content-Length: 10\r\n\r\nfirst")
            await caller.until(b"early")
            await caller.send(b"after")
            await caller.until(b"late")


class TestBackPressure:
    """R60: the slower side sets the pace, not our memory. The proxy has done nothing else before."""

    @pytest.fixture(scope="class")
    @classmethod
    def calm(cls, runner, authority, tmp_path_factory) -> Iterator[Lab]:
        """A proxy whose memory no other test has raised."""
        lab = Lab(authority, tmp_path_factory.mktemp("calm"))
        runner.run(lab.start())
        with lab.proxy:
            yield lab
        runner.run(lab.stop())

    @pytest.mark.timeout(180)
    @pytest.mark.parametrize("service", ["plain", "test"])
    async def test_a_gibibyte_down_past_a_slow_caller(self, calm: Lab, service: str, report) -> None:
        """1 GiB to a caller that stops reading at times: bytes equal, memory within 16 MiB (R60)."""
        total = GIB if service == "plain" else GIB // 4
        block = bytes(range(256)) * 1024  # 256 KiB
        sent = 0

        async def script(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            while sent < total:
                await peer.send(block)
                sent += len(block)
            await peer.request()

        await (calm.plain if service == "plain" else calm.upstream).fresh(script)
        async with calm.calling() as caller:
            for warm in range(3):
                assert (await calm.call("GET", f"/-/health?{warm}")).status in {200, 401, 404}
            before, peak, begin = calm.proxy.rss(), 0, time.monotonic()
            await caller.send(raw.request("GET", f"/{service}/gib", key=calm.proxy.key))
            await caller.until(b"\r\n\r\n")
            got, digest = 0, hashlib.sha256()
            rest = bytes(caller.received[caller._at :])
            caller.received.clear()
            caller._at = 0
            digest.update(rest)
            got += len(rest)
            stalls = {total // 8 * n for n in (1, 3, 5)}
            while got < total:
                data = await asyncio.wait_for(caller._reader.read(MIB), 20)
                assert data, f"ended after {got}"
                digest.update(data)
                got += len(data)
                if stalls and got > min(stalls):
                    stalls.remove(min(stalls))
                    await asyncio.sleep(0.4)
                    assert sent - got < 3 * CEILING, "the upstream was not slowed"
                    peak = max(peak, calm.proxy.rss())
            peak = max(peak, calm.proxy.rss())
        report(
            f"{service}: {total // MIB} MiB down in {time.monotonic() - begin:.1f} s, RSS +{(peak - before) / MIB:.1f} MiB"
        )
        expected = hashlib.sha256()
        for _ in range(total // len(block)):
            expected.update(block)
        assert digest.digest() == expected.digest()
        assert peak - before <= CEILING

    @pytest.mark.timeout(180)
    @pytest.mark.parametrize("service", ["plain", "test"])
    async def test_a_gibibyte_up_past_a_slow_upstream(self, calm: Lab, service: str, report) -> None:
        """1 GiB to an upstream that stops reading at times: bytes equal, memory within 16 MiB (R60)."""
        total = GIB if service == "plain" else GIB // 4
        block = bytes(range(256)) * 1024
        upstream = calm.plain if service == "plain" else calm.upstream
        head_size = 0

        async def script(peer: Peer) -> None:
            nonlocal head_size
            head = await peer.head()
            head_size = len(head)
            first = bytes(peer.received[peer._at :])
            peer.digest.update(first)
            peer.keep = False
            peer.count = len(first)
            peer.received.clear()
            stalls = [total // 8, total // 2]
            while peer.count < total:
                await peer.more()
                if stalls and peer.count > stalls[0]:
                    stalls.pop(0)
                    peer.stop_reading()
                    await asyncio.sleep(0.4)
                    peer.go_on_reading()
            await peer.send(answer(200, peer.digest.hexdigest().encode()))
            await peer.ended.wait()

        await upstream.fresh(script)
        async with calm.calling() as caller:
            before, peak, begin = calm.proxy.rss(), 0, time.monotonic()
            await caller.send(
                raw.request(
                    "POST", f"/{service}/gib", key=calm.proxy.key, fields=[("Content-Length", str(total))]
                )
            )
            expected, sent = hashlib.sha256(), 0
            while sent < total:
                await asyncio.wait_for(caller.send(block), 20)
                expected.update(block)
                sent += len(block)
                if sent % (64 * MIB) == 0:
                    peak = max(peak, calm.proxy.rss())
                    taken = upstream.peers[0].count if upstream.peers else 0
                    assert sent - taken < 3 * CEILING, "the caller was not slowed"
            got = await caller.answer(deadline=20)
            peak = max(peak, calm.proxy.rss())
        report(
            f"{service}: {total // MIB} MiB up in {time.monotonic() - begin:.1f} s, RSS +{(peak - before) / MIB:.1f} MiB"
        )
        assert got.body.decode() == expected.hexdigest()
        assert peak - before <= CEILING


async def _leave(lab: Lab, moment: str, path: str) -> float:
    """Seconds from when a caller left until the upstream saw it."""

    async def script(peer: Peer) -> None:
        await peer.head()
        if moment == "streaming":
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"hello"))
        while True:
            await peer.more()

    await lab.upstream.fresh(script)
    async with lab.calling() as caller:
        if moment == "uploading":
            await caller.send(
                b"POST %s HTTP/1.1\r\n%sContent-Length: 100\r\n\r\nhello" % (path.encode(), auth(lab))
            )
        else:
            await caller.send(raw.request("GET", path, key=lab.proxy.key))
        peer = await asyncio.wait_for(lab.upstream.peer(), raw.DEADLINE)
        if moment == "streaming":
            await caller.until(b"hello")
        caller.leave()
    left = time.monotonic()
    await asyncio.wait_for(peer.ended.wait(), raw.DEADLINE)
    took = time.monotonic() - left
    event = await logged(lab, path)
    assert (event["status"], event["outcome"], event["level"]) == (499, "caller_left", "info")
    assert len(lab.upstream.peers) == 1
    return took


class TestLeaving:
    """R58: a caller that goes takes its upstream request with it."""

    @pytest.mark.parametrize("moment", ["waiting", "streaming", "uploading"])
    async def test_upstream_is_aborted_within_a_second(self, lab: Lab, moment: str) -> None:
        """The upstream sees the end within 1 s, and the log says 499 and nothing worse (GO 11, CAD, HAP, trap 4, R58).

        A machine that is busy may need several callers until one gets its second; a timer would hold all up.
        """
        for number in range(5):
            if await _leave(lab, moment, f"/test/leave-{moment}-{number}") <= 1.0:
                return
        pytest.fail("none of five upstream requests ended within a second")

    async def test_leaving_again_and_again_leaks_nothing(self, lab: Lab) -> None:
        """After 100 callers that left, no upstream connection is left open (GO 25, CAD, R58, R67)."""
        await lab.upstream.fresh(silent)

        async def one() -> None:
            async with lab.calling() as caller:
                await caller.send(raw.request("GET", "/test/gone", key=lab.proxy.key))
                await asyncio.sleep(0.2)

        await asyncio.gather(*(one() for _ in range(100)))
        async with asyncio.timeout(raw.DEADLINE):
            await asyncio.gather(*(peer.ended.wait() for peer in lab.upstream.peers))
        await lab.upstream.fresh()
        assert (await lab.call("GET", "/test/after")).status == 200


class TestEarlyAnswers:
    """R61: an answer during the upload is the answer."""

    @pytest.mark.parametrize("then", ["keep", "finish"])
    async def test_413_while_uploading(self, lab: Lab, then: str) -> None:
        """A 413 in the middle of an upload reaches the caller; the upload stops, the upstream connection ends (GO 25, NGX, R61)."""

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.send(answer(413, b"too much", reason=b"Too Large"))
            if then == "keep":
                await peer.ended.wait()
            await asyncio.sleep(
                0.3
            )  # a close with bytes unread resets, which may take the answer along (RFC 9112 9.6)

        await lab.upstream.fresh(script)
        async with lab.calling() as caller:
            await caller.send(
                raw.request("POST", "/test/x", key=lab.proxy.key, fields=[("Content-Length", str(50 * MIB))])
            )
            sending = asyncio.create_task(_pour(caller, 50 * MIB))
            got = await caller.answer()
            assert (got.status, got.body) == (413, b"too much")
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            ending = await caller.ending()
            assert ending.closed
        peer = lab.upstream.peers[0]
        await asyncio.wait_for(peer.ended.wait(), 20)
        assert peer.count < 20 * MIB


async def _pour(caller: Caller, total: int) -> None:
    block = b"a" * 65536
    for _ in range(total // len(block)):
        await caller.send(block)
        if caller.ended:
            return


class TestTimeouts:
    """R57: every wait has an end; the settings are short here."""

    @pytest.fixture(scope="class")
    @classmethod
    def brief(cls, runner, authority, tmp_path_factory) -> Iterator[Lab]:
        """A proxy with timeouts of a second or two, and a service whose host never accepts."""
        full = socket.create_server(("127.0.0.1", 0), backlog=1)
        stuffing = [socket.socket() for _ in range(4)]
        for one in stuffing:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        lab = Lab(
            authority,
            tmp_path_factory.mktemp("brief"),
            settings={"timeouts": {**SHORT, "total": 4.0}},
            services={"hole": service_file("https://hole.example")},
            connect_to={"hole.example:443": f"127.0.0.1:{full.getsockname()[1]}"},
        )
        runner.run(lab.start())
        with lab.proxy:
            yield lab
        runner.run(lab.stop())
        for one in (full, *stuffing):
            one.close()

    @pytest.mark.parametrize(
        "part", [b"GET /", b"GET /test/x HTTP/1.1\r\n", b"GET /test/x HTTP/1.1\r\nHost: a\r\nX: "]
    )
    async def test_head_must_arrive_whole(self, brief: Lab, part: bytes) -> None:
        """A head that drips ends at the head timeout, however often a byte comes (slowhttptest -H, R57, R69)."""
        begin = time.monotonic()
        async with brief.calling() as caller:
            await caller.send(part)
            while not caller.ended and time.monotonic() - begin < raw.DEADLINE:
                await caller.send(b"a")
                try:
                    await caller.more(0.2)
                except raw.Hang:
                    continue
            took = time.monotonic() - begin
            reading = strict.responses(bytes(caller.received), [b"GET"], closed=True)
        assert caller.ended
        assert SHORT["head"] * 0.5 < took < 13  # without the setting: 15
        assert [m.status for m in reading.messages] in ([408], [])

    async def test_body_must_go_on(self, brief: Lab) -> None:
        """A body that stops arriving is 408, and the upstream request is given up (slowhttptest -B, R57)."""
        await brief.upstream.fresh()
        async with brief.calling() as caller:
            await caller.send(b"POST /test/x HTTP/1.1\r\n" + auth(brief) + b"Content-Length: 10\r\n\r\nhello")
            peer = await asyncio.wait_for(brief.upstream.peer(), 20)
            got = await caller.answer()
        assert (got.status, document(got)["code"]) == (408, "request_timeout")
        await asyncio.wait_for(peer.ended.wait(), 20)

    async def test_idle_connection_is_closed(self, brief: Lab) -> None:
        """A connection between requests is closed in order at the keep-alive timeout (R57)."""
        await brief.upstream.fresh()
        async with brief.calling() as caller:
            assert (await brief.ask(caller, "GET", "/test/x")).status == 200
            size, begin = len(caller.received), time.monotonic()
            ending = await caller.ending()
            took = time.monotonic() - begin
        assert (ending.how, len(ending.data)) == ("eof", size)
        assert SHORT["keep_alive"] * 0.5 < took

    async def test_connect(self, brief: Lab) -> None:
        """A host that does not accept is 504 at the connect timeout (SMK, R57)."""
        got = await brief.call("GET", "/hole/x", deadline=9)  # without the setting: 10
        assert (got.status, document(got)["code"]) == (504, "upstream_timeout")

    async def test_first_byte(self, brief: Lab) -> None:
        """An upstream that never answers is 504, and its connection is not used again (NHP proxyTimeout, R57, R67)."""
        await brief.upstream.fresh(silent)
        got = await brief.call("GET", "/test/x")
        assert (got.status, document(got)["code"]) == (504, "upstream_timeout")
        await asyncio.wait_for(brief.upstream.peers[0].ended.wait(), 20)
        assert len(brief.upstream.peers) == 1

    async def test_half_an_answer(self, brief: Lab) -> None:
        """An upstream that stops within its head is 504 too (R57)."""
        await brief.upstream.fresh(replying(b"HTTP/1.1 200 OK\r\nContent-"))
        got = await brief.call("GET", "/test/x")
        assert got.status == 504

    async def test_idle_body_is_cut(self, brief: Lab) -> None:
        """A body that stops is cut at the idle timeout: the caller sees that it is not whole (R45, R57)."""
        await brief.upstream.fresh(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"))
        async with brief.calling() as caller:
            await caller.send(raw.request("GET", "/test/x", key=brief.proxy.key))
            ending = await caller.ending()
        assert ending.closed
        assert strict.responses(ending.data, [b"GET"], closed=True).partial is not None

    async def test_total(self, brief: Lab) -> None:
        """A body that drips on and on ends at the total timeout (R57)."""

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await peer.send(chunk(b"x"))
                await asyncio.sleep(0.3)

        await brief.upstream.fresh(script)
        begin = time.monotonic()
        async with brief.calling() as caller:
            await caller.send(raw.request("GET", "/test/x", key=brief.proxy.key))
            ending = await caller.ending()
        assert ending.closed
        assert strict.responses(ending.data, [b"GET"], closed=True).messages == ()
        assert time.monotonic() - begin > 3


class TestSlowCallers:
    """R69: who is slow waits alone."""

    @pytest.mark.timeout(120)
    async def test_normal_traffic_goes_on(self, lab: Lab, report) -> None:
        """With 500 callers dripping heads and bodies or not reading, others are served as before (slowhttptest -H -B -X, R69)."""
        big = answer(200, b"a" * 300_000)

        async def script(peer: Peer) -> None:
            while True:
                message = await peer.request()
                await peer.send(big if message.target == b"/big" else answer(200, b"ok"))

        await lab.upstream.fresh(script)

        async def timings(count: int) -> list[float]:
            took: list[float] = []
            async with lab.calling() as caller:
                for _ in range(count):
                    begin = time.monotonic()
                    assert (await lab.ask(caller, "GET", "/test/x")).status == 200
                    took.append(time.monotonic() - begin)
            return took

        before = await timings(400)
        async with AsyncExitStack() as open_ones:
            for number in range(500):
                caller = await open_ones.enter_async_context(calling(lab.proxy.address))
                if number % 3 == 0:
                    await caller.send(b"GET /test/x HTTP/1.1\r\nHost: a\r\nX-Slow: ")
                elif number % 3 == 1:
                    await caller.send(
                        b"POST /-/nothing HTTP/1.1\r\n" + auth(lab) + b"Content-Length: 100\r\n\r\na"
                    )
                else:
                    caller.stop_reading()
                    await caller.send(raw.request("GET", "/test/big", key=lab.proxy.key))
            during = await timings(400)
        p99 = [statistics.quantiles(each, n=100)[98] * 1000 for each in (before, during)]
        report(f"p99 alone {p99[0]:.1f} ms, beside 500 slow callers {p99[1]:.1f} ms")
        # Whoever had to wait for one of them would wait for its limit, 15 s or more; and the usual time stays as it was.
        assert max(during) < 10
        middle = [statistics.median(each) for each in (before, during)]
        assert middle[1] <= max(5 * middle[0], 0.1)


TOXICS = (Slicer(1), Slicer(7), Latency(0.05), Bandwidth(200_000), SlowClose(0.2))


class Far:
    """A proxy whose services lie behind bad networks: ``far0`` ... with TLS behind a toxic each, ``cut`` behind any."""

    def __init__(self, authority, folder: Path) -> None:
        hosts = [f"far{number}.example" for number in range(len(TOXICS))]
        self._authority, self._folder, self._hosts = authority, folder, hosts
        self.inner = Upstream(authority.server(*hosts))
        self.plain = Upstream()
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        await self._stack.enter_async_context(self.inner.running())
        await self._stack.enter_async_context(self.plain.running())
        services, places = {}, {}
        for number, (host, toxic) in enumerate(zip(self._hosts, TOXICS, strict=True)):
            relay = await self._stack.enter_async_context(Relay(("127.0.0.1", self.inner.port)).running())
            relay.set(up=toxic, down=toxic)
            services[f"far{number}"] = service_file(f"https://{host}")
            places[f"{host}:443"] = f"127.0.0.1:{relay.port}"
        self.cutting = await self._stack.enter_async_context(Relay(("127.0.0.1", self.plain.port)).running())
        services["cut"] = service_file(f"http://127.0.0.1:{self.cutting.port}")
        self.lab = Lab(self._authority, self._folder, services=services, connect_to=places)
        await self.lab.start()

    async def stop(self) -> None:
        await self.lab.stop()
        await self._stack.aclose()


class TestToxics:
    """Networks that delay, slice, throttle and cut, on either side."""

    @pytest.fixture(scope="class")
    @classmethod
    def far(cls, runner, authority, tmp_path_factory) -> Iterator[Far]:
        """One proxy for all bad networks between it and services."""
        one = Far(authority, tmp_path_factory.mktemp("far"))
        runner.run(one.start())
        with one.lab.proxy:
            yield one
        runner.run(one.stop())

    @pytest.mark.parametrize("number", range(len(TOXICS)), ids=map(str, TOXICS))
    async def test_slow_networks_of_callers_change_nothing(self, lab: Lab, number: int) -> None:
        """Sliced, late and throttled bytes give the same request and the same answer."""
        body = b"0123456789" * 300
        async with Relay(lab.proxy.address).running() as relay:
            relay.set(up=TOXICS[number], down=TOXICS[number])
            got = await raw.call(relay.address, "POST", "/test/x", key=lab.proxy.key, body=body)
        assert document(got)["length"] == len(body)

    @pytest.mark.parametrize("number", range(len(TOXICS)), ids=map(str, TOXICS))
    async def test_slow_networks_of_services_change_nothing(self, far: Far, number: int) -> None:
        """The same where the bad network lies between the proxy and the service."""
        body = b"0123456789" * 300
        got = await far.lab.call("POST", f"/far{number}/x", body=body)
        assert document(got)["length"] == len(body)

    @pytest.mark.timeout(120)
    @pytest.mark.parametrize("kind", [ResetPeer, LimitData])
    async def test_cut_at_every_place(self, far: Far, kind: type, report) -> None:
        """An answer cut after any number of bytes, in order or by reset, is never whole and never hangs (R45, R46)."""
        whole = answer(200, b"b" * 400, (b"X-Filler", b"f" * 100))
        await far.plain.fresh(replying(whole))
        outcomes: dict[str, int] = {}
        for after in [*range(1, len(whole) - 400, 7), *range(len(whole) - 400, len(whole), 23)]:
            far.cutting.set(down=kind(after))
            async with far.lab.calling() as caller:
                await caller.send(raw.request("POST", "/cut/x", key=far.lab.proxy.key, body=b"a"))
                ending = await caller.ending() if after >= len(whole) - 400 else None
                if ending is None:
                    got = await caller.answer()
                    assert got.status == 502, after
                    outcomes["502"] = outcomes.get("502", 0) + 1
                    continue
            reading = strict.responses(ending.data, [b"POST"], closed=True)
            assert reading.dirty is None
            if reading.messages:
                assert reading.messages[0].status == 502, after
            else:
                assert ending.closed
                outcomes["cut"] = outcomes.get("cut", 0) + 1
        assert not far.plain.dirt()
        assert len(far.plain.seen()) == len(far.plain.peers)
        report(f"{kind.__name__}: {outcomes}")


async def test_peer_that_never_ends_is_not_waited_for(lab: Lab) -> None:
    """An answer whose length is reached is done, though the upstream keeps its connection open (NGX proxy_noclose)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, b"done"))
        await peer.ended.wait()
        raise Gone

    await lab.upstream.fresh(script)
    assert (await lab.call("GET", "/test/x")).body == b"done"
